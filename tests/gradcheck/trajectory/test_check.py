"""Verdicts of whole comparisons, on engines whose right answer is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Array, Context, Gradients
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory import TrajectoryMismatch, check_trajectory
from gradcheck.trajectory.check import Progress
from gradcheck.trajectory.engine import Batch, Step
from gradcheck.trajectory.faults import Fault, GradientFault, OutputCast
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights
from tests.long import later

STEPS = 60


class GradientCast(GradientFault):
    """One parameter's gradient, in single precision."""

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        return grad.astype(np.float32)


@pytest.mark.short(2)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 5))])
def test_two_orders_of_one_sum_are_the_same_program(dtype: type, seed: int) -> None:
    start = weights(seed=seed, dtype=dtype)
    report = check_trajectory(
        Neuron(start), Neuron(start, direction=-1), batches(STEPS, seed=seed, dtype=dtype), seed=seed, sensitivity=False
    )
    assert report
    assert report.lock_step.verdict is report.free_run.verdict is Verdict.PASS
    assert (report.lock_step.steps_compared, report.free_run.steps_compared) == (STEPS, STEPS)
    assert report.first_divergence is None
    assert report.free_run.horizon_step is None
    assert report.stopped_by is None
    assert 0 < report.free_run.max_relative_distance < 1e3 * np.finfo(dtype).eps
    assert report.lock_step.ratios.max() <= 1
    report.raise_if_failed()


@pytest.mark.parametrize("begin", [0, 17])
def test_a_scaled_gradient_is_found_where_it_begins(begin: int) -> None:
    def scaled(step: int, grad: Array) -> Array:
        return grad * np.float64(1 + 1e-9) if step >= begin else grad

    report = check_trajectory(
        Neuron(weights(), corrupt=scaled), Neuron(weights(), direction=-1), batches(STEPS), sensitivity=False
    )
    assert report.verdict is Verdict.FAIL
    assert not report
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.layer, found.tensor) == (begin, "backward", "0", "0.weight")
    assert found.ours / found.theirs == pytest.approx(1 + 1e-9, rel=1e-12)
    assert found.ratio > 1
    assert report.lock_step.failed_steps[0] == begin
    with pytest.raises(
        TrajectoryMismatch, match=rf"(?s)step {begin}, backward, 0.weight\[\d\]:\n  ours .* 8 allowed"
    ) as caught:
        report.raise_if_failed()
    assert caught.value.report is report


def test_one_wrong_element_is_named() -> None:
    def flipped(_: int, grad: Array) -> Array:
        return grad * np.array([1, 1, 1, -1, 1, 1])

    report = check_trajectory(Neuron(weights(), corrupt=flipped), Neuron(weights()), batches(3), sensitivity=False)
    assert report.first_divergence is not None
    assert report.first_divergence.index == (3,)


def test_a_wrong_update_is_one_of_the_update() -> None:
    engine = Neuron(weights(), dynamics=lambda w, grad, lr: w - lr * 1.0001 * grad)
    report = check_trajectory(engine, Neuron(weights()), batches(3), sensitivity=False)
    assert report.first_divergence is not None
    assert (report.first_divergence.phase, report.first_divergence.tensor) == ("update", "param/0.weight")


def test_what_lock_step_cannot_see_free_run_does() -> None:
    report = check_trajectory(Neuron(weights(), hidden=1e-6), Neuron(weights()), batches(STEPS), sensitivity=False)
    assert report.lock_step.verdict is Verdict.PASS
    assert report.free_run.verdict is report.verdict is Verdict.FAIL
    assert report.first_divergence is not None
    assert (report.first_divergence.step, report.first_divergence.phase) == (1, "update")


