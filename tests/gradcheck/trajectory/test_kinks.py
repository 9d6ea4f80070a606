"""Kinks that rounding alone makes one side cross are explained; others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Array, Context, Kinks
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.engine import Batch, Step
from gradcheck.trajectory.kinks import crossings
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights

FACTOR = 8
ABOVE = 5  # roundings above the kink: near it, and yet too far for shadows to cross by themselves


class Offset(Neuron):
    """A rectified neuron whose sum is off by ``offset``."""

    offset = 0.0

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        def tap(name: str, array: Array) -> Array:
            return context.tap(name, array + self.offset if name == "forward/0.output" else array)

        return super().step(x, y, lr, replace(context, tap=tap))


def near_the_kink(units: float) -> tuple[Array, Array, float]:
    """Return inputs and weights whose products sum to ``units`` times their rounding, and that rounding."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal(8), rng.standard_normal(8)
    rounding = float(np.finfo(np.float64).eps * np.linalg.norm(x * w))
    w[-1] = (units * rounding - np.cumsum(x[:-1] * w[:-1])[-1]) / x[-1]
    return x, w, rounding


def crossed_by(units: float, rest: int = 0) -> TrajectoryReport:
    """Compare with a reference on the other side of the kink, ``units`` roundings away."""
    x, w, rounding = near_the_kink(ABOVE)
    reference = Offset(w, rectified=True)
    reference.offset = -units * rounding
    first = Batch(x[None], np.array([1.0]), 0.1)
    return check_trajectory(Neuron(w, rectified=True), reference, [first, *batches(rest, 8)], sensitivity=False)


def test_a_kink_crossed_by_rounding_is_explained() -> None:
    report = crossed_by(8)
    (crossing,) = report.lock_step.crossings
    assert (crossing.step, crossing.layer, crossing.index, crossing.explained) == (0, "1", (0,), True)
    assert 0 < crossing.gap <= FACTOR * crossing.noise
    assert report.lock_step.first_failure is None
    assert report.lock_step.ratios.max() <= 1


def test_a_crossed_kink_ends_the_horizon() -> None:
    report = crossed_by(8)
    assert report.free_run.horizon_step == 0
    assert report.free_run.verdict is Verdict.INCONCLUSIVE
    assert [crossing.explained for crossing in report.free_run.crossings] == [True]


@pytest.mark.parametrize("units", [100, 1e6])
def test_a_kink_crossed_by_a_fault_is_not_explained(units: float) -> None:
    report = crossed_by(units)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergence is not None
    assert (report.first_divergence.phase, report.first_divergence.tensor) == ("forward", "0.output")
    assert [crossing.explained for crossing in report.lock_step.crossings] == [False]


def test_a_fault_elsewhere_is_not_excused_by_a_crossed_kink() -> None:
    x, w, rounding = near_the_kink(ABOVE)

    class Scaled(Offset):
        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            return super().step(x, y * (1 + 1e-9), lr, context)

    reference = Scaled(w, rectified=True)
    reference.offset = -8 * rounding
    report = check_trajectory(
        Neuron(w, rectified=True), reference, [Batch(x[None], np.array([1.0]), 0.1)], sensitivity=False
    )
    assert report.first_divergence is not None
    assert report.first_divergence.phase == "data"


class TwoKinks(Offset):
    """A neuron that reports a second kink, at ``threshold``, as one that is far from tipping over."""

    threshold = 0.0

    def kinks(self, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:
        side = taps["forward/0.output"] > self.threshold
        return super().kinks(x, taps) | {"0": Kinks(side, np.ones(side.shape))}


def test_one_explained_crossing_does_not_excuse_another() -> None:
    x, w, rounding = near_the_kink(ABOVE)
    engine, reference = TwoKinks(w, rectified=True), TwoKinks(w, rectified=True)
    reference.offset = -8 * rounding
    engine.threshold = 0.5 * rounding  # between the two sides, and out of the shadows' reach
    report = check_trajectory(engine, reference, [Batch(x[None], np.array([1.0]), 0.1)], sensitivity=False)
    found = {crossing.layer: crossing.explained for crossing in report.lock_step.crossings}
    assert found == {"1": True, "0": False}
    assert report.lock_step.verdict is Verdict.FAIL


def test_a_unit_without_a_choice_explains_nothing() -> None:
    def kinks(choice: int, margin: float) -> dict[str, Kinks]:
        return {"1": Kinks(np.array([0, choice]), np.array([np.inf, margin]))}

    ours, theirs, shadow = kinks(0, 1.0), kinks(1, 1.0), kinks(0, 1 + 1e-12)
    (crossing,) = crossings(0, ours, theirs, [shadow], FACTOR)
    assert (crossing.index, crossing.gap, crossing.explained) == ((1,), 2.0, False)
    assert crossing.noise == pytest.approx(1e-12, rel=1e-3)


def test_rectified_neurons_far_from_their_kinks_cross_nothing() -> None:
    engine, reference = (Neuron(weights(8), rectified=True, direction=way) for way in (1, -1))
    report = check_trajectory(engine, reference, batches(60, 8), sensitivity=False)
    assert report
    assert report.lock_step.crossings == report.free_run.crossings == ()
