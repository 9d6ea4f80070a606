"""Dropping elements at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Key, Layer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """Inverted dropout ``y = mask * x / (1 - p)`` in training, ``y = x`` in evaluation, element by element, any shape.

    ``dx`` is ``dy`` times the same. The mask is 1 where a uniform number of [0, 1) is at least ``p``; the numbers are
    ``context.key.generator().random(x.shape)``, float64 whatever x is, and so the same for the same key: of the same
    seed, step and place in the network. With p = 1 all is 0. Raises ValueError for p outside [0, 1].
    Srivastava et al. (2014); https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"Dropout needs a probability p in [0, 1], got {self.p}")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if not context.training:
            return x.copy(), lambda dy: (dy.copy(), {})
        kept = context.key.generator().random(x.shape) >= self.p
        scale = kept.astype(x.dtype) / (1 - self.p if self.p < 1 else 1)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy * scale, {}

        return x * scale, backward

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Dropout):
            """torch's dropout, but for where its random numbers come from."""

            key = Key()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if not self.training or self.p in (0, 1):
                    return super().forward(x)  # nothing is left to chance
                uniforms = torch.from_numpy(np.asarray(self.key.generator().random(tuple(x.shape))))
                return x.masked_fill(uniforms < self.p, 0) / (1 - self.p)

        return Twin(self.p)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        layers = st.builds(cls, st.sampled_from([0.5, 0.1, 0.25, 0.8, 0.0, 1.0]))
        shapes = st.lists(sides(), min_size=1, max_size=3).map(tuple)
        return shapes.flatmap(lambda shape: cases(layers, arrays(shape)))
