"""Lines along which a function is probed: through every element of a tensor, or in random directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.differences import DIGITS, STEPS, Integers, Lines, elementwise_noise
from gradcheck.numerics.functions import Arrays, Function, RefusedError, Values
from gradcheck.streams import stream

# Elements of the input, and of the outputs, that samples stacked along the batch axis may have at a time.
STACKED = 1 << 20

OWN_STEP = 2.0**-12  # of an element's own size: its shortest step, where it is far below the largest


@dataclass(frozen=True)
class Point:
    """A function, the point at which its gradients are judged, and what shadows showed of its rounding there.

    ``context()`` makes the context of a call; ``outputs`` are those of the shadows; ``refusals`` holds, by variable,
    what f has raised first where that was moved. Outputs that are smaller than ``size`` round as those of that size.
    """

    function: Function
    variables: Arrays
    context: Callable[[], Context]
    y: Array
    dy: Array
    outputs: list[Array]
    refusals: dict[str, str] = field(default_factory=dict)
    size: float = 0.0

    @cached_property
    def value(self) -> Values:
        """Return a function that gives f with some variables replaced."""
        return self.function.at(self.variables, self.context())

    @property
    def precision(self) -> type[np.floating[Any]]:
        """The precision that f is judged in: the lowest of the variables and of the output."""
        kinds = {array.dtype.type for array in (*self.variables.values(), self.y)}
        return np.float32 if np.float32 in kinds else np.float64

    def value_or_nan(self, moved: Arrays) -> Array:
        """Return f with some variables replaced, in float64, and NaN where f raises: that is outside its domain."""
        try:
            return self.value(moved).astype(np.float64, copy=False)
        except ImportError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it raises, here it is not defined
            if len(moved) == 1:
                cause = error.__cause__ if isinstance(error, RefusedError) else error
                self.refusals.setdefault(next(iter(moved)), f"{type(cause).__name__}: {cause}")
            return np.full(self.y.shape, np.nan)


def coordinates(point: Point, name: str) -> Lines:
    """Return the lines along which one element of a variable moves: line l moves element l, in row-major order."""
    x = point.variables[name]

    def at(lines: Integers, t: Array) -> tuple[Array, Array]:
        values, taken = np.empty((len(lines), point.y.size)), np.empty(len(lines))
        for row, (line, distance) in enumerate(zip(lines, t, strict=True)):
            moved = x.copy()
            moved.flat[line] += distance
            taken[row] = float(moved.flat[line]) - float(x.flat[line])
            values[row] = point.value_or_nan({name: moved}).reshape(-1)
        return values, taken

    return _lines(point, at, np.full(x.size, unit(x)), np.zeros(x.size, np.intp), 1, np.abs(x).reshape(-1))


def stacked_coordinates(point: Point, name: str) -> Lines:
    """Return the same lines for an input whose samples are independent: many are evaluated in one call.

    Copies of the batch are stacked along the batch axis; in each, one element of every sample moves. A line's outputs
    are those of its own sample.
    """
    x = point.variables[name]
    samples, size, outputs = len(x), x[0].size, point.y[0].size
    one_by_one = coordinates(point, name)
    block = np.repeat(np.arange(samples), size)

    def at(lines: Integers, t: Array) -> tuple[Array, Array]:
        values, taken = np.empty((len(lines), outputs)), np.empty(len(lines))
        sample, element = np.divmod(lines, size)
        places, copy_of = np.unique(element, return_inverse=True)
        width = max(1, STACKED // max(1, samples * max(size, outputs)))
        for start in range(0, len(places), width):
            rows = np.flatnonzero((copy_of >= start) & (copy_of < start + width))
            where = copy_of[rows] - start, sample[rows], element[rows]
            stack = np.tile(x.reshape(1, samples, size), (min(width, len(places) - start), 1, 1))
            stack[where] += t[rows]
            taken[rows] = stack[where].astype(np.float64) - x.reshape(samples, size)[where[1:]]
            try:
                result = point.value({name: stack.reshape(-1, *x.shape[1:])})
            except RefusedError:  # which does not say of which: single elements are moved
                alone, _ = one_by_one.at(lines[rows], t[rows])
                values[rows] = alone.reshape(-1, samples, outputs)[np.arange(len(rows)), sample[rows]]
            else:
                values[rows] = result.reshape(-1, samples, outputs)[where[:2]]
        return values, taken

    return _lines(point, at, np.full(x.size, unit(x)), block, samples, np.abs(x).reshape(-1))


def along(point: Point, name: str, directions: Array) -> Lines:
    """Return the lines in the given ``directions``, (lines, *shape of the variable).

    Distances are nominal: they ignore how the moved point rounds. Shadows measure that, as a nudge of its elements.
    """
    return along_all(point, {name: directions})


def along_all(point: Point, directions: dict[str, Array]) -> Lines:
    """Return the lines in the given directions of several variables, each (lines, *shape of the variable)."""
    count = len(next(iter(directions.values())))

    def at(lines: Integers, t: Array) -> tuple[Array, Array]:
        values = np.empty((len(lines), point.y.size))
        for row, (line, distance) in enumerate(zip(lines, t, strict=True)):
            moved = {}
            for name, u in directions.items():
                x = point.variables[name]
                moved[name] = (x + distance * u[line]).astype(x.dtype, copy=False)
            values[row] = point.value_or_nan(moved).reshape(-1)
        return values, t

    units = np.array([unit(point.variables[name]) for name in directions])[:, None]
    largest = np.array([np.abs(u).reshape(count, -1).max(axis=1, initial=0.0) for u in directions.values()])
    with np.errstate(divide="ignore"):  # a variable that does not move says nothing
        scale = np.min(units / np.where(largest > 0, largest, np.where(largest.any(axis=0), 0.0, 1.0)), axis=0)
    return _lines(point, at, scale, np.zeros(count, np.intp), 1, scale)


def complex_step(point: Point, name: str) -> Array | None:
    """Return the gradient of ``<dy, f>`` as ``Im <dy, f(x + i t e)> / t``, or None where y is not complex.

    If f is analytic, nothing cancels and the result is exact to rounding. It cannot be seen whether f is analytic, so
    the result must be confirmed. Squire and Trapp (1998).
    """
    x, tiny = point.variables[name], 2.0**-100
    gradient = np.empty(x.shape)
    moved = x.astype(np.complex128)
    for index in np.ndindex(x.shape):
        moved[index] += 1j * tiny
        y = point.value({name: moved})
        moved[index] = x[index]
        if y.dtype.kind != "c":
            return None
        gradient[index] = np.vdot(point.dy, y.imag) / tiny
    return gradient


def complex_along(point: Point, directions: dict[str, Array]) -> Array | None:
    """Return the derivatives of ``<dy, f>`` along lines through variables by complex steps, to be confirmed, too."""
    tiny, slopes = 2.0**-100, []
    for line in zip(*directions.values(), strict=True):
        moved = {name: point.variables[name] + 1j * tiny * u for name, u in zip(directions, line, strict=True)}
        y = point.value(moved)
        if y.dtype.kind != "c":
            return None
        slopes.append(float(np.vdot(point.dy, y.imag)) / tiny)
    return np.array(slopes)


def stacked_complex_step(point: Point, name: str) -> Array | None:
    """Return the same gradient for an input whose samples are independent, by many samples in one call."""
    x, tiny = point.variables[name], 2.0**-100
    samples, size = len(x), x[0].size
    gradient = np.empty((samples, size))
    width = max(1, STACKED // max(1, samples * max(size, point.y[0].size)))
    for start in range(0, size, width):
        places = np.arange(start, min(start + width, size))
        stack = np.tile(x.reshape(1, samples, size).astype(np.complex128), (len(places), 1, 1))
        stack[np.arange(len(places)), :, places] += 1j * tiny
        y = point.value({name: stack.reshape(-1, *x.shape[1:])})
        if y.dtype.kind != "c":
            return None
        rows = y.imag.reshape(len(places), samples, -1)
        gradient[:, places] = (rows * point.dy.reshape(samples, -1)).sum(axis=2).T / tiny
    return gradient.reshape(x.shape)


def samples_are_independent(point: Point, name: str) -> bool:
    """Return whether each sample's output is seen to depend on that sample alone, and not on the batch size."""
    x, y = point.variables[name], point.y
    if len(point.function.inputs) > 1 or len(point.function.arguments) > 1 or x.ndim < 2 or not y.ndim or not x.size:
        return False
    if len(y) != len(x) or not y.size:
        return False
    rng = stream("other samples", len(x))
    other = (x + 2.0**-7 * unit(x) * rng.standard_normal(x.shape)).astype(x.dtype)
    try:
        together, alone = point.value({name: np.concatenate([x, other])}), point.value({name: other})
    except Exception:  # noqa: BLE001  a function that takes no other batch is simply not stacked
        return False
    if together.shape != (2 * len(x), *y.shape[1:]) or alone.shape != y.shape:
        return False
    noise = 8 * elementwise_noise(y, point.outputs).max(initial=0.0)
    return bool(np.all(np.abs(together - np.concatenate([y, alone])) <= noise))


