"""Which loss a gradient is of, whatever loss was told: the usual ones, by the gradients of their sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import TWO, Comparison


class Descent(NamedTuple):
    """A loss that is descended: the gradient's ``formula``, the ``loss`` it is of, and what both are divided by.

    ``divisor`` is the name of a `Quantity`, or empty where nothing is divided.
    """

    formula: str
    loss: str
    divisor: str


def descents(
    comparison: Comparison, dy: Array, prediction: Array, target: Array, batch_axis: int | None = 0
) -> tuple[Descent, ...]:
    """Return the losses whose gradient an analytic one is, the plainest first; several may be one on these numbers.

    ``dy`` is the cotangent of the value, one number. Nothing is fitted to the gradient: all its judged elements, two or
    more of which must tell, are as the formula says.
    """
    wanted = _like(prediction, target)
    if wanted is None or dy.size != 1:
        return ()
    divisors = {"": 1, "outputs": prediction.size}
    if prediction.ndim > 1:
        batch = prediction.shape[batch_axis or 0]
        divisors = {
            "": 1,
            "batch": batch,
            "batch x outputs": prediction.size,
            "outputs": prediction.size // max(1, batch),
        }
    found = []
    for formula, (loss, gradient) in LOSSES.items():
        whole = dy.reshape(()) * gradient(prediction, wanted)
        for divisor, value in divisors.items():
            if comparison.explained_by(np.asarray(whole / value), 0.0, TWO):
                found.append(Descent(formula, loss, divisor))
    return tuple(found)


def _like(prediction: Array, target: Array) -> Array | None:
    """Return a target in the prediction's shape, rows that are 1 at their class for classes, or None."""
    if target.shape == prediction.shape:
        return target
    if prediction.ndim != 2 or target.shape != prediction.shape[:1] or target.dtype.kind not in "iu":
        return None
    return np.asarray(target[:, None] == np.arange(prediction.shape[1]), dtype=np.float64)


def _cross_entropy_of_probabilities(p: Array, t: Array) -> Array:
    inside = (p > 0) & (p < 1)
    return np.where(inside, (p - t) / np.where(inside, p * (1 - p), 1.0), np.nan)


def sigmoid(z: Array) -> Array:
    """Return ``1 / (1 + exp(-z))``."""
    return np.asarray(1 / (1 + np.exp(-z)))


def softmax(z: Array, axis: int) -> Array:
    """Return ``exp(z) / sum(exp(z))`` along an axis."""
    powers = np.exp(z - z.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


# The gradients of sums over all elements, in words: the loss, and the gradient at a prediction and a target.
LOSSES: dict[str, tuple[str, Callable[[Array, Array], Array]]] = {
    "prediction - target": (
        "half the sum of squares, or of summed cross-entropy before its sigmoid or softmax",
        lambda p, t: p - t,
    ),
    "2 (prediction - target)": ("the sum of squares", lambda p, t: 2 * (p - t)),
    "sign(prediction - target)": ("the sum of absolute differences", lambda p, t: np.sign(p - t)),
    "softmax(prediction) - target": (
        "summed cross-entropy after a softmax",
        lambda z, t: softmax(z, min(1, z.ndim - 1)) - t,
    ),
    "sigmoid(prediction) - target": (
        "summed binary cross-entropy after a sigmoid",
        lambda z, t: sigmoid(z) - t,
    ),
    "(prediction - target) / (prediction (1 - prediction))": (
        "summed binary cross-entropy of probabilities",
        _cross_entropy_of_probabilities,
    ),
}
