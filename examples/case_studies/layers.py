"""The faults of four published NumPy networks, each in a few lines of our own, beside its right variant.

They are anybody's objects: ``forward`` and ``backward``, parameters and gradients in dicts, no contract.
``mnistcheck verify --module examples.case_studies.layers`` checks them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Dense:
    """Affine map ``y = x W + b``, from (batch, in) to (batch, out)."""

    def __init__(self, inputs: int = 6, outputs: int = 10, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.params = {"W": rng.standard_normal((inputs, outputs)) / np.sqrt(inputs), "b": np.zeros(outputs)}
        self.grads: dict[str, Array] = {}

    def forward(self, x: Array) -> Array:
        """Return the output and keep the input."""
        self.x = x
        y: Array = x @ self.params["W"] + self.params["b"]
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx and keep the gradients of W and b."""
        self.grads = {"W": self.x.T @ dy, "b": dy.sum(axis=0)}
        dx: Array = dy @ self.params["W"].T
        return dx

    @classmethod
    def cases(cls) -> list[tuple[object, Array]]:
        """Return the layer and a batch of four to try it on."""
        return [(cls(), np.random.default_rng(1).standard_normal((4, 6)))]


class DividedTwice(Dense):
    """The loss has divided by the batch size already; the weights' gradient divides by it again, that of b does not."""

    def backward(self, dy: Array) -> Array:
        """Return dx and keep the gradients, of which W's is wrong."""
        dx = super().backward(dy)
        self.grads["W"] = self.grads["W"] / len(dy)
        return dx


class BiasWithoutAnAxis(Dense):
    """The bias gradient is the mean of the sum over everything: one number for all units."""

    def backward(self, dy: Array) -> Array:
        """Return dx and keep the gradients, of which b's is wrong."""
        dx = super().backward(dy)
        self.grads["b"] = np.full_like(self.params["b"], np.mean(np.sum(dy)))
        return dx


class MeanSquares:
    """Mean squared error over samples and outputs."""

    def forward(self, prediction: Array, target: Array) -> float:
        """Return the mean of the squared differences."""
        self.difference = prediction - target
        return float(np.mean(self.difference**2))

    def backward(self) -> Array:
        """Return the gradient of the prediction."""
        return 2 * self.difference / self.difference.size

    @classmethod
    def cases(cls) -> list[tuple[object, Array, Array]]:
        """Return the loss, one prediction of ten outputs and its one-hot target, as training at batch 1 has it."""
        rng = np.random.default_rng(2)
        return [(cls(), rng.uniform(0.1, 0.9, (1, 10)), np.eye(10)[rng.integers(10, size=1)])]


class DescendsAnother(MeanSquares):
    """Reports the mean squared error and descends another loss, whose delta is the plain difference."""

    def backward(self) -> Array:
        """Return the gradient of half the summed square."""
        return self.difference


class Dropout:
    """Drops a fifth of its inputs in training, and none in evaluation."""

    def __init__(self, p: float = 0.2) -> None:
        self.p, self.training, self.rng = p, True, np.random.default_rng()

    def dropping(self) -> bool:
        """Return whether this call drops anything."""
        return self.training

    def forward(self, x: Array) -> Array:
        """Return what is kept, scaled up, and keep the mask."""
        self.mask = (self.rng.random(x.shape) >= self.p) / (1 - self.p) if self.dropping() else np.ones(x.shape)
        return x * self.mask

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        return dy * self.mask

    @classmethod
    def cases(cls) -> list[tuple[object, Array]]:
        """Return the layer and activations to try it on."""
        return [(cls(), np.random.default_rng(4).standard_normal((4, 8)))]


class NeverOff(Dropout):
    """Does not know of modes, as a functional dropout that nobody tells: it goes on dropping in evaluation."""

    def dropping(self) -> bool:
        """Return that it does."""
        return True
