"""Names and numbers as they are written wherever something is reported, and the type of a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = Any


def element(tensor: str, index: Sequence[int]) -> str:
    """Return an element's name, ``bias[2]``; a scalar has no index."""
    return f"{tensor}[{', '.join(map(str, index))}]" if len(index) else tensor


def sentence(claim: str) -> str:
    """Return a property's name as words."""
    return claim.replace("_", " ")


def noise_units(ratio: float, factor: float) -> str:
    """Return a ratio in units of rounding noise."""
    noise = ratio * factor
    return f"{noise:.1f}" if noise < 1000 else f"{noise:.1e}"
