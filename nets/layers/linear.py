"""The affine map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Into, Layer, Pullback, parameter
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

        def pull(dy: Array, into: Into, needed: bool) -> tuple[Array, Gradients]:
            count = math.prod(x.shape[:-1])
            rows, drows = x.reshape(count, inputs), dy.reshape(count, outputs)
            # Of one row, dot is the faster: it makes an outer product of it.
            product = np.dot if count == 1 else np.matmul
            grads: Gradients = {"weight": product(drows.T, rows, out=into.array("weight", drows, rows))}
            if self.bias is not None:
                grads["bias"] = drows[0].copy() if count == 1 else drows.sum(axis=0)
            return dy @ self.weight if needed else dy, grads

        return y, Pullback(pull)

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
