"""The smooth rectifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer
from nets.floating import floating
from nets.layers.sigmoid import sigmoid

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Softplus(Layer):
    """Smooth rectifier ``y = log(1 + exp(beta * x)) / beta``, element by element, any shape.

    ``dx = dy / (1 + exp(-beta * x))``. Where ``beta * x > threshold`` it is the identity, as in torch, and so jumps
    there: by 2e-9 / beta at the default. No input overflows, whatever the threshold. Raises ValueError for beta = 0.
    Dugas et al. (2001), equation 2; https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html
    """

    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        if self.beta == 0:
            raise ValueError(f"Softplus needs a beta other than 0, got {self.beta}")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        scaled = x * self.beta
        straight = scaled > self.threshold

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy * np.where(straight, 1, sigmoid(scaled)), {}

        smooth = np.maximum(scaled, 0) + np.log1p(np.exp(np.minimum(scaled, -scaled)))
        return np.where(straight, x, smooth / self.beta), backward

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x * self.beta > self.threshold, margin=np.abs(x - self.threshold / self.beta))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Softplus(self.beta, self.threshold)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, elementwise_cases

        # The jump is no kink: it has no slopes to its sides. So elements near it are moved away from it.
        margin = 2.0**-4

        def off_the_jump(layer: Softplus, x: Array) -> Array:
            near = np.abs(x - layer.threshold / layer.beta) < margin
            return np.where(near, x + 2 * margin, x).astype(np.float32).astype(np.float64)

        def on(layer: Softplus) -> SearchStrategy[Case]:
            return elementwise_cases(
                st.just(layer), lambda shape: arrays(shape, -8, 8).map(lambda x: off_the_jump(layer, x))
            )

        betas, thresholds = (
            st.sampled_from([3.0, 0.3, 1.0, -2.0]),
            st.sampled_from([5.0, 1000.0, 1.0, 20.0, -1.0, 1000.0]),
        )
        return st.builds(cls, betas, thresholds).flatmap(on)
