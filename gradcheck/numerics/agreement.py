"""Two gradients and an allowance: where they disagree, and by how many times the allowance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, auto

import numpy as np

from gradcheck.contract import Array, ShapeError


class Verdict(StrEnum):
    """The answer of a check. INCONCLUSIVE: nothing was compared, or rounding hid the difference."""

    PASS = auto()
    FAIL = auto()
    INCONCLUSIVE = auto()


# For findings that must all pass: one that is inconclusive leaves the whole inconclusive.
WORST_LAST = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)


@dataclass(frozen=True)
class Worst:
    """The element in which two tensors disagree most, measured in allowances; ``ratio`` above 1 fails."""

    tensor: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    allowed: float
    ratio: float


def disagreement(a: Array, b: Array) -> Array:
    """Return ``|a - b|``: 0 where both are the same, infinite and NaN included, and inf where only one is finite.

    Raises `ShapeError` for different shapes.
    """
    if a.shape != b.shape:
        raise ShapeError(f"shapes differ: {a.shape} and {b.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(np.subtract(a, b), dtype=None if a.dtype.kind == "f" else np.float64)
    if math.isfinite(difference.max(initial=0.0)):
        return np.asarray(difference)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.asarray(np.where(same, 0.0, np.where(np.isnan(difference), math.inf, difference)))


def ratio_of(difference: float, allowed: float) -> float:
    """Return disagreement over allowance: 0 for none, inf for an infinite one and for any where none is allowed."""
    if difference == 0:
        return 0.0
    return difference / allowed if allowed > 0 and math.isfinite(difference) else math.inf


def compare(tensor: str, analytic: Array, numeric: Array, allowed: Array | float) -> Worst | None:
    """Return the element with the largest `ratio_of` its `disagreement`, or None if there are no elements.

    An element whose allowance is inf is not judged, unless its disagreement is inf. Raises `ShapeError` for different
    shapes.
    """
    if analytic.shape != numeric.shape:
        raise ShapeError(f"{tensor} has shape {analytic.shape}, its reference {numeric.shape}")
    if analytic.size == 0:
        return None
    difference = disagreement(analytic, numeric)
    if isinstance(allowed, float) and 0 < allowed < math.inf:
        place = int(np.argmax(difference))
        worst, index = float(difference.flat[place]), tuple(int(i) for i in np.unravel_index(place, difference.shape))
        return Worst(
            tensor, index, float(analytic[index]), float(numeric[index]), float(allowed), ratio_of(worst, allowed)
        )
    allowance = np.broadcast_to(np.asarray(allowed, dtype=np.float64), analytic.shape)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where((allowance > 0) & np.isfinite(difference), difference / allowance, np.inf)
    ratio[difference == 0] = 0.0
    index = tuple(int(i) for i in np.unravel_index(np.argmax(ratio), ratio.shape))
    return Worst(
        tensor, index, float(analytic[index]), float(numeric[index]), float(allowance[index]), float(ratio[index])
    )


def judge(verdicts: list[Verdict]) -> Verdict:
    """Return FAIL if any failed, else PASS if any passed, else INCONCLUSIVE."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if Verdict.PASS in verdicts else Verdict.INCONCLUSIVE


def worst(verdicts: Iterable[str]) -> Verdict | None:
    """Return FAIL if any failed, else INCONCLUSIVE if any was, else PASS; None if there are none."""
    return max(map(Verdict, verdicts), key=WORST_LAST.index, default=None)


def severity(verdict: Verdict, amount: float) -> tuple[int, float]:
    """Return a sort key for findings, the worst last: by verdict, then by amount; NaN counts as the largest."""
    return WORST_LAST.index(verdict), math.inf if math.isnan(amount) else amount


def largest(*candidates: Worst | None) -> Worst | None:
    """Return the worst of several, or None if there is none."""
    return max((worst for worst in candidates if worst), key=lambda worst: worst.ratio, default=None)
