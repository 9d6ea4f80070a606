"""Which values an input may take, as the one that was given shows: variations keep to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array

SUM = 1e-6  # within which a row that sums to 1 does so
EXACT = 1e-12  # relative: within which a matrix is symmetric


@dataclass(frozen=True)
class Domain:
    """What all elements of an array have in common.

    ``low`` and ``high`` bound them, -inf and inf where they have either sign or are larger than 1; ``sums`` is an axis
    along which they sum to 1; ``mirrored`` is 1 for symmetric matrices, -1 for skew-symmetric ones.
    """

    low: float = -np.inf
    high: float = np.inf
    sums: int | None = None
    mirrored: int = 0

    def kept(self, array: Array) -> Array | None:
        """Return an array of the domain near ``array``, or None where there is none."""
        if self.mirrored and array.shape[-2:-1] != array.shape[-1:]:
            return None
        if self.mirrored:
            array = (array + self.mirrored * array.swapaxes(-1, -2)) / 2
        if self.low == 0 and (array < 0).any():
            return None
        if self.sums is not None:
            total = array.sum(axis=self.sums, keepdims=True)
            return array / total if (total > 0).all() else None
        return None if (array > self.high).any() else array


def domain_of(array: Array) -> Domain:
    """Return what the elements of a floating-point array have in common.

    >>> domain_of(np.array([[0.25, 0.75], [0.5, 0.5]])).sums
    1
    """
    if not array.size or not np.isfinite(array).all():
        return Domain()
    mirrored = 0
    if array.ndim >= 2 and array.shape[-1] == array.shape[-2] > 1:
        other, size = array.swapaxes(-1, -2), float(np.abs(array).max())
        mirrored = next((s for s in (1, -1) if size and np.abs(array - s * other).max() <= EXACT * size), 0)
    if array.min() < 0 or not array.any():
        return Domain(mirrored=mirrored)
    if array.max() > 1:
        return Domain(low=0.0, mirrored=mirrored)
    for axis in reversed(range(array.ndim)):
        if array.shape[axis] > 1 and np.abs(array.sum(axis=axis) - 1).max() <= SUM:
            return Domain(0.0, 1.0, axis)
    return Domain(0.0, 1.0, mirrored=mirrored)


DOMAINS = {
    "any": Domain(),
    "positive": Domain(low=0.0),
    "unit": Domain(0.0, 1.0),
    "sums": Domain(0.0, 1.0, -1),
    "symmetric": Domain(mirrored=1),
    "skew": Domain(mirrored=-1),
}  # by the names that a user gives them
