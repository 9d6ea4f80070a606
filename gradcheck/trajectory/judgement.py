"""One tensor of a step, as two programs computed it: the disagreement, the allowance, and if it is informative."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.agreement import ratio_of
from gradcheck.numerics.rounding import largest_difference, largest_magnitude, underflow, update_rounding
from gradcheck.trajectory.divergence import unlike_arrays
from gradcheck.trajectory.engine import State

# An allowance above this share of what is compared (for an update, of how far it moved) is uninformative.
USEFUL = 1e-2

# No further shadow is asked once all comparisons are within such a share of the allowance that those asked give, which
# another can only widen.
CLEAR = 1 / 2


class Judgement(NamedTuple):
    """How far apart two tensors are, and how far they may be."""

    disagreement: float
    allowed: float

    @property
    def ratio(self) -> float:
        """Disagreement over allowance: above 1 fails."""
        return ratio_of(self.disagreement, self.allowed)


class Apart(NamedTuple):
    """How far apart two tensors are, and what is allowed whatever shadows show.

    ``least`` is the floor of the allowance, and ``lower`` what a lower precision of one side adds to it. Shadows say
    nothing of what is ``exact``. ``size`` is the largest element of the reference's, or how far it moved an update.
    """

    disagreement: float
    least: float
    lower: float
    exact: bool
    size: float

    def judged(self, spread: float, factor: float) -> Judgement:
        """Return the judgement, given the spread of the shadows."""
        allowed = self.least if self.exact else max(factor * spread, self.least)
        return Judgement(self.disagreement, allowed + self.lower)

    def tells(self, judgement: Judgement) -> bool:
        """Return whether an allowance is at most `USEFUL` times the size of what is compared."""
        return 0 < self.size < math.inf and judgement.allowed <= USEFUL * self.size


def apart(name: str, ours: Array, theirs: Array, before: State) -> Apart:
    """Compare the tensor ``phase/tensor`` of a step from the state ``before``, but for what shadows show of it.

    The disagreement of two that cannot be compared is inf. A loss may be in a lower precision, and is as exact as that.
    The floor is eps times the largest element, since the last rounding alone costs each side up to half of that, or the
    `update_rounding` of an update. What has lost digits in an underflow may part further behind it, up to `underflow`.
    """
    start, same = before.get(name.removeprefix("update/")), exact(name, theirs)
    size = top = least = 0.0
    if not same:
        size = top = largest_magnitude(theirs)
        floor = float(np.finfo(theirs.dtype).eps) * top
        if start is not None:
            size = largest_difference(theirs, start)
            floor = update_rounding(start, theirs, top, size)
        least = max(floor if math.isfinite(floor) else 0.0, underflow(theirs.dtype))
    if unlike_arrays(name, ours, theirs):
        return Apart(math.inf, least, 0.0, same, size)
    lower = 0.0
    if ours.dtype != theirs.dtype and ours.dtype.kind == theirs.dtype.kind == "f":
        lower = max(float(np.finfo(side.dtype).eps) for side in (ours, theirs)) * top
    return Apart(largest_difference(ours, theirs), least, lower, same, size)


def judged(name: str, ours: Array, theirs: Array, spread: float, factor: float, before: State) -> Judgement:
    """Compare the tensor ``phase/tensor`` of a step from the state ``before``; the shadows of it have a ``spread``."""
    return apart(name, ours, theirs, before).judged(spread, factor)


def exact(name: str, array: Array) -> bool:
    """Return whether a tensor must be equal on both sides: data and counters."""
    return name.startswith("data/") or array.dtype.kind != "f"