class Logistic(Neuron):
    """Chaotic whatever it learns: w becomes 4 w (1 - w), which doubles an error at every step."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        self.dynamics = lambda w, _, __: context.tapped("update", "map", 4 * w * (1 - w))
        return super().step(x, y, lr, context)


def test_chaos_is_no_fault() -> None:
    start = np.random.default_rng(0).uniform(0.1, 0.9, 6)
    report = check_trajectory(Logistic(start), Logistic(start, direction=-1), batches(200), sensitivity=False)
    assert report.verdict is report.lock_step.verdict is Verdict.PASS
    assert report.free_run.verdict is Verdict.INCONCLUSIVE
    assert report.free_run.horizon_step is not None
    assert 20 < report.free_run.horizon_step < 100  # from 1e-16 to 1e-2 / 8 it takes some 43 doublings
    assert report.free_run.steps_compared == report.free_run.horizon_step


def test_different_data_is_named_first() -> None:
    class Shuffled(Neuron):
        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            return super().step(x, y[::-1], lr, context)

    report = check_trajectory(Shuffled(weights()), Neuron(weights()), batches(3), sensitivity=False)
    assert report.first_divergence is not None
    assert (report.first_divergence.phase, report.first_divergence.tensor) == ("data", "y")
    assert report.first_divergence.ratio == math.inf


def test_gradients_that_are_all_zero_prove_nothing() -> None:
    silent = [Batch(batch.x, batch.x @ weights() * 0, batch.lr) for batch in batches(5)]
    zero = np.zeros(6)
    report = check_trajectory(Neuron(zero), Neuron(zero, direction=-1), silent, sensitivity=False)
    assert report.verdict is report.lock_step.verdict is Verdict.INCONCLUSIVE
    assert set(report.lock_step.uninformative) >= {"1.input", "0.weight", "param/0.weight"}


def test_an_engine_that_raises_fails_where_it_does() -> None:
    def broken(step: int, grad: Array) -> Array:
        if step == 2:
            raise ZeroDivisionError("out of order")
        return grad

    report = check_trajectory(Neuron(weights(), corrupt=broken), Neuron(weights()), batches(5), sensitivity=False)
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (2, "backward", "0.weight")
    assert found.message == "raises ZeroDivisionError: out of order"
    with pytest.raises(TrajectoryMismatch, match=r"step 2, backward, 0\.weight:\n  ours raises ZeroDivisionError"):
        report.raise_if_failed()


def test_a_gradient_of_another_shape_is_a_failure_of_its_tensor() -> None:
    engine = Neuron(weights(), corrupt=lambda _, grad: grad[None], dynamics=lambda w, grad, lr: w - lr * grad[0])
    found = check_trajectory(engine, Neuron(weights()), batches(2), sensitivity=False).first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (0, "backward", "0.weight")
    assert found.message == "has shape (1, 6), the reference's (6,)"


def test_a_missing_gradient_of_what_does_not_move_is_a_failure_of_its_tensor() -> None:
    class Silent(Neuron):
        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            return replace(super().step(x, y, 0.0, context), grads={})

    found = check_trajectory(Silent(weights()), Neuron(weights()), batches(2), sensitivity=False).first_divergence
    assert found is not None
    assert (found.phase, found.tensor, found.message) == ("backward", "0.weight", "has no gradient")


def test_the_first_divergence_is_the_earlier_of_the_two() -> None:
    def scaled(step: int, grad: Array) -> Array:
        return grad * 2 if step >= 17 else grad

    report = check_trajectory(
        Neuron(weights(), hidden=1e-6, corrupt=scaled), Neuron(weights()), batches(30), sensitivity=False
    )
    assert report.lock_step.first_failure is not None
    assert report.free_run.first_failure is not None
    assert (report.lock_step.first_failure.step, report.free_run.first_failure.step) == (17, 1)
    assert report.first_divergence is report.free_run.first_failure


@pytest.mark.parametrize(("hidden", "verdict"), [(2e-15, Verdict.FAIL), (0.0, Verdict.PASS)])
def test_free_run_is_sharp(hidden: float, verdict: Verdict) -> None:
    engine, reference = Neuron(weights(), hidden=hidden), Neuron(weights(), direction=-1)
    assert check_trajectory(engine, reference, batches(STEPS), sensitivity=False).free_run.verdict is verdict


def test_an_update_tells_something_only_beside_how_far_it_moved() -> None:
    tiny = [batch._replace(lr=1e-18) for batch in batches(5)]
    report = check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), tiny, sensitivity=False)
    assert report.verdict is Verdict.PASS
    assert report.lock_step.uninformative == ("param/0.weight",)


def test_what_must_be_equal_is_not_among_the_ratios() -> None:
    lock = check_trajectory(Neuron(weights()), Neuron(weights()), batches(5), sensitivity=False).lock_step
    assert lock.ratios.size == 5 * 7  # the outputs of two layers and of all, the loss, two gradients, one update
    assert lock.informative == lock.ratios.size


def test_no_batches_prove_nothing() -> None:
    report = check_trajectory(Neuron(weights()), Neuron(weights()), [], sensitivity=False)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.lock_step.steps_compared == 0


def test_a_loss_that_is_not_finite_on_both_sides_stops_the_run_and_is_named() -> None:
    report = check_trajectory(
        Neuron(weights()), Neuron(weights(), direction=-1), batches(400, lr=1e3), sensitivity=False
    )
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.stopped_by is not None
    assert report.stopped_by.step == report.lock_step.steps_compared - 1 < 399
    assert (report.stopped_by.layer, report.stopped_by.tensor) in {("loss", "loss.value"), ("0", "0.output")}


def test_a_nan_on_one_side_only_is_a_failure() -> None:
    def poisoned(step: int, grad: Array) -> Array:
        return grad * np.nan if step == 2 else grad

    report = check_trajectory(Neuron(weights(), corrupt=poisoned), Neuron(weights()), batches(4), sensitivity=False)
    assert report.first_divergence is not None
    assert (report.first_divergence.step, report.first_divergence.tensor) == (2, "0.weight")
    assert math.isnan(report.first_divergence.ours)
    assert report.first_divergence.ratio == math.inf


def test_both_must_start_alike() -> None:
    with pytest.raises(AdapterError, match="both engines need the same initial state"):
        check_trajectory(Neuron(weights()), Neuron(weights(seed=2)), batches(1), sensitivity=False)


def test_what_one_side_alone_shows_is_not_compared_and_listed() -> None:
    report = check_trajectory(Neuron(weights(), tap="dense.output"), Neuron(weights()), batches(3), sensitivity=False)
    assert report, report.first_divergence
    assert report.lock_step.alone == {"ours": ("forward/dense.output",), "theirs": ("forward/0.output",)}
    assert report.lock_step.ratios.size == 3 * 6
    assert "not compared, since only the reference shows them: forward/0.output" in str(report)
    assert json.loads(report.to_json())["lock_step"]["not_compared"]["ours"] == ["forward/dense.output"]


def test_progress_is_told_of_every_step() -> None:
    told: list[Progress] = []
    check_trajectory(Neuron(weights()), Neuron(weights()), batches(4), progress=told.append, sensitivity=False)
    assert [now.step for now in told] == [0, 1, 2, 3]
    assert all(now.loss == now.reference_loss and now.noise == 0 for now in told)


def test_the_same_seed_gives_the_same_report() -> None:
    runs = [
        check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), batches(STEPS), seed=3, sensitivity=False)
        for _ in range(2)
    ]
    assert runs[0].lock_step.ratios.tobytes() == runs[1].lock_step.ratios.tobytes()
    assert runs[0].free_run.envelope.tobytes() == runs[1].free_run.envelope.tobytes()


@pytest.mark.parametrize("every", later([1, 3, 100, 2, 7], 1))
def test_every_so_many_steps_are_compared_in_lock_step_and_all_in_free_run(every: int) -> None:
    report = check_trajectory(
        Neuron(weights()), Neuron(weights(), direction=-1), batches(20), every=every, sensitivity=False
    )
    assert report
    assert report.every == every
    assert report.lock_step.steps_compared == -(-20 // every)
    assert report.free_run.steps_compared == 20
    engine = Neuron(weights(), corrupt=lambda _, grad: 2 * grad)
    faulty = check_trajectory(engine, Neuron(weights()), batches(20), every=every, sensitivity=False)
    assert faulty.lock_step.failed_steps == tuple(range(0, 20, every))


def shown_wrong_at(step: int) -> Fault:
    """Return the fault of a gradient that is shown, and not learnt from, in one step alone."""

    class Once(Fault):
        def gradients(self, now: int, grads: Gradients, previous: Gradients, size: int) -> Gradients:
            return {name: grad * (2 if now == step else 1) for name, grad in grads.items()}

    return Once()


def test_a_step_that_is_not_compared_may_be_wrong() -> None:
    for step, failed in ((9, (9,)), (10, ())):
        engine = Neuron(weights()).planted(shown_wrong_at(step))
        report = check_trajectory(engine, Neuron(weights(), direction=-1), batches(20), every=3, sensitivity=False)
        assert report.lock_step.failed_steps == failed
        assert bool(report) == (not failed)


@pytest.mark.parametrize(
    "given",
    [{"factor": 0.0}, {"factor": -1.0}, {"factor": math.nan}, {"factor": math.inf}, {"shadows": 0}, {"every": 0}],
    ids=str,
)
def test_what_measures_nothing_is_refused(given: dict[str, float]) -> None:
    (got,) = given.values()
    with pytest.raises(
        ValueError, match=r"^check_trajectory needs a finite factor above 0, shadows and every of at l"
    ) as caught:
        check_trajectory(Neuron(weights()), Neuron(weights()), batches(1), **given)  # type: ignore[arg-type]
    assert f"{got}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_larger_factor_allows_more_and_a_smaller_one_less() -> None:
    found = [
        check_trajectory(
            Neuron(weights()), Neuron(weights(), direction=-1), batches(20), factor=factor, sensitivity=False
        )
        for factor in (2.0, 8.0, 80.0)
    ]
    tops = [report.lock_step.ratios.max() for report in found]
    assert tops[0] > tops[1] > tops[2]


@pytest.mark.parametrize(
    ("fault", "phase", "tensor"),
    [
        (OutputCast("0", np.float32), "forward", "0.output"),
        (OutputCast("1", np.float32, begin=2), "forward", "1.output"),
        (GradientCast("0.weight", begin=1), "backward", "0.weight"),
    ],
    ids=repr,
)
def test_another_precision_is_named_in_its_tensor_with_both(fault: Fault, phase: str, tensor: str) -> None:
    report = check_trajectory(Neuron(weights()).planted(fault), Neuron(weights()), batches(4), sensitivity=False)
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (fault.begin, phase, tensor)
    assert found.message == "is float32, the reference's float64"
    assert found.ratio == math.inf


def test_an_engine_of_the_other_precision_is_refused_though_its_values_are_equal() -> None:
    start = np.arange(6.0)  # which both precisions hold
    with pytest.raises(AdapterError, match="is float64 in ours and is float32 in the reference; compare both in one"):
        check_trajectory(
            Neuron(start), Neuron(start.astype(np.float32)), batches(2, dtype=np.float32), sensitivity=False
        )


def test_an_update_in_another_precision_is_one_of_the_update() -> None:
    class Rounded(Neuron):
        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            step = super().step(x, y, lr, context)
            return replace(step, updated=step.updated | {"param/0.weight": self.weight.astype(np.float32)})

    found = check_trajectory(Rounded(weights()), Neuron(weights()), batches(2), sensitivity=False).first_divergence
    assert found is not None
    assert (found.phase, found.tensor) == ("update", "param/0.weight")
    assert found.message == "is float32, the reference's float64"
