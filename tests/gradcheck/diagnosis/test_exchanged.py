"""A loss whose gradient takes its prediction for its target is named, where the loss tells the two apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.properties.gradients import gradients_agree_with_differences

RNG = np.random.default_rng(0)
P, T = RNG.uniform(0.2, 0.8, (2, 3)), RNG.uniform(0.2, 0.8, (2, 3))


class Divergence:
    """The mean of ``t log(t / p) + p^2``, with a gradient of its own."""

    def __init__(self, gradient: Callable[[Array, Array], Array]) -> None:
        self.gradient = gradient

    def forward(self, p: Array, t: Array) -> float:
        self.given = p, t
        return float(np.mean(t * np.log(t / p) + p**2))

    def backward(self) -> Array:
        return self.gradient(*self.given) / self.given[0].size


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("gradient", "said"),
    [
        (lambda p, t: -p / t + 2 * t, "the gradient of the loss with prediction and target exchanged"),
        pytest.param(
            lambda p, t: p / t - 2 * t,
            "the negative of the gradient of the loss with prediction and target exchanged",
            marks=pytest.mark.long,
        ),
        (
            lambda p, t: np.log(t / p) + 1,
            "the gradient of the target: prediction and target are exchanged",
        ),
        (lambda p, t: -t / p + 2 * t, ""),
    ],
)
def test_exchanged_arguments_are_named(gradient: Callable[[Array, Array], Array], said: str) -> None:
    report = gradcheck.check_loss(
        Divergence(gradient), P, T, claims=[gradients_agree_with_differences], variations=False
    )
    assert report.failures[0].diagnosis == (f"prediction's gradient is {said}" if said else "")


def test_a_right_loss_is_none() -> None:
    assert gradcheck.check_loss(Divergence(lambda p, t: -t / p + 2 * p), P, T)
