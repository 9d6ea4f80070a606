"""Means of a few runs, and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, and half the width of its confidence interval; None of one value, which says nothing of the others."""

    mean: float
    half_width: float | None


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent draws ``values`` (n,), and half its 95 % interval, ``t s / sqrt(n)``.

    ``s`` is their standard deviation and ``t`` the quantile of Student's distribution with n - 1 degrees of freedom.
    """
    from scipy.special import stdtrit

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None)
    quantile = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    return Interval(mean, float(quantile * np.std(values, ddof=1)) / math.sqrt(len(values)))


def paired_difference(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Return by how much ``values`` (n,) exceed ``others`` (n,), of the same n seeds each.

    What a seed does to both, its order and its weights, drops out, so that this tells apart what two intervals do not.
    """
    return interval([mine - yours for mine, yours in zip(values, others, strict=True)])
