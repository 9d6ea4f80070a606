"""Where an eps is all that a gradient is divided by: the norm, or the distance from a sure answer, is 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import LARGEST
from gradcheck.numerics.agreement import compare
from gradcheck.numerics.differences import derivatives
from gradcheck.numerics.directions import coordinates
from gradcheck.properties.explained import target_of
from gradcheck.properties.judge import Judge

FAR = {np.float64: 2.0**40, np.float32: 2.0**16}  # where no eps counts
BESIDE = 0.25  # where a guard hardly counts: that of a variance by less than 1e-3
ALIKE = 1e-3  # relative, to which one factor is that of all elements
ROUGHLY = 0.05  # of itself, to which slopes must be alike
LIFTED = 2.0**-10  # from a sure answer, where an eps counts by 1e-2 at most
NEAREST, GROWTH = 1e-13, 1.1  # the first distance at which a divisor is looked at, and the next over it


def alone_in(judge: Judge, name: str, here: Comparison, at_kinks: Array) -> Array:
    """Return the elements of which a gradient is wrong, and an eps is all that it is divided by, or should be.

    Those ``at_kinks`` that are wrong there are looked at as well.
    """
    nowhere = np.zeros(here.numeric.shape, bool)
    if not np.any(here.failing | at_kinks) or name not in judge.point.function.inputs:
        return nowhere
    with np.errstate(all="ignore"):
        try:
            if np.any(here.failing) and judge.settings.derived and _is_of_norm(judge, name, here):
                return here.failing
            return _at_sure_answers(judge, name, here, at_kinks)
        except Exception:  # noqa: BLE001  outside its domain it may raise anything
            return nowhere


def _is_of_norm(judge: Judge, name: str, here: Comparison) -> bool:
    """Return whether the failing elements are all off by one factor, that of two eps, as at a variance of 0.

    Away from there, by any usual size of what is normed, outputs no longer depend on that size, and the gradient is
    right to within what the eps still counts; farther away it is right.
    """
    point, where = judge.point, here.failing
    best = np.argmax(np.abs(here.numeric[where]))
    factor = here.analytic[where][best] / here.numeric[where][best]
    expected = factor * here.numeric
    slack = (1 + factor) * here.allowed + ALIKE * np.abs(expected)
    if not factor > 0 or not np.all((np.abs(here.analytic - expected) <= slack)[where]):
        return False
    rng, x = judge.case.rng("away from where an eps is alone"), point.variables[name]
    direction = np.where(where, rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1.5, x.shape), 0.0)
    far, beside = (
        judge.moved({**point.variables, name: (x + scale * direction).astype(x.dtype)})
        for scale in (FAR[point.precision], BESIDE)
    )
    grown = float(np.abs(far.point.y - point.y).max(initial=0.0))
    if not np.all(np.abs(far.point.y - beside.point.y) <= ROUGHLY * grown):
        return False
    rough = ROUGHLY * grown * float(np.abs(point.dy).max(initial=0.0)) / BESIDE
    for there, unsure in ((far, 0.0), (beside, rough)):
        numeric, allowed = there.numeric_of({}, name, point.dy)
        worst = compare(name, there.grads[name], numeric, allowed + there.noise(name) + unsure)
        if not np.all(np.isfinite(allowed)) or worst is None or worst.ratio > 1:
            return False
    return True


def _at_sure_answers(judge: Judge, name: str, here: Comparison, at_kinks: Array) -> Array:
    """Return where ``(p - t) / (p (1 - p) + eps)`` is smaller than the slope at p = t of 0 or 1, which is -1 or 1.

    A little away from there the gradient is right, and at no distance d is it larger than ``d / (d + eps)`` makes it.
    """
    point, x, target = judge.point, judge.point.variables[name], target_of(judge.point.function)
    where = here.failing | at_kinks
    if target is None or target.shape != x.shape:
        return np.zeros(where.shape, bool)
    away = np.abs(x - target)
    where = where & ((target == 0) | (target == 1)) & (away <= LARGEST)
    where &= np.where(away == 0, here.analytic == 0, True)
    if not np.any(where):
        return where
    end, inwards, places = target[where], 1 - 2 * target[where], np.flatnonzero(where)
    at = slopes_at(judge, name, where)
    lifted = x.copy()
    lifted[where] = end + inwards * LIFTED
    there = replace(point, variables={**point.variables, name: lifted})
    there = replace(there, y=point.function.call(there.variables, there.context())[0])
    right, slope = derivatives(coordinates(there, name).only(places)), at(lifted[where])
    close = np.abs(right.value - slope) <= ROUGHLY * np.abs(slope) + right.error
    numeric, own = here.numeric[where], here.analytic[where]
    close &= at_kinks[where] | (np.abs(numeric - slope) <= ROUGHLY * np.abs(slope)) | (numeric == 0)
    close &= (own == 0) | is_divided(at, end, inwards, own, away[where], lambda d: slope * d)
    where[where] = close & (slope != 0)
    return where


def slopes_at(judge: Judge, name: str, where: Array) -> Callable[[Array], Array]:
    """Return the gradient given of some elements as a function of what they are."""

    def at(values: Array) -> Array:
        x = judge.point.variables[name].copy()
        x[where] = values
        _, pullback = judge.point.function.call({**judge.point.variables, name: x}, judge.point.context())
        return np.asarray(pullback(judge.point.dy)[name][where])

    return at


def is_divided(
    at: Callable[[Array], Array],
    end: Array,
    inwards: Array,
    own: Array,
    away: Array,
    weight: Callable[[Array], Array],
) -> Array:
    """Return where slopes are a weight over a distance d that a guard keeps from 0, such as d + eps or max(d, eps).

    Whatever guards, the divisor is d at least, and grows with it, by no more than it does. That of a slope that has
    another factor where it is guarded than elsewhere jumps where the guard ends.
    """
    divisor, distance = weight(away) / own, away
    fits = np.asarray(divisor >= (1 - ROUGHLY) * distance)
    for least in NEAREST * GROWTH ** np.arange(np.ceil(np.log(LARGEST * 2 / NEAREST) / np.log(GROWTH))):
        x = (end + inwards * np.maximum(away, least)).astype(end.dtype)
        there = np.abs(x - end)
        farther = there > distance
        after = np.where(farther, weight(there) / at(x), divisor)
        low, high = divisor, divisor + (there - distance)
        fits &= ((1 - ROUGHLY) * np.maximum(low, there) <= after) & (after <= (1 + ROUGHLY) * high)
        divisor, distance = after, np.where(farther, there, distance)
    return fits
