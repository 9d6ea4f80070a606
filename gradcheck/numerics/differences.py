"""Derivative estimates along straight lines, each with a bound on its error; at kinks there is no estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.contract import Array

# Steps in units of a line's scale. The first is long enough for rounding, smaller ones avoid curvature and kinks.
FIRST_STEP = 2.0**-6
SHORTER = 2.0**-3  # factor for a step at which f is not seen to be smooth
LAST_STEP = 2.0**-40  # of elements much smaller than the largest it may be shorter

# For one-sided slopes at a kink: at sqrt(eps), curvature and rounding cost about the same.
ONE_SIDED_STEP = 2.0**-26

# Richardson's R = (64 D(h/4) - 20 D(h/2) + D(h)) / 45 takes six values with weights w / h, sum of w^2 = 16.6. If they
# have independent errors of standard deviation s, R has one of 4.07 s / h. `DEVIATIONS` times that is allowed.
RICHARDSON_ROUNDING = 4.07
RICHARDSON_WEIGHTS = 6.6  # sum of |w|, for values that are each off by up to half a unit in the last place
DEVIATIONS = 8.0

# For a smooth function the jump between the slopes to the right and to the left shrinks as 1 : 1/2 : 1/4 with h, and
# so, as 1 : 1/4, do the differences of successive central differences; at a kink the jump stays. A departure by more
# than this share of the first, beyond rounding, and the step is given up.
PATTERN_SLACK = 0.1

FAR = 8.0  # in units of a line's scale: beyond the distance of any two elements

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
        return np.asarray(np.sqrt((projected**2).mean(axis=1)))


@dataclass(frozen=True)
class Estimate:
    """Derivatives of <dy, f> along lines, with error bounds; ``step`` is the h that each was taken at.

    The bound is inf where no step behaved as for a smooth function. ``kinked`` says where that is because the slopes to
    the two sides differ; ``rough`` (lines, outputs) which outputs were not smooth at the last step that was tried;
    ``moved`` whether any output moved at all.
    """

    value: Array
    error: Array
    step: Array
    kinked: Array
    rough: Array
    moved: Array


def derivatives(lines: Lines, first_step: Array | float = FIRST_STEP) -> Estimate:
    """Estimate the derivative of ``<dy, f>`` along every line.

    Central differences D at h, h/2 and h/4 are extrapolated twice by Richardson's rule. The bound is the sum of two.
    For truncation: the difference of the two first extrapolations ``(4 D(k/2) - D(k)) / 3`` at k = h and h/2. (The
    usual estimate, from the last two extrapolations, is 15 times smaller. Both are too small where the h^4 and h^6
    terms cancel, this one only where they do to within 5 %.) For rounding: ``DEVIATIONS * RICHARDSON_ROUNDING * sigma
    / h``. The next step balances the two, or is shorter where f is not seen to be smooth. Steps far longer than f's own
    scale can look smooth by chance, as for a sine at 1e8. So an estimate counts once another step has given the same
    to within the sum of both bounds.
    """
    count, outputs = len(lines.scale), lines.y.shape[1]
    value, error, used = np.zeros(count), np.full(count, np.inf), np.zeros(count)
    kinked, suspect, confirmed, moved = (np.zeros(count, bool) for _ in range(4))
    rough = np.zeros((count, outputs), bool)
    h = np.broadcast_to(first_step * lines.scale, count).copy()
    todo: Integers = np.arange(count)
    while todo.size:
        going = []
        for part in _chunks(todo, outputs):
            best, truncation, rounding, rough[part], flat, stirred = _richardson(lines, part, h[part])
            moved[part] |= stirred
            smooth = np.isfinite(best)
            bound = truncation + rounding
            first = smooth & ~np.isfinite(error[part])
            with np.errstate(invalid="ignore"):
                agrees = np.abs(best - value[part]) <= bound + error[part]
            contradicted = smooth & ~first & ~agrees
            confirmed[part] = (confirmed[part] | (smooth & ~first & agrees)) & ~contradicted
            better = smooth & ((bound < error[part]) | contradicted)
            chosen = part[better]
            value[chosen], error[chosen], used[chosen] = best[better], bound[better], h[chosen]
            # A jump that does not shrink at two steps in a row is a kink.
            kinked[part] = flat & suspect[part] & ~np.isfinite(error[part])
            suspect[part] = flat
            # The bound of truncation goes as h^4, that of rounding as 1/h: the step where they are equal, 1/4 to 2^-10.
            with np.errstate(divide="ignore", invalid="ignore"):
                balance = np.exp2(np.floor(np.log2(rounding / truncation) / 5))
            h[part] *= np.where(smooth & np.isfinite(balance), np.clip(balance, 2.0**-10, 0.25), SHORTER)
            settled = (truncation <= rounding) | ~better
            done = (confirmed[part] & settled) | kinked[part]
            going.append(part[~done & (h[part] >= lines.shortest[part])])
        todo = np.concatenate(going)
    return Estimate(value, np.where(confirmed, error, np.inf), used, kinked, rough, moved)


def hidden(lines: Lines, h: Array) -> Array:
    """Return what estimates at steps ``h`` may miss of outputs that move by less than half a unit in their last place.

    In 1 - 1e-20 the second term is lost. An output that does not move further away either does not depend on the line.
    """
    part: Integers = np.arange(len(h))
    y, dy = lines.y[lines.block], lines.dy[lines.block]
    with np.errstate(all="ignore"):
        near, far = (
            (lines.at(part, t)[0] != y) | (lines.at(part, -t)[0] != y) for t in (h, np.maximum(h, FAR * lines.scale))
        )
        silent = np.where(far & ~near, np.abs(dy * y), 0.0).sum(axis=1)
        return np.asarray(RICHARDSON_WEIGHTS * np.finfo(y.dtype).eps / 2 * silent / h)


def _richardson(lines: Lines, part: Integers, h: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Return estimates (NaN where f is not seen to be smooth), truncation, rounding, rough outputs, kinks and moves."""
    block = lines.block[part]
    y, dy, noise = lines.y[block], lines.dy[block], lines.noise[block]
    slopes: list[Array] = []
    jumps: list[Array] = []
    top: Array = np.abs(y)
    moved: Array = np.zeros(y.shape, bool)
    with np.errstate(all="ignore"):  # what is not finite is not smooth
        for k in (h, h / 2, h / 4):
            above, right = lines.at(part, k)
            below, left = lines.at(part, -k)
            slopes.append(_rows(dy, above - below) / (right - left))
            jumps.append((above - y) / right[:, None] - (below - y) / left[:, None])
            top = np.maximum(top, np.maximum(np.abs(above), np.abs(below)))
            moved |= (above != y) | (below != y)
        eps = np.finfo(top.dtype).eps
        size = np.abs(jumps[0])
        grain = (8 * noise + 2 * eps * top) / h[:, None]  # 8: a jump takes four values, of thousands of outputs
        departures = [
            np.abs(jump - share * jumps[0]) > PATTERN_SLACK * size + grain / share
            for jump, share in ((jumps[1], 0.5), (jumps[2], 0.25))
        ]
        rough = departures[0] | departures[1] | ~np.isfinite(jumps[2])
        lasting = [np.abs(jump - jumps[0]) <= PATTERN_SLACK * size for jump in jumps[1:]]
        # The outputs' own last rounding, where they are larger than at the point, adds to the measured noise.
        # An output that the line does not move has the same rounding throughout, which cancels.
        weights = np.where(moved, dy, 0.0)
        last = eps / np.sqrt(12) * np.sqrt(((weights * top) ** 2).sum(axis=1))
        rounding = DEVIATIONS * RICHARDSON_ROUNDING * np.hypot(lines.sigma(part, weights), last) / h
        coarse, fine = slopes[0] - slopes[1], slopes[1] - slopes[2]
        regular = np.abs(fine - coarse / 4) <= PATTERN_SLACK * np.abs(coarse) + rounding
        first, second = (4 * slopes[1] - slopes[0]) / 3, (4 * slopes[2] - slopes[1]) / 3
        best = np.where(regular & ~rough.any(axis=1), (16 * second - first) / 15, np.nan)
    flat = rough.any(axis=1) & (~rough | (lasting[0] & lasting[1])).all(axis=1)
    return best, np.abs(first - second), rounding, rough, flat, np.asarray(moved.any(axis=1))


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
    h = ONE_SIDED_STEP * lines.scale[part]
    for sign in (1.0, -1.0):
        (far, full), (near, half) = lines.at(part, sign * h), lines.at(part, sign * h / 2)
        whole, halved = (far - y) / full[:, None], (near - y) / half[:, None]
        sides.append(2 * halved - whole)
        grain = noise + np.finfo(y.dtype).eps * np.maximum(np.abs(far), np.abs(y))
        error = np.maximum(error, 2 * np.abs(halved - whole) + 8 * grain / h[:, None])
    return Slopes(sides[0], sides[1], error)


def elementwise_noise(base: Array, shadows: list[Array]) -> Array:
    """Return the rounding noise of each element: the spread of the shadows, at least ``eps / 2`` times its size."""
    noise = np.asarray(np.finfo(base.dtype).eps / 2 * np.abs(base))
    for shadow in shadows:
        noise = np.maximum(noise, np.abs(shadow - base))
    return noise


def _rows(a: Array, b: Array) -> Array:
    """Return the inner product of each row of ``a`` with that of ``b``; NaN where a product is not finite."""
    return np.asarray((a * b).sum(axis=1))


def _chunks(lines: Integers, outputs: int) -> Iterator[Integers]:
    size = max(1, CHUNK // max(1, outputs))
    return (lines[start : start + size] for start in range(0, len(lines), size))
