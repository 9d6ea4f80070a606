"""What a reference rounds by is seen, and what jumps is not taken for it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Array, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch, Step, observed, tensors_of
from gradcheck.trajectory.faults import GradientScale
from gradcheck.trajectory.reference import ReferenceRounding
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights

CONTEXT = Context(training=True)


def rounding(engine: Neuron, name: str, batch: Batch) -> float:
    asked = ReferenceRounding(engine, engine, 0)
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


class Exact(Neuron):
    """A neuron whose sum is rounded once."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        def tap(name: str, array: Array) -> Array:
            if name == "forward/0.output":
                array = np.array([math.fsum(row) for row in x * self.weight], dtype=array.dtype)
            return context.tap(name, array)

        return super().step(x, y, lr, replace(context, tap=tap))


TERMS = 5000
FLAT = np.full((1, TERMS), 0.1)  # as many equal pixels: one after the other, their sum errs in one direction


def flat(y: float, lr: float = 0.0) -> Batch:
    return Batch(FLAT, np.array([y]), lr)


def test_a_long_sum_of_equal_terms_errs_by_what_is_seen() -> None:
    neuron = Neuron(np.ones(TERMS))
    error = abs(float(neuron.step(*flat(0.0), CONTEXT).outputs[0]) - math.fsum(FLAT[0]))
    assert error > 5 * np.finfo(float).eps * 500  # by several units: a random walk of 5,000 steps is nearer
    seen = rounding(neuron, "forward/0.output", flat(0.0))
    assert error / 4 < seen < 4 * error


def test_terms_that_moved_one_by_one_would_hide_how_equal_ones_err(monkeypatch: pytest.MonkeyPatch) -> None:
    def independent(array: Array, rng: np.random.Generator) -> Array:
        return rng.random(array.shape, np.float32)

    neuron = Neuron(np.ones(TERMS))
    together = rounding(neuron, "forward/0.output", flat(0.0))
    monkeypatch.setattr("gradcheck.trajectory.reference.hashed", independent)
    assert rounding(neuron, "forward/0.output", flat(0.0)) < together / 2


def excess(engine: Neuron, reference: Neuron, batch: Batch) -> dict[str, Array]:
    asked = ReferenceRounding(reference, engine, 0)
    before = reference.state()
    step = observed(reference, batch, CONTEXT)
    return asked.excess(tensors_of(step), before, batch, CONTEXT)


def test_a_reference_that_rounds_as_we_do_has_no_excess() -> None:
    start = np.ones(TERMS)
    assert excess(Neuron(start), Neuron(start), flat(0.0, lr=1e-6)) == {}
    assert excess(Exact(start), Exact(start), flat(0.0, lr=1e-6)) == {}
    assert excess(Neuron(weights()), Neuron(weights(), direction=-1), batches(1)[0]) == {}


def test_what_rounds_more_than_its_reference_is_given_no_excess() -> None:
    assert excess(Neuron(np.ones(TERMS)), Exact(np.ones(TERMS)), flat(0.0, lr=1.0)) == {}


def test_a_reference_that_adds_one_by_one_has_about_its_true_error_for_its_excess() -> None:
    start, batch = np.ones(TERMS), flat(500.0 - 1e-3, lr=1.0)  # so near that the sum's error is most of the update's
    ours, theirs = (engine(start).step(*batch, CONTEXT).updated["param/0.weight"] for engine in (Exact, Neuron))
    error = float(np.abs(ours - theirs).mean())
    assert error > 0
    found = excess(Exact(start), Neuron(start), batch)
    assert found.keys() == {"param/0.weight"}
    assert found["param/0.weight"].shape == (TERMS,)
    assert error / 4 < float(found["param/0.weight"].mean()) < 4 * error


@pytest.mark.parametrize("scale", [1 + 1e-3, 1 + 1e-9])
def test_a_gradient_that_all_but_cancelled_excuses_none_that_does_not(scale: float) -> None:
    # The first is nothing but the rounding of its sum, which is large beside it; the second is as large as can be.
    given, start = [flat(500 + 1e-9), flat(0.0)], np.ones(TERMS)
    right = check_trajectory(Exact(start), Neuron(start), given, sensitivity=False)
    assert right.verdict is Verdict.PASS
    assert right.lock_step.second_opinions > 0
    planted = Exact(start).planted(GradientScale("0.weight", scale, begin=1))
    assert check_trajectory(planted, Neuron(start), given, sensitivity=False).lock_step.failed_steps == (1,)


def near_the_kink() -> Batch:
    """Return inputs whose sum with equal weights is above zero in double precision, and not in single."""
    return Batch(np.array([[1.0, 1e-10, -1.0]]), np.array([1.0]), 0.1)


def opinions(x: Batch) -> dict[str, float]:
    """Return what single precision has to say of a rectified neuron in double precision."""
    start = np.ones(x.x.shape[1])
    neuron, other = (Neuron(start.astype(dtype), rectified=True) for dtype in (np.float64, np.float32))
    before = neuron.state()
    theirs = tensors_of(observed(neuron, x, CONTEXT))
    names = ["forward/0.output", "forward/1.output", "loss/loss.value", "backward/0.weight", "update/param/0.weight"]
    asked = ReferenceRounding(neuron, neuron, 0, other)
    return asked.by_opinion(names, theirs, before, x, CONTEXT)


def test_another_precision_has_no_say_of_what_flows_back_from_a_kink_that_it_crossed() -> None:
    assert opinions(near_the_kink()).keys() == {"forward/0.output", "forward/1.output", "loss/loss.value"}


def test_another_precision_tells_of_everything_where_it_crossed_none() -> None:
    found = opinions(Batch(np.array([[1.0, 0.3, 0.1]]), np.array([1.0]), 0.1))
    assert {"backward/0.weight", "update/param/0.weight"} <= found.keys()
    eps = np.finfo(float).eps
    assert all(0 < error < 100 * eps for error in found.values())  # single precision's, scaled


def test_another_precision_in_which_nothing_is_finite_has_no_say() -> None:
    with np.errstate(over="ignore"):
        found = opinions(Batch(np.array([[1e30, 0.3, 0.1]]), np.array([1.0]), 0.1))
    assert found["loss/loss.value"] == 0
