"""Two tensors of which nobody has measured the noise: whether they differ by more than any rounding explains.

Of the numbers of a step, the first half of their digits is left to rounding: an allowance of ``sqrt(eps)`` times the
largest number of the step. A right program loses more only if it magnifies rounding by more than ``1 / sqrt(eps)``,
6.7e7 in float64, beyond the largest number that it shows. What a smaller number is the rest of, as a gradient that
cancels or a loss of a sure prediction, is rounded as the larger numbers are that it comes of; so the largest number of
the whole step counts, and never less than 1, of which probabilities are shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.rounding import largest_magnitude
from gradcheck.trajectory.divergence import unlike_arrays
from gradcheck.trajectory.engine import State
from gradcheck.trajectory.judgement import exact

# In lower precisions the two sides of a kink are near enough for rounding to choose, which changes whole terms of what
# flows back.
BEYOND_KINKS = np.finfo(np.float64).eps
HALF_OF_FLOAT32 = np.float16  # the precision that has about half of its digits


def unexplained(name: str, ours: Mapping[str, Array], theirs: Mapping[str, Array], before: State) -> bool:
    """Return whether the tensor ``phase/tensor`` of a step, taken by both from the same state, differs by more.

    Of an optimizer's move, an element has the relative uncertainty of its gradient, since Adam's is as large however
    small a gradient is; where no gradient is shown, or it is below the allowance, it may be the opposite. In float32
    and below, nothing is told of gradients and updates: see `BEYOND_KINKS`.
    """
    a, b = ours[name], theirs[name]
    if unlike_arrays(name, a, b):
        return True
    if np.array_equal(a, b):
        return False
    if exact(name, b):
        return True
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return True
    if untold(name, a) or untold(name, b):
        return False
    eps = max(float(np.finfo(array.dtype).eps) for array in (a, b))
    allowed = np.full(b.shape, math.sqrt(eps) * _size(ours, theirs, before))
    key = name.removeprefix("update/")
    if name.startswith("update/") and key in before and before[key].shape == b.shape:
        allowed = allowed + _moves(key, ours, theirs, before, allowed)
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.subtract(a, b, dtype=np.float64))
    return bool(np.any(finite & (apart > allowed)))


def untold(name: str, array: Array) -> bool:
    """Return whether the numbers alone do not tell a fault of a tensor from a kink on which the two sides differ."""
    return name.startswith(("backward/", "update/")) and np.finfo(array.dtype).eps > BEYOND_KINKS


def _size(ours: Mapping[str, Array], theirs: Mapping[str, Array], before: State) -> float:
    """Return the largest finite number of a step, at least 1."""
    arrays = [array for shown in (ours, theirs, before) for array in shown.values() if array.dtype.kind == "f"]
    return max([1.0, *(largest_magnitude(array[np.isfinite(array)]) for array in arrays)])


def _moves(
    key: str, ours: Mapping[str, Array], theirs: Mapping[str, Array], before: State, allowed: Array
) -> Array | float:
    """Return how far rounding of the gradient may set two moves of a parameter apart, element by element."""
    if not key.startswith("param/"):
        return 0.0
    start = before[key]
    moves = sum(np.abs(np.subtract(side[f"update/{key}"], start, dtype=np.float64)) for side in (ours, theirs))
    gradient = theirs.get(f"backward/{key.removeprefix('param/')}")
    if gradient is None or gradient.shape != start.shape:
        return np.asarray(moves)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(np.minimum(1.0, allowed / np.abs(gradient)), nan=1.0)
    return np.asarray(moves * share)
