"""What a reference rounds by is seen, and what jumps is not taken for it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gradcheck.contract import Array, Context
from gradcheck.trajectory.engine import Batch
from gradcheck.trajectory.reference import ReferenceRounding
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights

CONTEXT = Context(training=True)


def rounding(engine: Neuron, name: str, batch: Batch) -> float:
    asked = ReferenceRounding(engine, engine, np.random.default_rng(0))
    return asked.by_differences({name: math.inf}, engine.state(), batch, CONTEXT)[name]


@pytest.mark.parametrize("seed", range(5))
def test_a_long_sum_rounds_by_what_is_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = Batch(rng.random((2, 6400)), np.zeros(2), 0.0)
    neuron = Neuron(np.ones(6400))
    exact = np.array([math.fsum(x) for x in batch.x])
    error = float(np.abs(neuron.step(*batch, CONTEXT).outputs - exact).max())
    seen = rounding(neuron, "forward/0.output", batch)
    assert error / 8 < seen < 100 * np.finfo(float).eps * float(exact.max())


def test_what_is_smooth_is_not_taken_for_rounding() -> None:
    seen = rounding(Neuron(weights()), "backward/0.weight", batches(1)[0])
    assert seen < 1e-14


def test_a_jump_at_a_kink_is_not_taken_for_rounding() -> None:
    x, unit = np.ones((2, 6)), np.sqrt(np.finfo(float).eps) / 16
    batch = Batch(x, np.full(2, 3.0), 0.0)
    balanced = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0 - 20 * unit])  # crosses on its way, on every line
    assert rounding(Neuron(balanced, rectified=True), "backward/0.weight", batch) < 1e-13

    class Unaware(Neuron):
        def kinks(self, *_: object) -> dict[str, object]:  # type: ignore[override]
            return {}

    assert rounding(Unaware(balanced, rectified=True), "backward/0.weight", batch) > 0.1


def test_a_jump_on_a_single_line_is_not_taken_for_rounding() -> None:
    calls = itertools.count()

    def once(_: int, grad: Array) -> Array:
        return grad + 1 if next(calls) == 4 else grad

    assert rounding(Neuron(weights(), corrupt=once), "backward/0.weight", batches(1)[0]) < 1e-14
    assert next(calls) > 4


def test_a_reference_that_raises_has_no_say() -> None:
    def broken(_: int, __: Array) -> Array:
        raise RuntimeError("no")

    assert rounding(Neuron(weights(), corrupt=broken), "backward/0.weight", batches(1)[0]) == 0
