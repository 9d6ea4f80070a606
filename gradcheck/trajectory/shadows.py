"""Shadows of a step and of a run: the same computation, nudged, which shows how far rounding moves it."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
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

# Bytes of batches that are kept for shadows that wait, and of what else a step needs; more is not kept.
KEPT, SIZE_OF_A_TURN = 1 << 28, 1 << 10

# Elements that are moved at a time, so that they stay in the processor's cache.
BLOCK = 1 << 14

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


class Errors(NamedTuple):
    """How far the updates of shadows err in a step, by key of the state.

    ``shares`` are those of the largest error of an update, 1 where there is none. ``further`` are standard deviations
    of what is added, whose signs are those of a ``period``.
    """

    shares: Mapping[str, float]
    further: Mapping[str, Array] = MappingProxyType({})
    period: int = 0


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
    Shadows that are ``waiting`` take their steps when they are asked for, all but the first, and are then where they
    would be had they taken each in its turn.
    """

    def __init__(
        self, engine: Engine, count: int, factor: float, rng: np.random.Generator, *, waiting: bool = False
    ) -> None:
        self.each = [
            _Shadow(copy.deepcopy(engine), factor, int(seed), by_element=index % 2 == 1)
            for index, seed in enumerate(rng.integers(1 << 62, size=count))
        ]
        self.rng, self.untapped, self.reloads = rng, engine.opaque, True
        self.due = _Due() if waiting and count > 1 else None
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

    def step(self, batch: Batch, context: Context, errors: Errors) -> list[Step]:
        """Take the shadows' steps, or that of the first if the others wait."""
        turn = _Turn(batch, context, errors, self.untapped, self.reloads)
        if self.due is None:
            return [shadow.step(turn) for shadow in self.each]
        if self.due.full:
            self.waited_for()
        self.due.add(turn)
        return [self.each[0].step(turn)]

    def waited_for(self) -> list[Step]:
        """Take the steps of those that have waited, and return the last of each."""
        turns = [] if self.due is None else self.due.turns
        steps = [[shadow.step(turn) for turn in turns][-1] for shadow in self.each[1:]] if turns else []
        self.due = None if self.due is None else _Due()
        return steps


class _Turn(NamedTuple):
    """What a shadow's step depends on."""

    batch: Batch
    context: Context
    errors: Errors
    untapped: bool
    reloads: bool


class _Due:
    """Steps that are still to be taken. Equal arrays, as of the same images in every epoch, are kept once."""

    def __init__(self) -> None:
        self.turns: list[_Turn] = []
        self.arrays: dict[bytes, Array] = {}
        self.size = 0

    @property
    def full(self) -> bool:
        """Whether no more is to be kept."""
        return self.size > KEPT

    def add(self, turn: _Turn) -> None:
        x, y, lr = turn.batch
        self.turns.append(turn._replace(batch=Batch(self._kept(x), self._kept(y), lr)))
        self.size += SIZE_OF_A_TURN

    def _kept(self, array: Array) -> Array:
        digest = hashlib.blake2b(array.tobytes(), digest_size=16).digest() + repr((array.dtype, array.shape)).encode()
        if digest not in self.arrays:
            self.arrays[digest] = np.array(array)
            self.size += array.nbytes
        return self.arrays[digest]


