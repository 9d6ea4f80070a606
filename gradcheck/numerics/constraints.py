"""Directions that stay within a domain which steps of single elements leave, such as that of probabilities.

What must hold of a domain is not known. So families of directions are tried, each of which keeps what some domains
have in common: sums, symmetry, norms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.differences import Lines
from gradcheck.numerics.directions import Point, along, coordinates

# Distances, in units of a line's scale, at which both are tried, the longest first. Along a curved domain, as that of
# unit vectors, only short ones stay within what its check lets pass.
DISTANCES = (2.0**-6, 2.0**-10, 2.0**-14)

ALTERNATIONS = 64  # projections in turn on sums of rows and of columns, which approach what keeps both


class Family(NamedTuple):
    """Directions along which something stays as it is: ``project(direction, x)`` returns the nearest such."""

    keeps: str
    project: Callable[[Array, Array], Array]


class Within(NamedTuple):
    """Directions, (count, *shape), along which f is defined, what they keep, and whether all single elements leave."""

    keeps: str
    directions: Array
    always: bool


def directions_within(point: Point, name: str, count: int, rng: np.random.Generator) -> Within | None:
    """Return ``count`` random directions along which f is defined, if some elements cannot move by themselves.

    That is: f is defined to neither side of the point, at a distance at which it is along the directions. None where
    all elements that were tried can move, or no family of directions is within the domain.
    """
    x = point.variables[name]
    if x.size < 2:
        return None
    lines = coordinates(point, name)
    some = (0, 1, x.size - 2)  # of a symmetric matrix one on its diagonal and two beside it
    leaving = [element for element in some if _leaves(lines, element, DISTANCES[0])]
    if not leaving:
        return None
    random = rng.standard_normal((count, *x.shape))
    for distance in DISTANCES:
        if not any(_leaves(lines, element, distance) for element in leaving):
            return None
        for family in families(x):
            directions = np.array([family.project(one, x) for one in random])
            if _are_within(point, name, directions, distance):
                return Within(family.keeps, directions, len(leaving) == len(some))
    return None


def _leaves(lines: Lines, line: int, distance: float) -> bool:
    """Return whether f is defined to neither side of the point, at a distance along a line."""
    part = np.array([line])
    moved = (lines.at(part, sign * distance * lines.scale[part])[0] for sign in (1.0, -1.0))
    return not any(np.isfinite(values).all() for values in moved)


def _are_within(point: Point, name: str, directions: Array, distance: float) -> bool:
    """Return whether all directions move x, and f is defined at a distance along each, to both sides."""
    if not np.any(directions, axis=tuple(range(1, directions.ndim))).all():
        return False
    lines = along(point, name, directions)
    part = np.arange(len(directions))
    moved = (lines.at(part, sign * distance * lines.scale)[0] for sign in (1.0, -1.0))
    return all(np.isfinite(values).all() for values in moved)


def families(x: Array) -> Iterator[Family]:
    """Yield families of directions at x: of sums and symmetry those that keep least first, and with zeros, too."""
    nonzero = np.asarray(x != 0, np.float64)
    yield from _linear(x, np.ones(x.shape), "")
    if not nonzero.all():
        yield from _linear(x, nonzero, " and zeros")
    yield from (Family(f"the norms along axis {axis}", _tangent(axis)) for axis in reversed(range(x.ndim)))
    if x.ndim > 1:
        yield from (Family(f"equality along axis {axis}", _level(axis)) for axis in reversed(range(x.ndim)))
        yield Family("the products of columns", _rotated)
        yield Family("the products of rows", _rotated_rows)


def _linear(x: Array, held: Array, also: str) -> Iterator[Family]:
    """Yield families of which each is a subspace, with only those elements moving where ``held`` is 1."""
    yield Family(f"the sum of all elements{also}", _centred(tuple(range(x.ndim)), held))
    if x.ndim < 2:
        return
    yield from (
        Family(f"the sums along axis {axis}{also}", _centred((axis,), held)) for axis in reversed(range(x.ndim))
    )
    if x.shape[-1] == x.shape[-2]:
        yield Family(f"symmetry{also}", _mirrored(1.0, held))
        yield Family(f"skew symmetry{also}", _mirrored(-1.0, held))
    yield Family(f"the sums along the last two axes{also}", _doubly_centred(held))


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
