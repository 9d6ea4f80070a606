"""How far its own rounding moves a reference."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.trajectory.engine import Batch, Engine, State, StepError, observed, tensors_of
from gradcheck.trajectory.noise import largest_magnitude

LINES, POINTS = 8, 9  # nine equal distances give five fourth differences
SHRINKS = (1, 4, 16)  # of the distance, where kinks are crossed
STANDARD = math.sqrt(70)  # a fourth difference of errors deviates sqrt(1 + 16 + 36 + 16 + 1) times as far as they

Shown = dict[str, Array]


class Rounding(Protocol):
    """Knows how far the rounding of some tensors of a step can set them apart."""

    def of(self, names: Iterable[str], before: State, batch: Batch, context: Context, /) -> dict[str, float]:
        """Return it for each of the tensors."""


class ReferenceRounding:
    """The rounding errors of a reference's steps, as fourth differences along random lines show them.

    A sum of thousands of terms, one after the other, rounds as their last places lie to its own: a nudge of the terms
    does not change that, and shadows miss it. Parameters and inputs are moved so far that it changes, and not so far
    that anything smooth shows in a fourth difference; where a kink is crossed, what jumps is no rounding, and is not
    looked at. ``engine`` knows the kinks. More and Wild (2011), "Estimating computational noise".
    """

    def __init__(self, reference: Engine, engine: Engine, rng: np.random.Generator) -> None:
        self.reference, self.engine, self.rng = reference, engine, rng
        self.copy: Engine | None = None

    def of(self, names: Iterable[str], before: State, batch: Batch, context: Context) -> dict[str, float]:
        """Return the largest standard deviation seen in each of those tensors of the step that began ``before``.

        It is 0 where nothing can be told: the reference raises, is not finite, or crosses a kink wherever it is moved.
        """
        self.copy, names = self.copy or copy.deepcopy(self.reference), tuple(names)
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(LINES):
            fives = self._smooth(self.copy, names, before, batch, context)
            for name in names if fives else ():
                # Differences of neighbours are exact, as a sum with the coefficients would not be.
                stacks = [np.stack([shown[name] for shown in five]).astype(np.float64) for five in fives]
                error = max(largest_magnitude(np.diff(stack, n=4, axis=0)) for stack in stacks) / STANDARD
                found[name].append(error if math.isfinite(error) else 0.0)
        # The largest but one, so that a jump on one of the lines, of which no kink tells, excuses nothing.
        return {name: sorted([0.0, 0.0, *errors])[-2] for name, errors in found.items()}

    def _smooth(
        self, reference: Engine, names: tuple[str, ...], before: State, batch: Batch, context: Context
    ) -> list[list[Shown]]:
        """Return any five neighbours on a random line between which no kink lies, at the longest distance with some."""
        start = {"x": batch.x, **{key: array for key, array in before.items() if key.startswith("param/")}}
        units = {key: self._unit(array) for key, array in start.items() if np.issubdtype(array.dtype, np.floating)}
        for shrink in SHRINKS:
            points: list[Shown] = []
            choices: list[dict[str, bytes]] = []
            for k in range(1, POINTS + 1):
                moved = {key: start[key] + unit.dtype.type(k / shrink) * unit for key, unit in units.items()}
                x = moved.pop("x", batch.x)
                reference.load({**before, **moved})
                try:
                    step = observed(reference, batch._replace(x=x), context)
                except StepError:
                    return []
                shown = tensors_of(step)
                points.append({name: np.array(shown[name]) for name in names})
                kinks = self.engine.kinks(x, step.taps)
                choices.append({layer: at.choice.tobytes() for layer, at in kinks.items()})
            starts = [k for k in range(POINTS - 4) if all(one == choices[k] for one in choices[k : k + 5])]
            if starts:
                return [points[k : k + 5] for k in starts]
        return []

    def _unit(self, array: Array) -> Array:
        distance = math.sqrt(np.finfo(array.dtype).eps) / 16 * largest_magnitude(array)
        return np.asarray(distance * self.rng.uniform(0.5, 1.0, array.shape)).astype(array.dtype)
