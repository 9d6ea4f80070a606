"""Shadows of a step and of a run: the same computation, nudged, which shows how far rounding moves it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Context, Gradients
from gradcheck.numerics.agreement import ratio_of
from gradcheck.numerics.rounding import OPERATIONS_OF_AN_UPDATE, nudged, two_norm
from gradcheck.trajectory.engine import Batch, Engine, State, Step, StepError, observed

# The parts of a state that rounding moves, and on which the next step depends.
ERRING = ("param/", "optim/")

# So much wider is a share, since the shadows that err by it round, too.
OUR_OWN = 1 + 1e-6

# Whether its state is all that an engine's next step depends on is looked at in steps 0, 1, 2, 4, 8 and so on.
LOOKS = 2


def shadow_from_nudged_state(
    engine: Engine,
    before: State,
    batch: Batch,
    context: Context,
    rng: np.random.Generator,
    precision: DTypeLike | None = None,
) -> tuple[Step, State]:
    """Take a nudged step from ``before`` with inputs and parameters nudged, too; return it, and the state after it.

    The nudges of the parameters are taken off what is updated. A shadow of an engine that shows no taps, or ignores
    what they return, would otherwise be a mere copy. Inputs and parameters are nudged in a ``precision``, by default
    their own.
    """
    params = {key: array for key, array in before.items() if key.startswith("param/")}
    nudges = {key: nudged(array, rng, precision) - array for key, array in params.items()}
    engine.load(before | {key: before[key] + nudge for key, nudge in nudges.items()})
    step = observed(engine, batch._replace(x=nudged(batch.x, rng, precision)), context, rng)
    after, shown = engine.state(), dict(step.updated)
    for key, nudge in nudges.items():
        after[key] = np.asarray(after[key] - nudge)
        if key in shown:
            shown[key] = np.asarray(shown[key] - nudge)
    return replace(step, updated=shown), after


def unmoved(ours: Gradients, shadows: Sequence[Gradients]) -> bool:
    """Return whether nudges of the taps move no gradient, though there are some."""
    told = [name for name, grad in ours.items() if grad.any()]
    return bool(told) and all(np.array_equal(shadow[name], ours[name]) for shadow in shadows for name in told)


class Shadows:
    """Copies of ``engine`` that train beside it, nudged at every step, and whose updates err as far as they may.

    Two right updates of a parameter p may differ by ``eps (|p| + 10 |move|)``, as in `update_rounding`, which nudged
    taps do not show. In a run these errors add up, and they may all have one sign: ``1 - lr w`` is rounded once for all
    elements and steps. So after every step a shadow's parameters and what its optimizer keeps are moved by a
    ``factor``-th of that, or of the share of it by which the two sides are seen to differ. Then ``factor`` times the
    distance of a shadow is what errors of one sign add up to, as the run itself amplifies or forgets them. The signs
    are drawn once: in every other shadow one for each element, which its errors keep wherever it moves; in the rest
    one for a whole tensor and one for its movement, whose errors turn with it. What is less than a unit in the last
    place is kept in ``rests``, by key of the state, and added later.

    An engine whose next step depends on more than its state is only nudged: loading a state would lose the rest.
    """

    def __init__(self, engine: Engine, count: int, factor: float, rng: np.random.Generator) -> None:
        self.engines = [copy.deepcopy(engine) for _ in range(count)]
        self.states = [engine.state() for _ in range(count)]
        self.rests: list[dict[str, Array]] = [{} for _ in range(count)]
        self.signs: list[dict[str, _Signs]] = [{} for _ in range(count)]
        self.factor, self.rng = factor, rng
        self.untapped, self.reloads = engine.opaque, True
        self.next_look = 0

    def look(self, engine: Engine, batch: Batch, context: Context) -> None:
        """Before a step of ``engine``, see on copies if its taps are used, and if it could go on from its state."""
        if not self.reloads or context.key.step < self.next_look:
            return
        plain, reloaded, shadow = (copy.deepcopy(engine) for _ in range(3))
        state = engine.state()
        reloaded.load(state)
        try:
            ours, other = (observed(one, batch, context) for one in (plain, reloaded))
            self.reloads = all(
                share_of_rounding(state.get(key), array, other.updated[key]) < 1
                for key, array in ours.updated.items()
                if key.startswith("param/")
            )
            if self.next_look == 0 and not self.untapped:
                self.untapped = unmoved(ours.grads, [observed(shadow, batch, context, self.rng).grads])
        except StepError:
            pass  # raised again by the step itself, unless a nudge was the reason
        self.next_look = max(1, LOOKS * context.key.step)

    def step(
        self,
        batch: Batch,
        context: Context,
        shares: Mapping[str, float],
        further: Sequence[Mapping[str, Array]] = (),
    ) -> list[Step]:
        """Take the shadows' steps.

        ``shares`` are those of the errors by key of the state, 1 where there is none. ``further`` holds, for each
        shadow, errors that are added to its updates, by key of the state.
        """
        return [
            self._step(index, batch, context, shares, further[index] if further else {})
            for index in range(len(self.engines))
        ]

    def _step(
        self,
        index: int,
        batch: Batch,
        context: Context,
        shares: Mapping[str, float],
        further: Mapping[str, Array],
    ) -> Step:
        """Take a shadow's step, without nudges if a nudged one raises because an input left its range."""
        shadow, before = self.engines[index], self.states[index]
        if not self.reloads:
            return _observed(shadow, batch, context, self.rng)
        try:
            if self.untapped:
                step, after = shadow_from_nudged_state(shadow, before, batch, context, self.rng)
            else:
                shadow.load(before)
                step = observed(shadow, batch, context, self.rng)
                after = shadow.state()
        except StepError:
            shadow.load(before)
            step = observed(shadow, batch, context)
            after = shadow.state()
        shown, moved = dict(step.updated), dict(after)
        for key, array in after.items():
            if key.startswith(ERRING) and array.dtype.kind == "f" and not _counts(array):
                error = shares.get(key, 1.0) * self._error(index, key, before.get(key), array)
                moved[key] = self._moved(index, key, array, error + further.get(key, 0.0))
                if key in shown:
                    shown[key] = shown[key] + (moved[key] - array)
        self.states[index] = moved
        return replace(step, updated=shown)

    def _error(self, index: int, key: str, before: Array | None, after: Array) -> Array:
        """Return a ``factor``-th of the largest error of an update, with the signs of this shadow."""
        signs = self.signs[index].get(key)
        if signs is None:
            signs = self.signs[index][key] = self._drawn(index, after)
        movement = _movement(before, after)
        if _by_element(index):
            after, movement = np.abs(after), np.abs(movement)
        return np.asarray(signs.of_size * after + signs.of_move * movement)

    def _moved(self, index: int, key: str, array: Array, error: Array) -> Array:
        error = (error + self.rests[index].get(key, 0.0)).astype(array.dtype)
        moved = array + error
        moved = np.where((moved < 0) == (array < 0), moved, array)  # a square stays one
        self.rests[index][key] = error - (moved - array)
        return moved

    def _drawn(self, index: int, array: Array) -> _Signs:
        unit = np.finfo(array.dtype).eps / self.factor
        size, move = 2 * self.rng.integers(0, 2, 2) - 1
        if _by_element(index):
            size = move = 2 * self.rng.integers(0, 2, array.shape) - 1
        sizes = unit * size, unit * OPERATIONS_OF_AN_UPDATE * move
        return _Signs(*(np.asarray(one, array.dtype) for one in sizes))


