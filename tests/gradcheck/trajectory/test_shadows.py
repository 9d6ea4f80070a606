"""What free-running shadows show that nudged taps do not: errors of updates, of engines without taps, of one sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.engine import Batch, State, Step, observed, tensors_of
from gradcheck.trajectory.freerun import FreeRun
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.shadows import Errors, Shadows
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights
from tests.long import later

EPS = float(np.finfo(float).eps)
DECAY = 0.1

Rule = Callable[[Array, Array, float], Array]


def coupled(decay: float) -> Rule:
    return lambda w, grad, lr: w - lr * (grad + decay * w)


def decoupled(decay: float) -> Rule:
    return lambda w, grad, lr: w * (1 - lr * decay) - lr * grad


def decayed(ours: Rule, theirs: Rule, seed: int = 0) -> TrajectoryReport:
    start, given = 10 * weights(seed=seed), batches(200, seed=seed, lr=1e-3)
    return check_trajectory(Neuron(start, dynamics=ours), Neuron(start, dynamics=theirs), given, sensitivity=False)


@pytest.mark.short(1)
@pytest.mark.parametrize("seed", range(3))
def test_a_decay_that_is_associated_otherwise_is_no_fault(seed: int) -> None:
    report = decayed(decoupled(DECAY), coupled(DECAY), seed)
    assert report, report.first_divergence
    assert report.free_run.verdict is Verdict.PASS


def test_a_decay_that_is_off_by_little_is_one() -> None:
    found = decayed(decoupled(DECAY * (1 + 1e-5)), coupled(DECAY)).first_divergence
    assert found is not None
    assert (found.step, found.tensor) == (0, "param/0.weight")


def to_and_fro(error: float) -> TrajectoryReport:
    """Move weights of about 10 by 1 and back, again and again; one side errs in each move, always upwards."""
    given = [one._replace(lr=(-1.0) ** step) for step, one in enumerate(batches(40))]
    start = 10.5 + 0.1 * weights()
    ours = Neuron(start, dynamics=lambda w, _, lr: w + lr)
    theirs = Neuron(start, dynamics=lambda w, _, lr: w + lr + 10 * error * EPS)
    return check_trajectory(ours, theirs, given, sensitivity=False)


def test_errors_that_keep_their_sign_while_the_movement_turns_are_no_fault() -> None:
    report = to_and_fro(0.8)
    assert report, report.first_divergence
    assert report.free_run.steps_compared == 40
    assert to_and_fro(4.0).lock_step.failed_steps


@pytest.mark.parametrize(("places", "verdict"), [(1, Verdict.PASS), (3, Verdict.FAIL)])
def test_a_last_place_stays_when_the_number_that_had_it_shrinks(places: int, verdict: Verdict) -> None:
    start = np.array([1.25])
    ours = Neuron(start, dynamics=lambda w, _, lr: w - lr)
    theirs = Neuron(start, dynamics=lambda w, _, lr: w - lr + (places * EPS / 2) * (lr == 0.5))
    free = FreeRun(ours, FACTOR, 3, np.random.default_rng(0), ReferenceRounding(theirs, ours, 0))
    for step, lr in enumerate([0.5, 0.625]):  # 0.75 or the next number, then about 0.125
        batch, context, before = (
            Batch(np.zeros((1, 1)), np.zeros(1), lr),
            Context(training=True, key=Key(0, step)),
            theirs.state(),
        )
        free.compare(before, batch, context, observed(theirs, batch, context), {"param/0.weight": 0.0}, {})
    assert free.result().verdict is verdict


@pytest.mark.parametrize(("size", "verdict"), [(1e-300, Verdict.PASS), (1e-200, Verdict.FAIL)])
def test_a_parameter_that_underflows_accuses_nobody(size: float, verdict: Verdict) -> None:
    ours, theirs = Neuron(np.array([size])), Neuron(np.array([size]), dynamics=lambda w, _, __: 1.01 * w)
    free = FreeRun(ours, FACTOR, 3, np.random.default_rng(0), ReferenceRounding(theirs, ours, 0))
    batch, context = Batch(np.zeros((1, 1)), np.zeros(1), 0.0), Context(training=True, key=Key(0, 0))
    before = theirs.state()
    free.compare(before, batch, context, observed(theirs, batch, context), {"param/0.weight": 0.0}, {})
    assert free.result().verdict is verdict


@pytest.mark.parametrize("factor", [2.0, FACTOR])
def test_errors_of_updates_add_up_with_one_sign(factor: float) -> None:
    engine, count = Neuron(weights()), 40
    shadows = Shadows(engine, 4, factor, np.random.default_rng(0))
    for step, batch in enumerate(batches(count, lr=0.0)):
        shadows.step(batch, Context(training=True, key=Key(0, step)), Errors({}))
    for one in shadows.each:
        distance = np.linalg.norm(one.state["param/0.weight"] - weights() + one.rests["param/0.weight"])
        assert factor * distance == pytest.approx(count * EPS * np.linalg.norm(weights()), rel=1e-6)


def test_counts_do_not_err_and_squares_stay_squares() -> None:
    class Counting(Neuron):
        def __init__(self) -> None:
            super().__init__(weights())
            self.kept: State = {"optim/step/0.weight": np.zeros((), np.float32), "optim/square/0.weight": np.zeros(6)}

        def state(self) -> State:
            return super().state() | {key: array.copy() for key, array in self.kept.items()}

        def load(self, state: Mapping[str, Array]) -> None:
            super().load(state)
            self.kept = {key: state[key].copy() for key in self.kept}

        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            self.kept["optim/step/0.weight"] += 1
            self.kept["optim/square/0.weight"] = np.full(6, 10.0 ** -(40 * self.steps))
            return super().step(x, y, lr, context)

    shadows = Shadows(Counting(), 3, 1.0, np.random.default_rng(0))
    for step, batch in enumerate(batches(4)):
        shadows.step(batch, Context(training=True, key=Key(0, step)), Errors({}))
    for one in shadows.each:
        assert one.state["optim/step/0.weight"] == 4
        assert (one.state["optim/square/0.weight"] >= 0).all()


@pytest.mark.parametrize("kept", [1 << 28, 3000], ids=["all", "a few"])
def test_shadows_that_have_waited_are_where_they_would_be(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradcheck.trajectory.shadows.KEPT", kept)
    prompt, late = (
        Shadows(Neuron(weights()), 3, FACTOR, np.random.default_rng(0), waiting=waiting) for waiting in (False, True)
    )
    given = batches(12)
    for step, batch in enumerate(given * 2):  # two epochs of the same samples
        context = Context(training=True, key=Key(0, step))
        errors = Errors({"param/0.weight": 1 / (1 + step)}, {"param/0.weight": np.full(6, step * EPS)}, step // 5)
        x = batch.x.copy()
        at_once = prompt.step(batch, context, errors)
        first = late.step(Batch(x, *batch[1:]), context, errors)
        assert len(first) == 1
        x[:] = np.nan  # what waits has a copy
        if step % 9 == 8:
            together = [*first, *late.waited_for()]
            for a, b in zip(at_once, together, strict=True):
                assert np.array_equal(a.updated["param/0.weight"], b.updated["param/0.weight"])
    late.waited_for()
    for one, other in zip(prompt.each, late.each, strict=True):
        assert np.array_equal(one.state["param/0.weight"], other.state["param/0.weight"])
        assert np.array_equal(one.rests["param/0.weight"], other.rests["param/0.weight"])


@pytest.mark.parametrize("seed", range(2))
def test_a_fault_is_caught_where_all_shadows_catch_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes from far below an allowance to far above, beginning at any step: the verdicts of all steps are the same."""

    def failing(size: float) -> tuple[tuple[int, ...], Verdict]:
        begins = 2 + 3 * seed
        ours = Neuron(weights(), corrupt=lambda step, grad: grad * (1 + size * EPS) if step >= begins else grad)
        theirs = Neuron(weights(), direction=-1)
        report = check_trajectory(ours, theirs, batches(8), seed=seed, sensitivity=False)
        return report.lock_step.failed_steps, report.free_run.verdict

    sizes = [2.0**k for k in range(12)]
    few = [failing(size) for size in sizes]
    monkeypatch.setattr("gradcheck.trajectory.lockstep.CLEAR", -1.0)
    monkeypatch.setattr("gradcheck.trajectory.freerun.CLEAR", -1.0)
    assert few == [failing(size) for size in sizes]
    assert {len(steps) for steps, _ in few} >= {0, 8 - (2 + 3 * seed)}


