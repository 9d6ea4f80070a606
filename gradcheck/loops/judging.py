"""One tensor of a step of two loops: how far apart it is, and how far it may be."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.names import Link
from gradcheck.loops.seen import Seen
from gradcheck.numerics.rounding import largest_difference, largest_magnitude, update_rounding
from gradcheck.trajectory.engine import State
from gradcheck.trajectory.judgement import USEFUL, Judgement


def judged(ours: Array, theirs: Array, spread: float, factor: float, eps: float, before: Array | None) -> Judgement:
    """Compare a tensor of one step: the allowance is ``factor`` times the spread, and at least one rounding."""
    if ours.shape != theirs.shape:
        return Judgement(math.inf, 0.0)
    apart = largest_difference(ours.astype(np.float64), theirs.astype(np.float64))
    return Judgement(apart, 0.0 if is_exact(theirs) else max(factor * spread, floor(theirs, eps, before)))


def of_a_mean(samples: int) -> int:
    """Return by how many roundings of each side a mean of positive terms may err: ``ceil(log2 samples) + 2``.

    Terms are summed in pairs, then divided and scaled. No nudge of single terms shows that, since these average out.
    """
    return math.ceil(math.log2(max(samples, 1))) + 2


def floor(theirs: Array, eps: float, before: Array | None) -> float:
    """Return what one rounding of each side can set apart: that of an update, where the tensor before it is known."""
    if before is None:
        return eps * largest_magnitude(theirs)
    own = float(np.finfo(theirs.dtype).eps)
    return update_rounding(before.astype(theirs.dtype), theirs) * max(1.0, eps / own)


def is_exact(array: Array) -> bool:
    """Return whether a tensor must be equal on both sides: labels and counters, which no rounding changes."""
    return array.dtype.kind != "f"


def eps(array: Array, seen: Seen, names: Iterable[str]) -> float:
    """Return the unit of the precision that a tensor was computed in."""
    own = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return max([own, *(seen.coarse.get(name, 0.0) for name in names)])


def start_of(before: State, link: Link) -> Array | None:
    """Return a tensor of theirs before a step, if it is an update and was there."""
    keys = {name: name.removeprefix("update/") for name in link.theirs if name.startswith("update/")}
    if not keys or any(key not in before for key in keys.values()):
        return None
    return link.of_theirs({name: before[key] for name, key in keys.items()})


def may_be_noise(judgement: Judgement, theirs: Array) -> bool:
    """Return whether more shadows could explain a difference: not if there may be none, nor one of some per cent."""
    return judgement.allowed > 0 and judgement.disagreement <= USEFUL * largest_magnitude(theirs)


def same(a: Array, b: Array | None) -> bool:
    """Return whether two arrays are equal, bit for bit but for the NaNs."""
    return b is not None and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def near(a: Array, b: Array) -> bool:
    """Return whether two arrays are equal, or for floating-point numbers apart by a hundredth of the largest."""
    return a.shape == b.shape and bool(
        np.array_equal(a, b) if a.dtype.kind != "f" else largest_difference(a, b) <= USEFUL * largest_magnitude(b)
    )


def norm(array: Array) -> float:
    """Return the 2-norm, in float64."""
    return float(np.linalg.norm(array.astype(np.float64)))
