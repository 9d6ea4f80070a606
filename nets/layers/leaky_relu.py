"""The leaky rectifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer
from nets.floating import floating
from nets.refusals import IN_PLACE, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class LeakyReLU(Layer):
    """Leaky rectifier ``y = x`` where x > 0, else ``negative_slope * x``, element by element, any shape.

    ``dx = dy`` where x > 0, else ``negative_slope * dy``, also at 0, as in torch.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html
    """

    negative_slope: float = 0.01

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        mask = x > 0

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return np.where(mask, dy, self.negative_slope * dy), {}

        return np.where(mask, x, self.negative_slope * x), backward

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.LeakyReLU(self.negative_slope)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, elementwise_cases

        # Slopes of 0, above 1 and below 0 tell a mask of the input from one of the output.
        layers = st.builds(cls, st.sampled_from([-0.25, 1.5, 0.0, -0.25, 1.5, 0.3, 0.01]))
        return elementwise_cases(layers, arrays_off_kinks, arrays)
