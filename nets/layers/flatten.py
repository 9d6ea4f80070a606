"""Flattening a run of axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError
from nets.layers.axes import axis_of

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """Join the axes ``start_dim`` to ``end_dim``, both included, in row-major order: by default all but the first.

    (batch, ...) becomes (batch, product of the rest). Negative axes count from behind. Raises `ShapeError` for an
    input without these axes, or in which ``start_dim`` comes after ``end_dim``.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Flatten.html
    """

    start_dim: int = 1
    end_dim: int = -1

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        start, end = (axis_of("Flatten", name, getattr(self, name), x) for name in ("start_dim", "end_dim"))
        if start > end:
            wanted = f"start_dim={self.start_dim} is not after end_dim={self.end_dim}"
            raise ShapeError(f"Flatten needs x in which {wanted}, got {x.shape}")
        shape = x.shape

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy.reshape(shape).copy(), {}

        return x.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]).copy(), backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Flatten(self.start_dim, self.end_dim)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            shape = tuple(draw(st.lists(sides(maximum=4), min_size=1, max_size=4)))
            if len(shape) > 1 and draw(st.booleans()):
                return draw(cases(st.just(cls()), arrays(shape)))
            ends = sorted(draw(st.tuples(*[st.integers(0, len(shape) - 1)] * 2)))
            start, end = (end - len(shape) * draw(st.booleans()) for end in ends)
            return draw(cases(st.just(cls(start, end)), arrays(shape)))

        return drawn()
