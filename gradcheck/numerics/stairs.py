"""Functions that move by steps: how high these are, where rounding inside makes stairs of what is smooth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.differences import FAR, Integers, Lines

# Of the first step of differences, to either side: there must be a step in each part, so that a jump alone is none.
PARTS = ((-1.0, -0.5), (-0.5, 0.0), (0.0, 0.5), (0.5, 1.0))
# A smooth function moves by half as much in half of an interval. What still moves by this share of what it moved in one
# that is 2^LASTING times as long, jumps.
LASTING, SHARE = 4, 0.25
HALVINGS = 40
OF_DOMAIN = 8  # halvings, after which the end of a domain is known
HIGHER = 4.0  # a step is told from what an output is known to round by if it is this many times as high
ROUNDED = 16.0  # units in the last place of the input, or of 1: what is flat but for one step rounds if that is lower


class _Jump(NamedTuple):
    """By how much outputs move in an interval, and by how much of that in one place, if they jump there.

    They jump by more than they are known to round by.
    """

    moved: float = 0.0
    height: float = 0.0


def rise(lines: Lines, largest: float) -> float:
    """Return the height of the steps by which outputs move along lines, and 0 where they move smoothly.

    1 + erf(x) far below zero moves by units in the last place of 1: between two steps it is flat, as smooth as can be,
    and of another slope than the function that it rounds. Nudges do not show it where an operation drops them, and
    short distances do not either. So intervals are halved to where outputs move most. A function has steps if there is
    one in each of four parts beside the point. One that moves by less between them has them if they are as low as
    rounding makes them of numbers as large as 1 or the ``largest`` of the input.
    """
    return max((_of_line(lines, line, largest) for line in range(len(lines.scale))), default=0.0)


def _of_line(lines: Lines, line: int, largest: float) -> float:
    length, lowest = lines.steps.first * float(lines.scale[line]), ROUNDED * lines.eps * max(1.0, largest)
    jumps = []
    for start, end in PARTS:
        jumps.append(jump := _jump(lines, line, start * length, end * length))
        if jump.moved > lowest and not jump.height:  # smooth here, by more than what rounding makes of a flat function
            return 0.0
    height = max(jump.height for jump in jumps)
    if all(jump.height for jump in jumps):
        return height
    if any(jump.moved > height for jump in jumps if not jump.height):
        return 0.0
    if not height:  # flat
        ends = (sign * distance * float(lines.scale[line]) for distance in FAR for sign in (1.0, -1.0))
        far = (_within_domain(lines, line, end) for end in ends)
        height = next((jump.height for end in far if (jump := _jump(lines, line, 0.0, end, first=True)).moved), 0.0)
    return height if height <= lowest else 0.0


def _within_domain(lines: Lines, line: int, end: float) -> float:
    """Return a distance, or one as near to it as the function is defined: what is flat may move beside an end alone."""
    place: Integers = np.array([line])

    def defined(t: float) -> bool:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(lines.at(place, np.array([t]))[0]).all())

    inside, outside = 0.0, end
    if not defined(end):
        for _ in range(OF_DOMAIN):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if defined(middle) else (inside, middle)
        return inside
    return end


def _jump(lines: Lines, line: int, start: float, end: float, *, first: bool = False) -> _Jump:
    """Return what halving an interval comes to: where outputs move most, or where they move ``first``."""
    place: Integers = np.array([line])
    dy, noise = lines.dy[lines.block[line]], lines.noise[lines.block[line]]

    def at(t: float) -> Array:
        with np.errstate(all="ignore"):
            value: Array = lines.at(place, np.array([t]))[0][0]
        return value

    def between(a: Array, b: Array) -> float:
        return float(np.abs(np.sum(dy * (a - b))))

    low, high = at(start), at(end)
    moved = float(np.abs(high - low).max())
    sizes = [between(low, high)]
    while len(sizes) <= HALVINGS and abs(end - start) > lines.shortest[line] and sizes[-1] > 0:
        middle = (start + end) / 2
        value = at(middle)
        left, right = between(low, value), between(value, high)
        if left > 0 if first else left >= right:
            end, high = middle, value
        else:
            start, low = middle, value
        sizes.append(between(low, high))
    if not sizes[-1] > 0:  # nor where an output is not finite
        return _Jump()
    height = np.abs(high - low)
    lasts = len(sizes) > LASTING and sizes[-1] > SHARE * sizes[-1 - LASTING]
    return _Jump(moved, float(height.max()) if lasts and np.any(height > HIGHER * noise) else 0.0)
