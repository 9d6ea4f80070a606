"""Float32 is seen where something inside computes in it, and only there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.numerics.precision import precision_seen

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((4, 6)), RNG.standard_normal((6, 3))

Function = Callable[[Array], Array]


def seen(f: Function, x: Array, seed: int = 0) -> type:
    def compute(given: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.asarray(f(given["x"]))}

    return precision_seen(compute, {"x": x}, np.random.default_rng(seed))


def single(x: Array) -> Array:
    return x.astype(np.float32)


def widened(x: Array) -> Array:
    return x.astype(np.float64)


def through_a_buffer(x: Array) -> Array:
    hidden = np.zeros(x.shape, np.float32)
    hidden[...] = np.tanh(x)
    return hidden @ W


def with_a_single_mask(x: Array) -> Array:
    return x * (x > 0).astype(np.float32)


IN_FLOAT32: dict[str, Function] = {
    "float32 comes out": lambda x: single(np.tanh(x)),
    "the input is rounded": lambda x: np.tanh(widened(single(x))),
    "only the input is rounded, the weight is not": lambda x: single(x) @ W,
    "the output is rounded and widened": lambda x: widened(single(np.tanh(x))),
    "a buffer in between": through_a_buffer,
    "one number": lambda x: np.asarray(through_a_buffer(x).mean()),
}

IN_FLOAT64: dict[str, tuple[Function, Array]] = {
    "identity": (lambda x: x, X),
    "identity of float32 numbers": (lambda x: x, single(X)),
    "sign": (np.sign, X),
    "comparison": (lambda x: 1.0 * (x > 0), X),
    "whole numbers": (np.rint, X),
    "largest of a row": (lambda x: x.max(axis=1), X),
    "rectifier at zero": (lambda x: np.maximum(x, 0), np.zeros((3, 4))),
    "sum of many rectifiers": (lambda x: np.maximum(x, 0).sum(), RNG.standard_normal(20_000)),
    "sorted ties": (lambda x: np.sort(x, axis=1), np.rint(X)),
    "a mask in float32": (with_a_single_mask, X),
    "an offset": (lambda x: (1e6 + np.sin(x)) - 1e6, X),
    "an offset that leaves as little as float32 does": (lambda x: (1e9 + np.sin(x)) - 1e9, X),
    "steep": (lambda x: np.sin(1e4 * x), X),
    "far steeper than any step": (np.sin, 1e8 + X),
    "from 1e-8 to 1e8": (np.reciprocal, 10.0 ** np.linspace(-8, 8, 17)),
    "saturated": (np.tanh, 30 * X),
    "differing from call to call": (lambda x: x + np.random.default_rng().standard_normal(x.shape), X),
}


@pytest.mark.parametrize("f", IN_FLOAT32.values(), ids=IN_FLOAT32)
def test_float32_inside_is_seen(f: Function) -> None:
    assert all(seen(f, x, seed) is np.float32 for seed in range(5) for x in (X, single(X)))


@pytest.mark.parametrize(("f", "x"), IN_FLOAT64.values(), ids=IN_FLOAT64)
def test_what_computes_in_float64_is_not_taken_for_float32(f: Function, x: Array) -> None:
    assert all(seen(f, x, seed) is np.float64 for seed in range(5))


def test_what_takes_float32_alone_computes_in_it_and_what_takes_nothing_is_left_alone() -> None:
    def compute(given: Mapping[str, Array]) -> dict[str, Array] | None:
        return {"y": given["x"]} if given["x"].dtype == np.float32 else None

    assert precision_seen(compute, {"x": X}, np.random.default_rng(0)) is np.float32
    assert precision_seen(lambda _: None, {"x": X}, np.random.default_rng(0)) is np.float64
