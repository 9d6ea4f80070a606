"""How far the rounding of a reference moves its own results."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Protocol

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.rounding import hashed, largest_magnitude
from gradcheck.trajectory.engine import Batch, Engine, State, Step, StepError, observed, tensors_of
from gradcheck.trajectory.kinks import kinks_of

LINES, POINTS = 8, 9  # nine equal distances give five fourth differences
LOOKED_AT = (1, 5, 9)  # of the points, to see what is carried over from one to the next
SHRINKS = (1, 4, 16)  # of the distance, where kinks are crossed
STANDARD = math.sqrt(70)  # independent errors of deviation s have fourth differences of sqrt(1 + 16 + 36 + 16 + 1) s

LINES_OF_EXCESS = 3
EXCESS = 2.0  # times our own rounding: above it, a reference's is more than shadows show

Shown = dict[str, Array]
Begun = tuple[State, Batch, Context]  # what a step begins with


class Rounding(Protocol):
    """How far the reference's own rounding can move some tensors of a step."""

    def by_opinion(
        self, names: list[str], theirs: Mapping[str, Array], before: State, batch: Batch, context: Context
    ) -> dict[str, float]:
        """Return it for those tensors that a step in another precision shows."""

    def by_differences(
        self, needed: Mapping[str, float], before: State, batch: Batch, context: Context
    ) -> dict[str, float]:
        """Return it for each of the tensors; stop once all are as large as needed."""


