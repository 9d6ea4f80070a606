"""The sigmoid linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer
from nets.floating import floating
from nets.layers.sigmoid import sigmoid
from nets.refusals import IN_PLACE, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


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
