"""Guards beside a norm, a deviation or whatever else grows with the input, as in ``x / (|x| + eps)``.

Such an eps has the dimension of the input, or of its square. Where all else is homogeneous it counts half as much for
an input twice as large, or a quarter, at every element; a fault counts as much as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ROUNDING, TWO, Comparison, axis_sets, distinct, multiple_of
from gradcheck.diagnosis.guards import DIGITS, INVISIBLE, USUAL, Beside, Guard, Place

POWERS = (1, 2)  # of the input, that an eps is added to
LARGEST_SHARE = 0.1  # of a gradient, by which an eps may move it: then the square of that is small beside it
SECOND_ORDER = 8.0  # times the square of the share: what the next term of an expansion in eps may come to
COUNTS = 4.0  # times the norm, that an eps is where it is looked at whether it guards: there less than a half is left
SATURATED = 0.1  # of an error, by which that of a guard falls short there; that of a root by a sixth
ROUGH = 0.75  # relative error of an eps that is only known by what it does: there may be two or three of it, or half
FAR_ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of the largest element, of a gradient at another scale
EQUAL = 1e-9  # of the largest element, below which elements deviate by rounding alone
FROM_SHARE = 16.0  # times what an eps makes of a norm, which it may make of a gradient: 6 is seen where terms cancel
# Of an error, that is left there at least: a hundredth where it is in one place of two, and where terms cancel, so that
# eps counts more there than the share lets expect, less by the square of that.
LEFT = 1e-3 / FROM_SHARE**2
PLAIN = 1e-3  # relative, to which an eps that is read off the outputs is the same for all, and a usual one


class Seen(NamedTuple):
    """The gradients and the output of a function at some input."""

    gradients: Comparison
    y: Array


def guard_of_norm(
    once: Seen, at: Callable[[float], Seen | None], own: Array, x: Array, known: Beside | None = None
) -> Guard | None:
    """Return the guard that gradients at ``x`` differ by, given what is seen ``at`` some times ``x``, too, or None.

    They are those of ``own``: of ``x``, or of a parameter. An eps ``known`` from another input is taken if it may move
    the gradient by as much.
    """
    here, share = once.gradients, share_of(once.gradients)
    if not share <= LARGEST_SHARE or (twice := at(2.0)) is None:
        return None
    with np.errstate(all="ignore"):
        there, degree = twice.gradients, _degree(here.numeric, twice.gradients.numeric)
        shared = _moved_on_both_sides(here, x, known)
        if not _homogeneous(here, there, degree, shared) or multiple_of(here, own) is not None:
            return None
        for power in POWERS:
            scale = 2.0 ** (power - degree)
            expected, unsure = scale * there.error, scale * there.allowed + SECOND_ORDER * share * _most(here)
            if _tells(here, np.where(there.judged, expected, np.nan), unsure, share):
                nearer = 2.0 ** round(np.log2(share / COUNTS) / power)
                near = at(nearer)
                if near is None or not _saturates(here, near.gradients, nearer ** (degree - power)):
                    continue
                beside = next(_read_off(x, once.y, twice.y, power, share), None)
                if beside is None and known is not None and known.power == power and _possible(known, x, share):
                    beside = known
                rough = share * _size(x) ** power
                eps, error = (rough, ROUGH * rough) if beside is None else (beside.eps, 0.0)
                nowhere, one = np.zeros(own.shape, bool), np.ones(own.shape)
                return Guard(eps, error, Place.NORM, one, 0 * one, nowhere, expected, unsure, beside=beside)
    return None


def _saturates(once: Comparison, near: Comparison, growth: float) -> bool:
    """Return whether errors, where eps counts as much as the norm, are not what grew from those here by a power.

    Those of a term of another degree are, as of ``2 x + 1e-5``; it guards nothing.
    """
    expected, judged = growth * once.error, once.judged & near.judged
    apart = np.abs(near.error - expected) - near.allowed - growth * once.allowed
    most = _most(once) * growth
    return bool(np.any((apart > SATURATED * most)[judged])) and LEFT * most < _most(near) < COUNTS * most


class Limit(NamedTuple):
    """By how much a numeric gradient is below what it is where no eps counts, and how far that may be off."""

    shift: Array
    blur: Array


def without_norm(here: Comparison, far: Comparison, scale: float) -> Limit | None:
    """Return what parts a gradient from the limit of those at ``scale`` times the input, if that is all that is wrong.

    There both agree. Here the one without an eps is as large as there, but for a power of the scale; only the other may
    differ. None if both differ, or if nothing can be told.
    """
    with np.errstate(all="ignore"):
        if np.any(far.failing) or not np.all(far.judged) or not np.any(far.numeric):
            return None
        top = float(np.abs(far.numeric).max())
        for gradient, limit, unsure in (
            (here.analytic, far.numeric, far.allowed),
            (here.numeric, far.analytic, here.allowed),
        ):
            grown = float(np.abs(gradient[here.judged]).max(initial=0.0)) / top
            power = scale ** (round(2 * np.log2(grown) / np.log2(scale)) / 2) if 0 < grown < np.inf else 0.0
            expected = power * limit
            slack = (power * unsure if limit is far.numeric else unsure) + FAR_ROUNDING * np.abs(expected).max()
            if power and np.all((np.abs(gradient - expected) <= slack)[here.judged]):
                return Limit(here.analytic - here.numeric, slack)
    return None


def share_of(comparison: Comparison) -> float:
    """Return the largest error beside the largest element of a gradient."""
    top = float(np.abs(comparison.numeric[comparison.judged]).max(initial=0.0))
    return _most(comparison) / top if top else np.inf


def _most(comparison: Comparison) -> float:
    return float(np.abs(comparison.error[comparison.judged]).max(initial=0.0))


def _moved_on_both_sides(once: Comparison, x: Array, known: Beside | None) -> Array | float:
    """Return by how much an eps that another input has shown moves a gradient of ``x``, if on both sides alike."""
    if known is None or once.numeric.shape != x.shape or max(known.axes) >= x.ndim:
        return 0.0
    size = list(sizes(x, known.axes))[known.measure]
    largest: Array = np.abs(once.numeric).max(axis=known.axes, keepdims=True)
    return np.asarray(FROM_SHARE * known.eps / size**known.power * largest)


def _homogeneous(once: Comparison, twice: Comparison, degree: float, shared: Array | float) -> bool:
    """Return whether twice the input gives a power of two times the gradient, but for an eps.

    One on both sides may move it by what is ``shared``, and more than the one on one side does.
    """
    slack = SECOND_ORDER * _most(once) + once.allowed + twice.allowed / 2.0**degree + shared
    alike = np.abs(twice.numeric / 2.0**degree - once.numeric) <= slack
    return bool(np.all(alike[once.judged & twice.judged]))


def _degree(once: Array, twice: Array) -> float:
    """Return the power of two by which a homogeneous array grows: whole, or of a root half of that."""
    grown = float(np.abs(twice).max(initial=0.0) / np.abs(once).max(initial=0.0))
    return round(2 * float(np.log2(grown))) / 2 if 0 < grown < np.inf else 0.0


def _tells(once: Comparison, expected: Array, unsure: Array, share: float) -> bool:
    """Return whether errors are as expected, wherever that is known, and this is no coincidence."""
    tolerance, judged = once.allowed + unsure + ROUNDING * np.abs(once.numeric), once.judged & np.isfinite(expected)
    if not np.all((np.abs(once.error - expected) <= tolerance)[judged]):
        return False
    level = np.where(judged, np.abs(once.error) / tolerance, 0.0)
    digits = float(np.log10(np.maximum(level, 1.0)).sum())
    return share <= INVISIBLE or (digits >= DIGITS and distinct(once.error[level > 1]) >= min(TWO, once.error.size))


def _read_off(x: Array, y: Array, y_of_twice: Array, power: int, share: float) -> Iterator[Beside]:
    """Yield what may be added to a usual measure of the input's size, as outputs show, if it is a usual eps.

    It must also be able to move the gradient by this share: one of a parameter may hold another eps.
    """
    if y.shape != x.shape:
        return
    grown = y_of_twice / 2.0 ** _degree(y, y_of_twice) / y
    for root in (1, 2):
        part = grown**root - 1
        for axes in axis_sets(x.shape):
            for measure, size in enumerate(sizes(x, axes)):
                eps = (part * size**power / (1 - 0.5**power - part * 0.5**power))[np.isfinite(grown)]
                middle = float(np.median(eps)) if eps.size else 0.0
                usual = USUAL[int(np.argmin(np.abs(np.array(USUAL) - middle)))]
                beside = Beside(usual, power, axes, measure)
                if np.all(np.abs(eps - usual) <= PLAIN * usual) and _possible(beside, x, share):
                    yield beside


def _possible(beside: Beside, x: Array, share: float) -> bool:
    """Return whether an eps can move a gradient by this share of it, given the norms of ``x`` that it is beside."""
    if max(beside.axes) >= x.ndim:
        return False
    size = list(sizes(x, beside.axes))[beside.measure]
    moved = beside.eps / size[size > 0] ** beside.power
    return bool(moved.min(initial=np.inf) / FROM_SHARE <= share <= FROM_SHARE * moved.max(initial=0.0))


def _size(x: Array) -> float:
    """Return the deviation of all elements, or where they are equal, the largest."""
    deviation, top = float(x.std()), float(np.abs(x).max(initial=0.0))
    return deviation if deviation > EQUAL * top else top


def sizes(x: Array, axes: tuple[int, ...]) -> Iterator[Array]:
    """Yield norms and deviations along axes."""
    yield np.sqrt((x**2).sum(axis=axes, keepdims=True))
    yield np.sqrt((x**2).mean(axis=axes, keepdims=True))
    yield x.std(axis=axes, keepdims=True)
    yield np.abs(x).sum(axis=axes, keepdims=True)
    yield np.abs(x).max(axis=axes, keepdims=True)
