"""Whether two engines are the same program: lock-step, free-run, and the verdict of both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck import words
from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR, SHADOWS
from gradcheck.trajectory.divergence import Divergence, split, unlike
from gradcheck.trajectory.engine import (
    Batch,
    Engine,
    Step,
    StepError,
    execution_order,
    layer_of,
    observed,
    tensors_of,
)
from gradcheck.trajectory.faults import Fault
from gradcheck.trajectory.freerun import FreeRun, FreeRunResult
from gradcheck.trajectory.lockstep import LockStep, LockStepResult, Taken
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.sensitivity import Sampler, Sensitivity
from gradcheck.trajectory.sensitivity import sensitivity as planted_faults


class TrajectoryMismatch(AssertionError):  # noqa: N818  a mismatch, as GradientMismatch is
    """Two engines or loops are not the same program; ``report`` says where they differ first."""

    def __init__(self, message: str, report: Any) -> None:  # noqa: ANN401  of engines, loops or traces
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Progress:
    """One step of a run: both losses, and the worst lock-step disagreement in units of rounding noise, NaN if none.

    ``score`` and ``reference_score`` are the caller's own measure of the outputs before the step.
    """

    step: int
    loss: float
    reference_loss: float
    noise: float
    score: float | None = None
    reference_score: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Inputs (batch, ...) that both engines evaluate before every ``every``-th step, the first included."""

    x: Array
    every: int = 100

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"Evaluation needs every of at least 1, got {self.every}")


@dataclass(frozen=True)
class NonFinite:
    """The first tensor that was not finite, on both sides, which ended the run."""

    step: int
    layer: str
    tensor: str


@dataclass(frozen=True)
class EvaluationReport:
    """Whether two engines give the same outputs for some inputs; ``bool(report)`` is True only on a pass.

    ``noise`` is the worst disagreement of an output of any layer, in units of rounding noise.
    """

    verdict: Verdict
    noise: float
    first_divergence: Divergence | None

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS


@dataclass(frozen=True)
class TrajectoryReport:
    """The result of a comparison of two engines; ``bool(report)`` is True only on a pass.

    Lock-step compared every ``every``-th step. ``sensitivity`` is None unless the run passed. ``seconds`` and
    ``reference_seconds`` are what the engine and the reference spent on their own training steps.
    """

    verdict: Verdict
    lock_step: LockStepResult
    free_run: FreeRunResult
    first_divergence: Divergence | None
    stopped_by: NonFinite | None
    factor: float
    shadows: int
    every: int
    sensitivity: Sensitivity | None
    seconds: float
    reference_seconds: float

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS

    def raise_if_failed(self) -> None:
        """Raise `TrajectoryMismatch` if the engines are not the same program."""
        __tracebackhide__ = True  # pytest shows the line that called
        if self.verdict is Verdict.FAIL and self.first_divergence is not None:
            raise TrajectoryMismatch(words.text(self), self)


