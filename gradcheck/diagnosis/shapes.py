"""Sums over too few axes or too many."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np

from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence, along
from gradcheck.diagnosis.fits import TWO, axis_sets


def not_reduced(evidence: Evidence) -> Diagnosis | None:
    """The gradient has more axes than its tensor; summed over them it is right."""
    analytic, needed = evidence.analytic, evidence.numeric.shape
    for axes in combinations(range(analytic.ndim), max(analytic.ndim - len(needed), 0)):
        extents = tuple(analytic.shape[axis] for axis in axes)
        rest = tuple(extent for axis, extent in enumerate(analytic.shape) if axis not in axes)
        if rest == needed and prod(extents) > 1 and evidence.allows(analytic.sum(axis=axes)):
            batch = axes == (evidence.batch_axis,) and extents[0] == evidence.batch
            details = {"axes": axes, "batch": batch, "shape": analytic.shape, "needed": needed}
            return Diagnosis(Cause.NOT_REDUCED, details)
    return None


def turned(evidence: Evidence) -> Diagnosis | None:
    """The transpose, which has another shape."""
    if evidence.analytic.shape == evidence.numeric.shape[::-1] and evidence.allows(evidence.analytic.T):
        return Diagnosis(Cause.TRANSPOSED, {"axes": tuple(range(evidence.numeric.ndim))})
    return None


def wrong_shape(evidence: Evidence) -> Diagnosis:
    """Another shape, whatever the reason."""
    return Diagnosis(Cause.WRONG_SHAPE, {"shape": evidence.analytic.shape, "needed": evidence.numeric.shape})


def reduced_too_far(evidence: Evidence) -> Diagnosis | None:
    """All elements along some axes are their sum, or a mean of it."""
    shape = evidence.numeric.shape
    if not _broadcasts(evidence.analytic.shape, shape):
        return None
    comparison = evidence.comparison
    for axes in axis_sets(shape):
        count = prod(shape[axis] for axis in axes)
        total = comparison.numeric.sum(axis=axes, keepdims=True)
        unsure = comparison.allowed.sum(axis=axes, keepdims=True)
        for kind, divisor in (("sum", 1), ("mean", count), ("mean over the batch too", count * (evidence.batch or 1))):
            predicted, error = np.broadcast_to(total / divisor, shape), np.broadcast_to(unsure / divisor, shape)
            if comparison.explained_by(predicted, error, TWO):
                return along(Cause.REDUCED_TOO_FAR, axes, shape, kind=kind)
    return None


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    extents = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(have in (1, want) for have, want in extents)
