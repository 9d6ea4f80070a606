"""Derivative estimates along straight lines, each with a bound on its error; at kinks there is no estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.agreement import disagreement


class Steps(NamedTuple):
    """Steps in units of a line's scale. The first sees past rounding, shorter ones past curvature and nearby kinks.

    No step is shorter than ``last`` but for elements that are much smaller than the largest. At a kink, slopes to one
    side are taken at ``one_sided``: about sqrt(eps), where curvature and rounding cost the same.
    """

    first: float
    last: float
    one_sided: float


# Richardson's rule leaves truncation of order h^6, beside rounding of order eps / h: they balance at eps^(1/7), which
# is 2^-7 in float64 and 2^-3 in float32. What an element has of digits limits steps besides: DIGITS of them are left.
STEPS = {np.float64: Steps(2.0**-6, 2.0**-40, 2.0**-26), np.float32: Steps(2.0**-3, 2.0**-40, 2.0**-12)}
DIGITS = 2.0**6
LONGER = 1.5  # what a step is multiplied by at which nothing of truncation is seen, for another opinion
SHORTER = 2.0**-3  # what a step that does not serve is multiplied by
# What any other step is multiplied by besides: a wave that a step takes for a slow one is taken for the same at 3/2 of
# it in one of three cases, at a quarter in one of four; at a ratio of no small whole numbers in one of twelve.
APART = 1.064
STEP_BITS = 10  # of which a step has no more, so that what moves by it does not round

# Richardson's R = (64 D(h/4) - 20 D(h/2) + D(h)) / 45 takes six values with weights w / h, sum of w^2 = 16.6. If they
# have independent errors of standard deviation s, R has one of 4.07 s / h. `DEVIATIONS` times that is allowed.
RICHARDSON_ROUNDING = 4.07
RICHARDSON_WEIGHTS = 6.6  # sum of |w|, for values that are each off by up to half a unit in the last place
DEVIATIONS = 8.0
# What a function seems to do in spite of being smooth, by chance, is below this; more, and the step is given up.
SEEMING = 3.0

# The rule from one side, R = (8 D(h/4) - 6 D(h/2) + D(h)) / 3 of (f(x + k) - f(x)) / k, takes four values with weights
# 32/3, -4, 1/3 and -7, divided by h: noise of standard deviation s in each makes one of 13.4 s / h.
ONE_SIDED_ROUNDING = 13.4

# Truncation, as it is estimated, goes as h to this power, and rounding as 1/h.
CENTRAL_ORDER, ONE_SIDED_ORDER = 4, 1

# For a smooth function the jump between the slopes to the right and to the left shrinks as 1 : 1/2 : 1/4 with h, and
# so, as 1 : 1/4, do the differences of successive central differences; at a kink the jump stays. A departure by more
# than this share of the first, beyond rounding, and the step is given up.
PATTERN_SLACK = 0.1

FAR = (1.0, 2.0, 4.0, 8.0)  # in units of a line's scale: the last is beyond the distance of any two elements

CHUNK = 1 << 21  # elements of the outputs held at a time

Integers = np.ndarray[tuple[int], np.dtype[np.intp]]


@dataclass(frozen=True)
class Lines:
    """Straight lines through a point, and f's outputs there. Line l moves the outputs of block ``block[l]`` alone.

    ``at(lines, t)`` returns the outputs, (lines, outputs), at distances t along the given lines, and the distances as
    they came out after rounding. ``scale`` (lines,) is the unit of distance; ``y``, ``dy`` and ``noise`` are
    (blocks, outputs): the value, the cotangent, and how far rounding moves each output; ``moves`` (blocks, shadows,
    outputs) are single such movements. No step shorter than ``shortest`` (lines,) is tried.
    """

    at: Callable[[Integers, Array], tuple[Array, Array]]
    scale: Array
    block: Integers
    y: Array
    dy: Array
    noise: Array
    moves: Array
    shortest: Array
    precision: type[np.floating[Any]] = np.float64
    size: float = 0.0

    @property
    def steps(self) -> Steps:
        """The steps to take in the precision that f computes in, or for outputs that are as coarse, in float32."""
        return STEPS[np.float32 if self.coarse else self.precision]

    @property
    def coarse(self) -> bool:
        """Whether outputs round as coarsely as in float32."""
        least = np.finfo(np.float32).eps * float(np.abs(self.y).max(initial=0.0))
        return self.precision is np.float32 or bool(self.eps * self.size > least > 0)

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number, in the precision that f computes in."""
        return float(np.finfo(self.precision).eps)

    @property
    def tiny(self) -> float:
        """The smallest number above zero, in the precision that f computes in."""
        return float(np.finfo(self.precision).smallest_subnormal)

    def only(self, lines: Integers) -> Lines:
        """Return the given ones of these lines."""
        return replace(
            self,
            at=lambda part, t: self.at(lines[part], t),
            scale=self.scale[lines],
            block=self.block[lines],
            shortest=self.shortest[lines],
        )

    def sigma(self, part: Integers, weights: Array) -> Array:
        """Return the standard deviation, by rounding, of each line's outputs summed with ``weights``."""
        if len(self.moves) == 1:
            projected = weights @ self.moves[0].T
        else:
            projected = np.einsum("lm,lsm->ls", weights, self.moves[self.block[part]])
        return np.asarray(_norms(projected) / np.sqrt(max(1, projected.shape[1])))


