"""Guards beside a norm, a deviation or whatever else grows with the input, as in ``x / (|x| + eps)``.

Such an eps has the dimension of the input, or of its square. Where all else is homogeneous it counts half as much for
an input twice as large, or a quarter, at every element; a fault counts as much as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ROUNDING, TWO, Comparison, axis_sets, distinct, multiple_of
from gradcheck.diagnosis.guards import DIGITS, INVISIBLE, USUAL, Guard, Place

POWERS = (1, 2)  # of the input, that an eps is added to
LARGEST_SHARE = 0.1  # of a gradient, by which an eps may move it: then the square of that is small beside it
SECOND_ORDER = 8.0  # times the square of the share: what the next term of an expansion in eps may come to
ROUGH = 0.75  # relative error of an eps that is only known by what it does: there may be two or three of it, or half
FAR_ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of the largest element, of a gradient at another scale
ALIKE = 1e-3  # of the largest element, by which elements deviate that are no accident of equal ones
PLAIN = 1e-3  # relative, to which an eps that is read off the outputs is the same for all, and a usual one


def guard_of_norm(
    once: Comparison, twice: Comparison, own: Array, x: Array, y: Array, y_of_twice: Array
) -> Guard | None:
    """Return the guard that gradients at ``x`` differ by, given those and the outputs at ``2 x``, too, or None.

    They are those of ``own``: of ``x``, or of a parameter.
    """
    with np.errstate(all="ignore"):
        share, degree = share_of(once), _degree(once.numeric, twice.numeric)
        if not share <= LARGEST_SHARE or not _homogeneous(once, twice, degree) or multiple_of(once, own) is not None:
            return None
        for power in POWERS:
            scale = 2.0 ** (power - degree)
            expected, unsure = scale * twice.error, scale * twice.allowed + SECOND_ORDER * share * _most(once)
            if _tells(once, np.where(twice.judged, expected, np.nan), unsure, share):
                eps = next(_read_off(x, y, y_of_twice, power), None)
                rough = share * float(x.std()) ** power
                # It is that of the rows that it moves most, of which the size is not known: these may be the smallest.
                least = share * min(float(x.std()), _smallest(x)) ** power
                known = (rough, max(ROUGH * rough, rough - least)) if eps is None else (eps, 0.0)
                nowhere, one = np.zeros(own.shape, bool), np.ones(own.shape)
                return Guard(*known, Place.NORM, one, 0 * one, nowhere, expected, unsure)
    return None


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


def _homogeneous(once: Comparison, twice: Comparison, degree: float) -> bool:
    """Return whether twice the input gives a power of two times the gradient, but for an eps."""
    slack = SECOND_ORDER * _most(once) + once.allowed + twice.allowed / 2.0**degree
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
    return share <= INVISIBLE or (digits >= DIGITS and distinct(once.error[level > 1]) >= TWO)


def _read_off(x: Array, y: Array, y_of_twice: Array, power: int) -> Iterator[float]:
    """Yield what may be added to a usual measure of the input's size, as outputs show, if it is a usual eps."""
    if y.shape != x.shape:
        return
    grown = y_of_twice / 2.0 ** _degree(y, y_of_twice) / y
    for root in (1, 2):
        share = grown**root - 1
        for size in _sizes(x):
            eps = (share * size**power / (1 - 0.5**power - share * 0.5**power))[np.isfinite(grown)]
            middle = float(np.median(eps)) if eps.size else 0.0
            usual = USUAL[int(np.argmin(np.abs(np.array(USUAL) - middle)))]
            if np.all(np.abs(eps - usual) <= PLAIN * usual):
                yield usual


def _smallest(x: Array) -> float:
    """Return the smallest deviation along axes that is not zero."""
    deviations = np.concatenate([x.std(axis=axes).reshape(-1) for axes in axis_sets(x.shape)])
    top = float(np.abs(x).max(initial=0.0))
    return float(np.min(deviations, where=deviations > ALIKE * top, initial=top))


def _sizes(x: Array) -> Iterator[Array]:
    """Yield norms and deviations along axes."""
    for axes in axis_sets(x.shape):
        yield np.sqrt((x**2).sum(axis=axes, keepdims=True))
        yield np.sqrt((x**2).mean(axis=axes, keepdims=True))
        yield x.std(axis=axes, keepdims=True)
        yield np.abs(x).sum(axis=axes, keepdims=True)
        yield np.abs(x).max(axis=axes, keepdims=True)
