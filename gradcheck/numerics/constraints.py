"""Directions that stay within a domain which steps of single elements leave, such as that of probabilities.

What must hold of a domain is not known. So families of directions are tried, each of which keeps what some domains
have in common: sums, symmetry, norms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.directions import Point, along, coordinates

PROBED = 8  # elements and directions that are tried before a domain is said to have no single steps, or others
# Distances, in units of a line's scale, at which both are tried, the longest first. Along a curved domain, as that of
# unit vectors, only short ones stay within what its check lets pass.
DISTANCES = (2.0**-6, 2.0**-10, 2.0**-14)


class Family(NamedTuple):
    """Directions along which something stays as it is: ``project(direction, x)`` returns the nearest such."""

    keeps: str
    project: Callable[[Array, Array], Array]


def directions_within(point: Point, name: str, count: int, rng: np.random.Generator) -> tuple[str, Array] | None:
    """Return what ``count`` random directions keep, (count, *shape), where f is defined along them, and not otherwise.

    None where steps of single elements, or of all that were tried, are within the domain, or no family is.
    """
    x = point.variables[name]
    if x.size < 2:
        return None
    elements = np.sort(rng.choice(x.size, min(PROBED, x.size), replace=False))
    if not _leave(point, name, elements, DISTANCES[0]):
        return None
    random = rng.standard_normal((count, *x.shape))
    for distance in DISTANCES:
        if not _leave(point, name, elements, distance):
            return None
        for family in families(x):
            directions = np.array([family.project(one, x) for one in random])
            if _are_within(point, name, directions[:PROBED], distance):
                return family.keeps, directions
    return None


def _leave(point: Point, name: str, elements: Array, distance: float) -> bool:
    """Return whether f is defined to neither side at a distance along any of the elements."""
    lines = coordinates(point, name)
    for element in elements:
        part = np.array([element])
        for sign in (1.0, -1.0):
            if np.isfinite(lines.at(part, sign * distance * lines.scale[part])[0]).all():
                return False
    return True


def _are_within(point: Point, name: str, directions: Array, distance: float) -> bool:
    """Return whether f is defined at a distance to both sides along every direction, and moves x at all."""
    if not np.any(directions, axis=tuple(range(1, directions.ndim))).all():
        return False
    lines = along(point, name, directions)
    for line in range(len(directions)):
        part = np.array([line])
        for sign in (1.0, -1.0):
            if not np.isfinite(lines.at(part, sign * distance * lines.scale[part])[0]).all():
                return False
    return True


def families(x: Array) -> Iterator[Family]:
    """Yield families of directions at x, those that keep least first; then the same with zeros that stay zero."""
    kept = x != 0
    for held, also in ((np.ones(x.shape), ""), (kept.astype(np.float64), " and zeros")):
        if also and kept.all():
            return
        yield Family(f"the sum of all elements{also}", _centred(tuple(range(x.ndim)), held))
        for axis in reversed(range(x.ndim)) if x.ndim > 1 else ():
            yield Family(f"the sums along axis {axis}{also}", _centred((axis,), held))
        if x.ndim > 1 and x.shape[-1] == x.shape[-2]:
            yield Family(f"symmetry{also}", _mirrored(1.0, held))
            yield Family(f"skew symmetry{also}", _mirrored(-1.0, held))
        if x.ndim > 1:
            yield Family(f"the sums along the last two axes{also}", _doubly_centred(held))
    for axis in reversed(range(x.ndim)):
        yield Family(f"the norms along axis {axis}", _tangent(axis))
    if x.ndim > 1:
        yield Family("the products of columns", _rotated)
        yield Family("the products of rows", _rotated_rows)
        for axis in reversed(range(x.ndim)):
            yield Family(f"equality along axis {axis}", _level(axis))


def _centred(axes: tuple[int, ...], held: Array) -> Callable[[Array, Array], Array]:
    def project(direction: Array, _: Array) -> Array:
        moved = direction * held
        mean = moved.sum(axis=axes, keepdims=True) / np.maximum(held.sum(axis=axes, keepdims=True), 1.0)
        return np.asarray(moved - held * mean)

    return project


def _doubly_centred(held: Array) -> Callable[[Array, Array], Array]:
    """Return the projection on sums of zero along both of the last two axes: with zeros held, to within rounding."""
    rows, columns = _centred((held.ndim - 1,), held), _centred((held.ndim - 2,), held)

    def project(direction: Array, x: Array) -> Array:
        for _ in range(ALTERNATIONS if not held.all() else 1):
            direction = columns(rows(direction, x), x)
        return direction

    return project


ALTERNATIONS = 64  # projections in turn, which approach what both keep


def _mirrored(sign: float, held: Array) -> Callable[[Array, Array], Array]:
    return lambda direction, _: np.asarray(held * (direction + sign * direction.swapaxes(-1, -2)) / 2)


def _tangent(axis: int) -> Callable[[Array, Array], Array]:
    def project(direction: Array, x: Array) -> Array:
        square = np.maximum((x * x).sum(axis=axis, keepdims=True), np.finfo(np.float64).tiny)
        return np.asarray(direction - x * (x * direction).sum(axis=axis, keepdims=True) / square)

    return project


def _rotated(direction: Array, x: Array) -> Array:
    """Return ``S x`` with a skew matrix S: rotated, columns keep their lengths and angles."""
    product = direction @ x.swapaxes(-1, -2)
    return np.asarray((product - product.swapaxes(-1, -2)) / 2 @ x)


def _rotated_rows(direction: Array, x: Array) -> Array:
    return np.asarray(_rotated(direction.swapaxes(-1, -2), x.swapaxes(-1, -2)).swapaxes(-1, -2))


def _level(axis: int) -> Callable[[Array, Array], Array]:
    return lambda direction, _: np.broadcast_to(direction.mean(axis=axis, keepdims=True), direction.shape)
