"""Inputs that are a little smaller: within most domains, where other numbers tell more."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array

SHRUNK = 1 / 8  # the largest share by which an element becomes smaller: shares of one stay such


def shrunk(x: Array, rng: np.random.Generator, share: float = SHRUNK) -> Array:
    """Return an array of which each element is smaller by a part of itself, by half a share or more."""
    return np.asarray(x * (1 - share * rng.uniform(0.5, 1.0, x.shape)), dtype=x.dtype)
