"""Values that are rounded to nothing, or by more than nudges show, are not accused; a wrong one among them is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.contract import Array
from tests.long import later


class Cancelling:
    """``(1e6 + sin x) - 1e6``, with or without nudges."""

    def __init__(self, taken: Callable[[Any], Array], factor: float = 1.0, more: float = 0.0) -> None:
        self.taken, self.factor, self.more = taken, factor, more

    def forward(self, x: Array) -> Array:
        self.x = self.taken(x)
        return (1e6 + np.sin(self.x)) - 1e6 + self.more

    def backward(self, dy: Array) -> Array:
        return self.factor * dy * np.cos(self.x)


class Complement:
    """``log(1 - exp(-x))``: for x above 37 it is 0, and its slope is not."""

    def __init__(self, taken: Callable[[Any], Array], more: float = 0.0) -> None:
        self.taken, self.more = taken, more

    def forward(self, x: Array) -> Array:
        self.x = self.taken(x)
        return np.asarray(np.log(1 - np.exp(-self.x)))

    def backward(self, dy: Array) -> Array:
        return dy * (np.exp(-self.x) / (1 - np.exp(-self.x)) + self.more * self.x)


def nudgeable(x: Array) -> Array:
    return x


TAKEN = (nudgeable, np.asarray)  # the second drops nudges


class OfTorch(torch.nn.Module):
    """A twin that computes in float32, whatever it is given."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x.float()).to(x.dtype)


def cancelling(x: Any) -> Any:
    return (1e6 + torch.sin(x)) - 1e6


X = np.random.default_rng(0).standard_normal((4, 3))


@pytest.mark.short(1)
@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("size", later([3, 1], after=1))
@pytest.mark.parametrize("about", later([46.0, 30.0, 240.0], after=2))
def test_a_value_that_is_rounded_to_nothing_accuses_no_slope(
    taken: Callable[[Any], Array], size: int, about: float
) -> None:
    x = about + 0.5 * np.random.default_rng(0).standard_normal(size)
    assert gradcheck.check_layer(Complement(taken), x).verdict != "fail"


@pytest.mark.parametrize("taken", TAKEN)
def test_a_slope_that_such_a_value_would_show_is_still_wrong(taken: Callable[[Any], Array]) -> None:
    x = np.array([46.1, 45.9, 46.6])
    assert gradcheck.check_layer(Complement(taken, 1e-6), x, variations=False).verdict == "fail"


@pytest.mark.long
@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("twin", [cancelling, torch.sin])
def test_a_twin_that_computes_in_float32_accuses_nothing(taken: Callable[[Any], Array], twin: Any) -> None:
    report = gradcheck.check_layer(Cancelling(taken), X[:2], twin=OfTorch(twin))
    assert report.verdict == "pass", str(report)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("layer", "wrong"),
    [
        (Cancelling(np.asarray, factor=1.0001), "gradients_agree_with_twin"),
        (Cancelling(np.asarray, more=0.3), "forward_agrees_with_twin"),
    ],
)
def test_what_is_wrong_beside_such_a_twin_is_caught(layer: Cancelling, wrong: str) -> None:
    report = gradcheck.check_layer(layer, X, twin=OfTorch(cancelling), claims=(wrong,), variations=False)
    assert report.verdict == "fail"


class Swinging:
    """``sin(1e8 x)``, whose difference from anything changes sign as rounding does."""

    def forward(self, x: Array) -> Array:
        self.x = np.asarray(x)
        return 1.001 * np.sin(1e8 * self.x)

    def backward(self, dy: Array) -> Array:
        return dy * 1e8 * np.cos(1e8 * self.x)


class SwingingTwin(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.sin(1e8 * x)


@pytest.mark.long
def test_what_swings_faster_than_can_be_followed_is_not_taken_for_rounding() -> None:
    report = gradcheck.check_layer(Swinging(), X, twin=SwingingTwin(), claims=("forward_agrees_with_twin",))
    assert report.verdict == "fail"


class Log:
    """``log x``, whose gradient in float32 is 0: everywhere, or above a bound."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.log(x)

    def backward(self, dy: Array) -> Array:
        return dy / self.x * ((self.x.dtype == np.float64) | (self.x < self.bound))


@pytest.mark.parametrize(("bound", "verdict"), [(np.inf, "pass"), (0.0, "fail"), (900.0, "fail")])
def test_a_gradient_that_does_not_move_is_not_taken_for_rounded(bound: float, verdict: str) -> None:
    x = np.random.default_rng(0).uniform(1000, 2000, (4, 3))
    assert gradcheck.check_layer(Log(bound), x, variations=False).verdict == verdict


class Sigmoid:
    """A sigmoid, or 0; and its gradient, or 0."""

    def __init__(self, value: float = 1.0, slope: float = 1.0) -> None:
        self.value, self.slope = value, slope

    def forward(self, x: Array) -> Array:
        self.y = 1 / (1 + np.exp(-x))
        return self.value * self.y

    def backward(self, dy: Array) -> Array:
        return self.slope * dy * self.y * (1 - self.y)


@pytest.mark.parametrize(
    ("layer", "verdict"), [(Sigmoid(), "pass"), (Sigmoid(slope=0.0), "fail"), (Sigmoid(value=0.0, slope=0.0), "fail")]
)
def test_zeros_beside_a_small_twin_are_wrong(layer: Sigmoid, verdict: str) -> None:
    x = -36 + X / 2
    assert gradcheck.check_layer(layer, x, twin=torch.nn.Sigmoid(), variations=False).verdict == verdict


class OfArrays(Sigmoid):
    """The same, without nudges."""

    def forward(self, x: Array) -> Array:
        return super().forward(np.asarray(x))


@pytest.mark.parametrize("about", [25.0, 36.0])
def test_a_slope_that_its_own_steps_round_to_nothing_accuses_nothing(about: float) -> None:
    report = gradcheck.check_layer(OfArrays(), about + X / 2, twin=torch.nn.Sigmoid(), variations=False)
    assert report.verdict != "fail", str(report)


class OneLess(Sigmoid):
    """``1 - 1 / (1 + exp x)``, which rounds to 0."""

    def forward(self, x: Array) -> Array:
        super().forward(x)
        return 1 - 1 / (1 + np.exp(x))


def test_a_value_that_its_own_steps_round_to_nothing_agrees_with_a_twin() -> None:
    for about in (-40.0, -100.0):
        report = gradcheck.check_layer(OneLess(), about + X / 2, twin=torch.nn.Sigmoid(), variations=False)
        assert report.verdict != "fail", str(report)
