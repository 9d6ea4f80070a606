"""Whether a pullback gives a generalised gradient at a kink, where there is no derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.agreement import Worst, largest, ratio_of
from gradcheck.numerics.differences import Integers, Slopes, one_sided
from gradcheck.numerics.directions import Point, along, coordinates

# The most elements and outputs at kinks that are judged one by one; of more, this many are drawn.
ELEMENTS, OUTPUTS = 256, 32

# Random directions through all elements that share a kink, beside the one in which they move alike.
POSITIVE, GAUSSIAN = 2, 6


class Kinked(NamedTuple):
    """The worst violation among elements at kinks, and which elements were judged.

    ``in_full`` says that all violations are of one kind: each of several tied elements has the whole gradient.
    """

    worst: Worst | None
    judged: Integers
    in_full: bool


def generalised_gradient(
    point: Point,
    name: str,
    gradient: Array,
    noise: float,
    kinked: Integers,
    jacobian_row: Callable[[int], Array],
    rng: np.random.Generator,
) -> Kinked:
    """Judge the elements ``kinked`` of a pullback's ``gradient``.

    Each must lie between the sums of the one-sided slopes of all outputs, weighted by the cotangent. That is not enough
    where kinks are shared (a full gradient for every tied maximum passes), nor where a cotangent mixes outputs
    (overlapping windows). So single outputs are tried too; ``jacobian_row`` returns the gradient g of one. All elements
    of a kink move along directions d, alike and at random. Where f is convex, ``-f'(x; -d) <= <g, d> <= f'(x; d)`` must
    hold, and the reverse where it is concave. Clarke (1983), section 2.1.

    Where f is convex along some of these directions and concave along others, several kinks coincide, as where all
    units of a network are at zero. There the chain rule need not give a generalised gradient, though every layer does,
    and the elements are not judged.
    """
    if len(kinked) > ELEMENTS:
        kinked = np.sort(rng.choice(kinked, ELEMENTS, replace=False))
    slopes = one_sided(coordinates(point, name), kinked)
    worsts: list[Worst] = []
    rows, columns = np.nonzero(np.abs(slopes.right - slopes.left) > slopes.error)
    outputs = np.unique(columns)
    if len(outputs) > OUTPUTS:
        outputs = np.sort(rng.choice(outputs, OUTPUTS, replace=False))
    unclear: set[int] = set()
    in_full: list[bool] = []
    for output in outputs:
        members = rows[columns == output]
        jumps = (slopes.right - slopes.left)[members, output]
        row = jacobian_row(int(output))
        for convex in (True, False):
            tied = members[(jumps > 0) == convex]
            group = kinked[tied]
            found = _directions(point, name, int(output), row, noise, group, convex, rng) if len(group) else []
            if found is None:
                unclear.update(group.tolist())
                continue
            worsts += found
            if any(worst.ratio > 1 for worst in found):
                alone = Slopes(slopes.right[tied], slopes.left[tied], slopes.error[tied])
                in_full.append(_in_full(point, name, int(output), row, noise, group, alone))
    clear = ~np.isin(kinked, list(unclear))
    if _hidden(point, name, kinked, slopes, rng):
        clear[:] = False
    kept = Slopes(slopes.right[clear], slopes.left[clear], slopes.error[clear])
    sums = list(_sums(point, name, gradient, noise, kinked[clear], kept))
    others = any(worst.ratio > 1 for worst in sums)
    return Kinked(largest(*worsts, *sums), kinked[clear], bool(in_full) and all(in_full) and not others)


def _hidden(point: Point, name: str, kinked: Integers, slopes: Slopes, rng: np.random.Generator) -> bool:
    """Return whether an output that is smooth along each element alone has a kink where several move together.

    An example is the middle one of three equal numbers after sorting: slopes along the axes do not bound its gradient.
    """
    smooth = (np.abs(slopes.right - slopes.left) <= slopes.error).all(axis=0)
    shares = rng.standard_normal((GAUSSIAN, len(kinked)))
    directions = np.zeros((GAUSSIAN, point.variables[name].size))
    directions[:, kinked] = shares
    lines = along(point, name, directions.reshape(GAUSSIAN, *point.variables[name].shape))
    found = one_sided(lines, np.arange(GAUSSIAN))
    expected = shares @ ((slopes.right + slopes.left) / 2)
    error = 2 * found.error + np.abs(shares) @ slopes.error
    departs = np.maximum(np.abs(found.right - expected), np.abs(found.left - expected)) > error
    return bool((departs & smooth).any())


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
) -> list[Worst] | None:
    """Judge one output's gradient along directions through the elements that share its kink.

    None if the output is neither convex nor concave there, so that its slopes bound nothing.
    """
    shares = [np.ones(len(group))]
    if len(group) > 1:
        shares += [rng.uniform(0.5, 1.5, len(group)) for _ in range(POSITIVE)]
        shares += [rng.standard_normal(len(group)) for _ in range(GAUSSIAN)]
    directions = np.zeros((len(shares), row.size))
    directions[:, group] = shares
    found = one_sided(along(point, name, directions.reshape(len(shares), *row.shape)), np.arange(len(shares)))
    right, left, error = found.right[:, output], found.left[:, output], found.error[:, output]
    if np.any((right - left if convex else left - right) < -error):
        return None
    values = row.reshape(-1)
    index = np.unravel_index(int(group[np.argmax(np.abs(values[group]))]), row.shape)
    return [
        _outside(
            name,
            index,
            float(direction @ values),
            (min(left[i], right[i]), max(left[i], right[i])),
            error[i] + noise * np.abs(direction).sum(),
        )
        for i, direction in enumerate(directions)
    ]


def _in_full(point: Point, name: str, output: int, row: Array, noise: float, group: Integers, alone: Slopes) -> bool:
    """Return whether elements that together move an output as far as each does alone all have the whole gradient."""
    if len(group) < 2:
        return False
    direction = np.zeros((1, row.size))
    direction[0, group] = 1.0
    together = one_sided(along(point, name, direction.reshape(1, *row.shape)), np.arange(1))
    slope = _steeper(together)[0, output]
    slack = together.error[0, output] + alone.error[:, output] + noise
    alike = np.abs(_steeper(alone)[:, output] - slope) <= slack
    whole = np.abs(row.reshape(-1)[group] - slope) <= slack
    return bool(np.all(alike & whole))


def _steeper(slopes: Slopes) -> Array:
    """Return, of the slopes to the two sides, the one farther from zero."""
    return np.where(np.abs(slopes.right) >= np.abs(slopes.left), slopes.right, slopes.left)


def _outside(name: str, index: tuple[np.intp, ...], value: float, ends: tuple[float, float], slack: float) -> Worst:
    """Return by how many allowances a value lies outside a range."""
    nearest = min(max(value, ends[0]), ends[1])
    where = tuple(int(i) for i in index)
    if not np.isfinite(slack + nearest):
        return Worst(name, where, value, nearest, np.inf, 0.0)
    return Worst(name, where, value, float(nearest), float(slack), ratio_of(abs(value - nearest), float(slack)))
