"""How far rounding sets two computations of one function apart: where what parts them changes sign beside a point."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream

Compute = Callable[[Mapping[str, Array]], Mapping[str, Array] | None]

LINES = 6  # in random directions, in which every element shrinks: that stays within most domains
POINTS = 9  # on each, and as many distances between them, of an element's own size
DISTANCES = (2.0**-9, 2.0**-6, 2.0**-3)
# Rounding errors change sign from a point to the next in half of all cases, a wrong term hardly ever does: of 48 pairs
# of points, rounding changes less than a quarter's signs once in 5,000 times.
CHANGING = 0.25
BESIDE = 2.0  # times the largest difference on the lines, which is allowed at the point
ROUNDED = 16.0  # units in the last place of 1, or of the largest input: what does not move may be rounded by these


def separation(one: Compute, other: Compute, variables: Mapping[str, Array]) -> dict[str, float]:
    """Return by how much rounding may set the tensors of two computations apart: 0 where that is not seen.

    Nudges do not show rounding where code drops them, nor that of the other. But rounding changes sign from point to
    point, as no wrong term does. The ``other`` is not to swing itself on the lines, by more than such differences: of
    sin(1e8 x), whatever is wrong changes sign as well. What does not move at all near the point, while the other does,
    is rounded, too, if the difference is as low as that of numbers like 1 or the input: log(1 - 1e-20) is 0. Where
    enough elements of a tensor round so, any may differ by as much as these do.
    """
    rng = stream("lines on which rounding changes sign")
    eps = max(float(np.finfo(x.dtype).eps) for x in variables.values() if x.dtype.kind == "f")
    top = max(1.0, *(float(np.abs(x).max(initial=0.0)) for x in variables.values()))
    allowed: dict[str, float] = {}
    for distance in DISTANCES:
        lines = [_line(one, other, variables, distance, rng) for _ in range(LINES)]
        found = [line for line in lines if line is not None]
        for name in found[0] if found else ():
            ours, theirs = (np.array([line[name][side] for line in found]) for side in (0, 1))
            with np.errstate(all="ignore"):
                apart = ours - theirs
                most = np.abs(apart).max(axis=(0, 1))
                rounds = (apart[:, 1:] * apart[:, :-1] < 0).mean(axis=(0, 1)) >= CHANGING
                swings = np.abs(np.diff(theirs, axis=1)).sum(axis=1) - np.abs(theirs[:, -1] - theirs[:, 0])
                rounds &= swings.mean(axis=0) <= BESIDE * POINTS * most
                if distance == DISTANCES[0]:
                    still = np.all(np.ptp(ours, axis=1) == 0, axis=0) != np.all(np.ptp(theirs, axis=1) == 0, axis=0)
                    rounds |= still & (most <= ROUNDED * eps * top)
            if rounds.sum() >= max(1.0, CHANGING * np.sum(most > 0)) and np.all(np.isfinite(most[rounds])):
                allowed[name] = max(allowed.get(name, 0.0), BESIDE * float(most[rounds].max()))
    return allowed


def _line(
    one: Compute, other: Compute, variables: Mapping[str, Array], distance: float, rng: np.random.Generator
) -> dict[str, tuple[Array, Array]] | None:
    """Return both computations of what both return, at points on a line; None if one is not defined there."""
    shares = {name: rng.uniform(0.5, 1.0, x.shape) for name, x in variables.items()}
    points = []
    for k in range(POINTS):
        moved = {
            name: (x * (1 - k * distance / 2 * shares[name])).astype(x.dtype) if x.dtype.kind == "f" else x
            for name, x in variables.items()
        }
        ours, theirs = one(moved), other(moved)
        if ours is None or theirs is None:
            return None
        points.append((ours, theirs))
    names = [name for name in points[0][0] if name in points[0][1]]
    wide = np.float64
    return {n: (np.array([a[n] for a, _ in points], wide), np.array([b[n] for _, b in points], wide)) for n in names}