@dataclass(frozen=True)
class Estimate:
    """Derivatives of <dy, f> along lines, with error bounds; ``step`` is the h that each was taken at.

    The bound is inf where no step behaved as for a smooth function. ``kinked`` says where that is because the slopes to
    the two sides differ; ``rough`` (lines, outputs) which outputs were not smooth at the last step that was tried;
    ``moved`` whether any output moved at all; ``leaves`` where f is not defined to either side at the first step, and
    ``outside`` where it is not however near.
    """

    value: Array
    error: Array
    step: Array
    kinked: Array
    rough: Array
    moved: Array
    leaves: Array
    outside: Array


class _Try(NamedTuple):
    """What one step shows of some lines: the derivative (NaN where f is not seen to be smooth) and the two bounds.

    ``flat`` says where the slopes to the two sides differ by the same at every distance, ``undefined`` where an output
    that is finite at the point is not, and ``leaves`` where that is so to both sides at the longest distance.
    """

    best: Array
    truncation: Array
    rounding: Array
    rough: Array
    flat: Array
    moved: Array
    undefined: Array
    leaves: Array


_Rule = Callable[[Lines, Integers, Array], _Try]


def derivatives(lines: Lines, first_step: Array | float | None = None, *, confirm: bool = True) -> Estimate:
    """Estimate the derivative of ``<dy, f>`` along every line.

    Central differences D at h, h/2 and h/4, extrapolated by Richardson's rule. The bound is that of truncation, the
    difference of the two first extrapolations ``(4 D(k/2) - D(k)) / 3`` at k = h and h/2, plus that of rounding,
    ``DEVIATIONS * RICHARDSON_ROUNDING * sigma / h``. (The usual estimate of truncation, from the last two
    extrapolations, is 15 times smaller; it vanishes where the h^4 and h^6 terms cancel, as for a sigmoid at h =
    0.23.) The step is then chosen to balance the two, and shortened where f is not seen to be smooth. Steps far
    longer than f's own scale can look smooth by chance, as for a sine at 1e8; so an estimate counts once another step
    has given the same to within both bounds.

    Without ``confirm``, that other step is left out, and the caller has to see by other means what looks smooth.

    Where f is not defined to one side, however near, as at the end of an interval, the derivative is that to the other
    side, by differences from there.
    """
    h = np.broadcast_to((lines.steps.first if first_step is None else first_step) * lines.scale, len(lines.scale))
    found, defined = _descend(lines, h, _richardson, CENTRAL_ORDER, _sides, confirm=confirm)
    for sign in (1, -1):
        part: Integers = np.flatnonzero(defined == sign)
        if part.size:
            rule = partial(_one_sided, sign)
            from_there, _ = _descend(lines.only(part), h[part], rule, ONE_SIDED_ORDER, _not_looked_at)
            for array in ("value", "error", "step", "rough", "moved"):
                getattr(found, array)[part] = getattr(from_there, array)
    return found


