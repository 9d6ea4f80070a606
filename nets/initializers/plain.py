"""Rules that say the numbers themselves, whatever the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Initializer
from nets.refusals import GENERATOR, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Constant(Initializer):
    """The same number ``val`` everywhere.

    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.constant_
    """

    val: float

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return np.full(shape, self.val, np.float64)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.constant_(tensor, self.val)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.initializers.strategies import ANY, rule_cases

        return rule_cases(cls, ANY, val=(0.0, 1.0, -0.25, 0.1))


@refuses(**GENERATOR)
@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform in [``a``, ``b``).

    Raises ValueError for an ``a`` above ``b``.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.uniform_
    """

    a: float = 0.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not self.a <= self.b:
            raise ValueError(f"Uniform needs a of at most b, got {self.a} and {self.b}")

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.uniform(self.a, self.b, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.uniform_(tensor, self.a, self.b)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.initializers.strategies import ANY, rule_cases

        return rule_cases(cls, ANY, a=(0.0, -1.0, -0.05), b=(1.0, 0.25))


@refuses(**GENERATOR)
@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with the given ``mean`` and deviation ``std``.

    Raises ValueError for a negative deviation.
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.normal_
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise ValueError(f"Normal needs std of at least 0, got {self.std}")

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        return rng.normal(self.mean, self.std, shape)

    def twin(self, tensor: torch.Tensor) -> None:
        import torch

        torch.nn.init.normal_(tensor, self.mean, self.std)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.initializers.strategies import ANY, rule_cases

        return rule_cases(cls, ANY, mean=(0.0, 0.5, -2.0), std=(1.0, 0.01))


@dataclass(frozen=True)
class ZeroRow(Initializer):
    """Another rule's numbers, but for one row of zeros: that of an embedding's padding."""

    rule: Initializer = Normal()
    row: int = 0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        drawn = self.rule.draw(shape, rng, fans)
        drawn[self.row] = 0
        return drawn

    def twin(self, tensor: torch.Tensor) -> None:
        self.rule.twin(tensor)
        tensor.data[self.row] = 0

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.initializers.strategies import WEIGHTS, rule_cases
        from nets.initializers.xavier import XavierUniform

        return rule_cases(cls, WEIGHTS, rule=(Normal(), Uniform(-1.0, 1.0), XavierUniform()), row=(0, 1, -1))
