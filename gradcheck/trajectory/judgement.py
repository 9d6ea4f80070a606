"""One tensor of a step, as two programs computed it: the disagreement, the allowance, and if it is informative."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.agreement import ratio_of
from gradcheck.numerics.rounding import largest_difference, largest_magnitude, noise_of, underflow
from gradcheck.trajectory.divergence import unlike_arrays
from gradcheck.trajectory.engine import State

# An allowance above this share of what is compared (for an update, of how far it moved) is uninformative.
USEFUL = 1e-2


class Judgement(NamedTuple):
    """How far apart two tensors are, and how far they may be."""

    disagreement: float
    allowed: float

    @property
    def ratio(self) -> float:
        """Disagreement over allowance: above 1 fails."""
        return ratio_of(self.disagreement, self.allowed)


def judged(name: str, ours: Array, theirs: Array, spread: float, factor: float, before: State) -> Judgement:
    """Compare the tensor ``phase/tensor`` of a step from the state ``before``; the shadows of it have a ``spread``.

    The disagreement of two that cannot be compared is inf. A loss may be in a lower precision, and is as exact as that.
    What has lost digits in an underflow may part further behind it, up to `underflow`.
    """
    start = before.get(name.removeprefix("update/"))
    noise = 0.0
    if not exact(name, theirs):
        noise = max(noise_of(theirs, spread, factor, start), underflow(theirs.dtype) / factor)
    if unlike_arrays(name, ours, theirs):
        return Judgement(math.inf, factor * noise)
    allowed = factor * noise
    if ours.dtype != theirs.dtype and ours.dtype.kind == theirs.dtype.kind == "f":
        allowed += max(float(np.finfo(side.dtype).eps) for side in (ours, theirs)) * largest_magnitude(theirs)
    return Judgement(largest_difference(ours, theirs), allowed)


def exact(name: str, array: Array) -> bool:
    """Return whether a tensor must be equal on both sides: data and counters."""
    return name.startswith("data/") or array.dtype.kind != "f"


def informative(name: str, judgement: Judgement, theirs: Array, before: State) -> bool:
    """Return whether an allowance is at most `USEFUL` times the size of what is compared.

    The size is the largest element, or for an update how far it moved its tensor.
    """
    start = before.get(name.removeprefix("update/"))
    size = largest_magnitude(theirs) if start is None else largest_difference(theirs, start)
    return 0 < size < math.inf and judgement.allowed <= USEFUL * size
