"""Gradients that are computed when they are asked for: of generators, and in properties."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError

X = np.random.default_rng(0).standard_normal((4, 3))


def tanh(x: Array) -> Generator[Array, Array, None]:
    y = np.tanh(x)
    dy = yield y
    yield dy * (1 - y**2)


class Tanh:
    factor = 1.0

    def forward(self, x: Array) -> Generator[Array, Array, None]:
        y = np.tanh(x)
        dy = yield y
        yield self.factor * dy * (1 - y**2)


class Doubled(Tanh):
    factor = 2.0


@pytest.mark.parametrize(("layer", "verdict"), [(tanh, "pass"), (Tanh(), "pass"), (Doubled(), "fail")])
def test_a_generator_that_is_sent_dy_is_taken(layer: object, verdict: str) -> None:
    assert gradcheck.check_layer(layer, X).verdict == verdict


class Dense:
    """Gradients are properties."""

    factor = 1.0

    def __init__(self) -> None:
        self.W = np.random.default_rng(1).standard_normal((3, 2))

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.W

    def backward(self, dy: Array) -> None:
        self.dy = dy

    @property
    def dW(self) -> Array:
        return self.factor * self.x.T @ self.dy

    @property
    def grad_input(self) -> Array:
        return self.dy @ self.W.T


class Half(Dense):
    factor = 0.5


@pytest.mark.parametrize(("layer", "verdict"), [(Dense(), "pass"), (Half(), "fail")])
def test_gradients_in_properties_are_found(layer: Dense, verdict: str) -> None:
    report = gradcheck.check_layer(layer, X)
    assert report.verdict == verdict
    assert "W (dW)" in str(report)
    assert ".grad_input" in str(report)


class OfTwoPrecisions(Dense):
    def forward(self, x: Array) -> Array:
        assert x.dtype == np.float32
        assert self.W.dtype == np.float64
        return super().forward(x)


def test_code_of_two_precisions_is_told_to_hold_one() -> None:
    with pytest.raises(AdapterError, match="or hold parameters in the precision of the inputs"):
        gradcheck.check_layer(OfTwoPrecisions(), X.astype(np.float32))
