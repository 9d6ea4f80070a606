"""Derivative estimates by central differences, with a bound on their error each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array

# Steps to try, in units of the tensor's largest element. Large steps see past rounding, small ones past curvature and
# nearby kinks; the descent ends at the first step whose truncation is below its rounding.
STEPS = (2.0**-6, 2.0**-9, 2.0**-12, 2.0**-15)

# Richardson's R = (64 D(h/4) - 20 D(h/2) + D(h)) / 45 of central differences D(k), each of which an error n in two
# values moves by up to n / k: in all (64 * 4 + 20 * 2 + 1) / 45 times n / h.
RICHARDSON_ROUNDING = 297 / 45

# The noise of f is the largest of 16 samples, near 2.8 standard deviations of a difference of two evaluations, and is
# exceeded once in 200 times; three times that is 8 deviations. (Taken once only, it was exceeded in 1 of 50,000.)
NOISE_SAMPLING = 3.0

# For a smooth function the jump between the slopes to the right and to the left shrinks as 1 : 1/2 : 1/4 with h, and
# so, as 1 : 1/4, do the differences of successive central differences; at or near a kink they do not. A departure by
# more than this share of the first, beyond rounding, and the step is given up.
PATTERN_SLACK = 0.1


@dataclass(frozen=True)
class Estimate:
    """Derivatives of <dy, f(x)> by every element of x, with error bounds.

    The bound is inf where no step behaved as for a smooth function, at a kink for instance: such an element is not
    judged.
    """

    value: Array
    error: Array


def central_differences(f: Callable[[Array], Array], x: Array, dy: Array, noise: Array) -> Estimate:
    """Estimate the gradient of ``<dy, f(x)>`` for float64 ``x``, element by element.

    Central differences D at h, h/2 and h/4, extrapolated by Richardson's rule. The bound is that of truncation, the
    difference of the two first extrapolations ``(4 D(k/2) - D(k)) / 3`` at k = h and h/2, plus that of rounding,
    ``RICHARDSON_ROUNDING * NOISE_SAMPLING * <|dy|, noise> / h`` with ``noise`` the measured noise of each output. (The
    usual estimate of truncation, from the last two extrapolations, is 15 times smaller; it fails where the h^4 and h^6
    terms cancel: by a factor of 4 for a sigmoid at h = 0.23.)
    """
    x = x.copy()
    y = f(x)
    value, error = np.zeros(x.shape), np.full(x.shape, np.inf)
    scale = float(np.abs(x).max(initial=0.0)) or 1.0
    for index in np.ndindex(x.shape):
        for step in STEPS:
            estimate = _richardson(f, x, index, y, dy, step * scale, noise)
            if estimate is None:
                continue
            best, truncation, rounding = estimate
            if truncation + rounding < error[index]:
                value[index], error[index] = best, truncation + rounding
            if truncation <= rounding:
                break
    return Estimate(value, error)


def _richardson(
    f: Callable[[Array], Array],
    x: Array,
    index: tuple[int, ...],
    y: Array,
    dy: Array,
    h: float,
    noise: Array,
) -> tuple[float, float, float] | None:
    """Return an estimate, its truncation and its rounding, or None if f does not look smooth at this step."""
    centre = float(x[index])
    slopes, jumps = [], []
    for k in (h, h / 2, h / 4):
        x[index] = centre + k
        right, above = float(x[index]), f(x)
        x[index] = centre - k
        left, below = float(x[index]), f(x)
        slopes.append(float(np.sum(dy * (above - below))) / (right - left))
        jumps.append((above - y) / (right - centre) - (y - below) / (centre - left))
    x[index] = centre
    for jump, share in ((jumps[1], 0.5), (jumps[2], 0.25)):
        departure = np.abs(jump - share * jumps[0])
        if np.any(departure > PATTERN_SLACK * np.abs(jumps[0]) + 4 * noise / (share * h)):
            return None
    rounding = RICHARDSON_ROUNDING * NOISE_SAMPLING * float(np.sum(np.abs(dy) * noise)) / h
    coarse, fine = slopes[0] - slopes[1], slopes[1] - slopes[2]
    if abs(fine - coarse / 4) > PATTERN_SLACK * abs(coarse) + rounding:
        return None
    first, second = (4 * slopes[1] - slopes[0]) / 3, (4 * slopes[2] - slopes[1]) / 3
    return (16 * second - first) / 15, abs(first - second), rounding


def elementwise_noise(base: Array, shadows: list[Array]) -> Array:
    """Return the rounding noise of each element: the spread of the shadows, at least half a unit in its last place."""
    noise = np.asarray(np.finfo(base.dtype).eps / 2 * np.abs(base))
    for shadow in shadows:
        noise = np.maximum(noise, np.abs(shadow - base))
    return noise
