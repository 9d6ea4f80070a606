"""An eps beside the sum of a softmax that is computed from exponentials over the largest, and has the gradient without.

``y = e / (sum(e) + eps)`` with ``e = exp(x - max(x))`` has ``dx = y (dy - sum(dy y))`` but where x is largest: the
largest is subtracted from every element, so that there the gradient is smaller by ``eps / (sum(e) + eps) sum(dy y)``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import Guard, Place

ROUNDINGS = 8.0  # of the exponentials and their sum


def guard_of_softmax(here: Comparison, x: Array, y: Array, dy: Array) -> Guard | None:
    """Return the guard beside the sum of a softmax whose outputs are ``y``, or None if they are none with one eps."""
    if y.shape != x.shape:
        return None
    with np.errstate(all="ignore"):
        for eps, unsure, total, axes in _softmaxes(x, y):
            if unsure < eps:
                largest = x == x.max(axis=axes, keepdims=True)
                share = np.where(largest, (dy * y).sum(axis=axes, keepdims=True) / (total + eps), 0.0)
                # Of several that are largest, it is left open which is subtracted.
                blur = unsure * np.abs(share)
                tied = largest.sum(axis=axes, keepdims=True) > 1
                blur = np.where(largest & tied, eps * np.abs(share), blur)
                one = np.ones(here.numeric.shape)
                return Guard(eps, unsure, Place.SOFTMAX, one, 0 * one, one < 0, np.where(tied, 0.0, eps * share), blur)
    return None


def _softmaxes(x: Array, y: Array) -> Iterator[tuple[float, float, Array, tuple[int, ...]]]:
    """Yield, for the axes along which all outputs are those of one eps, the eps, its error, the sums and the axes."""
    every = tuple(range(x.ndim))
    for axes in dict.fromkeys([*((axis,) for axis in reversed(every)), every]):
        if x.max(axis=axes).size == x.size:
            continue  # of one element each, of which every number is a softmax with some eps
        powers = np.exp(x - x.max(axis=axes, keepdims=True))
        total = powers.sum(axis=axes, keepdims=True)
        shown = powers / y - total
        slack = ROUNDINGS * np.finfo(x.dtype).eps * (1 + np.abs(np.log(powers))) * (powers / y + total)
        best = int(np.argmin(np.where(np.isfinite(slack), slack, np.inf)))
        eps, unsure = (float(one.reshape(-1)[best]) for one in (shown, slack))
        if np.all(np.abs(shown - eps) <= slack + unsure, where=powers > 0):
            yield eps, unsure, total, axes
