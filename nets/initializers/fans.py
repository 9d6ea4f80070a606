"""How many connections lead into a unit and out of it."""

from __future__ import annotations

import math


def fans_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in, ...): connections into and out of a unit.

    Raises ValueError for fewer than two axes, which have no fans.
    """
    if len(shape) < 2:
        raise ValueError(f"fan-in and fan-out need a weight of shape (out, in, ...), got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field