def check_trajectory(
    engine: Engine,
    reference: Engine,
    batches: Iterable[Batch],
    *,
    factor: float = FACTOR,
    shadows: int = SHADOWS,
    every: int = 1,
    evaluation: Evaluation | None = None,
    seed: int = 0,
    opinion: Engine | None = None,
    sensitivity: bool = True,
    faults: Mapping[str, Fault] | None = None,
    score: Callable[[Array, Array], float] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrajectoryReport:
    """Train ``reference`` on ``batches`` and check, step by step, that ``engine`` is the same program.

    The reference trains freely. At every step the engine takes the same step from the reference's state (lock-step).
    Beside that it trains by itself from the same start (free-run). Both engines are left as trained. Lock-step decides
    the verdict; free-run can fail it before its horizon. Where a comparison fails, the reference's own rounding is
    measured: with ``opinion``, the reference in the other precision, and with a copy of the reference.

    If all pass, faults are planted into copies of the engine, in steps of this very run. The report's ``sensitivity``
    says which of them lock-step catches, and from which size on. ``faults``, by name, are planted too. That takes about
    as long as some hundred steps of a run.

    Lock-step compares every ``every``-th step. With an ``evaluation``, outputs in evaluation mode are compared too.
    ``score(outputs, y)`` is passed to ``progress`` at every step and does not affect the verdict.

    Raises ValueError where the two start from different states or name their tensors differently, where one of them
    cannot evaluate or make a fault, and for a factor, shadows or steps that measure nothing; `StepError` where the
    reference cannot take a step.
    """
    if not 0 < factor < math.inf or shadows < 1 or every < 1:
        raise ValueError(
            "check_trajectory needs a finite factor above 0, shadows and every of at least 1, "
            f"got {factor}, {shadows}, {every}"
        )
    if evaluation is not None:
        _require_evaluate(engine, reference)
    start = reference.state()
    own = engine.state()
    if own.keys() != start.keys() or any(not np.array_equal(own[key], start[key]) for key in start):
        raise ValueError("both engines need the same initial state: load one's into the other first")
    for fault in (faults or {}).values():
        engine.planted(fault)  # so that one that it cannot make is refused before the run
    rounding = ReferenceRounding(reference, engine, seed, opinion)
    sampler = Sampler(Key(seed, path="sampler").generator())
    lock = LockStep(engine, factor, shadows, seed, rounding, *([sampler] if sensitivity else []))
    free = FreeRun(engine, factor, shadows, Key(seed, path="free-run").generator(), rounding)
    stopped: NonFinite | None = None
    reference_seconds = 0.0
    # Overflow is not an error here: what is not finite is found and named.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for index, batch in enumerate(batches):
            batch = Batch(np.array(batch.x), np.array(batch.y), batch.lr)
            context = Context(training=True, key=Key(seed, index))
            before = reference.state()
            if evaluation is not None and index % evaluation.every == 0:
                evaluated = Context(training=False, key=context.key)
                inputs = Batch(evaluation.x, batch.y, 0.0)
                lock.compare(before, inputs, evaluated, observed(reference, inputs, evaluated))
            began = time.perf_counter()
            theirs = observed(reference, batch, context)
            reference_seconds += time.perf_counter() - began
            ratio = lock.compare(before, batch, context, theirs) if index % every == 0 else math.nan
            try:
                ours = free.compare(before, batch, context, theirs, lock.shares, lock.excused)
            except StepError as error:
                free.first_failure = free.first_failure or unlike(
                    index, error.place(execution_order(theirs)), error.message
                )
                break
            losses = [float(np.sum(step.loss)) for step in (ours, theirs)]
            scores = [None if score is None else score(step.outputs, batch.y) for step in (ours, theirs)]
            progress(Progress(index, losses[0], losses[1], ratio * factor, *scores))
            if not np.isfinite(losses[1]):
                stopped = first_non_finite(index, theirs)
                break
        lock_step, free_run = lock.result(), free.result()
        verdict = _verdict(lock_step, free_run, stopped)
        caught: Sensitivity | None = None
        if sensitivity and verdict is Verdict.PASS:
            caught = planted_faults(engine, sampler, rounding, factor, shadows, seed, faults or {})
    failures = [found for found in (lock_step.first_failure, free_run.first_failure) if found is not None]
    return TrajectoryReport(
        verdict=verdict,
        sensitivity=caught,
        lock_step=lock_step,
        free_run=free_run,
        first_divergence=min(failures, key=lambda found: found.step, default=None),
        stopped_by=stopped,
        factor=factor,
        shadows=shadows,
        every=every,
        seconds=free.seconds,
        reference_seconds=reference_seconds,
    )


def check_evaluation(
    engine: Engine,
    reference: Engine,
    x: Array,
    *,
    factor: float = FACTOR,
    shadows: int = SHADOWS,
    seed: int = 0,
    opinion: Engine | None = None,
) -> EvaluationReport:
    """Check that ``engine``, in ``reference``'s state, gives the reference's outputs for ``x`` (batch, ...).

    Both evaluate, and neither is changed. The outputs of every layer are compared as in lock-step. The verdict is
    INCONCLUSIVE if the allowance of the network's outputs exceeds a hundredth of the largest. Raises ValueError where
    one of the two cannot evaluate, `StepError` where the reference cannot take ``x``.
    """
    _require_evaluate(engine, reference)
    passed: list[Taken] = []
    rounding = ReferenceRounding(reference, engine, seed, opinion)
    lock = LockStep(engine, factor, shadows, seed, rounding, passed.append)
    batch, context = Batch(np.array(x), np.empty(0), 0.0), Context(training=False, key=Key(seed, 0))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = lock.compare(reference.state(), batch, context, observed(reference, batch, context))
    verdict = Verdict.PASS if ratio <= 1 else Verdict.FAIL
    if passed and not passed[0].tells("forward/outputs"):
        verdict = Verdict.INCONCLUSIVE
    return EvaluationReport(verdict, ratio * factor, lock.first_failure)


def _require_evaluate(*engines: Engine) -> None:
    lacking = dict.fromkeys(type(one).__name__ for one in engines if type(one).evaluate is Engine.evaluate)
    if lacking:
        raise ValueError(f"an evaluation needs engines with evaluate(x, context), got {' and '.join(lacking)} without")


def _verdict(lock_step: LockStepResult, free_run: FreeRunResult, stopped: NonFinite | None) -> Verdict:
    if Verdict.FAIL in (lock_step.verdict, free_run.verdict):
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if stopped else lock_step.verdict


def first_non_finite(index: int, step: Step) -> NonFinite:
    """Return the first tensor of a step, in the order of execution, that is not finite."""
    tensors = tensors_of(step)
    name = next(name for name in execution_order(step) if not np.isfinite(tensors[name]).all())
    _, tensor = split(name)
    return NonFinite(index, layer_of(tensor), tensor)
