"""What a run says that it would have caught, it catches; and to say so it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Array, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.check import Evaluation
from gradcheck.trajectory.engine import Batch, State, Step, observed
from gradcheck.trajectory.faults import Fault, GradientScale, OutputCast
from gradcheck.trajectory.lockstep import LockStep, Taken
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.sensitivity import LEAST, STEPS, Sampler, Sensitivity, SmallestFault
from tests.gradcheck.trajectory.neuron import Evaluated, Neuron, WrongInEvaluation, batches, weights

pytestmark = pytest.mark.rounding

TENSOR = "0.weight"
OF_THE_GRADIENT = {
    f"sign of {TENSOR}'s gradient",
    f"{TENSOR}'s gradient of the step before",
    f"a zero in {TENSOR}'s gradient",
}
DTYPES = [np.float64, np.float32]


def passed(count: int = 20, *, seed: int = 0, dtype: type = np.float64, **faults: Fault) -> TrajectoryReport:
    """Compare two orders of one sum."""
    start, given = weights(seed=seed, dtype=dtype), batches(count, seed=seed, dtype=dtype)
    return check_trajectory(Neuron(start), Neuron(start, direction=-1), given, seed=seed, faults=faults)


def sensitivity_of(report: TrajectoryReport) -> Sensitivity:
    assert report.verdict is Verdict.PASS
    assert report.sensitivity is not None
    return report.sensitivity


def smallest_of(report: TrajectoryReport) -> SmallestFault:
    one = sensitivity_of(report).by_tensor[TENSOR]
    assert one is not None
    return one


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 8))])
def test_the_size_that_is_reported_is_caught_and_a_hundredth_of_it_is_not(dtype: type, seed: int) -> None:
    one = smallest_of(passed(seed=seed, dtype=dtype))
    eps = float(np.finfo(dtype).eps)
    assert eps < one.size < 1e3 * eps
    assert dtype(1 + one.size) - 1 == one.size  # what is reported is what was planted
    start, given = weights(seed=seed, dtype=dtype), batches(20, seed=seed, dtype=dtype)
    for size, caught in ((one.size, True), (one.size / 100, False)):
        planted = Neuron(start).planted(GradientScale(TENSOR, 1 + size))
        report = check_trajectory(planted, Neuron(start, direction=-1), given, seed=seed + 1000, sensitivity=False)
        assert bool(report.lock_step.failed_steps) == caught
        assert (report.verdict is Verdict.FAIL) == caught
        if caught:
            assert report.first_divergence is not None
            assert report.first_divergence.tensor == TENSOR


def test_a_size_is_no_larger_than_it_needs_to_be() -> None:
    one = smallest_of(passed())
    start, given = weights(seed=0), batches(20, seed=0)
    planted = Neuron(start).planted(GradientScale(TENSOR, 1 + one.size / 4))
    report = check_trajectory(planted, Neuron(start, direction=-1), given, sensitivity=False)
    assert one.step not in report.lock_step.failed_steps


def test_a_fault_is_planted_where_the_run_tells_most() -> None:
    # Where labels are all but met, a gradient is little more than rounding.
    given = [
        batch if step == 7 else batch._replace(y=batch.x @ weights() + 1e-9)
        for step, batch in enumerate(batches(12, lr=0.0))
    ]
    one = smallest_of(check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), given))
    assert one.step == 7
    assert one.steps == LEAST
    assert one.share < 1


def test_the_share_is_that_of_the_steps_drawn_that_catch_it() -> None:
    (batch,) = batches(1, lr=0.0)
    one = smallest_of(check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), [batch] * 3))
    assert one.steps == 3
    assert one.share in {0, 1 / 3, 2 / 3, 1}
    assert one.share >= 1 / 3  # all three are the same


def test_each_kind_of_fault_is_announced() -> None:
    told: list[tuple[int, int]] = []
    engines = Neuron(weights()), Neuron(weights(), direction=-1)
    report = check_trajectory(
        *engines, batches(4), faults={"nothing": Fault()}, planting=lambda done, kinds: told.append((done, kinds))
    )
    found = sensitivity_of(report)
    kinds = len(found.by_tensor) + len(found.caught) + len(found.missed)
    assert told == [(k, kinds) for k in range(kinds)]


def test_a_fault_that_does_nothing_is_missed_and_others_are_caught() -> None:
    found = sensitivity_of(passed(nothing=Fault(), double=GradientScale(TENSOR, 2.0), cast=OutputCast("0", np.float32)))
    assert found.missed == ("nothing",)
    assert set(found.caught) == {"double", "cast"} | OF_THE_GRADIENT
    assert found.smallest == found.by_tensor[TENSOR]


def test_a_gradient_that_is_always_the_same_is_never_stale() -> None:
    (batch,) = batches(1, lr=0.0)
    found = sensitivity_of(check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), [batch] * 3))
    assert found.missed == (f"{TENSOR}'s gradient of the step before",)


def test_a_run_of_one_step_has_no_gradient_of_the_step_before() -> None:
    assert sensitivity_of(passed(1)).missed == (f"{TENSOR}'s gradient of the step before",)


def test_a_fault_that_begins_after_the_run_is_missed() -> None:
    assert "late" in sensitivity_of(passed(late=GradientScale(TENSOR, 2.0, begin=20))).missed


def test_only_a_run_that_passed_says_what_it_would_have_caught() -> None:
    failed = check_trajectory(Neuron(weights()).planted(GradientScale(TENSOR, 2.0)), Neuron(weights()), batches(3))
    assert (failed.verdict, failed.sensitivity) == (Verdict.FAIL, None)
    nothing = check_trajectory(Neuron(weights()), Neuron(weights()), [])
    assert (nothing.verdict, nothing.sensitivity) == (Verdict.INCONCLUSIVE, None)
    stopped = check_trajectory(Neuron(weights()), Neuron(weights()), batches(400, lr=1e3))
    assert (stopped.verdict, stopped.sensitivity) == (Verdict.INCONCLUSIVE, None)


def test_nothing_is_planted_where_nobody_asks() -> None:
    class Unplantable(Neuron):
        def planted(self, fault: Fault) -> Neuron:
            raise AssertionError("not asked for")

    report = check_trajectory(Unplantable(weights()), Neuron(weights()), batches(3), sensitivity=False)
    assert (report.verdict, report.sensitivity) == (Verdict.PASS, None)


class Pair(Neuron):
    """A neuron that has a second weight, which nothing depends on."""

    def state(self) -> State:
        return super().state() | {"param/1.weight": np.ones(2)}

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        step = super().step(x, y, lr, context)
        return replace(step, grads=step.grads | {"1.weight": np.zeros(2)})


def test_no_scaling_of_a_gradient_that_is_always_zero_is_caught() -> None:
    found = sensitivity_of(check_trajectory(Pair(weights()), Pair(weights(), direction=-1), batches(10)))
    assert found.by_tensor.keys() == {"0.weight", "1.weight"}
    assert found.by_tensor["1.weight"] is None
    assert found.smallest == found.by_tensor["0.weight"] is not None


def test_planting_leaves_the_run_as_it_is_bitwise() -> None:
    engines, reports = [], []
    for asked in (True, False):
        engine, reference = Neuron(weights()), Neuron(weights(), direction=-1)
        reports.append(check_trajectory(engine, reference, batches(20), sensitivity=asked, faults={"no": Fault()}))
        engines.append((engine, reference))
    for one, other in zip(*engines, strict=True):
        assert {key: array.tobytes() for key, array in one.state().items()} == {
            key: array.tobytes() for key, array in other.state().items()
        }
    first, second = reports
    assert first.lock_step.ratios.tobytes() == second.lock_step.ratios.tobytes()
    assert first.free_run.distances.tobytes() == second.free_run.distances.tobytes()
    assert first.sensitivity is not None
    assert second.sensitivity is None


@pytest.mark.long
def test_the_same_seed_gives_the_same_sensitivity() -> None:
    assert sensitivity_of(passed(seed=3)) == sensitivity_of(passed(seed=3))


@pytest.mark.long
def test_batches_may_come_in_one_array_that_is_filled_anew() -> None:
    def refilled() -> Iterator[Batch]:
        x, y = np.empty((2, 6)), np.empty(2)
        for batch in batches(20):
            x[...], y[...] = batch.x, batch.y
            yield Batch(x, y, batch.lr)

    found = [
        sensitivity_of(
            check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), given, faults={"no": Fault()})
        )
        for given in (batches(20), refilled())
    ]
    assert found[0] == found[1]
    assert found[1].missed == ("no",)


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_fault_in_evaluation_is_caught_only_where_there_is_one(evaluated: bool) -> None:
    found = sensitivity_of(
        check_trajectory(
            Evaluated(weights()),
            Evaluated(weights(), direction=-1),
            batches(5),
            evaluation=Evaluation(batches(1, seed=9)[0].x) if evaluated else None,
            faults={"evaluation": WrongInEvaluation()},
        )
    )
    assert ("evaluation" in found.caught, "evaluation" in found.missed) == (evaluated, not evaluated)


def sampled(seed: int, count: int) -> Sampler:
    """Show a sampler so many steps that pass."""
    sampler = Sampler(np.random.default_rng(seed))
    for step in taken(count):
        sampler(step)
    return sampler


def taken(count: int) -> list[Taken]:
    """Return steps of a neuron that pass."""
    kept: list[Taken] = []
    engine, reference = Neuron(weights()), Neuron(weights(), direction=-1)
    rounding = ReferenceRounding(reference, engine, 0)
    lock = LockStep(engine, 8, 1, 0, rounding, kept.append)
    for index, batch in enumerate(batches(count)):
        context = Context(training=True, key=Context().key._replace(step=index))
        before = reference.state()
        lock.compare(before, batch, context, observed(reference, batch, context))
    assert len(kept) == count
    return kept


def test_a_sampler_keeps_a_short_run_whole_and_eight_steps_of_a_long_one() -> None:
    assert [sample.context.key.step for sample in sampled(0, 5).drawn] == [0, 1, 2, 3, 4]
    assert STEPS == 8
    long = [sample.context.key.step for sample in sampled(0, 40).drawn]
    assert len(long) == len(set(long)) == STEPS


def test_a_sampler_draws_every_step_as_often() -> None:
    steps, seeds = taken(40), 400
    counts = np.zeros(40)
    for seed in range(seeds):
        sampler = Sampler(np.random.default_rng(seed))
        for step in steps:
            sampler(step)
        counts[[sample.context.key.step for sample in sampler.drawn]] += 1
    share = STEPS / 40
    deviation = np.sqrt(seeds * share * (1 - share))
    assert counts.sum() == seeds * STEPS
    assert np.abs(counts - seeds * share).max() < 4 * deviation
    assert np.abs(counts[:8].mean() - counts[-8:].mean()) < 2 * deviation


def test_a_sampler_keeps_the_step_that_can_tell_most_and_the_one_before_it() -> None:
    steps = taken(40)
    name = f"backward/{TENSOR}"
    shares = [step.allowed(name) / np.abs(step.theirs[name]).max() for step in steps]
    sampler = sampled(0, 40)
    best = sampler.sharpest[TENSOR]
    assert best is not None
    share, sample = best
    assert min(shares) <= share <= min(shares) / 0.9
    assert share == shares[sample.context.key.step]
    if sample.context.key.step > 0:
        assert sample.previous is not None
        assert sample.previous[2].key.step == sample.context.key.step - 1
