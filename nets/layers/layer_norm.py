"""Normalisation over the last axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, parameter
from nets.initializers import Constant

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class LayerNorm(Layer):
    """Layer normalisation ``y = (x - mean) / sqrt(var + eps) * weight + bias`` over the last axis, (..., features).

    ``var`` is the mean squared deviation. With ``n = (x - mean) / sqrt(var + eps)`` and ``g = dy * weight``, the
    gradient is ``dx = (g - mean(g) - n mean(g n)) / sqrt(var + eps)``. Raises `ShapeError` for another number of
    features.
    Ba, Kiros and Hinton (2016); https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
    """

    weight: Array = parameter(Constant(1.0))  # (features,)
    bias: Array = parameter(Constant(0.0))  # (features,)
    eps: float = 1e-5

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        features = len(self.weight)
        self.require(x, "...", features)
        # Where a row is nearly constant, the rounding of its mean is large beside its deviations.
        mean = context.tapped("forward", "mean", x.mean(axis=-1, keepdims=True))
        centred = x - mean
        variance = context.tapped("forward", "variance", (centred * centred).mean(axis=-1, keepdims=True))
        deviation = np.sqrt(variance + self.eps)
        normal = centred / deviation

        def backward(dy: Array) -> tuple[Array, Gradients]:
            g = dy * self.weight
            along = (g * normal).mean(axis=-1, keepdims=True)
            dx = (g - g.mean(axis=-1, keepdims=True) - normal * along) / deviation
            rows = (-1, features)
            dweight = (dy * normal).reshape(rows).sum(axis=0)
            return dx, {"weight": dweight, "bias": dy.reshape(rows).sum(axis=0)}

        return normal * self.weight + self.bias, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.LayerNorm(len(self.weight), eps=self.eps)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        def of_sizes(leading: list[int], features: int) -> SearchStrategy[Case]:
            layers = st.builds(cls, arrays((features,)), arrays((features,)), st.sampled_from([1e-5, 1e-3, 0.5]))
            return cases(layers, arrays((*leading, features)))

        sizes = st.tuples(st.lists(sides(maximum=4), min_size=1, max_size=2), sides(minimum=2))
        return sizes.flatmap(lambda drawn: of_sizes(*drawn))
