"""Flattening all axes but the first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """Join all axes but the first, in row-major order: (batch, ...) to (batch, product of the rest).

    Raises `ShapeError` for an input of fewer than two axes.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Flatten.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if x.ndim < 2:
            self.require(x, "batch", "...")
        shape = x.shape

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy.reshape(shape).copy(), {}

        return x.reshape(shape[0], math.prod(shape[1:])).copy(), backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Flatten()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        shapes = st.lists(sides(maximum=4), min_size=2, max_size=4).map(tuple)
        return shapes.flatmap(lambda shape: cases(st.just(cls()), arrays(shape)))
