"""An eps beside a norm or a deviation that a layer has and its twin has not, or the reverse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.diagnosis.fits import axis_sets
from gradcheck.diagnosis.guards import LARGEST, USUAL, Beside
from gradcheck.diagnosis.norms import FROM_SHARE, POWERS, sizes
from gradcheck.numerics.agreement import Worst, compare, largest
from gradcheck.numerics.directions import unit
from gradcheck.numerics.functions import Arrays, Function
from gradcheck.numerics.rounding import largest_difference, nudged
from gradcheck.properties.noise import factor_of

FARTHEST = {np.dtype(np.float64): 2.0**40, np.dtype(np.float32): 2.0**16}  # of one, where no eps counts beside an input
NEAREST = 2.0**-50  # of one, where nothing counts beside an eps
TELLING = 0.1  # of the largest difference, from which an element tells of an eps
ALIKE = {np.dtype(np.float64): 1e-3, np.dtype(np.float32): 3e-2}  # relative, to which all elements tell the same eps
NUDGES = 3  # where no eps counts, of both sides
MOST, STEPS = 1e6, 60  # times the norm that an eps may be, and halvings to find how many times it is


class _Sides(NamedTuple):
    """Output and gradients of a layer and of its twin, for an input that is some times as large."""

    ours: Arrays
    theirs: Arrays

    def apart(self, name: str) -> Array:
        return np.asarray(self.ours[name] - self.theirs[name], np.float64)


class _Found(NamedTuple):
    """An eps beside a norm, the largest share that it takes of one, and what it leaves unexplained.

    ``slope`` is how large the derivative of a normed element is, of which most may cancel in a gradient.
    """

    beside: Beside
    share: float
    slope: float
    left: Worst


class Normed:
    """The eps beside a norm by which a layer and its twin differ at one input, sought where they do.

    It is read off the outputs, where it counts as much as the norm. At an input where no eps counts both must be equal.
    """

    def __init__(self, case: Case, functions: tuple[Function, Function], variables: Arrays, dy: Array) -> None:
        self._case, self._functions, self._variables, self._dy = case, functions, variables, dy
        self._kept: dict[float, _Sides | None] = {}
        self._inputs = functions[0].inputs
        self._x = variables[self._inputs[0]] if self._inputs else np.zeros(0)
        self._found: _Found | None = None
        self._sought = False

    def worst(self, name: str, allowed: float) -> tuple[Worst | None, float]:
        """Return the worst element of what an eps leaves unexplained, and the eps; None and 0 if none is found.

        Outputs must be what the eps makes of them. Gradients may differ by what it makes of a norm, a few times over.
        """
        if self._x.dtype not in FARTHEST:
            return None, 0.0
        if not self._sought:
            self._sought, self._found = True, self._read_off(allowed if name == "output" else self._agreeing())
        scale = FARTHEST[self._x.dtype] / unit(self._x)
        here, far = self._at(1.0), self._at(scale)
        if self._found is None or here is None or far is None:
            return None, 0.0
        limit = compare(name, far.ours[name], far.theirs[name], self._allowed(name, allowed, far, scale))
        if name == "output":
            return largest(limit, self._found.left), self._found.beside.eps
        ours, theirs = here.ours[name], here.theirs[name]
        cancelled = self._found.slope * np.abs(self._dy).max() if name == self._inputs[0] else 0.0
        moved = FROM_SHARE * self._found.share * max(np.abs(ours).max(), np.abs(theirs).max(), cancelled)
        return largest(limit, compare(name, ours, theirs, allowed + moved)), self._found.beside.eps

    def _read_off(self, allowed: float) -> _Found | None:
        """Return the eps that all elements of the outputs show, and the norm that it is beside; None if none does."""
        with np.errstate(all="ignore"):
            scale = self._where_it_counts()
            if scale is None:
                return None
            here, near, twice = (self._at(by) for by in (1.0, scale, 2 * scale))
            if here is None or near is None or twice is None:
                return None
            one, two = near.apart("output"), twice.apart("output")
            telling, alike = np.abs(two) > TELLING * np.abs(two).max(), ALIKE[self._x.dtype]
            for power in POWERS:
                shares = _of_quotient(one / two, power)
                for axes, measure, size in _norms(self._x.astype(np.float64)):
                    each = (shares * (scale * size) ** power)[telling]
                    middle = float(np.median(each))
                    usual = min(USUAL, key=lambda one: abs(one - middle))
                    eps = usual if abs(usual - middle) <= alike * middle else middle
                    if not np.all(np.abs(each - eps) <= alike * eps) or not 0 < eps <= LARGEST:
                        continue
                    lost, lost_near = (_lost(eps / (by * size) ** power, power) for by in (1.0, scale))
                    expected = one * lost / lost_near
                    margin = allowed * (1 + lost / lost_near) + alike**2 * np.abs(expected)
                    left = compare("output", here.ours["output"], here.theirs["output"] + expected, margin)
                    if left is not None and left.ratio <= 1:
                        slope = float(np.nanmax(np.abs(one / lost_near) / size))
                        return _Found(Beside(eps, power, axes, measure), float(lost.max()), slope, left)
        return None

    def _agreeing(self) -> float:
        """Return by how much outputs may differ that were found to agree."""
        if (here := self._at(1.0)) is None:
            return 0.0
        y = here.theirs["output"]
        rounded = factor_of(self._functions[0]) * float(np.finfo(y.dtype).eps * np.abs(y).max(initial=0.0))
        return max(rounded, largest_difference(here.ours["output"], y))

    def _where_it_counts(self) -> float | None:
        """Return the scale of the input at which the outputs part by half of what they part by near zero."""
        low, high = (scale / unit(self._x) for scale in (NEAREST, FARTHEST[self._x.dtype]))
        nearest = self._at(low)
        if nearest is None or nearest.ours["output"].shape != self._x.shape:
            return None
        half = float(np.abs(nearest.apart("output")).max(initial=0.0)) / 2
        while high / low > 2:
            middle = 2.0 ** np.floor((np.log2(low) + np.log2(high)) / 2)
            if (sides := self._at(middle)) is None:
                return None
            if np.abs(sides.apart("output")).max() > half:
                low = middle
            else:
                high = middle
        return low if half else None

    def _allowed(self, name: str, allowed: float, far: _Sides, scale: float) -> float:
        """Return the allowance at another input: as much larger as the tensor is, or what nudges show of rounding."""
        here, rng, moved = self._at(1.0), self._case.rng("nudges"), 0.0
        for _ in range(NUDGES):
            given = {key: nudged(x, rng) for key, x in self._given(scale).items()}
            called = self._both(given) or far
            moved = max(
                moved, *(largest_difference(one[name], side[name]) for one, side in zip(called, far, strict=True))
            )
        top = 0.0 if here is None else float(np.abs(here.theirs[name]).max(initial=0.0))
        grown = float(np.abs(far.theirs[name]).max(initial=0.0)) / top if top else 1.0
        return max(allowed * grown, factor_of(self._functions[0]) * moved)

    def _given(self, scale: float) -> dict[str, Array]:
        return {key: (scale * x).astype(x.dtype) if key in self._inputs else x for key, x in self._variables.items()}

    def _at(self, scale: float) -> _Sides | None:
        if scale not in self._kept:
            self._kept[scale] = self._both(self._given(scale))
        return self._kept[scale]

    def _both(self, given: Arrays) -> _Sides | None:
        """Return what both give, or None outside the domain of either."""
        found = []
        for function in self._functions:
            try:
                y, pullback = function.call(given, self._case.context())
                found.append({"output": y, **pullback(self._dy.astype(y.dtype))})
            except Exception:  # noqa: BLE001  outside its domain it may raise anything
                return None
        return _Sides(*found)


def _norms(x: Array) -> Iterator[tuple[tuple[int, ...], int, Array]]:
    for axes in axis_sets(x.shape):
        for measure, size in enumerate(sizes(x, axes)):
            yield axes, measure, size


def _lost(share: Array, power: int) -> Array:
    """Return the part of ``x / (norm^power + eps)^(1 / power)`` that an eps of such a share takes away."""
    return np.asarray(-np.expm1(-np.log1p(share) / power))


def _of_quotient(quotient: Array, power: int) -> Array:
    """Return the share of an eps that takes away so many times as much as at an input twice as large."""
    low, high = np.full(quotient.shape, 1 / MOST), np.full(quotient.shape, MOST)
    for _ in range(STEPS):
        middle = np.sqrt(low * high)
        less = _lost(middle, power) / _lost(middle / 2.0**power, power) > quotient  # it falls from 2^power to 1
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray(low)
