"""The optimizers and their registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import Array, Case, Gradients, Optimizer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(eq=False)
class SGD(Optimizer):
    """Gradient descent ``p <- p - lr * g``.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
    """

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            params[name] -= lr * grad

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(params, lr=lr)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        def of_sizes(first: int, second: int) -> SearchStrategy[Case]:
            return cases(st.builds(cls), arrays((first, second)), arrays((second,)), arrays((1,)))

        return st.tuples(sides(), sides()).flatmap(lambda sizes: of_sizes(*sizes))


OPTIMIZERS: tuple[type[Optimizer], ...] = (SGD,)
