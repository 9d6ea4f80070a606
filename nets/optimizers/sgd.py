"""Gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
class SGD(ElementwiseOptimizer):
    """Gradient descent ``p <- p - lr v`` with momentum mu, dampening d and weight decay w, as torch writes it.

    ``g <- g + w p; v <- mu v + (1 - d) g``, but at first ``v = g``, undampened. With ``nesterov``,
    ``p <- p - lr (g + mu v)``. Without momentum v is g, and there is no state.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
    """

    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    _product: Array = field(default_factory=lambda: np.empty(0), init=False, repr=False)

    def __post_init__(self) -> None:
        require_at_least_zero(self, "momentum", "weight_decay")
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ValueError(
                "SGD needs momentum above 0 and dampening of 0 for nesterov, "
                f"got momentum {self.momentum} and dampening {self.dampening}"
            )

    def slots(self) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if self.momentum else {}

    def move(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        if self.weight_decay:
            grad += self.weight_decay * param
        direction = grad
        if self.momentum:
            velocity = kept["momentum_buffer"]
            if t == 1:
                velocity[...] = grad
            else:
                velocity *= self.momentum
                velocity += (1 - self.dampening) * grad if self.dampening else grad
            if self.nesterov:
                grad += self.momentum * velocity
            else:
                direction = velocity
        param -= np.multiply(direction, lr, out=grad)

    def _move_at_once(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        if self.momentum or self.weight_decay or type(self).move is not SGD.move:
            super()._move_at_once(param, grad, kept, lr, t)
            return
        # Two passes are too few to gain from blocks, and overwrite no gradient.
        rate = float(-lr if self.maximize else lr)
        if self._product.dtype != param.dtype or self._product.shape != param.shape:
            self._product = np.empty_like(param)
        param -= np.multiply(grad, rate, out=self._product)

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(
            params, lr, self.momentum, self.dampening, self.weight_decay, self.nesterov, maximize=self.maximize
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        plain, dampened = (0.0, 0.0, False), (0.5, 0.3, False)  # twice, since decay and the first step tell little else
        return drawn_cases(
            st.builds(
                lambda kind, decay, maximize: cls(kind[0], kind[1], decay, kind[2], maximize=maximize),
                st.sampled_from(
                    [plain, dampened, (0.9, 0.0, True), (0.9, 0.0, False), plain, dampened, (0.5, 0.0, True)]
                ),
                st.sampled_from([0.1, 0.0, 0.1]),
                st.booleans(),
            )
        )
