"""Kaiming's initialisation, which keeps the size of what passes a non-linearity; torch's default is one of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradcheck.contract import Array, Case, Initializer
from nets.initializers.fans import fans_of
from nets.refusals import GENERATOR, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

# Torch's names of what is linear, and passes everything as it comes.
LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def gain_of(nonlinearity: str, a: float = 0.01) -> float:
    """Return torch's gain: the deviation by which a layer keeps the size of what passes the non-linearity behind it.

    ``a`` is the negative slope of a leaky rectifier. Raises ValueError for a non-linearity that torch does not name.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain
    """
    gains = {
        **dict.fromkeys(LINEAR, 1.0),
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1 + a * a)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"the gain is known for {', '.join(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


@dataclass(frozen=True)
class Kaiming(Initializer):
    """What both rules have: deviation ``gain / sqrt(fan)``. Raises ValueError for another mode, and a fan of 0."""

    a: float = 0.0
    mode: Literal["fan_in", "fan_out"] = "fan_in"
    nonlinearity: str = "leaky_relu"

    def __post_init__(self) -> None:
        gain_of(self.nonlinearity, self.a)
        if self.mode not in ("fan_in", "fan_out"):
            raise ValueError(f"{type(self).__name__} needs mode fan_in or fan_out, got {self.mode!r}")

    def deviation(self, shape: tuple[int, ...], fans: tuple[int, int] | None) -> float:
        """Return ``gain / sqrt(fan)``, with the fans of ``shape`` where none are given."""
        fans = fans or fans_of(shape)
        fan = fans[0 if self.mode == "fan_in" else 1]
        if not fan:
            raise ValueError(f"{type(self).__name__} needs a {self.mode} above 0, got fans (in, out) of {fans}")
        return gain_of(self.nonlinearity, self.a) / math.sqrt(fan)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.initializers.strategies import OF_FANS, rule_cases

        others = ("relu", "tanh", "selu", "sigmoid", *LINEAR)
        # Half of them of the only one that has a slope.
        gains = ("leaky_relu",) * len(others) + others
        slopes = (0.0, 0.5, math.sqrt(5.0))
        return rule_cases(cls, OF_FANS, a=slopes, mode=("fan_in", "fan_out"), nonlinearity=gains)


@refuses(**GENERATOR)
@dataclass(frozen=True)
class KaimingNormal(Kaiming):
    """Normal with mean 0 and deviation ``gain / sqrt(fan)``; He et al. (2015), equation 14.

    ``fan`` is the one that ``mode`` names, ``gain`` what `gain_of` says for ``nonlinearity`` and the slope ``a``.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.kaiming_normal_
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.normal(0.0, self.deviation(shape, fans), shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.kaiming_normal_(tensor, self.a, self.mode, self.nonlinearity)  # type: ignore[arg-type]  # a name


@refuses(**GENERATOR)
@dataclass(frozen=True)
class KaimingUniform(Kaiming):
    """Uniform in +-``gain * sqrt(3 / fan)``; He et al. (2015), with the variance of `KaimingNormal`.

    With a = sqrt(5) that is ``1 / sqrt(fan_in)``, by which torch fills the weights and biases of its layers.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.kaiming_uniform_
    """

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        bound = math.sqrt(3.0) * self.deviation(shape, fans)
        return rng.uniform(-bound, bound, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.kaiming_uniform_(tensor, self.a, self.mode, self.nonlinearity)  # type: ignore[arg-type]  # a name


# What torch's layers fill their weights and biases by: both uniform in +-1 / sqrt(fan_in).
TORCH_DEFAULT = KaimingUniform(a=math.sqrt(5.0))
