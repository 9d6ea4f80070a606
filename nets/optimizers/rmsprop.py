"""Gradients over their root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case
from nets.optimizers.elementwise import (
    UNSUPPORTED,
    ElementwiseOptimizer,
    average,
    drawn_cases,
    require_at_least_zero,
    require_numbers,
)
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**UNSUPPORTED)
@dataclass(eq=False)
class RMSprop(ElementwiseOptimizer):
    """Gradients over their root mean square: ``p <- p - lr u``, ``u = g / (sqrt(s) + eps)``.

    ``g <- g + w p; s <- alpha s + (1 - alpha) g^2``. If ``centered``, the root is that of the variance ``s - m^2``,
    ``m <- m + (1 - alpha)(g - m)`` (Graves 2013, equation 40). With momentum mu, u is ``mu u + g / (sqrt(s) + eps)``.
    Hinton (2012), lecture 6e; https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
    """

    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        require_numbers(self, "alpha")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"RMSprop needs alpha in [0, 1], got {self.alpha}")
        require_at_least_zero(self, "eps", "weight_decay", "momentum")

    def slots(self) -> dict[str, float]:
        wanted = {"step": True, "square_avg": True, "momentum_buffer": self.momentum > 0, "grad_avg": self.centered}
        return {slot: 0.0 for slot, used in wanted.items() if used}

    def move(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        if self.weight_decay:
            grad += self.weight_decay * param
        square, scale = kept["square_avg"], grad * grad
        scale *= 1 - self.alpha
        square *= self.alpha
        square += scale
        if self.centered:
            mean = kept["grad_avg"]
            average(mean, grad, 1 - self.alpha)
            square = np.subtract(square, np.multiply(mean, mean, out=scale), out=scale)
        np.sqrt(square, out=scale)
        scale += self.eps
        direction = np.divide(grad, scale, out=grad)
        if self.momentum:
            velocity = kept["momentum_buffer"]
            velocity *= self.momentum
            velocity += direction
            direction = velocity
        param -= np.multiply(direction, lr, out=grad)

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.RMSprop(
            params,
            lr,
            self.alpha,
            self.eps,
            self.weight_decay,
            self.momentum,
            self.centered,
            maximize=self.maximize,
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        # With an alpha of 0 and nothing added, what is centered is 0 / 0, and all else a sign, which rounding may turn.
        bases = st.tuples(st.sampled_from([0.99, 0.9, 0.5]), st.sampled_from([1e-8, 0.1]), st.booleans())
        return drawn_cases(
            st.builds(
                lambda base, decay, momentum, maximize: cls(
                    base[0], base[1], decay, momentum, base[2], maximize=maximize
                ),
                bases | st.just((0.0, 0.1, False)),
                st.sampled_from([0.0, 0.1]),
                st.sampled_from([0.0, 0.5, 0.9]),
                st.booleans(),
            )
        )
