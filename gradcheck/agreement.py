"""Two gradients and an allowance: where they disagree, and by how many times the allowance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gradcheck.contract import Array, ShapeError


class Verdict(StrEnum):
    """The answer of a check. INCONCLUSIVE is neither: nothing was compared, or nothing could be told."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Worst:
    """The element in which two tensors disagree most, measured in allowances; ``ratio`` above 1 fails."""

    tensor: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    allowed: float
    ratio: float


def compare(tensor: str, analytic: Array, numeric: Array, allowed: Array | float) -> Worst | None:
    """Return the worst element of ``|analytic - numeric| / allowed``, or None if there are no elements.

    Equal elements have ratio 0 whatever is allowed, non-finite ones that differ have ratio inf, and an element whose
    allowance is inf is not judged. Raises `ShapeError` for different shapes.
    """
    if analytic.shape != numeric.shape:
        raise ShapeError(f"{tensor} has shape {analytic.shape}, its reference {numeric.shape}")
    if analytic.size == 0:
        return None
    allowance = np.broadcast_to(np.asarray(allowed, dtype=np.float64), analytic.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(analytic.astype(np.float64) - numeric)
        ratio = np.where(analytic == numeric, 0.0, difference / allowance)
    same_nan = np.isnan(analytic) & np.isnan(numeric)
    ratio[same_nan] = 0.0
    ratio[np.isnan(ratio)] = math.inf
    index = tuple(int(i) for i in np.unravel_index(np.argmax(ratio), ratio.shape))
    return Worst(
        tensor,
        index,
        float(analytic[index]),
        float(numeric[index]),
        float(allowance[index]),
        float(ratio[index]),
    )


def judge(verdicts: list[Verdict]) -> Verdict:
    """Return FAIL if any failed, else PASS if any passed, else INCONCLUSIVE."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if Verdict.PASS in verdicts else Verdict.INCONCLUSIVE


def largest(*candidates: Worst | None) -> Worst | None:
    """Return the worst of several, or None if there is none."""
    return max((worst for worst in candidates if worst), key=lambda worst: worst.ratio, default=None)
