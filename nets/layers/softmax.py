"""Softmax and its logarithm, along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError
from nets.floating import floating
from nets.layers.axes import axis_of

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """Softmax ``y = exp(x) / sum(exp(x))`` along the axis ``dim``, any shape; ``dx = y * (dy - sum(y * dy))``.

    A negative ``dim`` counts from behind. Raises `ShapeError` for an input without that axis or with nothing along it,
    ValueError for None.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Softmax.html
    """

    dim: int = None  # type: ignore[assignment]  # torch's default, by which it chooses an axis itself: refused

    def __post_init__(self) -> None:
        if self.dim is None:
            raise ValueError(f"{type(self).__name__} needs dim, the axis that it normalises, got None")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        axis, shifted = self._shifted(x)
        powers = np.exp(shifted)
        # Where one y is near 1, dy and the sum cancel, which magnifies the rounding of y: so y is tapped here.
        y = context.tapped("forward", "softmax", powers / powers.sum(axis=axis, keepdims=True))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return y * (dy - (y * dy).sum(axis=axis, keepdims=True)), {}

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Softmax(self.dim)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _cases(cls, widest=256)

    def _shifted(self, x: Array) -> tuple[int, Array]:
        """Return the axis, and ``x`` less its largest along it, whose exponentials do not overflow."""
        x = floating(x)
        axis = axis_of(type(self).__name__, "dim", self.dim, x)
        if not x.size and not x.shape[axis]:
            name = type(self).__name__
            raise ShapeError(f"{name} needs x of at least one element along dim={self.dim}, got {x.shape}")
        return axis, x - x.max(axis=axis, keepdims=True)


@dataclass(frozen=True, eq=False)
class LogSoftmax(Softmax):
    """Logarithm of the softmax ``y = x - log(sum(exp(x)))`` along ``dim``, any shape; ``dx = dy - exp(y) * sum(dy)``.

    The largest element along the axis is taken off first, so that nothing overflows. A negative ``dim`` counts from
    behind. Raises `ShapeError` for an input without that axis or with nothing along it, ValueError for None.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LogSoftmax.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        axis, shifted = self._shifted(x)
        # Where one element dominates, the sum is near 1 and the rounding of it is large beside its logarithm.
        total = context.tapped("forward", "sum_exp", np.exp(shifted).sum(axis=axis, keepdims=True))
        y = context.tapped("forward", "log_softmax", shifted - np.log(total))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True), {}

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.LogSoftmax(self.dim)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _cases(cls, widest=512)


def _cases(cls: type[Softmax], widest: float) -> SearchStrategy[Case]:
    """Draw either layer, and an input of large, close, equal or simple elements, the large ones up to ``widest``."""
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, cases, sides

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        shape = tuple(draw(st.lists(sides(), min_size=1, max_size=3)))
        layer = st.builds(cls, st.integers(-len(shape), len(shape) - 1))
        equal = arrays((1,)).map(lambda x: np.full(shape, x[0]))
        inputs = st.one_of(arrays(shape), arrays(shape, -widest, widest), arrays(shape, 1000, 1004), equal)
        return draw(cases(layer, inputs))

    return drawn()