BOTH, NEITHER = 0, 2  # of the sides of a point, those to which f is defined; one is 1 or -1


def _descend(
    lines: Lines,
    first: Array,
    rule: _Rule,
    order: int,
    sides: Callable[[Lines, Integers], Array],
    *,
    confirm: bool = True,
) -> tuple[Estimate, Integers]:
    """Try shorter and shorter steps; return the estimates, and to which sides of the point f is defined.

    Where the first step leaves the domain, ``sides`` says whether all do; then no other is tried.
    """
    count, outputs = len(lines.scale), lines.y.shape[1]
    value, error, used = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    sure: Array = np.full(count, np.inf)  # the error, but for rounding that is less likely
    kinked, suspect, moved, leaves = (np.zeros(count, bool) for _ in range(4))
    confirmed: Array = np.full(count, not confirm)
    defined: Integers = np.full(count, BOTH)
    rough = np.zeros((count, outputs), bool)
    h = first.copy()
    todo: Integers = np.arange(count)
    is_first = True
    while todo.size:
        going = []
        for part in _chunks(todo, outputs):
            one = rule(lines, part, h[part])
            rough[part] = one.rough
            moved[part] |= one.moved
            smooth = np.isfinite(one.best)
            bound = one.truncation + one.rounding
            likely = one.truncation + SEEMING / DEVIATIONS * one.rounding
            first_found = smooth & ~np.isfinite(error[part])
            with np.errstate(invalid="ignore"):
                agrees = np.abs(one.best - value[part]) <= likely + sure[part]
            contradicted = smooth & ~first_found & ~agrees
            confirmed[part] = (confirmed[part] | (smooth & ~first_found & agrees)) & ~contradicted
            # What two estimates that agree are apart bounds what the truncation of the first was not seen to be.
            apart = np.where(smooth & ~first_found & agrees, np.abs(one.best - value[part]) + likely, 0.0)
            # Nothing is added that rounding alone explains.
            apart = np.where(apart <= SEEMING / DEVIATIONS * error[part] + likely, 0.0, apart)
            error[part] = np.maximum(error[part], np.where(np.isfinite(apart), apart, 0.0))
            better = smooth & ((bound < error[part]) | contradicted)
            chosen = part[better]
            value[chosen], error[chosen], used[chosen] = one.best[better], bound[better], h[chosen]
            sure[chosen] = likely[better]
            # A jump that does not shrink at two steps in a row is a kink.
            kinked[part] = one.flat & suspect[part] & ~np.isfinite(error[part])
            suspect[part] = one.flat
            # Truncation goes as h^order and rounding as 1/h: the step where both are the same, at most 2^-10 shorter.
            with np.errstate(divide="ignore", invalid="ignore"):
                balance = np.exp2(np.floor(np.log2(one.rounding / one.truncation) / (order + 1)))
            if is_first and one.undefined.any():
                leaves[part] = one.leaves
                defined[part[one.undefined]] = sides(lines, part[one.undefined])
            # Where truncation seems to be none, its terms may cancel: at a longer step they do so no more, and show.
            shorter = np.where(smooth & np.isfinite(balance), np.clip(balance, 2.0**-10, 0.25), SHORTER)
            longer = first_found & (one.truncation <= one.rounding) & np.isfinite(bound)  # and so once at most
            h[part] = another_step(h[part], np.where(longer, LONGER, shorter))
            settled = (one.truncation <= one.rounding) | ~better
            done = (confirmed[part] & settled) | kinked[part] | (defined[part] != BOTH)
            going.append(part[~done & (h[part] >= lines.shortest[part])])
        todo, is_first = np.concatenate(going), False
    error = np.where(confirmed, error, np.inf)
    return Estimate(value, error, used, kinked, rough, moved, leaves, defined == NEITHER), defined