def _by_element(index: int) -> bool:
    """Return whether a shadow has a sign for each element, and so errors that do not turn with its movement."""
    return index % 2 == 1


class _Signs(NamedTuple):
    """The relative errors of an updated array and of its movement: one for all elements, or one for each."""

    of_size: Array
    of_move: Array


def _observed(shadow: Engine, batch: Batch, context: Context, rng: np.random.Generator) -> Step:
    try:
        return observed(shadow, batch, context, rng)
    except StepError:
        return observed(shadow, batch, context)


def _counts(array: Array) -> bool:
    """Return whether an array holds integers alone, as a count of steps does, which nothing rounds."""
    return bool((array == np.rint(array)).all())


def share_of_rounding(before: Array | None, ours: Array, theirs: Array) -> float:
    """Return how far two updates are apart, over ``eps (|p| + 10 |move|)``, in the 2-norm; at most 1.

    It is 1 where they cannot be compared.
    """
    if ours.shape != theirs.shape:
        return 1.0
    movement = np.abs(_movement(before, theirs))
    rounding = float(np.finfo(theirs.dtype).eps) * two_norm(np.abs(theirs) + OPERATIONS_OF_AN_UPDATE * movement)
    share = OUR_OWN * ratio_of(two_norm(ours - theirs), rounding)
    return share if share < 1 else 1.0  # which NaN is not


def _movement(before: Array | None, after: Array) -> Array:
    """Return how far an update moved an array: all of it if it was not there before, or had another shape."""
    return after if before is None or before.shape != after.shape else np.asarray(after - before)