class _Shadow:
    """One shadow, the state that it goes on from, and what is left of its errors, by key of the state."""

    def __init__(self, engine: Engine, factor: float, seed: int, *, by_element: bool) -> None:
        self.engine, self.factor, self.by_element = engine, factor, by_element
        self.rng = np.random.default_rng(seed)
        self.state = engine.state()
        self.rests: dict[str, Array] = {}
        self.signs: dict[str, _Signs] = {}
        self.directions: dict[str, Array] = {}
        self.period = 0

    def step(self, turn: _Turn) -> Step:
        """Take a step, without nudges if a nudged one raises because an input left its range."""
        batch, context, errors, untapped, reloads = turn
        if not reloads:
            return self._observed(batch, context)
        try:
            if untapped:
                step, after = shadow_from_nudged_state(self.engine, self.state, batch, context, self.rng)
            else:
                self.engine.load(self.state)
                step = observed(self.engine, batch, context, self.rng)
                after = self.engine.state()
        except StepError:
            self.engine.load(self.state)
            step = observed(self.engine, batch, context)
            after = self.engine.state()
        if errors.period != self.period:
            self.directions, self.period = {}, errors.period
        self.state = {key: self._moved(key, array, errors) for key, array in after.items()}
        shown = dict(step.updated)
        for key in shown.keys() & after.keys():
            # What a step shows need not be the state after it.
            same = shown[key] is after[key] or np.array_equal(shown[key], after[key])
            shown[key] = self.state[key] if same else shown[key] + (self.state[key] - after[key])
        return replace(step, updated=shown)

    def _observed(self, batch: Batch, context: Context) -> Step:
        try:
            return observed(self.engine, batch, context, self.rng)
        except StepError:
            return observed(self.engine, batch, context)

    def _moved(self, key: str, array: Array, errors: Errors) -> Array:
        """Return an array after a step, a copy, with a ``factor``-th of the largest error of its update.

        What is too small to be added now is added in a later step.
        """
        if not key.startswith(ERRING) or array.dtype.kind != "f" or _counts(array):
            return np.array(array)
        before = self.state.get(key)
        if before is None or before.shape != array.shape or before.dtype != array.dtype:
            before = np.zeros_like(array)  # all of it has moved
        if key not in self.signs:
            self.signs[key] = self._drawn(array)
        further = errors.further.get(key)
        if further is not None:
            if key not in self.directions:
                self.directions[key] = self.rng.standard_normal(further.shape)
            further = np.asarray(further * self.directions[key], array.dtype)
        if key not in self.rests:
            self.rests[key] = np.zeros_like(array)
        parts = [np.ascontiguousarray(array), before, np.empty_like(array, order="C"), self.rests[key]]
        flat = [one.reshape(-1) for one in (parts if further is None else [*parts, further])]
        for start in range(0, array.size, BLOCK):
            block = slice(start, start + BLOCK)
            signs = self.signs[key].at(block, errors.shares.get(key, 1.0))
            self._move(key, signs, *(one[block] for one in flat))
        return parts[2]

    def _move(
        self, key: str, signs: _Signs, after: Array, before: Array, moved: Array, rest: Array, *further: Array
    ) -> None:
        """Write into ``moved`` and ``rest`` where a stretch of an array is moved to, and what is left of its error."""
        np.subtract(after, before, out=moved)
        if self.by_element:
            np.abs(moved, out=moved)
        error = (np.abs(after) if self.by_element else after) * signs.of_size
        moved *= signs.of_move
        error += moved
        for one in (rest, *further):
            error += one
        np.add(after, error, out=moved)
        if key.startswith("optim/"):  # a square stays one
            np.copyto(moved, after, where=(moved < 0) != (after < 0))
        np.subtract(moved, after, out=rest)
        np.subtract(error, rest, out=rest)

    def _drawn(self, array: Array) -> _Signs:
        unit = np.finfo(array.dtype).eps / self.factor
        size, move = 2 * self.rng.integers(0, 2, 2) - 1
        if self.by_element:
            size = move = 2 * self.rng.integers(0, 2, array.size) - 1
        sizes = unit * size, unit * OPERATIONS_OF_AN_UPDATE * move
        return _Signs(*(np.asarray(one, array.dtype) for one in sizes))


class _Signs(NamedTuple):
    """The relative errors of an updated array and of its movement: one for all elements, or one for each."""

    of_size: Array
    of_move: Array

    def at(self, block: slice, share: float) -> _Signs:
        """Return a share of those of some elements."""
        return _Signs(*(one.dtype.type(share) * (one[block] if one.ndim else one) for one in self))


def _counts(array: Array) -> bool:
    """Return whether an array holds integers alone, as a count of steps does, which nothing rounds."""
    first = array.item(0) if array.size else 0.0
    return first == int(first) and bool((array == np.rint(array)).all()) if math.isfinite(first) else False


def share_of_rounding(before: Array | None, ours: Array, theirs: Array, known: float = 0.0) -> float:
    """Return how far two updates are apart, over ``eps (|p| + 10 |move|)``, in the 2-norm; at most 1.

    It is 1 where they cannot be compared, and never less than the share that is ``known``.
    """
    if ours.shape != theirs.shape or known >= 1:
        return 1.0
    distance, eps = OUR_OWN * two_norm(ours - theirs), float(np.finfo(theirs.dtype).eps)
    if distance <= known * eps * two_norm(theirs):  # whatever the movement is
        return known
    movement = np.abs(_movement(before, theirs))
    share = ratio_of(distance, eps * two_norm(np.abs(theirs) + OPERATIONS_OF_AN_UPDATE * movement))
    return max(share, known) if share < 1 else 1.0  # which NaN is not


def _movement(before: Array | None, after: Array) -> Array:
    """Return how far an update moved an array: all of it if it was not there before, or had another shape."""
    return after if before is None or before.shape != after.shape else np.asarray(after - before)
