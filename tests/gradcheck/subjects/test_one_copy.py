"""Forward passes share one copy of an object only where none of them can see what another has left behind."""

from typing import Any

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict

X = np.random.default_rng(6).standard_normal((3, 4)) + 3.0
CLAIM = "gradients_agree_with_differences"


class Scale:
    """y = w x."""

    factor = 1.0  # of the gradient of w

    def __init__(self) -> None:
        self.w = np.array([0.5, 1.0, -2.0, 3.0])

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(self.w * x)

    def backward(self, dy: Array) -> Array:
        self.dw = self.factor * (dy * self.x).sum(axis=0)
        return np.asarray(dy * self.w)


class Remembers(Scale):
    """Adds what it remembers of earlier inputs, as a cell does that keeps its state."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = 0.0

    def forward(self, x: Array) -> Array:
        y = super().forward(x) + self.memory
        self.memory = 0.9 * self.memory + 0.1 * x.mean()
        return y


class ChangesLater(Scale):
    """Forgets a part of its weights in its twentieth call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.kept = 0, 1.0

    def forward(self, x: Array) -> Array:
        self.calls += 1
        if self.calls == 20:
            self.kept = 0.999
        return np.asarray(self.kept * super().forward(x))


class PutsAnother(Scale):
    """Puts a normalised weight into the place of its own: the next call would normalise that."""

    def forward(self, x: Array) -> Array:
        self.given = self.w
        self.w = self.w / np.abs(self.w).sum()
        return super().forward(x)

    def backward(self, dy: Array) -> Array:
        total = np.abs(self.given).sum()
        dx = super().backward(dy)
        self.dw = self.dw / total - np.sign(self.given) * (self.dw * self.given).sum() / total**2
        self.w = self.given
        return dx


class ScalesItsWeights(Scale):
    """Doubles its weights in place before it uses them, as a step that was left in by mistake."""

    def forward(self, x: Array) -> Array:
        self.w *= 2.0
        return super().forward(x)

    def backward(self, dy: Array) -> Array:
        dx = super().backward(dy)
        self.dw = 2.0 * self.dw
        return dx


class NeverAgainAfterAnError(Scale):
    """Is of no use once a call was broken off, as by a step that leaves the domain of the logarithm."""

    busy = False

    def forward(self, x: Array) -> Array:
        if self.busy:
            raise RuntimeError("the last call did not end")
        self.busy = True
        if (x <= 0).any():
            raise ValueError("the logarithm needs numbers above zero")
        y = super().forward(np.log(x))
        self.given, self.busy = x, False
        return y

    def backward(self, dy: Array) -> Array:
        return np.asarray(super().backward(dy) / self.given)


class KnowsInputsBySum(Scale):
    """Keeps the work on an input under its sum: steps of different elements have the same."""

    key = float("nan")

    def forward(self, x: Array) -> Array:
        if self.key != (key := float(x.sum())):
            self.key, self.kept = key, np.ones((len(x), len(x))) @ np.tanh(x)
        self.given = x
        return np.asarray(super().forward(self.kept))

    def backward(self, dy: Array) -> Array:
        return np.asarray(np.ones((len(dy), len(dy))) @ super().backward(dy) * (1 - np.tanh(self.given) ** 2))


class Number(Scale):
    """Has a plain number among its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.k = 0.5

    def forward(self, x: Array) -> Array:
        return np.asarray(super().forward(x) * self.k)

    def backward(self, dy: Array) -> Array:
        self.dk = self.factor * float((dy * self.w * self.x).sum())
        dx = super().backward(dy * self.k)
        self.dw = self.dw / self.factor
        return dx


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Scale(), X),
        (Remembers(), X),
        (ChangesLater(), X),
        (PutsAnother(), X),
        (NeverAgainAfterAnError(), np.where(X < 2.5, 1e-3, X)),
        (KnowsInputsBySum(), X - 3.0),
        (Number(), X),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Scale) else "",
)
def test_what_a_call_leaves_behind_accuses_nobody(layer: Scale, x: Array) -> None:
    options: dict[str, Any] = {"claims": [CLAIM], "variations": False}
    if isinstance(layer, Number):
        options |= {"params": {"k": "k", "w": "w"}, "grads": {"k": "dk", "w": "dw"}}
    assert gradcheck.check_layer(layer, x, **options).verdict is Verdict.PASS
    layer.factor = 1.001
    report = gradcheck.check_layer(layer, x, **options)
    assert report.verdict is Verdict.FAIL
    assert report.worst is not None
    assert report.worst.tensor in ("w", "k")


class KeepsItsScale(Scale):
    """Divides by a norm of its weights that it keeps while they hardly change: backward takes it for a constant."""

    key = float("nan")

    def forward(self, x: Array) -> Array:
        norm = float(np.linalg.norm(self.w))
        if self.key != round(norm, 1):
            self.key, self.norm = round(norm, 1), norm
        return np.asarray(super().forward(x) / self.norm)

    def backward(self, dy: Array) -> Array:
        return super().backward(dy / self.norm)


def test_what_a_call_leaves_behind_excuses_nobody() -> None:
    report = gradcheck.check_layer(KeepsItsScale(), X, claims=[CLAIM], variations=False)
    assert report.verdict is Verdict.FAIL
    assert report.worst is not None
    assert report.worst.tensor == "w"


def test_weights_that_a_pass_changes_are_seen_as_given() -> None:
    report = gradcheck.check_layer(ScalesItsWeights(), X, claims=[CLAIM], variations=False)
    assert report.verdict is Verdict.PASS
    wrong = ScalesItsWeights()
    wrong.factor = 1.001
    assert gradcheck.check_layer(wrong, X, claims=[CLAIM], variations=False).verdict is Verdict.FAIL