def another_step(h: Array, by: Array | float) -> Array:
    """Return about so many times a step, but no simple multiple of it: a number of `STEP_BITS`, the last not 0."""
    mantissa, exponent = np.frexp(APART * by * h)
    return np.asarray(np.ldexp(2 * np.floor(2.0 ** (STEP_BITS - 1) * mantissa) + 1, exponent - STEP_BITS))


def _sides(lines: Lines, part: Integers) -> Array:
    """Return to which sides of the point f is defined as far as the shortest step goes."""
    y = lines.y[lines.block[part]]
    with np.errstate(all="ignore"):
        right, left = (_defined(y, lines.at(part, sign * lines.shortest[part])[0]) for sign in (1.0, -1.0))
    return np.where(right & left, BOTH, np.where(right, 1, np.where(left, -1, NEITHER)))


def _not_looked_at(_: Lines, part: Integers) -> Array:
    return np.full(len(part), BOTH)


def _defined(y: Array, moved: Array) -> Array:
    """Return for each line whether all outputs are finite that are so at the point."""
    return np.asarray((np.isfinite(moved) | ~np.isfinite(y)).all(axis=1))


def hidden(lines: Lines, h: Array) -> Array:
    """Return what estimates at steps ``h`` may miss of outputs that do not move, since they round.

    In 1 - 1e-20 the second term is lost. What does may have cancelled here, as in the logarithm of 1 - 1e-20: its last
    place is that of where it moves, or its rounding that which was measured here, as that logarithm is 0 and rounds as
    1 does. What does not move further away, either, does not depend on the line. But if nothing does, as the logarithm
    of 1e-40 + 1e-8 does not, its slope is known to its rounding over that distance.
    """
    part: Integers = np.arange(len(h))
    y, dy, noise = lines.y[lines.block], lines.dy[lines.block], lines.noise[lines.block]
    with np.errstate(all="ignore"):
        still = (lines.at(part, h)[0] == y) & (lines.at(part, -h)[0] == y)
        size = np.zeros(y.shape)
        for distance in FAR:
            for sign in (1.0, -1.0):
                there = lines.at(part, sign * np.maximum(h, distance * lines.scale))[0]
                moves = still & np.isfinite(there) & (there != y)
                size = np.where(moves & (size == 0), np.maximum(np.abs(there), np.abs(y)), size)
        unit = np.where(size > 0, np.maximum(lines.eps / 2 * np.maximum(size, lines.size), noise), 0.0)
        silent = np.abs(dy * unit).sum(axis=1)
        never = (still & (size == 0)).all(axis=1) * np.abs(dy * noise).sum(axis=1)
        return np.asarray(RICHARDSON_WEIGHTS * silent / h + never / (FAR[-1] * lines.scale))