def _lines(
    point: Point,
    at: Callable[[Integers, Array], tuple[Array, Array]],
    scale: Array,
    block: Integers,
    blocks: int,
    sizes: Array,
) -> Lines:
    y, dy = (array.astype(np.float64).reshape(blocks, -1) for array in (point.y, point.dy))
    moves = np.array([output.astype(np.float64).reshape(blocks, -1) - y for output in point.outputs])
    moves = moves.reshape(len(point.outputs), *y.shape).swapaxes(0, 1)
    noise = elementwise_noise(point.y, point.outputs).reshape(blocks, -1)
    noise = np.maximum(noise, np.finfo(point.precision).eps / 2 * point.size)
    own = np.where(sizes > 0, OWN_STEP * sizes, np.inf)
    finest = DIGITS * np.finfo(point.precision).eps * sizes
    shortest = np.maximum(np.minimum(STEPS[point.precision].last * scale, own), finest)
    return Lines(at, scale, block, y, dy, noise, moves, shortest, point.precision, point.size)


def unit(x: Array) -> float:
    """Return the power of two at or below the tensor's largest element, or 1, so that steps are exact."""
    top = float(np.abs(x).max(initial=0.0))
    return 2.0 ** math.floor(math.log2(top)) if top > 0 and math.isfinite(top) else 1.0
