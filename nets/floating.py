"""The precision in which numbers are computed with."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array


def floating(array: Array) -> Array:
    """Return an array as it is, or integers and truth values, which would wrap around or be narrow, as float64."""
    return array if array.dtype.kind in "fc" else array.astype(np.float64)
