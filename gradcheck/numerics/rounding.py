"""How far rounding alone moves a computation: shadows.

A shadow is the same computation with its arrays nudged by one unit in the last place at every tap. The spread of the
shadows around the computation estimates what rounding can do to it, whatever the order of operations. It is measured
for each comparison and never chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array
from gradcheck.numerics.agreement import disagreement

# Allowance over noise. In all networks of docs/measurements.md but one, 99.9 % of right comparisons are below 5.
FACTOR = 8.0
SHADOWS = 3

DIFFERENCED = 9  # evaluations at equal distances: five fourth differences
SQRT_EPS_SHARE = 1 / 16  # of sqrt(eps), for the distance between them
NEARER = 2  # times that the distance is divided by 16 where something smooth shows

# What Adam, the longest of the rules, does to a gradient; each operation rounds to eps / 2, on both sides.
OPERATIONS_OF_AN_UPDATE = 10

FLOAT32_BITS = 32

# Of `nudged`, which takes most of a check's time: converting a number to NumPy's takes as long as using it.
HALF_OF_64, ALL_BUT_24 = np.uint64(32), np.uint64(40)
TO_UNIT, UNIT_OF_63 = np.float32(2.0**-24), 2.0**-62
EPSILONS = {kind: float(np.finfo(kind).eps) for kind in (np.float16, np.float32, np.float64, np.longdouble)}


def nudged(array: Array, rng: np.random.Generator, precision: DTypeLike | None = None) -> Array:
    """Return ``array * (1 + u * eps)``, u uniform in [-2, 2) for each value: eps on average, one to two ulps.

    Equal elements are nudged alike, so that ties stay ties: equal numbers, added in equal order, give equal sums, and
    rounding does not separate the maxima of a flat window. Nudges of one size and random sign would cancel too often:
    those of a sum near 1 and of a softmax formed from it do so in all of three shadows in one step of eight. Zeros stay
    zero, so that those of a rectifier or of an image do not become tiny numbers of random sign. Arrays that are not
    floating-point are returned as they are. ``eps`` is that of ``precision``, by default the array's own.
    """
    if array.dtype.kind != "f":
        return array
    eps = EPSILONS[array.dtype.type] if precision is None else float(np.finfo(precision).eps)
    units = _mixed(array, rng).view(np.int64) * (eps * UNIT_OF_63)
    if array.dtype.type is not np.float64:
        units = units.astype(array.dtype)
    return np.asarray(array + array * units.reshape(array.shape))


def hashed(array: Array, rng: np.random.Generator) -> Array:
    """Return a float32 in [0, 1) for each element, a hash of its value: its bits, multiplied by random odd numbers."""
    folded = (_mixed(array, rng) >> ALL_BUT_24).astype(np.float32)
    folded *= TO_UNIT
    return np.asarray(folded.reshape(array.shape))


def _mixed(array: Array, rng: np.random.Generator) -> Array:
    """Return 64 bits for each element (elements,), the highest of which depend on all bits of its value."""
    # With an axis, since numbers warn of overflow.
    bits = np.ascontiguousarray(array, np.float64).ravel().view(np.uint64)
    draw = rng.bit_generator.random_raw
    mixed = bits * np.uint64(draw() | 1)
    mixed ^= mixed >> HALF_OF_64
    mixed *= np.uint64(draw() | 1)
    return mixed


class Recorder:
    """A tap that keeps the arrays it is shown, by name; given a generator, it nudges them first, as `nudged` does.

    For a name in ``forced`` it returns the array there, un-nudged, and keeps the one it was shown.
    """

    def __init__(
        self,
        rng: np.random.Generator | None = None,
        precision: DTypeLike | None = None,
        forced: Mapping[str, Array] | None = None,
    ) -> None:
        self.taps: dict[str, Array] = {}
        self.rng, self.precision, self.forced = rng, precision, forced or {}

    def __call__(self, name: str, array: Array) -> Array:
        if name in self.forced:
            self.taps[name] = array
            return self.forced[name].copy()
        if self.rng is not None:
            array = nudged(array, self.rng, self.precision)
        self.taps[name] = array
        return array


def roughness(
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array] | None],
    variables: Mapping[str, Array],
    rng: np.random.Generator,
) -> list[dict[str, Array]]:
    """Return what ``compute`` returns, moved by samples of its rounding, as fourth differences show it.

    At equal distances, too short for anything smooth to show in a fourth difference, what shows there is rounding: with
    standard deviation s in each of the values, sqrt(70) s. Shadows miss what arises inside: (1e6 + sin x) - 1e6 steps
    by 1e-10, and hardly ever does so when x is nudged; nor does a nudge of one term change how a long sum rounds.
    More and Wild (2011), "Estimating computational noise". The distance is sqrt(eps) / 16 of the largest element. For
    a tensor that still shows something smooth, as beside the end of a domain, it is a 16th of that, up to `NEARER`
    times. Where ``compute`` returns None or numbers that are not finite it is not defined, and no sample comes from
    there.
    """
    base = compute(variables)
    if base is None:
        return []
    samples: list[dict[str, Array]] = []
    waiting = set(base)
    for times in range(NEARER + 1):
        fourths = _fourth_differences(compute, variables, base, rng, SQRT_EPS_SHARE * 16.0**-times)
        smooth = {name for name in waiting if times < NEARER and _is_smooth([one[name] for one in fourths])}
        shown = waiting - smooth
        with np.errstate(over="ignore", invalid="ignore"):
            samples += [
                {k: (y + one[k]).astype(y.dtype) if k in shown else y for k, y in base.items()} for one in fourths
            ]
        if not (waiting := smooth):
            break
    return samples


def _fourth_differences(
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array] | None],
    variables: Mapping[str, Array],
    base: Mapping[str, Array],
    rng: np.random.Generator,
    share: float,
) -> list[dict[str, Array]]:
    """Return fourth differences over sqrt(70), along one direction, at a ``share`` of sqrt(eps) of the largest element.

    Each is of five values in a row that are all defined.
    """
    directions = {name: rng.uniform(0.5, 1.0, x.shape) for name, x in variables.items()}
    steps = []
    for k in range(1, DIFFERENCED + 1):
        moved = {}
        for name, x in variables.items():
            step = x.dtype.type(k * share * np.sqrt(np.finfo(x.dtype).eps) * np.abs(x).max(initial=0.0))
            moved[name] = x + step * directions[name].astype(x.dtype)
        steps.append(compute(moved))
    fourths = []
    for start in range(DIFFERENCED - 4):
        five = [one for one in steps[start : start + 5] if one is not None and _as_finite(one, base)]
        if len(five) == 5:
            a, b, c, d, e = ({k: np.asarray(array, np.float64) for k, array in one.items()} for one in five)
            with np.errstate(over="ignore", invalid="ignore"):
                fourths.append({k: (a[k] - 4 * b[k] + 6 * c[k] - 4 * d[k] + e[k]) / np.sqrt(70) for k in base})
    return fourths


def _is_smooth(fourths: list[Array]) -> bool:
    """Return whether fourth differences, where they are largest, are of one sign and grow or shrink throughout.

    Of five, rounding is so by chance once in a thousand times; what is smooth is so beside the end of a domain.
    """
    if len(fourths) < DIFFERENCED - 4:
        return False
    sizes = np.array([np.abs(one).reshape(-1) for one in fourths])
    if not sizes.size or not np.isfinite(sizes).all() or not sizes.any():
        return False
    there = np.array([one.reshape(-1)[int(np.argmax(sizes.max(axis=0)))] for one in fourths])
    growth = np.diff(np.abs(there))
    return bool(np.abs(np.sign(there).sum()) == len(there) and (np.all(growth > 0) or np.all(growth < 0)))


def _as_finite(moved: Mapping[str, Array], base: Mapping[str, Array]) -> bool:
    """Return whether everything is finite that is so in ``base``."""
    return all((np.isfinite(moved[name]) | ~np.isfinite(array)).all() for name, array in base.items())


def largest_difference(a: Array, b: Array) -> float:
    """Return the largest `disagreement` of two arrays of one shape."""
    if a.size == 0:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.subtract(a, b)
    largest = largest_magnitude(difference)
    return largest if math.isfinite(largest) else float(disagreement(a, b).max())


def spread(base: Mapping[str, Array], shadows: Iterable[Mapping[str, Array]]) -> dict[str, float]:
    """Return, per tensor, the largest difference of any shadow from ``base``."""
    widest = dict.fromkeys(base, 0.0)
    for shadow in shadows:
        for name, array in base.items():
            widest[name] = max(widest[name], largest_difference(shadow[name], array))
    return widest


def noise_of(reference: Array, spread_of_shadows: float, factor: float) -> float:
    """Return the rounding noise of a tensor: ``max(spread_of_shadows, floor / factor)``.

    The allowance is ``factor * noise``, so it is never below the floor: eps times the largest element, since the last
    rounding alone costs each side up to half of that.
    """
    floor = EPSILONS[reference.dtype.type] * largest_magnitude(reference)
    return max(spread_of_shadows, floor / factor if math.isfinite(floor) else 0.0)


@cache
def underflow(dtype: np.dtype[np.floating]) -> float:
    """Return how large an error may become that a number too small for all of its digits has: ``tiny / eps``.

    Numbers below ``tiny``, the smallest normal one, keep fewer digits, and many processors and libraries take them for
    0. Later factors of up to 1 / eps, as of a division by a deviation, make the error larger, and no nudge shows it: it
    is less than the smallest number. In float16, whose ordinary numbers lie there, it is the smallest number itself.
    """
    limits = np.finfo(dtype)
    return float(limits.smallest_subnormal if limits.bits < FLOAT32_BITS else limits.tiny / limits.eps)


def update_rounding(before: Array, after: Array, top: float | None = None, move: float | None = None) -> float:
    """Return how far apart rounding can set two updates of a tensor: ``eps * (top + OPERATIONS_OF_AN_UPDATE * move)``.

    ``top`` is the largest element before or after; each side's last sum rounds by up to half an eps of it. ``move`` is
    the largest change of an element; each operation of the rule rounds by as much of that, on each side. No shadow
    shows this: Adam's first update is the learning rate, however a gradient is nudged. The largest element after, and
    the largest change, are given where they are known.
    """
    top = largest_magnitude(after) if top is None else top
    move = largest_difference(after, before) if move is None else move
    return EPSILONS[after.dtype.type] * (max(largest_magnitude(before), top) + OPERATIONS_OF_AN_UPDATE * move)


def largest_magnitude(array: Array) -> float:
    """Return ``max |a|``, NaN if any is, and 0 for no elements."""
    if not array.size:
        return 0.0
    # Many times as fast as max and min where arrays are small.
    return float(max(array.item(array.argmax()), -array.item(array.argmin())))


def two_norm(array: Array) -> float:
    """Return the 2-norm, scaled where a square would overflow or underflow."""
    flat = array.ravel()
    square = float(flat @ flat)
    least, most = _squares(array.dtype)
    if least < square < most:
        return math.sqrt(square)
    top = largest_magnitude(array)
    return top * float(np.linalg.norm(array / array.dtype.type(top))) if 0 < top < math.inf else top


@cache
def _squares(dtype: np.dtype[np.floating]) -> tuple[float, float]:
    """Return between which numbers a sum of squares has all of its digits."""
    limits = np.finfo(dtype)
    return float(limits.tiny / limits.eps), float(limits.max)
