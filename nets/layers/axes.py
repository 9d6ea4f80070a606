"""Axes as torch's arguments name them."""

from __future__ import annotations

from gradcheck.contract import Array, ShapeError


def axis_of(owner: str, argument: str, dim: int, x: Array) -> int:
    """Return the axis 0, 1, ... of ``x`` that ``dim`` names, a negative one counted from behind.

    A single number has one axis here, as in torch. Raises `ShapeError` for an axis that ``x`` has not.
    """
    axes = max(x.ndim, 1)
    if not -axes <= dim < axes:
        least = dim + 1 if dim >= 0 else -dim
        raise ShapeError(f"{owner} needs x of at least {least} axes for {argument}={dim}, got {x.shape}")
    return dim % axes
