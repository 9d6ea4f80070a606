"""Where an eps is all that a gradient is divided by: the norm, or the distance from a sure answer, is 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import LARGEST
from gradcheck.numerics.differences import RICHARDSON_WEIGHTS, Lines
from gradcheck.numerics.directions import coordinates
from gradcheck.properties.explained import target_of
from gradcheck.properties.judge import Judge

FAR = {np.float64: 2.0**40, np.float32: 2.0**16}  # where no eps counts
BESIDE = 2.0**-5  # where a guard hardly counts: 1e-5 of a variance by 1e-2, and 1e-4 by more than may be
SENSITIVE = 4.0  # times as much as the ratio of two eps, in proportion, a gradient may change with it
ROUGHLY = 0.05  # of itself, to which slopes must be alike
LIFTED = 2.0**-10  # from a sure answer, where an eps counts by 1e-2 at most
NEAREST, GROWTH = 1e-13, 1.1  # the first distance at which a divisor is looked at, and the next over it


def alone_beside_norm(judge: Judge, name: str, here: Comparison) -> Array:
    """Return the elements of which a gradient is wrong, if it is that of another eps where our own input is small."""
    if not judge.settings.derived or name not in judge.point.function.inputs:
        return np.zeros(here.numeric.shape, bool)
    return _tried(lambda: here.failing & _is_of_norm(judge, name, here), here)


def alone_at_sure_answers(judge: Judge, name: str, here: Comparison, at_kinks: Array) -> Array:
    """Return where ``(p - t) / (p (1 - p) + eps)`` is less than the slope at p = t of 0 or 1; also of those at kinks.

    A little away from there the gradient is right, and at no distance d is it larger than ``d / (d + eps)`` makes it.
    """
    return _tried(lambda: _at_sure_answers(judge, name, here, at_kinks), here)


def _tried(where: Callable[[], Array], here: Comparison) -> Array:
    with np.errstate(all="ignore"):
        try:
            return where()
        except Exception:  # noqa: BLE001  outside its domain it may raise anything
            return np.zeros(here.numeric.shape, bool)


def _is_of_norm(judge: Judge, name: str, here: Comparison) -> bool:
    """Return whether a gradient is that of another eps beside a norm, which is small here, or 0.

    Where all is 0, it is then some times as large as differences show; and here they show what it is for inputs so many
    times smaller, divided by as much. Where the eps hardly counts, the gradient must be right, and outputs must not
    depend on how large inputs are.
    """
    point, rng, x = judge.point, judge.case.rng("where an eps hardly counts"), judge.point.variables[name]

    def moved(**inputs: Array) -> Judge:
        return judge.moved({key: inputs.get(key, array).astype(array.dtype) for key, array in point.variables.items()})

    def scaled(by: float) -> Judge:
        return moved(**{key: by * point.variables[key] for key in point.function.inputs})

    zero = scaled(0.0)
    at_zero = _shown(zero, name)
    best = np.unravel_index(np.argmax(np.where(at_zero.judged, np.abs(at_zero.numeric), 0.0)), x.shape)
    factor, unsure = (float(one[best] / abs(at_zero.numeric[best])) for one in (at_zero.analytic, at_zero.allowed))
    factor *= float(np.sign(at_zero.numeric[best]))
    slack = (1 + factor) * (at_zero.allowed + unsure * np.abs(at_zero.numeric))
    alike = np.abs(at_zero.analytic - factor * at_zero.numeric) <= slack
    another = ROUGHLY < abs(factor - 1) < np.inf  # else the eps is that of both sides, and explains nothing
    if not (another and factor > 0 and np.all(alike[at_zero.judged])):
        return False
    smaller = scaled(1 / factor)
    expected = smaller.grads[name] / factor
    slack = here.allowed + smaller.noise(name) / factor + SENSITIVE * unsure * np.abs(expected).max()
    if not np.all((np.abs(here.numeric - expected) <= slack)[here.judged]):
        return False
    signs = 1.0 - 2 * (np.indices(x.shape).sum(axis=0) % 2)  # as many of both along every axis: norms are alike
    direction = signs * rng.uniform(0.75, 1.25, x.shape)
    far, beside = (moved(**{name: scale * direction}) for scale in (FAR[point.precision], BESIDE))
    grown = float(np.abs(far.point.y - zero.point.y).max(initial=0.0))
    if not np.isfinite(grown):
        return False
    rough = ROUGHLY * grown * float(np.abs(point.dy).max(initial=0.0)) / BESIDE
    right = [_shown(there, name) for there in (far, beside)]
    return bool(
        np.all(np.abs(far.point.y - beside.point.y) <= ROUGHLY * grown)
        and not np.any(right[0].failing)
        and np.all(np.abs(right[1].error) <= right[1].allowed + rough)
    )


def _shown(judge: Judge, name: str) -> Comparison:
    """Return the gradient, and what differences show of it."""
    numeric, allowed = judge.numeric_of({}, name, judge.point.dy)
    return Comparison(judge.grads[name], numeric, allowed + judge.noise(name))


def _at_sure_answers(judge: Judge, name: str, here: Comparison, at_kinks: Array) -> Array:
    point, x, target = judge.point, judge.point.variables[name], target_of(judge.point.function)
    where = here.failing | at_kinks
    if not np.any(where) or target is None or target.shape != x.shape:
        return np.zeros(where.shape, bool)
    away = np.abs(x - target)
    where = np.asarray(where & ((target == 0) | (target == 1)) & (away <= LARGEST))
    if not np.any(where):
        return where
    end, places = target[where].astype(x.dtype), np.flatnonzero(where)
    inwards = 1 - 2 * end
    at = slopes_at(judge, name, where)
    lifted = x.copy()
    lifted[where] = end + inwards * LIFTED
    there = replace(point, variables={**point.variables, name: lifted})
    there = replace(there, y=point.function.call(there.variables, there.context())[0])
    slope, (shown, noise) = at(lifted[where]), slopes_of(coordinates(there, name).only(places), LIFTED / 4)
    close = np.abs(shown - slope) + noise <= ROUGHLY * np.abs(slope)
    numeric, own = here.numeric[where], here.analytic[where]
    close &= at_kinks[where] | (np.abs(numeric - slope) <= ROUGHLY * np.abs(slope)) | (numeric == 0)
    close &= (own == 0) | is_divided(at, end, inwards, own, np.maximum(away[where], NEAREST), lambda d: slope * d)
    where[where] = close & (slope != 0)
    return where


def slopes_of(lines: Lines, step: float) -> tuple[Array, Array]:
    """Return slopes along lines by one step to either side, and how far rounding may move them."""
    every, steps = np.arange(len(lines.scale)), np.full(len(lines.scale), step)
    (above, right), (below, left) = lines.at(every, steps), lines.at(every, -steps)
    noise = RICHARDSON_WEIGHTS * lines.eps * np.abs(lines.dy * lines.y).sum()
    return (above - below) @ lines.dy[0] / (right - left), np.full(len(steps), noise / step)


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

    Whatever guards, the divisor is d at least, and grows with it, in proportion at most. That of a slope that has
    another factor where it is guarded than elsewhere jumps where the guard ends.
    """
    divisor, distance = weight(away) / own, away
    fits = np.asarray(divisor >= (1 - ROUGHLY) * distance)
    for least in NEAREST * GROWTH ** np.arange(np.ceil(np.log(LARGEST * 2 / NEAREST) / np.log(GROWTH))):
        x = (end + inwards * np.maximum(away, least)).astype(end.dtype)
        there = np.abs(x - end)
        farther = there > distance
        after = np.where(farther, weight(there) / at(x), divisor)
        low = divisor
        high = np.where(distance > 0, divisor * there / distance, divisor + there)
        fits &= ((1 - ROUGHLY) * np.maximum(low, there) <= after) & (after <= (1 + ROUGHLY) * high)
        divisor, distance = after, np.where(farther, there, distance)
    return fits
