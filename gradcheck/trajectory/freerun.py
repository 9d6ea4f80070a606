"""Free-run: both sides train by themselves from the same start; how long they stay together."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.agreement import Verdict, ratio_of
from gradcheck.numerics.rounding import two_norm, underflow
from gradcheck.trajectory.divergence import Divergence, locate
from gradcheck.trajectory.engine import Batch, Engine, State, Step, observed, tensors_of
from gradcheck.trajectory.judgement import CLEAR
from gradcheck.trajectory.kinks import Crossing, crossings, kinks_of
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.shadows import Errors, Shadows

# Where the allowance of all parameters exceeds this share of their norm, the distance of free-running networks is no
# longer informative. A smaller share would end runs that still catch a fault of one in a hundred.
HORIZON = 1e-2

# Whether the reference rounds more than we do is measured in steps 0, 1, 4, 16 and so on, since networks settle; but
# only if updates of both sides have differed by such a share of their rounding. What differs by less, shadows show.
LOOKS, WORTH_A_LOOK = 4, 1 / 2

# For so many steps a rounding error of the reference is taken to keep its sign.
COHERENT = 100


@dataclass(frozen=True)
class FreeRunResult:
    """The verdict on the run as a whole.

    ``horizon_step`` is the step from which the shadows are too far apart for an informative comparison, or at which one
    side crossed a kink that the other did not; None if it was not reached. ``distances`` holds, for every step, the
    relative distance of the parameters from the reference's. ``envelope`` holds, for every step compared, the largest
    relative distance from ours of a shadow that was asked.
    """

    verdict: Verdict
    steps_compared: int
    horizon_step: int | None
    max_relative_distance: float
    worst: Divergence | None
    first_failure: Divergence | None
    crossings: tuple[Crossing, ...]
    distances: Array
    envelope: Array


class FreeRun:
    """Trains ``engine`` by itself, and shadows of it nudged at every step, beside a reference.

    Every parameter's distance from the reference's, in the 2-norm, must stay within ``factor`` times the largest
    distance of a shadow from ours, or within eps times the largest norm that it has had, since what is rounded stays so
    when it shrinks, or within the `underflow` of all its elements, if one is larger. While the reference rounds more
    than we do, as torch's long sums do, the shadows are moved by the difference in every step. All shadows but the
    first wait, if they may, until a comparison is not `CLEAR` without them.
    """

    def __init__(
        self,
        engine: Engine,
        factor: float,
        shadows: int,
        rng: np.random.Generator,
        rounding: ReferenceRounding,
        *,
        waiting: bool = True,
    ) -> None:
        self.rounding = rounding
        self.engine, self.shadows = engine, Shadows(engine, shadows, factor, rng, waiting=waiting)
        self.factor = factor
        self.seconds = 0.0
        self.horizon: int | None = None
        self.worst: Divergence | None = None
        self.first_failure: Divergence | None = None
        self.crossings: list[Crossing] = []
        self.distances: list[float] = []
        self.envelope: list[float] = []
        self.floors: dict[str, float] = {}  # of allowances, by key of the state
        self.excess: dict[str, Array] = {}
        self.next_look = 0

    def compare(
        self,
        before: State,
        batch: Batch,
        context: Context,
        reference: Step,
        shares: Mapping[str, float],
        excused: Mapping[str, float],
    ) -> Step:
        """Take our next step, compare the parameters after it, and return it; ``before`` is the reference's state.

        ``shares``, by key of the state, are those of `update_rounding` by which both sides' updates of one step differ.
        ``excused`` are differences, in the 2-norm, that only the rounding of the reference explains.
        """
        if self.horizon is None:
            self.shadows.look(self.engine, batch, context)
        began = time.perf_counter()
        step = observed(self.engine, batch, context)
        self.seconds += time.perf_counter() - began
        if self.horizon is not None:
            self.distances.append(_apart(step, reference))
            return step
        if context.key.step >= self.next_look and (excused or max(shares.values(), default=1.0) > WORTH_A_LOOK):
            self.excess = self.rounding.excess(tensors_of(reference), before, batch, context)
            self.next_look = max(1, LOOKS * context.key.step)
        errors = Errors(dict(shares), self._further(reference, excused), context.key.step // COHERENT)
        shadows = self.shadows.step(batch, context, errors)
        parted = self._parted(batch, step, reference)
        found = [self._measured(key, step, reference) for key in reference.updated if key.startswith("param/")]
        found = [self._around(one, step, shadows, 0) for one in found]
        if parted or not self._clear(found):
            others = self.shadows.waited_for()
            shadows += others
            found = [self._around(one, step, others, len(shadows) - len(others)) for one in found]
        if parted and self._crossed(batch, context, step, reference, shadows):
            self._end(context)
            self.distances.append(_apart(step, reference))
            return step
        size = _size(found)
        widest = self._widest(found)
        self.distances.append(math.hypot(*(one.distance for one in found)) / size)
        if not self.factor * widest <= HORIZON:
            self._end(context)
            return step
        self.envelope.append(widest)
        for one in found:
            self._note(one, context.key.step, step, reference)
        return step

    def result(self) -> FreeRunResult:
        """Return the result so far."""
        if self.first_failure is not None:
            verdict = Verdict.FAIL
        elif not self.envelope or self.horizon is not None:
            verdict = Verdict.INCONCLUSIVE
        else:
            verdict = Verdict.PASS
        return FreeRunResult(
            verdict=verdict,
            steps_compared=len(self.envelope),
            horizon_step=self.horizon,
            max_relative_distance=max(self.distances[: len(self.envelope)], default=0.0),
            worst=self.worst,
            first_failure=self.first_failure,
            crossings=tuple(self.crossings),
            distances=np.array(self.distances),
            envelope=np.array(self.envelope),
        )

    def _end(self, context: Context) -> None:
        self.horizon = context.key.step
        self.shadows.due = None  # nobody will ask them

    def _further(self, reference: Step, excused: Mapping[str, float]) -> dict[str, Array]:
        """Return by how much more the shadows' updates err, as the reference rounds more than they show."""
        sizes = dict(self.excess)
        for key, size in excused.items():
            array = reference.updated[key]
            if key not in sizes or two_norm(sizes[key]) < size:
                # of no memory of its own, since shadows that wait keep it for every step
                sizes[key] = np.broadcast_to(size / math.sqrt(array.size), array.shape)
        return sizes

    def _measured(self, key: str, step: Step, reference: Step) -> _Distance:
        ours, theirs = step.updated[key], reference.updated[key]
        size = two_norm(theirs)
        least = max(float(np.finfo(theirs.dtype).eps) * size, underflow(theirs.dtype) * math.sqrt(theirs.size))
        self.floors[key] = floor = max(self.floors.get(key, 0.0), least)
        return _Distance(key, two_norm(ours - theirs), size, [], floor)

    def _around(self, one: _Distance, step: Step, shadows: list[Step], first: int) -> _Distance:
        """Return the distances of a parameter with those of further shadows, the ``first`` of which has this place."""
        ours, spreads = step.updated[one.key], list(one.spreads)
        for shadow, taken in zip(self.shadows.each[first:], shadows, strict=False):
            apart = taken.updated[one.key] - ours
            spreads.append(two_norm(apart + shadow.rests[one.key] if one.key in shadow.rests else apart))
        return one._replace(spreads=spreads)

    def _widest(self, found: list[_Distance]) -> float:
        """Return the largest relative distance of a shadow; NaN if any is."""
        size = _size(found)
        around = [math.hypot(*spreads) / size for spreads in zip(*(one.spreads for one in found), strict=True)]
        return float(np.max(around, initial=0.0))

    def _clear(self, found: list[_Distance]) -> bool:
        """Return whether further shadows would change nothing: they can but widen what is allowed."""
        return self.factor * self._widest(found) <= CLEAR * HORIZON and all(self._ratio(one) <= CLEAR for one in found)

    def _allowed(self, one: _Distance) -> float:
        return max(self.factor * max(one.spreads), one.floor)

    def _ratio(self, one: _Distance) -> float:
        return ratio_of(one.distance, self._allowed(one))

    def _note(self, one: _Distance, index: int, step: Step, reference: Step) -> None:
        ours, theirs = step.updated[one.key], reference.updated[one.key]
        allowed, ratio = self._allowed(one), self._ratio(one)
        if self.worst is not None and ratio <= self.worst.ratio:
            return
        self.worst = locate(index, f"update/{one.key}", ours, theirs, allowed / self.factor, allowed, ratio)
        if ratio > 1 and self.first_failure is None:
            self.first_failure = self.worst

    def _parted(self, batch: Batch, step: Step, reference: Step) -> bool:
        """Return whether one side alone crossed a kink."""
        ours, theirs = (kinks_of(self.engine, batch.x, one.taps) for one in (step, reference))
        return any(layer in theirs and not np.array_equal(ours[layer].choice, theirs[layer].choice) for layer in ours)

    def _crossed(self, batch: Batch, context: Context, step: Step, reference: Step, shadows: list[Step]) -> bool:
        """Record the kinks that one side alone crossed; True if rounding explains them and nothing failed before."""
        ours, theirs, *around = (kinks_of(self.engine, batch.x, one.taps) for one in (step, reference, *shadows))
        found = crossings(context.key.step, ours, theirs, around, self.factor)
        self.crossings += found
        return bool(found) and self.first_failure is None and all(crossing.explained for crossing in found)


class _Distance(NamedTuple):
    """The distances of a parameter from the reference's and of each shadow from ours, and its size, in the 2-norm."""

    key: str
    distance: float
    size: float
    spreads: list[float]
    floor: float


def _size(found: list[_Distance]) -> float:
    return math.hypot(*(one.size for one in found)) or 1.0


def _apart(step: Step, reference: Step) -> float:
    """Return the relative distance of all parameters."""
    keys = [key for key in reference.updated if key.startswith("param/")]
    size = math.hypot(*(two_norm(reference.updated[key]) for key in keys)) or 1.0
    return math.hypot(*(two_norm(step.updated[key] - reference.updated[key]) for key in keys)) / size
