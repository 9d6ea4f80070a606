"""Adaptive moments, with weight decay in the gradient or beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case
from nets.optimizers.elementwise import UNSUPPORTED, ElementwiseOptimizer, average, drawn_cases, require_at_least_zero
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**UNSUPPORTED, decoupled_weight_decay="AdamW is the rule that has it")
@dataclass(eq=False)
class Adam(ElementwiseOptimizer):
    """Adaptive moments: ``p <- p - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)``.

    ``g <- g + w p; m <- m + (1 - b1)(g - m); v <- b2 v + (1 - b2) g^2``, with t counting the updates of each tensor.
    With ``amsgrad``, the largest v so far, of each element, is in the root (Reddi et al. 2018).
    Kingma and Ba (2015), algorithm 1; https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.betas, tuple) and all(isinstance(beta, Real) for beta in self.betas)):
            fix = "the parameters and the rate are given to step"
            raise TypeError(
                f"{type(self).__name__} needs a tuple of two betas, got a {type(self.betas).__name__}: {fix}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"{type(self).__name__} needs two betas in [0, 1), got {self.betas}")
        require_at_least_zero(self, "eps", "weight_decay")

    def slots(self) -> dict[str, float]:
        names = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
        return dict.fromkeys(names if self.amsgrad else names[:3], 0.0)

    def move(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        first, second = self.betas
        mean, square = kept["exp_avg"], kept["exp_avg_sq"]
        self.decay(param, grad, lr)
        average(mean, grad, 1 - first)
        square *= second
        grad *= grad
        grad *= 1 - second
        square += grad
        if self.amsgrad:
            square = np.maximum(square, kept["max_exp_avg_sq"], out=kept["max_exp_avg_sq"])
        # Numerator and denominator times the root of the correction, which saves a pass.
        root = math.sqrt(1 - second**t)
        scale = np.sqrt(square, out=grad)
        scale += self.eps * root
        move = np.divide(mean, scale, out=scale)
        move *= lr / (1 - first**t) * root
        param -= move

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        """Apply weight decay: add the gradient of ``w p^2 / 2`` to the gradient."""
        if self.weight_decay:
            grad += self.weight_decay * param

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        rule = torch.optim.AdamW if isinstance(self, AdamW) else torch.optim.Adam
        return rule(params, lr, self.betas, self.eps, self.weight_decay, self.amsgrad, maximize=self.maximize)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        betas = st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
        eps, decays = st.sampled_from([1e-8, 0.1]), st.sampled_from([0.0, 0.1])
        return drawn_cases(st.builds(cls, betas, eps, decays, st.booleans(), maximize=st.booleans()))


@refuses(**UNSUPPORTED)
@dataclass(eq=False)
class AdamW(Adam):
    """`Adam` with weight decay beside the gradient: first ``p <- (1 - lr w) p``, and g is the gradient alone.

    Loshchilov and Hutter (2019), algorithm 2; https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
    """

    weight_decay: float = 1e-2

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        """Apply weight decay: shrink the parameter."""
        param *= 1 - lr * self.weight_decay
