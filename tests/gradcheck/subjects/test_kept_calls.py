"""Objects that keep something of every call until a reset, and losses that return more than their value."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.checks import check_layer, check_loss
from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError

GRADIENTS = ["gradients_agree_with_differences", "gradients_match_their_tensors", "repeated_calls_agree"]
LABELS = np.array([0, 2, 1, 1])


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


X = normal(3, 2)
SCORES = normal(4, 3)


class Collects:
    """Keeps every input; goes back through as many as there are cotangents."""

    def __init__(self, factor: float = 1.0) -> None:
        self.inputs: list[Array] = []
        self.W, self.dW, self.factor = normal(2, 2, seed=1), np.zeros((2, 2)), factor

    def forward(self, x: Array) -> Array:
        self.inputs.append(x)
        return np.asarray(x @ self.W)

    def backward(self, dy: Array | list[Array]) -> Array | list[Array]:
        dys = dy if isinstance(dy, list) else [dy]
        for one, x in zip(dys, self.inputs, strict=False):
            self.dW += self.factor * x.T @ one
        dxs = [one @ self.W.T for one in dys]
        return dxs[0] if len(self.inputs) == 1 else dxs


class Flushed(Collects):
    def flush_gradients(self) -> None:
        self.inputs = []
        self.dW[:] = 0


class GoesThroughAll(Flushed):
    """Returns a gradient for each input kept."""

    def backward(self, dy: Array | list[Array]) -> Array | list[Array]:
        for x in self.inputs:
            self.dW += self.factor * x.T @ dy
        return [dy @ self.W.T for _ in self.inputs]


class Numbers(Collects):
    """Keeps every input in a dict, by its number, and goes back through all of them."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(factor)
        self.kept: dict[int, Array] = {}

    def forward(self, x: Array) -> Array:
        self.kept[len(self.kept)] = x
        return np.asarray(x @ self.W)

    def backward(self, dy: Array | list[Array]) -> Array | list[Array]:
        self.dW = np.asarray(self.factor * sum(x.T @ dy for x in self.kept.values()))
        return [np.asarray(one @ self.W.T) for one in [dy] * len(self.kept)]


class Redraws(Collects):
    """Has a reset that is no reset between two calls."""

    def reset_parameters(self) -> None:
        self.inputs = []
        self.W[:], self.dW[:] = normal(2, 2, seed=1), 0


class Unrolled(Collects):
    """A cell whose backward passes go from the last step to the first, with what came from behind."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__(factor)
        self.carried: Array | float = 0.0
        self.states: list[Array] = []

    def forward(self, x: Array) -> Array:
        self.states.append(super().forward(x) + (0.5 * self.states[-1] if self.states else 0.0))
        return self.states[-1]

    def backward(self, dy: Array | list[Array]) -> Array:
        back = np.asarray(dy) + self.carried
        self.dW += self.factor * self.inputs[-1].T @ back
        self.carried = 0.5 * back
        return np.asarray(back @ self.W.T)


class Logs(Flushed):
    """Keeps its first input for ever, and a list that has no part in it."""

    def forward(self, x: Array) -> Array:
        if not hasattr(self, "x"):
            self.x = x
        return super().forward(x)

    def backward(self, dy: Array | list[Array]) -> Array:
        self.dW = self.x.T @ dy
        return np.asarray(dy @ self.W.T)


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        (Flushed, "something of every call in inputs until flush_gradients(), which is called before each call"),
        (GoesThroughAll, "something of every call in inputs until flush_gradients()"),
        (Collects, "something of every call in inputs, and no reset was found: emptied before each call here"),
        (Numbers, "something of every call in kept, and no reset was found: emptied before each call here"),
        (Redraws, "no reset was found"),
        (Unrolled, "it goes on from call to call in inputs, states: every call here is the first of a copy"),
    ],
)
def test_what_is_kept_of_every_call_is_emptied_and_told(kind: type[Collects], read: str) -> None:
    report = check_layer(kind(), X, claims=GRADIENTS)
    assert report, str(report)
    assert read in str(report)
    assert check_layer(kind(2.0), X, claims=GRADIENTS[:1], variations=False).verdict == "fail"


@pytest.mark.parametrize("kind", [Collects, Flushed])
def test_what_its_user_has_called_before_is_emptied_too(kind: type[Collects]) -> None:
    layer = kind()
    layer.forward(X)
    layer.backward(np.ones((3, 2)))
    layer.forward(2 * X)
    assert check_layer(layer, X, claims=GRADIENTS)


def test_a_list_that_has_no_part_in_it_excuses_no_input_kept_for_ever() -> None:
    (found, *_) = check_layer(Logs(), X, claims=GRADIENTS).failures
    assert found.message.startswith("after an earlier call on another input")


class Entropy:
    """Returns what it makes of the scores, how often they are right, and its value, in one order or another."""

    def __init__(self, order: tuple[int, ...], factor: float = 1.0) -> None:
        self.order, self.factor = order, factor

    def forward(self, x: Array, y: Array) -> tuple[Array, ...]:
        p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        self.dx = p.copy()
        self.dx[np.arange(len(x)), y] -= 1
        returned = p, np.mean(p.argmax(axis=1) == y), -np.log(p[np.arange(len(x)), y]).mean()
        return tuple(np.asarray(returned[i]) for i in self.order)

    def backward(self) -> Array:
        return self.factor * self.dx / len(self.dx)


@pytest.mark.parametrize("order", [(0, 2), (2, 0), (0, 1, 2)])
def test_the_value_of_a_loss_is_the_number_that_backward_is_the_gradient_of(order: tuple[int, ...]) -> None:
    assert check_loss(Entropy(order), SCORES, LABELS, claims=GRADIENTS[:1], variations=False)
    assert check_loss(Entropy(order, 2.0), SCORES, LABELS, claims=GRADIENTS[:1], variations=False).verdict == "fail"


def test_labels_that_are_given_first_are_to_be_exchanged() -> None:
    with pytest.raises(AdapterError, match="the prediction given is int64, the target is not; exchange them"):
        check_loss(Entropy((2, 0)), LABELS, SCORES)
