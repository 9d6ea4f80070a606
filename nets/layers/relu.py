"""The rectifier."""

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
class ReLU(Layer):
    """Rectifier ``y = max(x, 0)``, element by element, any shape; ``dx = dy`` where x > 0, else 0, as in torch.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        mask = ~(x <= 0)  # with NaN, as torch

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return np.where(mask, dy, 0), {}

        return np.maximum(x, 0), backward

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.ReLU()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, elementwise_cases

        return elementwise_cases(st.just(cls()), arrays_off_kinks, arrays)
