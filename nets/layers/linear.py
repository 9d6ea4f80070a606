"""The affine map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, parameter
from nets.floating import floating
from nets.initializers import TORCH_DEFAULT
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """Affine map ``y = x @ weight.T + bias``, from (..., in) to (..., out).

    Raises `ShapeError` for an input whose last axis is not ``in``.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
    """

    weight: Array = parameter(TORCH_DEFAULT)  # (out, in)
    bias: Array | None = parameter(TORCH_DEFAULT)  # (out,)

    @classmethod
    def create(cls, in_features: int, out_features: int, bias: bool = True) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        return cls(np.zeros((out_features, in_features)), np.zeros(out_features) if bias else None)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        outputs, inputs = self.weight.shape
        self.require(x, "...", inputs)
        y = x @ self.weight.T
        if self.bias is not None:
            y += self.bias

        def backward(dy: Array) -> tuple[Array, Gradients]:
            count = math.prod(x.shape[:-1])
            rows, drows = x.reshape(count, inputs), dy.reshape(count, outputs)
            # One row makes an outer product: the same single product an element, without a matrix product's set-up.
            dweight = drows.T * rows if len(rows) == 1 else drows.T @ rows
            grads = {"weight": dweight}
            if self.bias is not None:
                grads["bias"] = drows.sum(axis=0)
            return dy @ self.weight, grads

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        outputs, inputs = self.weight.shape
        return torch.nn.Linear(inputs, outputs, bias=self.bias is not None)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        def of_sizes(leading: list[int], inputs: int, outputs: int) -> SearchStrategy[Case]:
            layer = st.builds(cls, arrays((outputs, inputs)), st.none() | arrays((outputs,)))
            return cases(layer, arrays((*leading, inputs)))

        leading = st.lists(sides(maximum=4), min_size=1, max_size=3)
        return st.tuples(leading, sides(), sides()).flatmap(lambda sizes: of_sizes(*sizes))