def _richardson(lines: Lines, part: Integers, h: Array) -> _Try:
    """Return what central differences at h, h/2 and h/4 show."""
    block = lines.block[part]
    y, dy, noise = lines.y[block], lines.dy[block], lines.noise[block]
    slopes: list[Array] = []
    each: list[Array] = []
    jumps: list[Array] = []
    top: Array = np.abs(y)
    moved: Array = np.zeros(y.shape, bool)
    defined: Array = np.ones(len(part), bool)
    leaves: Array = np.ones(len(part), bool)
    with np.errstate(all="ignore"):  # what is not finite is not smooth
        for k in (h, h / 2, h / 4):
            above, right = lines.at(part, k)
            below, left = lines.at(part, -k)
            slopes.append(_rows(dy, above - below) / (right - left))
            each.append((above - below) / (right - left)[:, None])
            jumps.append((above - y) / right[:, None] - (below - y) / left[:, None])
            top = np.maximum(top, np.maximum(np.abs(above), np.abs(below)))
            moved |= (above != y) | (below != y)
            to_right, to_left = _defined(y, above), _defined(y, below)
            defined &= to_right & to_left
            leaves &= ~to_right & ~to_left if k is h else True
        size = np.abs(jumps[0])
        grain = (8 * noise + 2 * lines.eps * top) / h[:, None]  # 8: a jump takes four values, of thousands of outputs
        departures = [
            np.abs(jump - share * jumps[0]) > PATTERN_SLACK * size + grain / share
            for jump, share in ((jumps[1], 0.5), (jumps[2], 0.25))
        ]
        rough = departures[0] | departures[1] | ~np.isfinite(jumps[2])
        too_far = _too_far(each, grain) if lines.coarse else np.zeros_like(rough)
        lasting = [np.abs(jump - jumps[0]) <= PATTERN_SLACK * size for jump in jumps[1:]]
        rounding = _rounding(lines, part, np.where(moved, dy, 0.0), top, RICHARDSON_ROUNDING) / h
        coarse, fine = slopes[0] - slopes[1], slopes[1] - slopes[2]
        regular = np.abs(fine - coarse / 4) <= PATTERN_SLACK * np.abs(coarse) + SEEMING / DEVIATIONS * rounding
        first, second = (4 * slopes[1] - slopes[0]) / 3, (4 * slopes[2] - slopes[1]) / 3
        best = np.where(regular & ~(rough | too_far).any(axis=1), (16 * second - first) / 15, np.nan)
    flat = rough.any(axis=1) & (~rough | (lasting[0] & lasting[1])).all(axis=1) & ~(too_far & ~rough).any(axis=1)
    return _Try(best, np.abs(first - second), rounding, rough, flat, np.asarray(moved.any(axis=1)), ~defined, leaves)


def _too_far(slopes: list[Array], grain: Array) -> Array:
    """Return which outputs do not have slopes as of a smooth function at h, h/2 and h/4, by more than rounding.

    As jumps, of which kinks are made, so slopes must keep to their pattern. Float32 is so coarse that steps far beyond
    f's own scale, as of a batch normalisation of equal numbers, pass for smooth where outputs cancel under a cotangent.
    """
    coarse, fine = slopes[0] - slopes[1], slopes[1] - slopes[2]
    return np.asarray(np.abs(fine - coarse / 4) > PATTERN_SLACK * np.abs(coarse) + 2 * grain)


def _one_sided(sign: int, lines: Lines, part: Integers, h: Array) -> _Try:
    """Return what differences from the point to one side show, at h, h/2 and h/4: no kink shows to one side.

    An end of a domain is where a function may be rough, as x^1.5 at 0, whose slopes go as sqrt(h): what extrapolation
    changes of the slope at h/2 bounds the error then, too.
    """
    block = lines.block[part]
    y, dy = lines.y[block], lines.dy[block]
    slopes: list[Array] = []
    top: Array = np.abs(y)
    moved: Array = np.zeros(y.shape, bool)
    defined: Array = np.ones(len(part), bool)
    with np.errstate(all="ignore"):
        for k in (h, h / 2, h / 4):
            there, distance = lines.at(part, sign * k)
            slopes.append(_rows(dy, there - y) / distance)
            top = np.maximum(top, np.abs(there))
            moved |= there != y
            defined &= _defined(y, there)
        rounding = _rounding(lines, part, np.where(moved, dy, 0.0), top, ONE_SIDED_ROUNDING) / h
        coarse, fine = slopes[0] - slopes[1], slopes[1] - slopes[2]
        regular = np.abs(fine - coarse / 2) <= PATTERN_SLACK * np.abs(coarse) + SEEMING / DEVIATIONS * rounding
        limit = (8 * slopes[2] - 6 * slopes[1] + slopes[0]) / 3
        best = np.where(regular & defined, limit, np.nan)
    rough = np.broadcast_to(~np.isfinite(best)[:, None], y.shape)
    none: Array = np.zeros(len(part), bool)
    truncation = np.abs(slopes[1] - limit)
    return _Try(best, truncation, rounding, rough, none, np.asarray(moved.any(axis=1)), ~defined, none)


