"""A branch beside the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError
from nets.floating import floating
from nets.refusals import require_layer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Residual(Layer):
    """Sum ``y = x + branch(x)`` of the input and of what a layer makes of it; ``dx = dy + dbranch``.

    The branch is tapped at its boundaries, as the layers of a `Sequential` are. Raises `ShapeError` where it changes
    the shape of x.
    He et al. (2016), https://arxiv.org/abs/1512.03385
    """

    branch: Layer

    def __post_init__(self) -> None:
        require_layer("Residual needs a layer for its branch", self.branch)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        inner = context.child("branch")
        y, pullback = self.branch.forward(x, inner)
        if y.shape != x.shape:
            raise ShapeError(f"Residual needs a branch whose output has the shape {x.shape} of x, got {y.shape}")
        y = inner.tapped("forward", "output", y)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = pullback(dy)
            dx = inner.tapped("backward", "input", dx)
            return dy + dx, {f"branch.{name}": grad for name, grad in grads.items()}

        return floating(x) + y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Module):
            """The branch under its name here, and the sum."""

            def __init__(self, branch: torch.nn.Module) -> None:
                super().__init__()
                self.branch = branch

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y: torch.Tensor = self.branch(x)
                return x + y

        return Twin(self.branch.twin())

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides
        from nets.layers.dropout import Dropout
        from nets.layers.linear import Linear
        from nets.layers.relu import ReLU
        from nets.layers.tanh import Tanh
        from nets.sequential import Sequential

        def of_sizes(leading: list[int], features: int, hidden: int) -> SearchStrategy[Case]:
            square = st.builds(Linear, arrays((features, features)), st.none() | arrays((features,)))
            wide = st.builds(Linear, arrays((hidden, features), -1, 1), arrays((hidden,), -1, 1))
            narrow = st.builds(Linear, arrays((features, hidden)), st.none() | arrays((features,)))
            bottleneck = st.tuples(wide, st.sampled_from([Dropout(0.5), Tanh(), Dropout(0.25)]), narrow).map(Sequential)
            dropouts = st.sampled_from([Dropout(0.5), Dropout(0.25)])  # what depends on the mode and the place
            branches = st.one_of(square, bottleneck, square.map(cls), dropouts, dropouts.map(cls), st.just(ReLU()))
            return cases(branches.map(cls), arrays((*leading, features)))

        sizes = st.tuples(st.lists(sides(maximum=3), min_size=1, max_size=2), sides(), sides())
        return sizes.flatmap(lambda drawn: of_sizes(*drawn))
