"""The hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer
from nets.floating import floating

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Tanh(Layer):
    """Hyperbolic tangent ``y = tanh(x)``, element by element, any shape; ``dx = dy * (1 - y^2)``.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Tanh.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        # The pullback forms 1 - y^2, which magnifies the rounding of y where y is near 1: so y is tapped here.
        y = context.tapped("forward", "tanh", np.tanh(x))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy * (1 - y * y), {}

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Tanh()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, elementwise_cases

        return elementwise_cases(st.just(cls()), arrays)
