"""The logistic sigmoid, and the linear unit that it gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer
from nets.floating import floating
from nets.refusals import IN_PLACE, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Sigmoid(Layer):
    """Logistic sigmoid ``y = 1 / (1 + exp(-x))``, element by element, any shape; ``dx = dy * y * (1 - y)``.

    Both tails keep their relative accuracy and no input overflows.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        # The pullback forms 1 - y, which magnifies the rounding of y where y is near 1: so y is tapped here.
        y = context.tapped("forward", "sigmoid", sigmoid(x))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy * ((1 - y) * y), {}

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Sigmoid()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, elementwise_cases

        return elementwise_cases(st.just(cls()), lambda shape: arrays(shape, -8, 8))


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class SiLU(Layer):
    """Sigmoid linear unit, or swish, ``y = x * s``, ``s = 1 / (1 + exp(-x))``, element by element, any shape.

    ``dx = dy * s * (1 + x * (1 - s))``.
    Elfwing et al. (2018), equations 2 and 3; https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        # The pullback forms 1 - s, which magnifies the rounding of s where s is near 1: so s is tapped here.
        s = context.tapped("forward", "sigmoid", sigmoid(x))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy * (s * (1 + x * (1 - s))), {}

        return x * s, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.SiLU()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, elementwise_cases

        return elementwise_cases(st.just(cls()), arrays, lambda shape: arrays(shape, -16, 16))


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``, to a few units in the last place in both tails."""
    return np.asarray(np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, -x))))  # no exponential above 1
