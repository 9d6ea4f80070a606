"""At a kink there is no derivative, but a pullback must still give a generalised gradient, and that can be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradcheck.agreement import Worst, largest, ratio_of
from gradcheck.contract import Array
from gradcheck.differences import Integers, Slopes, one_sided
from gradcheck.directions import Point, along, coordinates

# Elements and outputs at kinks that are looked at one by one; of more, as many are drawn.
ELEMENTS, OUTPUTS = 256, 32

# Random directions through all elements that share a kink, of each sign pattern, beside the one of equal shares.
DIRECTIONS = 2


def generalised_gradient(
    point: Point,
    name: str,
    gradient: Array,
    noise: float,
    kinked: Integers,
    jacobian_row: Callable[[int], Array],
    rng: np.random.Generator,
) -> tuple[Worst | None, Integers]:
    """Judge the elements ``kinked`` of a pullback's ``gradient``; return the worst violation and those judged.

    Each must lie between the sums of the one-sided slopes of all outputs, each weighted by its cotangent. That is not
    enough where kinks are shared (every tied maximum given the full gradient passes), nor where a cotangent mixes
    outputs (overlapping windows). So for single outputs, whose gradient ``jacobian_row`` returns, directions d are
    tried in which all elements of a kink move, alike and at random: where f is convex along d,
    ``-f'(x; -d) <= <g, d> <= f'(x; d)``, and the reverse where it is concave. Clarke (1983), section 2.1.
    """
    if len(kinked) > ELEMENTS:
        kinked = np.sort(rng.choice(kinked, ELEMENTS, replace=False))
    slopes = one_sided(coordinates(point, name), kinked)
    worsts = list(_sums(point, name, gradient, noise, kinked, slopes))
    rows, columns = np.nonzero(np.abs(slopes.right - slopes.left) > slopes.error)
    outputs = np.unique(columns)
    if len(outputs) > OUTPUTS:
        outputs = np.sort(rng.choice(outputs, OUTPUTS, replace=False))
    for output in outputs:
        members = rows[columns == output]
        jumps = (slopes.right - slopes.left)[members, output]
        row = jacobian_row(int(output))
        for convex in (True, False):
            group = kinked[members[(jumps > 0) == convex]]
            if len(group):
                worsts += _directions(point, name, int(output), row, noise, group, convex, rng)
    return largest(*worsts), kinked


def _sums(point: Point, name: str, gradient: Array, noise: float, kinked: Integers, slopes: Slopes) -> Iterator[Worst]:
    """Judge each element against the range that the weighted one-sided slopes of all outputs span."""
    dy = point.dy.reshape(-1)
    ends = dy * slopes.right, dy * slopes.left
    low, high = np.minimum(*ends).sum(axis=1), np.maximum(*ends).sum(axis=1)
    slack = (np.abs(dy) * slopes.error).sum(axis=1) + noise
    for i, element in enumerate(kinked):
        index = np.unravel_index(int(element), gradient.shape)
        yield _outside(name, index, float(gradient[index]), (low[i], high[i]), slack[i])


def _directions(
    point: Point,
    name: str,
    output: int,
    row: Array,
    noise: float,
    group: Integers,
    convex: bool,
    rng: np.random.Generator,
) -> Iterator[Worst]:
    """Judge one output's gradient along directions through the elements that share its kink."""
    shares = [np.ones(len(group))]
    if len(group) > 1:
        shares += [rng.uniform(0.5, 1.5, len(group)) for _ in range(DIRECTIONS)]
        shares += [rng.standard_normal(len(group)) for _ in range(DIRECTIONS)]
    directions = np.zeros((len(shares), row.size))
    directions[:, group] = shares
    found = one_sided(along(point, name, directions.reshape(len(shares), *row.shape)), np.arange(len(shares)))
    right, left, error = found.right[:, output], found.left[:, output], found.error[:, output]
    values = row.reshape(-1)
    index = np.unravel_index(int(group[np.argmax(np.abs(values[group]))]), row.shape)
    for i, direction in enumerate(directions):
        bend = right[i] - left[i] if convex else left[i] - right[i]
        if bend >= -error[i]:  # else it is neither convex nor concave along this one, and its slopes bound nothing
            ends = min(left[i], right[i]), max(left[i], right[i])
            yield _outside(name, index, float(direction @ values), ends, error[i] + noise * np.abs(direction).sum())


def _outside(name: str, index: tuple[np.intp, ...], value: float, ends: tuple[float, float], slack: float) -> Worst:
    """Return by how many allowances a value lies outside a range."""
    nearest = min(max(value, ends[0]), ends[1])
    where = tuple(int(i) for i in index)
    if not np.isfinite(slack + nearest):
        return Worst(name, where, value, nearest, np.inf, 0.0)
    return Worst(name, where, value, float(nearest), float(slack), ratio_of(abs(value - nearest), float(slack)))
