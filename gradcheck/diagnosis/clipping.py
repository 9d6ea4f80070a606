"""A gradient that is cut off at bounds, or scaled down to a norm, inside of backward."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.fits import PRECISION, TWO, rounded

# Cotangents so large that whatever can be cut off is: powers of two, and so without rounding.
LARGE = tuple(sign * 2.0**power for power in (20, 21) for sign in (1, -1))


def clipped(evidence: Evidence) -> Diagnosis | None:
    """Each element is min(max(g, low), high), or all are ``g min(1, norm / |g|)``: the bounds show for a large dy."""
    comparison = evidence.comparison
    if not np.any(comparison.failing):
        return None
    large = [np.asarray(evidence.analytic_of(factor * evidence.dy)) for factor in LARGE]
    if any(array.shape != comparison.numeric.shape or not np.isfinite(array).all() for array in large):
        return None
    low, high = _same([array.min() for array in large]), _same([array.max() for array in large])
    if low is not None or high is not None:
        predicted = np.asarray(np.clip(comparison.numeric, low, high))
        return _believed(evidence, predicted, {"low": low, "high": high, "norm": None})
    norms = [_norm(array) for array in large]
    norm, own = norms[0], _norm(comparison.numeric)
    if not norm or not own or np.ptp(norms) * PRECISION > norm:
        return None
    predicted = comparison.numeric * min(1.0, norm / own)
    return _believed(evidence, predicted, {"low": None, "high": None, "norm": rounded(norm)})


def _believed(evidence: Evidence, predicted: Array, bounds: dict[str, float | None]) -> Diagnosis | None:
    comparison = evidence.comparison
    # Of a sum of squares all elements' errors are in the norm.
    unsure = float(comparison.allowed[comparison.judged].sum()) if bounds["norm"] else 0.0
    return Diagnosis(Cause.CLIPPED, bounds) if comparison.explained_by(predicted, unsure, TWO) else None


def _same(values: list[float]) -> float | None:
    return float(values[0]) if all(value == values[0] for value in values) else None


def _norm(array: Array) -> float:
    return float(np.sqrt((array**2).sum()))
