"""Gradients over the root of the sum of their squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case
from nets.optimizers.elementwise import UNSUPPORTED, ElementwiseOptimizer, drawn_cases, require_at_least_zero
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**UNSUPPORTED)
@dataclass(eq=False)
class Adagrad(ElementwiseOptimizer):
    """Gradients over the root of the sum of their squares: ``p <- p - r g / (sqrt(s) + eps)``.

    ``g <- g + w p; s <- s + g^2`` from ``initial_accumulator_value``, and ``r = lr / (1 + (t - 1) lr_decay)``, with t
    counting the updates of each tensor.
    Duchi et al. (2011), figure 1; https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html
    """

    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        require_at_least_zero(self, "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def slots(self) -> dict[str, float]:
        return {"step": 0.0, "sum": self.initial_accumulator_value}

    def move(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        if self.weight_decay:
            grad += self.weight_decay * param
        total, scale = kept["sum"], grad * grad
        total += scale
        np.sqrt(total, out=scale)
        scale += self.eps
        grad /= scale
        grad *= lr / (1 + (t - 1) * self.lr_decay)
        param -= grad

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adagrad(
            params,
            lr,
            self.lr_decay,
            self.weight_decay,
            self.initial_accumulator_value,
            self.eps,
            maximize=self.maximize,
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        small = st.sampled_from([0.0, 0.1])
        eps = st.sampled_from([1e-10, 0.1])
        return drawn_cases(st.builds(cls, small, small, small | st.just(1.0), eps, maximize=st.booleans()))
