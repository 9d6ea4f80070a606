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


class Product:
    """``x w``, whose gradients come one after another."""

    factor = 1.0

    def forward(self, x: Array, w: Array) -> Generator[Array, Array, None]:
        dy = yield x @ w
        yield dy @ w.T
        yield self.factor * x.T @ dy


class WrongProduct(Product):
    factor = 3.0


class Endless(Tanh):
    def forward(self, x: Array) -> Generator[Array, Array, None]:
        result = np.tanh(x)
        while True:
            dy = yield result
            result = dy * (1 - np.tanh(x) ** 2)


@pytest.mark.parametrize(("layer", "verdict"), [(Product(), "pass"), (WrongProduct(), "fail")])
def test_further_gradients_of_a_generator_are_those_of_the_next_arguments(layer: Product, verdict: str) -> None:
    assert gradcheck.check_layer(layer, X, X.T @ X, variations=False).verdict == verdict


def test_a_generator_that_goes_on_for_each_dy_is_taken() -> None:
    assert gradcheck.check_layer(Endless(), X, variations=False).verdict == "pass"


def returned(x: Array) -> Generator[Array, Array, Array]:
    dy = yield np.tanh(x)
    return dy * (1 - np.tanh(x) ** 2)


def alone(x: Array) -> Generator[Array, Array, None]:
    yield np.tanh(x)


def too_many(x: Array) -> Generator[Array, Array, None]:
    dy = yield np.tanh(x)
    yield dy * (1 - np.tanh(x) ** 2)
    yield dy


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (returned, "^returned yields too little: yield the output, and yield the gradient after the output$"),
        (alone, "^alone yields too little: yield the output, and yield the gradient after the output$"),
        (too_many, "^too_many yields more gradients than it takes arguments: yield one for each$"),
    ],
)
def test_a_generator_that_yields_less_or_more_is_told(layer: object, said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        gradcheck.check_layer(layer, X)


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
    with pytest.raises(AdapterError, match="float32: give inputs that it takes, or hold parameters in their precision"):
        gradcheck.check_layer(OfTwoPrecisions(), X.astype(np.float32))
