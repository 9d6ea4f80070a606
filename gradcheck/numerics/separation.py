"""How far rounding sets two computations of one function apart: where what parts them changes sign beside a point."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.stairs import ROUNDED
from gradcheck.streams import stream

Compute = Callable[[Mapping[str, Array]], Mapping[str, Array] | None]

LINES = 6  # in random directions, in which every element shrinks: that stays within most domains
POINTS = 9  # on each, and as many distances between them, of an element's own size
DISTANCES = (2.0**-9, 2.0**-6, 2.0**-3)
# Rounding errors change sign from a point to the next in half of all cases, a wrong term hardly ever does: of 48 pairs
# of points, rounding changes less than a quarter's signs once in 3,000 times. Signs of far smaller differences than the
# largest do not count: those tell nothing of it, as where code is wrong above a bound alone.
CHANGING, FAR_SMALLER = 0.25, 64
BESIDE = 2.0  # times the largest difference on the lines, which is allowed at the point
NEARER_0 = (2.0**-6, 2.0**-3, 0.5, 0.75, 0.875, 0.9375, 0.96875)  # by which shares inputs shrink until a value moves
HALVINGS = 40


def separation(one: Compute, other: Compute, variables: Mapping[str, Array], name: str) -> float:
    """Return by how much rounding may set a tensor of two computations apart: 0 where that is not seen.

    Nudges do not show rounding where code drops them, nor that of the other. But rounding changes sign from point to
    point, as no wrong term does. The ``other`` is not to swing itself on the lines, by more than such differences: of
    sin(1e8 x), whatever is wrong changes sign as well. What does not move at all near the point, while the other does,
    is rounded, too, if the difference is as low as its own first step on the way to smaller inputs: log(1 - 1e-20) is
    0. Of a gradient, which may be masked, that step has to be one of rounding. Where enough elements of a tensor round
    so, any may differ by as much as these do.
    """
    rng = stream("lines on which rounding changes sign")
    lowest = ROUNDED * max(float(np.finfo(x.dtype).eps) for x in variables.values() if x.dtype.kind == "f")
    allowed = 0.0
    for distance in DISTANCES:
        first = _line(one, other, variables, distance, rng, name)
        near = distance == DISTANCES[0]
        if first is None or not (_changes(*first) or (near and _rests(*first).any())):
            continue  # nothing rounds there, as where something is wrong
        lines = [first, *(_line(one, other, variables, distance, rng, name) for _ in range(LINES - 1))]
        ours, theirs = (np.array([line[side] for line in lines if line is not None]) for side in (0, 1))
        with np.errstate(all="ignore"):
            apart = ours - theirs
            most = np.abs(apart).max(axis=(0, 1))
            signs = np.sign(apart) * (np.abs(apart) > most / FAR_SMALLER)
            rounds = (signs[:, 1:] * signs[:, :-1] < 0).mean(axis=(0, 1)) >= CHANGING
            swings = np.abs(np.diff(theirs, axis=1)).sum(axis=1) - np.abs(theirs[:, -1] - theirs[:, 0])
            rounds &= swings.mean(axis=0) <= BESIDE * POINTS * most
            if near:
                rests = np.all([_rests(*line) for line in zip(ours, theirs, strict=True)], axis=0)
                still = np.ptp(ours, axis=(0, 1)) == 0
                for side, compute in ((rests & still, one), (rests & ~still, other)):
                    if side.any() and ((step := _first_step(compute, variables, name)) <= lowest or name == "output"):
                        rounds |= side & (most <= BESIDE * step)
        if rounds.sum() >= max(1.0, CHANGING * np.sum(most > 0)) and np.all(np.isfinite(most[rounds])):
            allowed = max(allowed, BESIDE * float(most[rounds].max()))
    return allowed


def _changes(ours: Array, theirs: Array) -> bool:
    """Return whether differences on a line change sign at all, by more than once in an element."""
    apart = ours - theirs
    return bool(np.any((apart[1:] * apart[:-1] < 0).sum(axis=0) > 1))


def _rests(ours: Array, theirs: Array) -> Array:
    """Return which elements of one alone do not move on a line."""
    return np.asarray((np.ptp(ours, axis=0) == 0) != (np.ptp(theirs, axis=0) == 0))


def _first_step(compute: Compute, variables: Mapping[str, Array], name: str) -> float:
    """Return by how much a tensor moves where it first does as inputs shrink: 0 if it never does."""

    def at(share: float) -> Array | None:
        found = compute(
            {each: (x * (1 - share)).astype(x.dtype) if x.dtype.kind == "f" else x for each, x in variables.items()}
        )
        return None if found is None else np.asarray(found[name], np.float64)

    start, low = at(0.0), 0.0
    for high in NEARER_0:
        moved = at(high)
        if start is None or moved is None or not np.all(np.isfinite(moved)):
            return 0.0
        if np.any(moved != start):
            break
        low = high
    else:
        return 0.0
    height = float(np.abs(moved - start).max())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        between = at(middle)
        if between is None or np.array_equal(between, start):
            low = middle
        else:
            high, height = middle, float(np.abs(between - start).max())
    return height


def _line(
    one: Compute,
    other: Compute,
    variables: Mapping[str, Array],
    distance: float,
    rng: np.random.Generator,
    name: str,
) -> tuple[Array, Array] | None:
    """Return a tensor of both computations at points on a line; None if one is not defined there."""
    shares = {each: rng.uniform(0.5, 1.0, x.shape) for each, x in variables.items()}
    points = []
    for k in range(POINTS):
        moved = {
            each: (x * (1 - k * distance / 2 * shares[each])).astype(x.dtype) if x.dtype.kind == "f" else x
            for each, x in variables.items()
        }
        ours, theirs = one(moved), other(moved)
        if ours is None or theirs is None:
            return None
        points.append((ours[name], theirs[name]))
    return np.array([a for a, _ in points], np.float64), np.array([b for _, b in points], np.float64)
