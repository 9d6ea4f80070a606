"""How far its own rounding moves a reference."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.trajectory.engine import Batch, Engine, State, Step, StepError, observed, tensors_of
from gradcheck.trajectory.noise import largest_difference, largest_magnitude

EXCESS = 2.0  # times the spread of shadows, above which a reference's rounding is more than they show
LINES, POINTS = 8, 9  # nine equal distances give five fourth differences
SHRINKS = (1, 4, 16)  # of the distance, where kinks are crossed
STANDARD = math.sqrt(70)  # a fourth difference of errors deviates sqrt(1 + 16 + 36 + 16 + 1) times as far as they

Shown = dict[str, Array]


class ReferenceRounding:
    """The rounding errors of a reference's steps, as another precision and fourth differences along lines show them.

    ``opinion`` is the reference in another precision. From a higher one the reference differs by its own error; a lower
    one errs by as much more as its unit is larger, in the same sums.

    A sum of thousands of terms, one after the other, rounds as their last places lie to its own: a nudge of the terms
    does not change that, and shadows miss it. Parameters and inputs are moved so far that it changes, and not so far
    that anything smooth shows in a fourth difference; where a kink is crossed, what jumps is no rounding, and is not
    looked at. ``engine`` knows the kinks. More and Wild (2011), "Estimating computational noise".
    """

    def __init__(
        self, reference: Engine, engine: Engine, rng: np.random.Generator, opinion: Engine | None = None
    ) -> None:
        self.reference, self.engine, self.rng, self.opinion = reference, engine, rng, opinion
        self.copy: Engine | None = None
        if opinion is not None:
            state = opinion.state()
            self.dtype = next(array.dtype for key, array in state.items() if key.startswith("param/"))

    def by_opinion(self, before: State, batch: Batch, context: Context, theirs: Mapping[str, Array]) -> Shown:
        """Return the errors, element by element, of what the reference has shown, as the other precision shows them.

        A precision in which the step cannot be taken, or without which there is none, says nothing; and what is not
        finite there, nothing of a tensor.
        """
        if self.opinion is None or batch.lr > np.finfo(self.dtype).max:
            return {}
        self.opinion.load({key: _cast(array, self.dtype) for key, array in before.items()})
        cast = Batch(_cast(batch.x, self.dtype), _cast(batch.y, self.dtype), batch.lr)
        try:
            other = tensors_of(observed(self.opinion, cast, context))
        except StepError:
            return {}
        errors = {}
        for name, array in theirs.items():
            if np.issubdtype(array.dtype, np.floating) and not name.startswith("data/"):
                scale = min(1.0, float(np.finfo(array.dtype).eps / np.finfo(self.dtype).eps))
                error = scale * np.subtract(other[name], array, dtype=np.float64)
                errors[name] = error if np.isfinite(error).all() else np.zeros_like(error)
        return errors

    def exceeds(self, shadows: int, before: State, batch: Batch, context: Context, reference: Step) -> bool:
        """Return whether some gradient's error is more than ``shadows`` of ours show of their rounding."""
        grads = {f"backward/{name}": array for name, array in reference.grads.items()}
        errors = self.by_opinion(before, batch, context, tensors_of(reference)) if self.opinion else {}
        if not errors:
            return False
        engine, widest = copy.deepcopy(self.engine), dict.fromkeys(grads, 0.0)
        engine.load(before)
        base = {name: np.array(array) for name, array in observed(engine, batch, context).grads.items()}
        for _ in range(shadows):
            engine.load(before)
            nudged = observed(engine, batch, context, self.rng).grads
            for name, array in base.items():
                one = f"backward/{name}"
                widest[one] = max(widest.get(one, 0.0), largest_difference(nudged[name], array))
        return any(largest_magnitude(errors[name]) > EXCESS * widest[name] > 0 for name in grads)

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


def _cast(array: Array, dtype: np.dtype[np.floating]) -> Array:
    return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array
