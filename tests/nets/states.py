"""Named arrays, compared bit by bit."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck.contract import Array


def bits(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    """Return what arrays hold, and of which type they are."""
    return {name: array.dtype.str.encode() + array.tobytes() for name, array in arrays.items()}
