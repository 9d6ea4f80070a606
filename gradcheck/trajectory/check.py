"""Whether two engines are the same program: lock-step, free-run, and the verdict of both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import StrEnum, auto
from itertools import chain, islice

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR, SHADOWS
from gradcheck.trajectory.beginnings import both_tried, both_tried_in_evaluation
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
from gradcheck.trajectory.probing import TRIED, Note, Trait, Tried, drawn, require_engine
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.sensitivity import Sampler, Sensitivity
from gradcheck.trajectory.sensitivity import sensitivity as planted_faults
from gradcheck.trajectory.told import Told


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


class Silence(StrEnum):
    """Why a run is inconclusive."""

    NO_STEPS = auto()
    NOT_FINITE = auto()  # a loss, on both sides
    NOT_REPEATABLE = auto()  # one side gives other numbers for the same step
    OTHER_DRAWS = auto()  # both draw random numbers, and not the same
    NO_TAPS = auto()  # the engine shows no intermediate, so that its rounding cannot be measured
    NO_GRADIENTS = auto()
    NO_INFORMATION = auto()  # no gradient was above rounding noise


@dataclass(frozen=True, repr=False)
class EvaluationReport(Told):
    """Whether two engines give the same outputs for some inputs; ``bool(report)`` is True only on a pass.

    ``noise`` is the worst disagreement of an output of any layer, in units of rounding noise; ``factor`` are allowed.
    ``notes`` are what was found out about the two engines before.
    """

    verdict: Verdict
    noise: float
    first_divergence: Divergence | None
    factor: float = FACTOR
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, repr=False)
class TrajectoryReport(Told):
    """The result of a comparison of two engines; ``bool(report)`` is True only on a pass.

    Lock-step compared every ``every``-th step. ``sensitivity`` is None unless the run passed. ``seconds`` and
    ``reference_seconds`` are what the engine and the reference spent on their own training steps. ``silence`` is why
    the verdict is INCONCLUSIVE, else None. ``notes`` are what was found out about the two engines before the run.
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
    silence: Silence | None = None
    notes: tuple[Note, ...] = ()


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
    planting: Callable[[int, int], None] = lambda _, __: None,
) -> TrajectoryReport:
    """Train ``reference`` on ``batches`` and check, step by step, that ``engine`` is the same program.

    The reference trains freely. At every step the engine takes the same step from the reference's state (lock-step).
    Beside that it trains by itself from the same start (free-run). Both engines are left as trained. Lock-step decides
    the verdict; free-run can fail it before its horizon. Where a comparison fails, the reference's own rounding is
    measured: with ``opinion``, the reference in the other precision, and with a copy of the reference.

    If all pass, faults are planted into copies of the engine, in steps of this very run. The report's ``sensitivity``
    says which of them lock-step catches, and from which size on. ``faults``, by name, are planted too. That takes about
    as long as some hundred steps of a run; ``planting(done, all)`` is called before each kind of fault.

    Lock-step compares every ``every``-th step. With an ``evaluation``, outputs in evaluation mode are compared too.
    ``score(outputs, y)`` is passed to ``progress`` at every step and does not affect the verdict.

    Before the run, copies of both engines are tried on the first batches. What can be mended is: arrays are copied that
    an engine shares, numbers and tensors become arrays, global generators are put back before each step. What was found
    is in ``notes``. State that `state` does not show is carried along in lock-step.

    Raises `AdapterError` for what is no engine, cannot be copied, or starts from another state or with other names than
    the other; ValueError where one of them cannot evaluate or make a fault, and for a factor, shadows or steps that
    measure nothing; `StepError` where the reference cannot take a step.
    """
    if not 0 < factor < math.inf or shadows < 1 or every < 1:
        raise ValueError(
            "check_trajectory needs a finite factor above 0, shadows and every of at least 1, "
            f"got {factor}, {shadows}, {every}"
        )
    for side, one in (("ours", engine), ("theirs", reference)):
        require_engine(one, side)
    if evaluation is not None:
        _require_evaluate(engine, reference)
    stream = drawn(batches)
    first = list(islice(stream, TRIED))
    sides = both_tried(engine, reference, first, seed)
    engine, reference = (side.engine for side in sides)
    hidden, tapped = sides[0].hides, not sides[0].has(Trait.NO_TAPS)
    every = 1 if hidden else every
    for fault in (faults or {}).values():
        engine.planted(fault)  # so that one that it cannot make is refused before the run
    rounding = ReferenceRounding(reference, engine, seed, opinion, hidden=any(side.hides for side in sides))
    sampler = Sampler(Key(seed, path="sampler").generator())
    sensitivity = sensitivity and not any(side.hides for side in sides)
    watch = [sampler] if sensitivity else []
    lock = LockStep(engine, factor, shadows, seed, rounding, *watch, hidden=hidden, tapped=tapped)
    generator = Key(seed, path="free-run").generator()
    free = FreeRun(engine, factor, shadows, generator, rounding, waiting=tapped and not hidden)
    stopped: NonFinite | None = None
    reference_seconds = 0.0
    # Overflow is not an error here: what is not finite is found and named.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for index, batch in enumerate(chain(first, stream)):
            context = Context(training=True, key=Key(seed, index))
            before = reference.state()
            if evaluation is not None and index % evaluation.every == 0:
                evaluated = Context(training=False, key=context.key)
                inputs = Batch(evaluation.x, batch.y, 0.0)
                lock.compare(before, inputs, evaluated, observed(reference, inputs, evaluated))
            began = time.perf_counter()
            theirs = observed(reference, batch, context)
            reference_seconds += time.perf_counter() - began
            # Beyond the horizon nothing but lock-step tells what a side carries over from step to step.
            lock.doubtful = free.horizon is not None and lock.hidden_from is None
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
        unmeasured = lock_step.unmeasured > 0
        parted = free_run.first_failure
        # Shadows without taps stay together, whatever rounding does.
        if not tapped and parted is not None and not parted.message:
            free_run, unmeasured = replace(free_run, verdict=Verdict.INCONCLUSIVE, first_failure=None), True
        silence = _silence(lock_step, free_run, stopped, sides, unmeasured)
        failures = [found for found in (lock_step.first_failure, free_run.first_failure) if found is not None]
        verdict = Verdict.INCONCLUSIVE if silence else Verdict.FAIL if failures else Verdict.PASS
        caught: Sensitivity | None = None
        if sensitivity and verdict is Verdict.PASS:
            given = engine, sampler, rounding, factor, shadows, seed, faults or {}
            caught = planted_faults(*given, tapped=tapped, progress=planting)
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
        silence=silence,
        notes=sides[0].notes + sides[1].notes,
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
    INCONCLUSIVE if the allowance of the network's outputs exceeds a hundredth of the largest. Before, copies of both
    are tried, as `check_trajectory` does. Raises `AdapterError` for what is no engine, cannot be copied, or has other
    names or shapes than the other; ValueError where one of the two cannot evaluate, `StepError` where the reference
    cannot take ``x``.
    """
    return EvaluationCheck(engine, reference, factor=factor, shadows=shadows, seed=seed, opinion=opinion)(x)


@dataclass(eq=False)
class EvaluationCheck:
    """Two engines whose outputs are compared, as `check_evaluation` does, for any number of inputs, each by itself.

    They are tried once, on the first inputs.
    """

    engine: Engine
    reference: Engine
    _: KW_ONLY
    factor: float = FACTOR
    shadows: int = SHADOWS
    seed: int = 0
    opinion: Engine | None = None
    tried: tuple[Tried, Tried] | None = field(default=None, init=False)

    def __call__(self, x: Array) -> EvaluationReport:
        if self.tried is None:
            for side, one in (("ours", self.engine), ("theirs", self.reference)):
                require_engine(one, side)
            _require_evaluate(self.engine, self.reference)
            self.tried = both_tried_in_evaluation(self.engine, self.reference, x, self.seed)
        engine, reference = (side.engine for side in self.tried)
        passed: list[Taken] = []
        rounding = ReferenceRounding(reference, engine, self.seed, self.opinion)
        lock = LockStep(engine, self.factor, self.shadows, self.seed, rounding, passed.append)
        batch, context = Batch(np.array(x), np.empty(0), 0.0), Context(training=False, key=Key(self.seed, 0))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = lock.compare(reference.state(), batch, context, observed(reference, batch, context))
        verdict = Verdict.PASS if ratio <= 1 else Verdict.FAIL
        if passed and not passed[0].tells("forward/outputs"):
            verdict = Verdict.INCONCLUSIVE
        notes = self.tried[0].notes + self.tried[1].notes
        return EvaluationReport(verdict, ratio * self.factor, lock.first_failure, self.factor, notes)


def _require_evaluate(*engines: Engine) -> None:
    lacking = dict.fromkeys(type(one).__name__ for one in engines if type(one).evaluate is Engine.evaluate)
    if lacking:
        raise ValueError(f"an evaluation needs engines with evaluate(x, context), got {' and '.join(lacking)} without")


def _silence(
    lock_step: LockStepResult,
    free_run: FreeRunResult,
    stopped: NonFinite | None,
    sides: tuple[Tried, Tried],
    unmeasured: bool,
) -> Silence | None:
    """Return why a run tells nothing, or None if it does.

    Programs that differ only in the random numbers that they draw are not wrong.
    """
    ours, theirs = sides
    told = Verdict.FAIL in (lock_step.verdict, free_run.verdict)
    reasons = {
        Silence.NO_STEPS: not (told or lock_step.steps_compared),
        Silence.NOT_REPEATABLE: (told or lock_step.verdict is Verdict.INCONCLUSIVE)
        and any(side.has(Trait.NOT_REPEATABLE) for side in sides),
        Silence.OTHER_DRAWS: told and bool(ours.draws and theirs.draws) and ours.draws != theirs.draws,
        Silence.NOT_FINITE: not told and stopped is not None,
        Silence.NO_TAPS: not told and unmeasured,
        Silence.NO_GRADIENTS: not told and all(side.has(Trait.NO_GRADIENTS) for side in sides),
        Silence.NO_INFORMATION: not told and lock_step.verdict is Verdict.INCONCLUSIVE,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def first_non_finite(index: int, step: Step) -> NonFinite:
    """Return the first tensor of a step, in the order of execution, that is not finite."""
    tensors = tensors_of(step)
    name = next(name for name in execution_order(step) if not np.isfinite(tensors[name]).all())
    _, tensor = split(name)
    return NonFinite(index, layer_of(tensor), tensor)
