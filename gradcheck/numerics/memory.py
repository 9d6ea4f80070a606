"""Copies of arrays that lie in memory as the arrays do."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array

UNUSED = 255  # fills the bytes that no element lies in: read as a floating-point number, eight of them are NaN


def copied(array: Array) -> Array:
    """Return a copy with the same strides, gaps and zeros included, that can be written if the array can be."""
    if array.flags.c_contiguous or type(array) is not np.ndarray or not array.size:
        copy = array.copy(order="K")
    else:
        reach = [(extent - 1) * stride for extent, stride in zip(array.shape, array.strides, strict=True)]
        before, after = -sum(min(bytes_, 0) for bytes_ in reach), sum(max(bytes_, 0) for bytes_ in reach)
        memory = np.full(before + after + array.itemsize, UNUSED, np.uint8)
        copy = np.ndarray(array.shape, array.dtype, memory, before, array.strides)
        copy[...] = array
    if not array.flags.writeable:
        copy.setflags(write=False)
    return copy


def read_only(array: Array) -> Array:
    """Return a view that cannot be written."""
    view = array.view()
    view.setflags(write=False)
    return view