class ReferenceRounding:
    """The rounding errors of a reference's steps; ``seed`` and the number of a step draw the lines of that step.

    In a sum of thousands of terms, one after the other, each addition rounds as the last places of the term lie to
    those of the sum. A nudge of the terms hardly changes that, so shadows miss it. Two things show it. ``opinion`` is
    the reference in another precision. From a higher one the reference differs by its own error; the error of a lower
    one is larger by the ratio of the two eps. The other is fourth differences of the step along random lines.
    Parameters and inputs are moved so far that the last places change, and not so far that anything smooth shows. Equal
    elements move alike, since those of a flat background, added one by one, all err in one direction. A jump at a kink
    is no rounding and is left out; ``engine`` finds the kinks. Of engines with ``hidden`` state every point has a copy
    of its own, so that nothing is carried over from point to point. Whether there is such a state is seen on the first
    line of each measurement, since it may begin late. More and Wild (2011), "Estimating computational noise".
    """

    def __init__(
        self, reference: Engine, engine: Engine, seed: int, opinion: Engine | None = None, *, hidden: bool = False
    ) -> None:
        self.reference, self.engine, self.seed, self.opinion = reference, engine, seed, opinion
        self.hidden = hidden
        self.copies: tuple[_Copies, _Copies] | None = None
        if opinion is not None:
            state = opinion.state()
            self.dtype = next(array.dtype for key, array in state.items() if key.startswith("param/"))

    def by_opinion(
        self, names: list[str], theirs: Mapping[str, Array], before: State, batch: Batch, context: Context
    ) -> dict[str, float]:
        """Return the largest error in some of the tensors of a step, as the other precision shows it.

        Nothing is returned from a precision in which the step cannot be taken, and 0 where it is not finite; where it
        crosses a kink, only for the forward pass and the loss.
        """
        errors = self._errors(names, theirs, before, batch, context)
        largest = {name: largest_magnitude(error) for name, error in errors.items()}
        return {name: error if math.isfinite(error) else 0.0 for name, error in largest.items()}

    def _errors(
        self, names: list[str], theirs: Mapping[str, Array], before: State, batch: Batch, context: Context
    ) -> Shown:
        """Return the errors of some of the tensors of a step, element by element, as `by_opinion` says."""
        if self.opinion is None or batch.lr > np.finfo(self.dtype).max:
            return {}
        self.opinion.load({key: _cast(array, self.dtype) for key, array in before.items()})
        cast = Batch(_cast(batch.x, self.dtype), _cast(batch.y, self.dtype), batch.lr)
        try:
            step = observed(self.opinion, cast, context)
        except StepError:
            return {}
        chosen, kinks = (kinks_of(self.engine, batch.x, taps) for taps in (theirs, step.taps))
        same = all(layer in kinks and np.array_equal(kinks[layer].choice, at.choice) for layer, at in chosen.items())
        other, errors = tensors_of(step), {}
        for name in names:
            if name not in other or not (same or name.startswith(("forward/", "loss/"))):
                continue
            array = theirs[name]
            # The error of a lower precision is larger than the reference's by the ratio of their eps.
            scale = min(1.0, float(np.finfo(array.dtype).eps / np.finfo(self.dtype).eps))
            errors[name] = scale * np.subtract(other[name], array, dtype=np.float64)
        return errors

    def by_differences(
        self, needed: Mapping[str, float], before: State, batch: Batch, context: Context, *, look: bool = True
    ) -> dict[str, float]:
        """Return ``max |fourth difference| / sqrt(70)`` of each of those tensors of the step that began ``before``.

        The maximum is over elements and places on a line; of the lines, the second largest counts. It is 0 where the
        reference raises, is not finite, or crosses a kink wherever it is moved. Once all are as large as ``needed``, no
        further line is tried. Unless told not to ``look``, it is seen whether there is hidden state.
        """
        found: dict[str, list[float]] = {name: [] for name in needed}
        largest, rng = dict.fromkeys(needed, 0.0), self._generator(context)
        for index in range(LINES):
            line = self._line(before, batch, rng)
            begun, looks = (before, batch, context), look and not index
            for name, stack in self._fourths(self._copies()[0], line, tuple(needed), begun, look=looks).items():
                error = largest_magnitude(stack) / STANDARD
                found[name].append(error if math.isfinite(error) else 0.0)
            # The second largest, so that a jump on one line, at a kink that is not known, excuses nothing.
            largest = {name: sorted([0.0, 0.0, *errors])[-2] for name, errors in found.items()}
            if all(largest[name] >= least for name, least in needed.items()):
                break
        return largest

    def excess(self, theirs: Mapping[str, Array], before: State, batch: Batch, context: Context) -> dict[str, Array]:
        """Return ``sqrt(theirs^2 - ours^2)`` of the rounding of updates, by key of the state, if theirs is far larger.

        These are standard deviations, element by element, from fourth differences of both sides along the same lines:
        root mean squares of a line, medians of the lines. ``theirs``, the tensors of the step, may have a larger error
        in the other precision: sums of many squares err to one side, which is the same at all points of a line. Far
        larger is `EXCESS` times, in the mean over elements.
        """
        keys = [key for key, array in before.items() if np.issubdtype(array.dtype, np.floating)]
        names = tuple(f"update/{key}" for key in keys if key.startswith(("param/", "optim/")))
        found: tuple[dict[str, list[Array]], dict[str, list[Array]]] = ({}, {})
        rng = self._generator(context)
        for index in range(LINES_OF_EXCESS):
            line = self._line(before, batch, rng)
            begun = before, batch, context
            for side, engine in zip(found, self._copies(), strict=True):
                for name, stack in self._fourths(engine, line, names, begun, look=not index).items():
                    side.setdefault(name, []).append(np.mean((stack / STANDARD) ** 2, axis=0))
        shown = self._errors([name for name in names if name in theirs], theirs, before, batch, context)
        excess = {}
        for name in names:
            if all(len(side.get(name, [])) == LINES_OF_EXCESS for side in found):
                squared, ours = (np.median(side[name], axis=0) for side in found)
                squared = np.maximum(squared, np.nan_to_num(shown.get(name, 0.0), nan=0.0, posinf=0.0, neginf=0.0) ** 2)
                if np.isfinite(squared).all() and np.mean(squared) > EXCESS**2 * np.mean(ours):
                    excess[name.removeprefix("update/")] = np.sqrt(np.maximum(squared - ours, 0))
        return excess

    def _copies(self) -> tuple[_Copies, _Copies]:
        """Return copies of the reference and of the engine, made when they are first needed."""
        self.copies = self.copies or (_Copies(self.reference), _Copies(self.engine))
        return self.copies

    def _generator(self, context: Context) -> np.random.Generator:
        return Key(self.seed, context.key.step, "lines").generator()

    def _line(self, before: State, batch: Batch, rng: np.random.Generator) -> Shown:
        """Return how far the parameters, and the input as ``x``, are moved from point to point."""
        start = {"x": batch.x, **{key: array for key, array in before.items() if key.startswith("param/")}}
        return {key: _unit(array, rng) for key, array in start.items() if np.issubdtype(array.dtype, np.floating)}

    def _point(self, engine: Engine, line: Shown, distance: float, begun: Begun) -> tuple[Array, Step | None]:
        """Return the input at a point of a line, and the step that is taken there, None if it raises."""
        before, batch, context = begun
        start = {**before, "x": batch.x}
        moved = {key: start[key] + unit.dtype.type(distance) * unit for key, unit in line.items()}
        x = moved.pop("x", batch.x)
        engine.load({**before, **moved})
        try:
            return x, observed(engine, batch._replace(x=x), context)
        except StepError:
            return x, None

    def _fourths(self, engine: _Copies, line: Shown, names: tuple[str, ...], begun: Begun, *, look: bool) -> Shown:
        """Return the fourth differences (differences, ...) of tensors along a line, or {} if none is free of kinks."""
        fives = self._smooth(engine, line, names, begun, look=look)
        return {
            name: np.stack([_fourth_difference([point[name] for point in five]) for five in fives])
            for name in (names if fives else ())
        }

    def _smooth(
        self, engine: _Copies, line: Shown, names: tuple[str, ...], begun: Begun, *, look: bool
    ) -> list[list[Shown]]:
        """Return all groups of five neighbours without a kink between them, at the longest distance that has any.

        Where it is to ``look`` for hidden state, some points are taken by copies that have taken no other step, too. If
        what they show differs, there is some, and all points are taken so.
        """
        for shrink in SHRINKS:
            points: list[Shown] = []
            choices: list[dict[str, bytes]] = []
            for k in range(1, POINTS + 1):
                one = copy.deepcopy(engine.unused) if self.hidden else engine.used
                x, step = self._point(one, line, k / shrink, begun)
                if step is None:
                    return []
                shown = tensors_of(step)
                if look and not self.hidden and shrink == SHRINKS[0] and k in LOOKED_AT:
                    _, alone = self._point(copy.deepcopy(engine.unused), line, k, begun)
                    other = {} if alone is None else tensors_of(alone)
                    if any(not _same(array, other.get(name)) for name, array in shown.items()):
                        self.hidden = True
                        return self._smooth(engine, line, names, begun, look=False)
                if any(name not in shown for name in names):
                    return []
                points.append({name: np.array(shown[name], dtype=np.float64) for name in names})
                kinks = kinks_of(self.engine, x, step.taps)
                choices.append({layer: at.choice.tobytes() for layer, at in kinks.items()})
            starts = [k for k in range(POINTS - 4) if all(one == choices[k] for one in choices[k : k + 5])]
            if starts:
                return [points[k : k + 5] for k in starts]
        return []


class _Copies:
    """Two copies of an engine: one is used, of the other only copies are."""

    def __init__(self, engine: Engine) -> None:
        self.unused, self.used = copy.deepcopy(engine), copy.deepcopy(engine)


def _same(array: Array, other: Array | None) -> bool:
    return other is not None and np.array_equal(array, other, equal_nan=array.dtype.kind == "f")


def _fourth_difference(five: list[Array]) -> Array:
    """Return ``a - 4 b + 6 c - 4 d + e``; differences of near neighbours are exact, the sum would round."""
    for _ in range(4):
        five = [after - before for before, after in pairwise(five)]
    return five[0]


def _unit(array: Array, rng: np.random.Generator) -> Array:
    distance = math.sqrt(np.finfo(array.dtype).eps) / 16 * largest_magnitude(array)
    return np.asarray(distance * (0.5 + 0.5 * hashed(array, rng))).astype(array.dtype)


def _cast(array: Array, dtype: np.dtype[np.floating]) -> Array:
    return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array
