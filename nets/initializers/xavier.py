"""Xavier's initialisation: weights that keep the size of what passes forward and of what passes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Initializer
from nets.initializers.fans import fans_of
from nets.refusals import GENERATOR, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Xavier(Initializer):
    """What both rules have: variance ``gain^2 * 2 / (fan_in + fan_out)``. Raises ValueError where that divides by 0."""

    gain: float = 1.0

    def scale(self, square: float, shape: tuple[int, ...], fans: tuple[int, int] | None) -> float:
        """Return ``gain * sqrt(square / (fan_in + fan_out))``, with the fans of ``shape`` where none are given."""
        fans = fans or fans_of(shape)
        if not sum(fans):
            raise ValueError(f"{type(self).__name__} needs fans above 0, got fans (in, out) of {fans}")
        return self.gain * math.sqrt(square / sum(fans))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.initializers.strategies import OF_FANS, rule_cases

        return rule_cases(cls, OF_FANS, gain=(1.0, 5 / 3, 0.5))


@refuses(**GENERATOR)
@dataclass(frozen=True)
class XavierNormal(Xavier):
    """Normal with mean 0 and variance ``gain^2 * 2 / (fan_in + fan_out)``; Glorot and Bengio (2010), equation 12.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.xavier_normal_
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.normal(0.0, self.scale(2.0, shape, fans), shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.xavier_normal_(tensor, self.gain)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class XavierUniform(Xavier):
    """Uniform in +-``gain * sqrt(6 / (fan_in + fan_out))``; Glorot and Bengio (2010), equation 16.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.xavier_uniform_
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        bound = self.scale(6.0, shape, fans)
        return rng.uniform(-bound, bound, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.xavier_uniform_(tensor, self.gain)
