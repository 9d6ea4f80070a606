"""Two traces, compared step by step, without the programs that wrote them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR, largest_magnitude
from gradcheck.trajectory.causes import explained
from gradcheck.trajectory.divergence import Divergence, Moment, locate
from gradcheck.trajectory.freerun import HORIZON
from gradcheck.trajectory.judgement import Judgement, apart, exact
from gradcheck.trajectory.told import Told
from gradcheck.trajectory.trace import NOISE, RecordedStep, Trace
from gradcheck.trajectory.unmeasured import unexplained


class Obstacle(StrEnum):
    """Why two traces cannot be compared."""

    OTHER_STATES = auto()  # the steps of one were taken from states that the other lacks
    OTHER_START = auto()
    NO_NOISE = auto()
    NO_STEP = auto()  # that both have
    NO_TENSOR = auto()  # that both have, besides those that both are given
    NO_INFORMATION = auto()  # no comparison was informative
    HORIZON = auto()  # already at the first step


@dataclass(frozen=True, repr=False)
class TraceReport(Told):
    """The result of a comparison of two traces; ``bool(report)`` is True only on a pass.

    With ``lock_step`` both took every step from the same state. Otherwise both trained by themselves, and the allowance
    grows with the run up to ``horizon_step``, from which nothing is compared. ``only_ours`` and ``only_theirs`` are the
    tensors that the other lacks at some step, ``unmeasured`` those without noise that differ, but not by more than
    rounding may explain. ``ratios`` and ``uninformative`` are as in `LockStepResult`.
    """

    verdict: Verdict
    obstacle: Obstacle | None
    lock_step: bool
    factor: float
    steps_compared: int
    horizon_step: int | None
    ratios: Array
    informative: int
    uninformative: tuple[str, ...]
    worst: Divergence | None
    first_divergence: Divergence | None
    failed_steps: tuple[int, ...]
    only_ours: tuple[str, ...]
    only_theirs: tuple[str, ...]
    unmeasured: tuple[str, ...]


def compare_traces(ours: Trace, theirs: Trace, *, factor: float = FACTOR) -> TraceReport:
    """Check that the programs of two traces are the same, by the noise that at least one of them has recorded.

    If one was recorded along the other, or both along a third, every step is judged by itself, as in lock-step.
    Otherwise both must have trained by themselves from the same start. Without noise, what is equal bit for bit agrees,
    and what no rounding explains in a step from the same state fails: see `unexplained`. Raises `TraceError` for a
    trace that cannot be read, ValueError for a factor that is not above 0.
    """
    if not factor > 0:
        raise ValueError(f"compare_traces needs a factor above 0, got {factor}")
    mine, other = ours.header.along, theirs.header.along
    lock_step = mine == theirs.digest() or other == ours.digest() or (mine is not None and mine == other)
    found = _Findings(factor, lock_step)
    if not lock_step and (mine is not None or other is not None):
        return found.report(Obstacle.OTHER_STATES)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for a, b in _both(ours, theirs):
            if not lock_step and a.previous is None and b.previous is None and not _start_alike(a, b):
                return found.report(Obstacle.OTHER_START)
            if found.compare(a, b):
                break
    return found.report(None)


def _both(ours: Trace, theirs: Trace) -> Iterator[tuple[RecordedStep, RecordedStep]]:
    """Yield the steps that both have recorded."""
    one, other = ours.steps(), theirs.steps()
    a, b = next(one, None), next(other, None)
    while a is not None and b is not None:
        if a.entry.step == b.entry.step:
            yield a, b
            a, b = next(one, None), next(other, None)
        elif a.entry.step < b.entry.step:
            a = next(one, None)
        else:
            b = next(other, None)


def _start_alike(ours: RecordedStep, theirs: RecordedStep) -> bool:
    """Return whether the states before two steps are equal, in what both have recorded."""
    a, b = ours.before(), theirs.before()
    return all(np.array_equal(a[key], b[key], equal_nan=True) for key in a.keys() & b.keys())


@dataclass
class _Findings:
    """The findings so far."""

    factor: float
    lock_step: bool
    steps: int = 0
    horizon: int | None = None
    ratios: list[float] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    worst: Divergence | None = None
    first: Divergence | None = None
    failed: list[int] = field(default_factory=list)
    # Dictionaries, because they keep the order of execution.
    only_ours: dict[str, None] = field(default_factory=dict)
    only_theirs: dict[str, None] = field(default_factory=dict)
    unmeasured: dict[str, None] = field(default_factory=dict)
    measured: bool = False  # any noise that counts was recorded

    def compare(self, a: RecordedStep, b: RecordedStep) -> bool:
        """Compare one step; return True at the horizon, after which nothing is compared."""
        ours, theirs = _with_rate(a), _with_rate(b)
        self.only_ours |= dict.fromkeys(name for name in ours if name not in theirs)
        self.only_theirs |= dict.fromkeys(name for name in theirs if name not in ours)
        noise = self._noise(a, b)
        self.measured = self.measured or bool(noise)
        if not self.lock_step and self._parted(theirs, noise):
            self.horizon = b.entry.step
            return True
        # A trace recorded along another does not hold the state before a step; the other does.
        start = b.before() or a.before()
        shapes = {name.removeprefix("update/"): array.shape for name, array in theirs.items()}
        before = {key: array for key, array in start.items() if shapes.get(key) == array.shape}
        alike = self.lock_step or (bool(before) and _start_alike(a, b))
        judgements: dict[str, Judgement] = {}
        for name in (name for name in theirs if name in ours):
            told = exact(name, theirs[name]) or name in noise or _same(ours[name], theirs[name])
            if not told and not (alike and unexplained(name, ours, theirs, before)):
                self.unmeasured[name] = None
                continue
            found = apart(name, ours[name], theirs[name], before)
            judgements[name] = found.judged(noise.get(name, 0.0), self.factor)
            if not found.exact:
                self.ratios.append(judgements[name].ratio)
                self.told[name] = self.told.get(name, 0) + found.tells(judgements[name])
        if any(not exact(name, theirs[name]) for name in judgements):
            self.steps += 1
        self._note(b, judgements, ours, theirs)
        return False

    def report(self, obstacle: Obstacle | None) -> TraceReport:
        """Return the report; if nothing informative was compared, the obstacle says why."""
        told = any(count for name, count in self.told.items() if name.startswith(("backward/", "update/param/")))
        # What is equal by chance, or before the first difference, says nothing of what differs.
        open_ = bool(self.unmeasured) and not self.measured
        if self.first is None and obstacle is None and (open_ or not told):
            obstacle = Obstacle.NO_NOISE if open_ else self._obstacle()
        verdict = Verdict.INCONCLUSIVE if obstacle else Verdict.PASS
        return TraceReport(
            verdict=Verdict.FAIL if self.first else verdict,
            obstacle=obstacle,
            lock_step=self.lock_step,
            factor=self.factor,
            steps_compared=self.steps,
            horizon_step=self.horizon,
            ratios=np.array(self.ratios),
            informative=sum(self.told.values()),
            uninformative=tuple(name for name, count in self.told.items() if not count),
            worst=self.worst,
            first_divergence=self.first,
            failed_steps=tuple(self.failed),
            only_ours=tuple(self.only_ours),
            only_theirs=tuple(self.only_theirs),
            unmeasured=tuple(self.unmeasured),
        )

    def _obstacle(self) -> Obstacle:
        if self.ratios:
            return Obstacle.NO_INFORMATION
        if self.horizon is not None:
            return Obstacle.HORIZON
        if self.unmeasured:
            return Obstacle.NO_NOISE
        return Obstacle.NO_TENSOR if self.only_ours or self.only_theirs else Obstacle.NO_STEP

    def _noise(self, a: RecordedStep, b: RecordedStep) -> dict[str, float]:
        """Return, by tensor, the larger of the noises that the two have recorded.

        In lock-step only the noise of single steps counts. In free-run it counts only for tensors that also have a
        noise of all steps so far.
        """
        of = {kind: [one.entry.noise for one in (a, b) if one.trace.header.noise == kind] for kind in NOISE}
        sides = of["step"] if self.lock_step else of["free"] + of["step"]
        names = {name for noise in (sides if self.lock_step else of["free"]) for name in noise}
        return {name: max(noise[name] for noise in sides if name in noise) for name in names}

    def _parted(self, theirs: dict[str, Array], noise: dict[str, float]) -> bool:
        """Return whether rounding alone has moved the parameters too far apart for an informative comparison."""
        names = [name for name in theirs if name.startswith("update/param/") and name in noise]
        widest = math.hypot(*(noise[name] for name in names))
        size = math.hypot(*(largest_magnitude(theirs[name]) for name in names))
        return bool(names) and not self.factor * widest <= HORIZON * (size or 1.0)

    def _note(
        self, b: RecordedStep, judgements: dict[str, Judgement], ours: dict[str, Array], theirs: dict[str, Array]
    ) -> None:
        step = b.entry.step

        def located(name: str) -> Divergence:
            _, allowed = judgement = judgements[name]
            a, b = ours[name], theirs[name]
            return locate(step, name, a, b, allowed / self.factor, allowed, judgement.ratio)

        top = max(judgements, key=lambda name: judgements[name].ratio, default=None)
        if top is not None and (self.worst is None or judgements[top].ratio > self.worst.ratio):
            self.worst = located(top)
        if failing := next((name for name, judgement in judgements.items() if judgement.ratio > 1), None):
            self.failed.append(step)
            if self.first is None:
                self.first = located(failing)
                if "data/x" in theirs and "data/y" in theirs:
                    allowed = {name: judgement.allowed for name, judgement in judgements.items()}
                    one, other = ({name: side[name] for name in judgements} for side in (ours, theirs))
                    moment = Moment(b.before(), b.batch(theirs), b.context(), one, other, allowed)
                    self.first = replace(self.first, diagnosis=explained(self.first, moment))


def _with_rate(one: RecordedStep) -> dict[str, Array]:
    """Return the tensors of a step, with the learning rate among its data."""
    return {"data/lr": np.asarray(one.entry.lr), **one.tensors()}


def _same(ours: Array, theirs: Array) -> bool:
    return ours.dtype == theirs.dtype and np.array_equal(ours, theirs, equal_nan=theirs.dtype.kind == "f")
