"""Which axis of the inputs is the batch, as calls with halves of it show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.numerics.functions import function_of

CLOSE = 1e-9  # relative: far above the rounding of sums, far below what samples have to do with each other


def batch_axis(case: Case) -> int | None:
    """Return the axis along which the subject takes the first input apart; 0 if none is seen, None if it may be any.

    Outputs of halves, put together, must be that of the whole; of a loss its mean, or if no axis has that, its sum.
    With one row only, its elements may as well be samples.
    """
    x = case.inputs[0]
    if x.ndim < 2:
        return 0
    found = {axis: how for axis in range(x.ndim) if x.shape[axis] > 1 and (how := _apart(case, axis)) is not None}
    best = next((axis for axis, how in found.items() if how != "sum"), next(iter(found), 0))
    return None if best and len(x) == 1 else best


def _apart(case: Case, axis: int) -> str | None:
    """Return how the outputs of both halves along an axis make that of the whole: joined, their mean or their sum."""
    extent = case.inputs[0].shape[axis]
    half = extent // 2
    with np.errstate(all="ignore"):
        try:
            pieces = [_output(case, axis, slice(None, half)), _output(case, axis, slice(half, None))]
            whole = _output(case, axis, slice(None))
        except Exception:  # noqa: BLE001  it takes no halves, and so they are no batches
            return None
        if not whole.ndim:
            mean = (half * pieces[0] + (extent - half) * pieces[1]) / extent
            return "mean" if _alike(mean, whole) else "sum" if _alike(pieces[0] + pieces[1], whole) else None
        if whole.ndim <= axis or pieces[0].ndim != whole.ndim or whole.shape[axis] != extent:
            return None
        joined = np.concatenate(pieces, axis=axis)
        return "joined" if _alike(joined, whole) else None


def part_of(case: Case, axis: int, some: slice) -> Case:
    """Return a case with a part of every input, along the axis that is as long as the first one's.

    Raises `ValueError` where an input has none.
    """
    extent = case.inputs[0].shape[axis]
    inputs = []
    for array in case.inputs:
        own = axis if array.ndim == case.inputs[0].ndim else array.shape.index(extent)
        inputs.append(array[(slice(None),) * own + (some,)] if array.shape[own] == extent else array)
    return replace(case, inputs=tuple(inputs))


def _output(case: Case, axis: int, some: slice) -> Array:
    part = part_of(case, axis, some)
    function = function_of(part)
    return function.call(function.variables, part.context())[0]


def _alike(one: Array, other: Array) -> bool:
    scale = float(np.abs(other).max(initial=0.0))
    return one.shape == other.shape and bool(np.all(np.abs(one - other) <= CLOSE * scale))
