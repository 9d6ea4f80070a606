"""The precision that a function computes in, whatever it is given: seen by how coarsely its results round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array

Results = Mapping[str, Array]
Compute = Callable[[Mapping[str, Array]], Results | None]
Precision = type[np.floating[Any]]

# By how much arrays are moved, of themselves: what was given may have few digits, which float32 has, too.
OFF = 2.0**-9

POINTS = 9  # at equal distances: five fourth differences
FOURTH = np.sqrt(70.0)  # a fourth difference of values with standard deviation s has this times s
# Distances, of an element's own size: the last is 32 eps of float32. What a kink adds to a fourth
# difference is proportional to the distance, and what a steep function does to its fourth power; what rounding does is
# the same at each and the next, up to the factor by which five fourth differences may differ.
DISTANCES = (2.0**-12, 2.0**-15, 2.0**-18)
SAME_WITHIN = 4.0
# A result has the same slope at both distances, to within this share, and rounding is less than that share of how far
# the result moves. Else, as of a sine at 1e8, the points are too far apart to tell rounding from the function.
SLOPE = 0.25

# Coarse is what rounds by more than this share of what the same does given float32. In float64 that is 2^-29 of it.
COARSE = 2.0**-6
# Of the elements of a result, those that must be coarse: a few may have a kink close by, or look alike by chance.
ELEMENTS = 0.25
# Of an element's size: what rounds by less has nothing of float32, whose last place is 2^-24 of it.
FINE = 2.0**-31


class _Seen(NamedTuple):
    """What points on a line show of every element of a result: its value, its rounding, its slope along the line.

    ``reach`` is how far the line goes.
    """

    value: Array
    rounding: Array
    slope: Array
    reach: float


def precision_seen(compute: Compute, variables: Mapping[str, Array], rng: np.random.Generator) -> Precision:
    """Return float32 if what ``compute`` returns is no more exact given float64 than given float32, else float64.

    ``compute`` returns results by name, or None where it is not defined. Results that are float32 where all that was
    given is float64 say so by themselves; of others, fourth differences show how coarsely something inside rounds. What
    takes whole steps, such as a sign, does not round at all.
    """
    wide = _in(np.float64, variables)
    results = compute(wide)
    if results is None:
        return np.float64 if compute(_in(np.float32, variables)) is None else np.float32  # it takes nothing else
    if any(array.dtype == np.float32 for array in results.values()):
        return np.float32
    moved = {name: array * (1 + OFF * rng.uniform(-1, 1, array.shape)) for name, array in wide.items()}
    wide = wide if compute(moved) is None else moved
    directions = _directions(wide, rng)
    seen = [_on_a_line(compute, wide, directions, DISTANCES[-1])]
    if not any(_enough(one.rounding > FINE * np.abs(one.value)) for one in seen[0].values()):
        return np.float64
    if not _repeats(compute, wide):
        return np.float64  # it is not rounding that differs from call to call
    seen = [*(_on_a_line(compute, wide, directions, distance) for distance in DISTANCES[:-1]), *seen]
    single = _on_a_line(compute, _in(np.float32, wide), directions, DISTANCES[0])
    for far, near in pairwise(seen):
        names = far.keys() & near.keys() & single.keys()
        if any(_is_coarse(far[name], near[name], single[name].rounding) for name in names):
            return np.float32
    return np.float64


def _is_coarse(far: _Seen, near: _Seen, single: Array) -> bool:
    """Return whether a result rounds as it does given float32, as much at either distance."""
    slope = np.abs(far.slope)
    smooth = (np.abs(far.slope - near.slope) <= SLOPE * slope) & (far.rounding <= SLOPE * slope * far.reach)
    coarse = (near.rounding >= COARSE * single) & (far.rounding <= SAME_WITHIN * near.rounding)
    return _enough((smooth & coarse)[single > 0])


def _enough(elements: Array) -> bool:
    """Return whether what is true of these elements is so of enough."""
    return bool(elements.size) and float(np.mean(elements)) >= ELEMENTS


def _in(precision: Precision, variables: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(precision) for name, array in variables.items()}


def _repeats(compute: Compute, variables: Mapping[str, Array]) -> bool:
    """Return whether two calls give the same."""
    one, other = compute(variables), compute(variables)
    if one is None or other is None or one.keys() != other.keys():
        return False
    return all(np.array_equal(array, other[name], equal_nan=True) for name, array in one.items())


def _directions(variables: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Return a direction along which every element moves by some share of its size, and zeros of that of the others."""
    sizes = {name: np.where(x == 0, np.abs(x).max(initial=0.0), np.abs(x)) for name, x in variables.items()}
    return {name: size * rng.uniform(0.5, 1.0, size.shape) for name, size in sizes.items()}


def _on_a_line(
    compute: Compute, variables: Mapping[str, Array], directions: Mapping[str, Array], distance: float
) -> dict[str, _Seen]:
    """Return what is seen of every result at points on a line; nothing if one of them is outside the domain."""
    found = []
    for k in range(POINTS):
        moved = {name: x + (k * distance * directions[name]).astype(x.dtype) for name, x in variables.items()}
        results = compute(moved)
        if results is None:
            return {}
        found.append(results)
    seen = {}
    for name in found[0]:
        values = np.array([results[name] for results in found], np.float64)
        # The input given may be an end, such as a probability of 1 that is clipped: what jumps there is in one of five.
        fourth = np.sort(np.abs(np.diff(values, 4, axis=0)), axis=0)[:-1]
        rounding = np.sqrt(np.mean(fourth**2, axis=0)) / FOURTH
        reach = (POINTS - 1) * distance
        seen[name] = _Seen(values[0], rounding, (values[-1] - values[0]) / reach, reach)
    return seen