def _rounding(lines: Lines, part: Integers, weights: Array, top: Array, factor: float) -> Array:
    """Return the bound on what rounding costs a sum of outputs with ``weights`` and a rule's own, ``factor`` / h.

    ``top`` are the largest values of the outputs along each line: their own last rounding, where they are larger than
    at the point, adds to the measured noise. An output that the line does not move has the same rounding throughout,
    which cancels; it has no weight.
    """
    last = lines.eps / np.sqrt(12) * _norms(weights * np.maximum(top, lines.size))
    # Below the normal numbers the last place is worth as much whatever the number, and no sum is more exact.
    least = RICHARDSON_WEIGHTS * lines.tiny * np.maximum(np.abs(weights).sum(axis=1), 1.0)
    return np.asarray(DEVIATIONS * factor * np.hypot(lines.sigma(part, weights), last) + least)


def _norms(rows: Array) -> Array:
    """Return the 2-norm of each row, of which no square underflows."""
    top = np.abs(rows).max(axis=1, initial=0.0)
    scale = np.where((top > 0) & np.isfinite(top), top, 1.0)
    return np.asarray(scale * np.sqrt(((rows / scale[:, None]) ** 2).sum(axis=1)))


@dataclass(frozen=True)
class Slopes:
    """One-sided derivatives of every output along lines, (lines, outputs) each, with a bound on their error.

    ``right`` is ``(f(x + h d) - f(x)) / h`` extrapolated to h = 0, ``left`` is ``(f(x) - f(x - h d)) / h``.
    """

    right: Array
    left: Array
    error: Array


def one_sided(lines: Lines, part: Integers) -> Slopes:
    """Return the slopes of every output to the two sides of the point, at steps of sqrt(eps) and half of that.

    They are extrapolated to h = 0. The bound is twice the difference of the two, for curvature, plus eight roundings
    over h: the three values come in with weights 4, 1 and 3.
    """
    y, noise = lines.y[lines.block[part]], lines.noise[lines.block[part]]
    sides, error = [], np.zeros_like(y)
    h = lines.steps.one_sided * lines.scale[part]
    for sign in (1.0, -1.0):
        (far, full), (near, half) = lines.at(part, sign * h), lines.at(part, sign * h / 2)
        whole, halved = (far - y) / full[:, None], (near - y) / half[:, None]
        sides.append(2 * halved - whole)
        grain = noise + lines.eps * np.maximum(np.abs(far), np.abs(y))
        error = np.maximum(error, 2 * np.abs(halved - whole) + 8 * grain / h[:, None])
    return Slopes(sides[0], sides[1], error)


def elementwise_noise(base: Array, shadows: list[Array]) -> Array:
    """Return the rounding noise of each element: the spread of the shadows, at least half a unit in its last place.

    That is never less than the smallest number above zero.
    """
    info = np.finfo(base.dtype)
    noise = np.maximum(float(info.eps) / 2 * np.abs(base, dtype=np.float64), float(info.smallest_subnormal))
    with np.errstate(invalid="ignore", over="ignore"):
        for shadow in shadows:
            noise = np.maximum(noise, disagreement(shadow, base))
    return noise


def _rows(a: Array, b: Array) -> Array:
    """Return the inner product of each row of ``a`` with that of ``b``; NaN where a product is not finite."""
    return np.asarray((a * b).sum(axis=1))


def _chunks(lines: Integers, outputs: int) -> Iterator[Integers]:
    size = max(1, CHUNK // max(1, outputs))
    return (lines[start : start + size] for start in range(0, len(lines), size))
