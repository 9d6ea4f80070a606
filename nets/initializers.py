"""Initial weights, and the registry of the rules that draw them.

Every rule draws float64; a float32 network starts from the same numbers, rounded.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array, Layer


@dataclass(frozen=True)
class Initializer(ABC):
    """A distribution for the elements of a weight of shape (out, in, ...)."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return a float64 array of ``shape``."""


@dataclass(frozen=True)
class Zeros(Initializer):
    """All zeros."""

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.zeros(shape)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0 and deviation ``std``."""

    std: float = 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.normal(0.0, self.std, shape)


@dataclass(frozen=True)
class XavierNormal(Initializer):
    """Normal with mean 0 and variance ``gain^2 * 2 / (fan_in + fan_out)``; Glorot and Bengio (2010), equation 12."""

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return rng.normal(0.0, self.gain * math.sqrt(2.0 / sum(fans(shape))), shape)


@dataclass(frozen=True)
class XavierUniform(Initializer):
    """Uniform in +-``gain * sqrt(6 / (fan_in + fan_out))``; Glorot and Bengio (2010), equation 16."""

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        bound = self.gain * math.sqrt(6.0 / sum(fans(shape)))
        return rng.uniform(-bound, bound, shape)


INITIALIZERS: tuple[type[Initializer], ...] = (Zeros, Normal, XavierNormal, XavierUniform)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in, ...): connections into and out of a unit.

    Raises ValueError for fewer than two axes, which have no fans.
    """
    if len(shape) < 2:
        raise ValueError(f"fan-in and fan-out need a weight of shape (out, in, ...), got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def initialize(layer: Layer, weights: Initializer, biases: Initializer, rng: np.random.Generator) -> None:
    """Fill every parameter of ``layer`` in place, in order of name: of one axis as a bias, of more as a weight."""
    for _, array in sorted(layer.parameters().items()):
        array[...] = (weights if array.ndim > 1 else biases).draw(array.shape, rng)
