"""The right numbers in the wrong places, and places that alone are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, product
from math import comb
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.factors import quantities
from gradcheck.diagnosis.fits import FITTED, TWO, Comparison, axis_sets, factor_of, rounded

# Fewer elements that agree make "only this one is wrong" an accident of a small tensor.
AGREEING = 3

MOST_INDICES = 4  # of an axis, that are listed

# In how many ways as many elements can be chosen: then that they make a region is no accident; more for a region whose
# edge is chosen, too.
UNLIKELY, UNLIKELY_BY_SIZE = 50, 500


def rearranged(evidence: Evidence) -> Diagnosis | None:
    """The right numbers in the wrong places."""
    comparison = evidence.comparison
    for cause, details, rearrange in _rearrangements(evidence.numeric.shape):
        if comparison.explained_by(rearrange(comparison.numeric), rearrange(comparison.allowed), TWO):
            return Diagnosis(cause, details)
    return None


def part_wrong(evidence: Evidence) -> Diagnosis | None:
    """Only one element, or one row, column or channel, is wrong: each of its elements, or all by one factor."""
    comparison = evidence.comparison
    failing, agreeing = comparison.failing, int(comparison.agreeing.sum())
    if agreeing < AGREEING or not np.any(failing):
        return None
    places = np.argwhere(failing)
    if len(places) == 1:
        index = tuple(int(i) for i in places[0])
        return _part(evidence, comparison.at(index), {"element": index}, agreeing)
    for axis in range(failing.ndim):
        indices = {int(i) for i in places[:, axis]}
        if len(indices) == 1 and failing.shape[axis] > 1:
            (at,) = indices
            inside = comparison.at((slice(None),) * axis + (at,))
            sample = evidence.tensor in evidence.inputs and axis == evidence.batch_axis
            place = {"axis": axis, "index": at, "of": failing.ndim, "sample": sample}
            outside = agreeing - int(inside.agreeing.sum())
            return _part(evidence, inside, place, outside) if outside >= AGREEING else None
    return None


def _part(evidence: Evidence, inside: Comparison, place: dict[str, Any], agreeing: int) -> Diagnosis | None:
    what: dict[str, Any] | None = {"factor": (0, 1), "quantities": ()}
    if np.any(inside.analytic[inside.judged]):  # zeros are what they are, however small what belongs there
        what = factor_of(inside, quantities(evidence))
    if what is None and not np.array_equal(inside.failing, inside.judged):
        return None
    return Diagnosis(Cause.PART_WRONG, {"place": place, "what": what, "agreeing": agreeing})


def border_wrong(evidence: Evidence) -> Diagnosis | None:
    """Every judged element at an end of one or both of the last two axes (not of the first) is wrong, and no other."""
    comparison = evidence.comparison
    failing, agreeing = comparison.failing, int(comparison.agreeing.sum())
    ends = [(axis, end) for axis in range(1, failing.ndim)[-2:] if failing.shape[axis] > 2 for end in ("first", "last")]
    if agreeing < AGREEING:
        return None
    for count in range(1, len(ends) + 1):
        for sides in combinations(ends, count):
            border = np.zeros(failing.shape, dtype=bool)
            for axis, end in sides:
                border[end_of(axis, end)] = True
            if np.array_equal(failing, border & comparison.judged) and failing.sum() >= FITTED:
                return Diagnosis(Cause.BORDER_WRONG, {"sides": sides, "agreeing": agreeing})
    return None


def region_wrong(evidence: Evidence) -> Diagnosis | None:
    """Only elements in one region are wrong, and all there that can tell: of a matrix, or by the sign or size of x."""
    comparison = evidence.comparison
    failing, agreeing = comparison.failing, comparison.agreeing
    tells = failing | agreeing
    wrong, right = int(failing.sum()), int(agreeing.sum())
    if wrong < FITTED or right < AGREEING or comb(wrong + right, wrong) < UNLIKELY:
        return None
    for name, region in _regions(evidence, failing):
        if np.array_equal(failing[tells], region[tells]):
            return _region(evidence, comparison, region, {"region": name, "at": None, "agreeing": right})
    if not (evidence.tensor in evidence.inputs and comb(wrong + right, wrong) >= UNLIKELY_BY_SIZE):
        return None
    x = evidence.value
    for name, inner, outer in (("above", x, failing), ("below", -x, failing)):
        if inner[outer].min() > inner[agreeing].max():
            at = float(x[agreeing].max() if name == "above" else x[agreeing].min())
            return _region(evidence, comparison, failing, {"region": name, "at": rounded(at), "agreeing": right})
    return None


def _region(evidence: Evidence, comparison: Comparison, region: Array, details: dict[str, Any]) -> Diagnosis:
    inside = comparison.at(region & comparison.judged)
    what: dict[str, Any] | None = {"factor": (0, 1), "quantities": ()}
    if np.any(inside.analytic):
        what = factor_of(inside, quantities(evidence))
    return Diagnosis(Cause.REGION_WRONG, details | {"what": what})


def _regions(evidence: Evidence, failing: Array) -> Iterator[tuple[str, Array]]:
    """Yield regions that faults keep to, with their names."""
    shape, x = evidence.numeric.shape, evidence.value
    for axis, extent in enumerate(shape):
        wrong = np.unique(np.nonzero(failing)[axis])
        if 1 < len(wrong) < min(extent, MOST_INDICES + 1):
            named = ("rows", "columns")[axis] if len(shape) == 2 else f"axis {axis}, indices"
            region = np.isin(np.indices(shape)[axis], wrong)
            yield f"in {named} {', '.join(map(str, wrong[:-1]))} and {wrong[-1]}", region
    if len(shape) >= 2 and min(shape[-2:]) > 1:
        rows, columns = np.indices(shape)[-2:]
        yield "on the diagonal", rows == columns
        yield "off the diagonal", rows != columns
        yield "above the diagonal", rows < columns
        yield "below the diagonal", rows > columns
        yield "on and above the diagonal", rows <= columns
        yield "on and below the diagonal", rows >= columns
    if evidence.tensor in evidence.inputs:
        yield "where the input is negative", x < 0
        yield "where the input is positive", x > 0
        yield "where the input is zero", x == 0
    if evidence.target is not None and evidence.target.shape == shape and evidence.tensor in evidence.inputs:
        yield "where the target is zero", evidence.target == 0
        yield "where the target is not zero", evidence.target != 0
    if evidence.elementwise_shapes:
        yield "where the output is zero", evidence.y == 0


def _rearrangements(shape: tuple[int, ...]) -> Iterator[tuple[Cause, dict[str, Any], Callable[[Array], Array]]]:
    for i, j in combinations(range(len(shape)), 2):
        if shape[i] == shape[j] > 1:
            yield Cause.TRANSPOSED, {"axes": (i, j)}, partial(np.swapaxes, axis1=i, axis2=j)
    for axes in reversed(axis_sets(shape)):
        yield Cause.REVERSED, {"axes": axes}, partial(np.flip, axis=axes)
    for axis, by, cyclic in product(range(len(shape)), (1, -1), (True, False)):
        if shape[axis] > 1:
            details = {"axis": axis, "by": by, "cyclic": cyclic}
            yield Cause.SHIFTED, details, partial(_shift, axis=axis, by=by, cyclic=cyclic)


def _shift(array: Array, axis: int, by: int, *, cyclic: bool) -> Array:
    moved = np.roll(array, by, axis=axis)
    if not cyclic:
        moved[end_of(axis, "first" if by > 0 else "last")] = 0
    return moved


def end_of(axis: int, end: str) -> tuple[slice | int, ...]:
    """Return the index of the first or the last slice along an axis."""
    return (slice(None),) * axis + (0 if end == "first" else -1,)
