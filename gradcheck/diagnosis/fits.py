"""Two gradients of one shape, and fits to their difference that are no coincidence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from math import prod
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array

# An element counts as evidence if its error is this many tolerances. A wrong prediction, uniform over the size of the
# error, is then within a tolerance, to either side, once in half a million times.
PRECISION = 1e6

# A factor is given a name, such as 3/4, only if it is known as well as this; the names are further apart. Of whole
# numbers and their inverses there are a tenth as many, so that a tenth makes a coincidence no likelier: in float32 a
# gradient is seldom known better.
NAMED, NAMED_WHOLE = 3e3, 3e2

# A prediction takes products and sums of a few terms of the given numbers.
ROUNDING = 8 * float(np.finfo(np.float64).eps)

# How many elements of different value a hypothesis needs as evidence: one if nothing is fitted or chosen, two if a
# place is chosen (one number often equals another), three, or more than there are unknowns, if a number is fitted.
ONE, TWO, FITTED = 1, 2, 3

# Most ratios are 1e-3 or more from every fraction of numbers up to 12, against a precision of 1e-6.
SIMPLE = frozenset(Fraction(p, q) for p in range(1, 13) for q in range(1, 13))

# Below this, half of a quantity is no better a name for a factor than the number itself.
LEAST_HALF = 3

# The axes of a batch of images; more have too many subsets to be tried.
MOST_AXES = 4


@dataclass(frozen=True)
class Comparison:
    """Two gradients of one shape and the allowance; ``judged`` where there is one.

    From ``levels`` times its tolerance, the error of an element counts as evidence. At a level L below `PRECISION`,
    ``log(PRECISION) / log(L)`` times as many elements are needed, so that a coincidence is about as unlikely.
    """

    analytic: Array
    numeric: Array
    allowed: Array
    levels: tuple[float, ...] = (PRECISION,)

    def at(self, place: slice | tuple[int | slice, ...] | Array) -> Comparison:
        """Return the comparison of some elements."""
        analytic, numeric, allowed = (np.asarray(array[place]) for array in (self.analytic, self.numeric, self.allowed))
        return replace(self, analytic=analytic, numeric=numeric, allowed=allowed)

    @property
    def error(self) -> Array:
        """The error of the analytic gradient."""
        return np.asarray(self.analytic - self.numeric)

    @property
    def judged(self) -> Array:
        """Where the numeric gradient is known."""
        return np.asarray(np.isfinite(self.allowed) & np.isfinite(self.numeric))

    @property
    def failing(self) -> Array:
        """Where the gradients disagree."""
        return np.asarray(self.judged & ~(np.abs(self.error) <= self.allowed))

    @property
    def agreeing(self) -> Array:
        """Where they agree and a fault would have shown: two zeros are no agreement."""
        known = np.abs(self.numeric) >= min(self.levels) * (self.allowed + ROUNDING * np.abs(self.numeric))
        return np.asarray(self.judged & ~self.failing & known & (self.numeric != 0))

    def explained_by(self, predicted: Array, unsure: Array | float, needed: int) -> bool:
        """Return whether all judged elements are as ``predicted``, and ``needed`` of them are evidence for it.

        ``unsure`` is how far the prediction itself may be off, beyond the allowance.
        """
        judged = self.judged
        tolerance = (self.allowed + unsure + ROUNDING * np.abs(predicted))[judged]
        residual = np.abs(self.analytic - predicted)[judged]
        if not np.all((residual <= tolerance) & np.isfinite(tolerance)):
            return False
        return bool(np.any(self.failing)) and any(self._tells(level, tolerance, needed) for level in self.levels)

    def _tells(self, level: float, tolerance: Array, needed: int) -> bool:
        judged = self.judged
        telling = np.abs(self.error[judged]) >= level * tolerance
        known = max(distinct(array[judged][telling], level) for array in (self.numeric, self.analytic))
        return known >= math.ceil(needed * math.log(PRECISION) / math.log(level))


class Quantity(NamedTuple):
    """A number that may explain a factor: ``name`` is batch, outputs, batch x outputs, or axes (of input, output).

    ``others`` are names and axes with the same value here, because further axes have one element.
    """

    name: str
    of: str
    axes: tuple[int, ...]
    value: int
    others: tuple[tuple[str, tuple[int, ...]], ...] = ()


def distinct(values: Array, precision: float = PRECISION) -> int:
    """Return how many of the values differ by more than one in ``precision`` of the largest."""
    if values.size == 0:
        return 0
    ordered = np.sort(values, axis=None)
    apart = np.abs(ordered).max() / precision
    clusters = 1 + int(np.sum(np.diff(ordered) > apart))
    if not 0 < apart < np.inf:
        return clusters
    # Many values leave no gaps. Of the intervals with a value in them, every second is apart from the one before.
    intervals = 1 + int(np.count_nonzero(np.diff(np.floor(ordered / apart))))
    return max(clusters, (intervals + 1) // 2)


def factor_of(comparison: Comparison, among: tuple[Quantity, ...]) -> dict[str, Any] | None:
    """Return the constant factor between two gradients, as numerator and denominator if it has a name, or None."""
    tolerance = comparison.allowed + ROUNDING * np.abs(comparison.numeric)
    usable = comparison.judged & (tolerance > 0)
    certainty = np.where(usable, np.abs(comparison.numeric) / np.where(usable, tolerance, 1.0), 0.0)
    if not np.any(certainty):
        return None
    best = np.unravel_index(np.argmax(certainty), certainty.shape)
    ratio = float(comparison.analytic[best] / comparison.numeric[best])
    unsure = (1 + abs(ratio)) / float(certainty[best])
    if not min(comparison.levels) * unsure <= abs(ratio):
        return None
    fraction = min(SIMPLE | _fractions(among), key=lambda named: abs(float(named) - abs(ratio)))
    signed = fraction if ratio > 0 else -fraction
    known = abs(float(signed)) * comparison.allowed
    certain = NAMED_WHOLE if 1 in fraction.as_integer_ratio() else NAMED
    near = abs(float(signed) - ratio) <= unsure <= abs(ratio) / certain
    if near and comparison.explained_by(float(signed) * comparison.numeric, known, ONE):
        return {"factor": (signed.numerator, signed.denominator), "quantities": _named(fraction, among)}
    fitted = abs(ratio) * comparison.allowed + unsure * np.abs(comparison.numeric)
    if comparison.explained_by(ratio * comparison.numeric, fitted, FITTED):
        return {"factor": rounded_near_one(ratio), "quantities": ()}
    return None


def _fractions(among: tuple[Quantity, ...]) -> frozenset[Fraction]:
    sizes = {Fraction(quantity.value, half) for quantity in among for half in (1, 2)}
    return frozenset(sizes | {1 / size for size in sizes})


def _named(fraction: Fraction, among: tuple[Quantity, ...]) -> tuple[tuple[Quantity, bool], ...]:
    """Return the quantities equal to a factor or its inverse, then those of which it is half (with True)."""
    found = [(q, False) for q in among if fraction in (q.value, Fraction(1, q.value))]
    halves = [(q, True) for q in among if fraction in (Fraction(q.value, 2), Fraction(2, q.value))]
    return tuple(found + [(q, half) for q, half in halves if q.value >= 2 * LEAST_HALF or q.value % 2])


def multiple_of(comparison: Comparison, array: Array) -> float | None:
    """Return the number c for which the error is ``c array``, or None."""
    array = np.where(comparison.judged, array, 0.0)
    square = float(np.sum(array * array))
    if not square > 0:
        return None
    multiple = float(np.sum(array * np.where(comparison.judged, comparison.error, 0.0))) / square
    unsure = float(np.sum(np.abs(array) * np.where(comparison.judged, comparison.allowed, 0.0))) / square
    predicted = comparison.numeric + multiple * array
    return rounded(multiple) if comparison.explained_by(predicted, unsure * np.abs(array), FITTED) else None


def axes_of_fit(comparison: Comparison, regressor: Array | None) -> tuple[int, ...] | None:
    """Return the axes along which the error is a constant, plus a multiple of the regressor if there is one, or None.

    The gradient itself must not have that form: otherwise every error by a factor would have it too.
    """
    shape = comparison.numeric.shape
    if not np.all(comparison.judged):
        return None
    for axes in axis_sets(shape):
        if _spare(shape, axes, regressor) < FITTED:
            continue
        unsure = comparison.allowed.sum(axis=axes, keepdims=True)
        fit = _fit(comparison.error, axes, regressor)
        remaining = np.abs(comparison.numeric - _fit(comparison.numeric, axes, regressor))
        own = np.sum(remaining >= PRECISION * (unsure + ROUNDING * np.abs(comparison.numeric)))
        if own >= FITTED and comparison.explained_by(comparison.numeric + fit, unsure, FITTED):
            return axes
    return None


def _spare(shape: tuple[int, ...], axes: tuple[int, ...], regressor: Array | None) -> int:
    """Return how many elements a fit along axes leaves over that can contradict it."""
    count = prod(shape[axis] for axis in axes)
    if regressor is None:
        return (count - 1) * (prod(shape) // count)
    rows = np.moveaxis(regressor, axes, range(-len(axes), 0)).reshape(-1, count)
    return sum(max(distinct(row) - 2, 0) for row in rows)


def _fit(array: Array, axes: tuple[int, ...], regressor: Array | None) -> Array:
    """Return the least-squares fit along axes of a constant, plus a multiple of the regressor if there is one."""
    mean = array.mean(axis=axes, keepdims=True)
    if regressor is None:
        return np.broadcast_to(mean, array.shape)
    centred = regressor - regressor.mean(axis=axes, keepdims=True)
    square = np.sum(centred**2, axis=axes, keepdims=True)
    slope = np.sum(centred * array, axis=axes, keepdims=True) / np.where(square > 0, square, 1.0)
    return np.asarray(mean + slope * centred)


def rounded(number: float) -> float:
    """Return a fitted number to 4 digits, which are the same for every cotangent."""
    return float(f"{number:.4g}")


def rounded_near_one(factor: float) -> float:
    """Return a fitted factor to 4 digits; near 1, to 4 digits of its difference from 1, as in 1.0001."""
    return rounded(factor) if abs(factor - 1) > 1e-2 else 1 + rounded(factor - 1)


def axis_sets(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the sets of axes that have more than one element each, the largest sets first."""
    axes = [axis for axis, extent in enumerate(shape) if extent > 1]
    if len(axes) > MOST_AXES:
        return []
    return [some for count in range(len(axes), 0, -1) for some in combinations(axes, count)]
