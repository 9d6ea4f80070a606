"""The optimizers and their registry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Gradients, Optimizer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(eq=False)
class SGD(Optimizer):
    """Gradient descent with momentum mu and weight decay w, as torch writes it.

    ``g <- g + w p; v <- mu v + g (at first v = g); p <- p - lr v``. Without momentum v is g, and there is no state.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
    """

    momentum: float = 0.0
    weight_decay: float = 0.0

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            param, slot = params[name], f"momentum_buffer/{name}"
            direction = grad + self.weight_decay * param if self.weight_decay else grad
            if self.momentum:
                velocity = self.state.get(slot)
                direction = direction.copy() if velocity is None else self.momentum * velocity + direction
                self.state[slot] = direction
            param -= lr * direction

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(params, lr=lr, momentum=self.momentum, weight_decay=self.weight_decay)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        momentum = st.sampled_from([0.0, 0.5, 0.9])
        return _cases(st.builds(cls, momentum=momentum, weight_decay=st.sampled_from([0.0, 0.1])))


@dataclass(eq=False)
class Adam(Optimizer):
    """Adaptive moments: steps by ``m / (1 - b1^t)`` over ``sqrt(v / (1 - b2^t)) + eps``.

    ``g <- g + w p; m <- m + (1 - b1)(g - m); v <- b2 v + (1 - b2) g^2``, with t counting the updates of each tensor.
    Kingma and Ba (2015), algorithm 1; https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        first, second = self.betas
        for name, grad in grads.items():
            param = params[name]
            slots = [f"{slot}/{name}" for slot in ("step", "exp_avg", "exp_avg_sq")]
            if slots[0] not in self.state:
                zeros = (np.zeros((), np.float32), np.zeros_like(param), np.zeros_like(param))
                self.state.update(zip(slots, zeros, strict=True))
            count, mean, square = (self.state[slot] for slot in slots)
            if self.weight_decay:
                grad = grad + self.weight_decay * param
            count += 1
            mean += (1 - first) * (grad - mean)
            square *= second
            square += (1 - second) * grad * grad
            t = float(count)
            scale = np.sqrt(square) / math.sqrt(1 - second**t) + self.eps
            param -= lr / (1 - first**t) * mean / scale

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(params, lr=lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        betas = st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
        eps = st.sampled_from([1e-8, 0.1])
        return _cases(st.builds(cls, betas=betas, eps=eps, weight_decay=st.sampled_from([0.0, 0.1])))


def _cases(optimizers: SearchStrategy[Optimizer]) -> SearchStrategy[Case]:
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, cases, sides

    def of_sizes(first: int, second: int) -> SearchStrategy[Case]:
        return cases(optimizers, arrays((first, second)), arrays((second,)), arrays((1,)))

    return st.tuples(sides(), sides()).flatmap(lambda sizes: of_sizes(*sizes))


OPTIMIZERS: tuple[type[Optimizer], ...] = (SGD, Adam)