class Untapped(Neuron):
    """A neuron that shows taps, and ignores what they return."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        return super().step(x, y, lr, context.tapped_by(lambda name, array: (context.tap(name, array), array)[1]))


@pytest.mark.short(1)
@pytest.mark.parametrize("dtype", later([np.float64, np.float32], after=1))
@pytest.mark.parametrize("seed", range(2))
def test_without_taps_inputs_and_parameters_are_nudged(seed: int, dtype: type) -> None:
    start, given = weights(200, seed=seed, dtype=dtype), batches(60, 200, seed=seed, lr=1e-3, dtype=dtype)
    report = check_trajectory(Untapped(start), Neuron(start, direction=-1), given, seed=seed, sensitivity=False)
    assert report, report.first_divergence
    assert report.lock_step.second_opinions == 0
    assert report.free_run.verdict is Verdict.PASS
    wrong = Untapped(start, corrupt=lambda _, grad: grad * dtype(1 + 1e4 * np.finfo(dtype).eps))
    found = check_trajectory(wrong, Neuron(start, direction=-1), given, seed=seed).lock_step.first_failure
    assert found is not None
    assert (found.step, found.tensor) == (0, "0.weight")


class Forgetful(Neuron):
    """A neuron with a velocity that its state lacks, and that is gone where a state is loaded."""

    def load(self, state: Mapping[str, Array]) -> None:
        super().load(state)
        self.velocity = np.zeros_like(self.weight)

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        def heavy(w: Array, grad: Array, lr: float) -> Array:
            self.velocity = 0.9 * getattr(self, "velocity", 0.0) + grad
            return w - lr * self.velocity

        self.dynamics = heavy
        return super().step(x, y, lr, context)


def test_what_a_state_lacks_is_not_lost_by_the_shadows() -> None:
    report = check_trajectory(Forgetful(weights()), Neuron(weights()), batches(20), sensitivity=False)
    assert report.lock_step.verdict is Verdict.PASS
    assert report.free_run.first_failure is not None
    assert report.free_run.first_failure.step == 1


TERMS = 40_000


def one_by_one(w: Array, grad: Array, lr: float) -> Array:
    """Move by a gradient of norm 1, whose squares are added one after the other: in single precision too few."""
    return np.asarray(w - grad.dtype.type(lr) * grad / np.sqrt(np.cumsum(grad * grad)[-1]))


def by_a_right_norm(w: Array, grad: Array, lr: float) -> Array:
    norm = math.sqrt(math.fsum(grad.astype(float) ** 2))
    return np.asarray(w - grad.dtype.type(lr) * grad / grad.dtype.type(norm))


def of_one_sign(count: int) -> list[Batch]:
    rng = np.random.default_rng(3)
    return [Batch(rng.random((1, TERMS)).astype(np.float32), np.ones(1, np.float32), 0.1) for _ in range(count)]


def clipped(ours: Neuron) -> TrajectoryReport:
    start = np.zeros(TERMS)
    theirs, opinion = (Neuron(start.astype(dtype), dynamics=one_by_one) for dtype in (np.float32, np.float64))
    return check_trajectory(ours, theirs, of_one_sign(6), opinion=opinion, sensitivity=False)


@pytest.mark.long
def test_a_norm_that_errs_to_one_side_in_the_reference_is_no_fault_of_ours() -> None:
    start = np.zeros(TERMS, np.float32)
    report = clipped(Neuron(start, dynamics=by_a_right_norm))
    assert report, report.first_divergence
    assert report.free_run.verdict is Verdict.PASS
    wrong = clipped(Neuron(start, dynamics=lambda w, grad, lr: by_a_right_norm(w, grad, lr * 1.001)))
    assert wrong.lock_step.first_failure is not None
    assert (wrong.lock_step.first_failure.step, wrong.lock_step.first_failure.phase) == (0, "update")


def test_the_other_precision_shows_an_error_that_is_the_same_at_all_points_of_a_line() -> None:
    (batch,), start, context = of_one_sign(1), np.zeros(TERMS, np.float32), Context(training=True)
    reference, opinion = (Neuron(start.astype(dtype), dynamics=one_by_one) for dtype in (np.float32, np.float64))
    engine = Neuron(start, dynamics=by_a_right_norm)
    before = reference.state()
    theirs = tensors_of(observed(reference, batch, context))
    right = engine.step(*batch, context).updated["param/0.weight"]
    error = np.linalg.norm((theirs["update/param/0.weight"] - right).astype(float))
    found = ReferenceRounding(reference, engine, 0, opinion).excess(theirs, before, batch, context)
    assert error > 0
    assert error / 2 < np.linalg.norm(found["param/0.weight"]) < 2 * error
