"""What every loss does first with what it is given."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array, Loss, ShapeError
from nets.floating import floating


def paired(loss: Loss, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Return prediction and target in the prediction's precision; raise `ShapeError` unless they are of one shape."""
    loss.require(prediction, target)
    prediction = floating(prediction)
    return prediction, target.astype(prediction.dtype, copy=False)


def rescaling(loss: Loss, name: str, weight: Array | None, prediction: Array) -> Array | float:
    """Return a weight of the elements in the prediction's precision, 1 for None.

    Raises `ShapeError` unless it broadcasts to the prediction.
    """
    if weight is None:
        return 1.0
    array = np.asarray(weight)
    shape = prediction.shape
    # Aligned at the last axis, each extent is 1 or the prediction's.
    if array.ndim > len(shape) or any(
        have not in (1, want) for have, want in zip(array.shape[::-1], shape[::-1], strict=False)
    ):
        raise ShapeError(
            f"{type(loss).__name__} needs {name} that broadcasts to predictions of shape {shape}, got {array.shape}"
        )
    return array.astype(prediction.dtype, copy=False)
