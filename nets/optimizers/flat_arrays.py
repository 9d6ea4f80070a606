"""Arrays by name in one stretch of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradcheck.contract import Array


class FlatArrays(dict[str, Array]):
    """Copies of ``arrays`` by name, each a view of the contiguous ``flat`` (elements,), one after the other.

    What is written into the one is seen in the other, so that one operation on ``flat`` is one on all of them.
    Raises ValueError for arrays of several dtypes.
    """

    flat: Array

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        dtypes = {array.dtype.name for array in arrays.values()}
        if len(dtypes) > 1:
            raise ValueError(f"FlatArrays needs arrays of one dtype, got {' and '.join(sorted(dtypes))}")
        self.flat = np.concatenate([array.ravel() for array in arrays.values()]) if arrays else np.empty(0)
        self._gathered: Array | None = None
        begin = 0
        for name, array in arrays.items():
            self[name] = self.flat[begin : begin + array.size].reshape(array.shape)
            begin += array.size

    def gathered(self, arrays: Mapping[str, Array]) -> Array:
        """Return ``arrays``, which have the names and shapes of these, in one array, not to be written to.

        That is the arrays' own, if they are flat already and in this order, or else one that the next call overwrites.
        """
        if isinstance(arrays, FlatArrays) and arrays.flat.dtype == self.flat.dtype and [*arrays] == [*self]:
            return arrays.flat
        if self._gathered is None:  # once: memory that is new in every step costs more than the copy
            self._gathered = np.empty_like(self.flat)
        return np.concatenate([arrays[name].ravel() for name in self], out=self._gathered, casting="same_kind")

    def __reduce__(self) -> tuple[Any, ...]:
        return FlatArrays, (dict(self),)  # so that copies, too, are views of one array
