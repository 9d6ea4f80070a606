"""Normalisation over the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import (
    EVALUATION,
    Array,
    Backward,
    Case,
    Context,
    Gradients,
    Layer,
    ShapeError,
    buffer,
    parameter,
)
from nets.initializers import Constant
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class BatchNorm1d(Layer):
    """Batch normalisation ``y = n * weight + bias``, ``n = (x - mean) / sqrt(var + eps)``, of each feature by itself.

    For (batch, features) or (batch, features, length). In training ``mean`` and ``var``, the mean squared deviation,
    are those of the feature over all other axes, and with ``g = weight / sqrt(var + eps)`` the gradient is
    ``dx = g (dy - mean(dy) - n mean(dy n))``; in evaluation they are the running ones, and ``dx = g dy``. Training
    proposes ``running = (1 - momentum) running + momentum * new``, where the new variance of m values is the unbiased
    ``var * m / (m - 1)``; ``momentum`` None averages over all batches alike. ``weight`` and ``bias`` may both be None.
    Raises `ShapeError` for another number of features, and in training for a single value per feature.
    Ioffe and Szegedy (2015); https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
    """

    weight: Array | None = parameter(Constant(1.0))  # (features,)
    bias: Array | None = parameter(Constant(0.0))  # (features,)
    running_mean: Array = buffer()  # (features,)
    running_var: Array = buffer()  # (features,)
    num_batches_tracked: Array = buffer()  # (), int64
    eps: float = 1e-5
    momentum: float | None = 0.1

    def __post_init__(self) -> None:
        if (self.weight is None) != (self.bias is None):
            raise ValueError(f"{type(self).__name__} needs weight and bias, or neither, got one of them")

    @classmethod
    def create(cls, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True) -> Self:
        """Return a layer that has seen nothing: weight and variance one, bias and mean zero."""
        ones, zeros = np.ones(num_features), np.zeros(num_features)
        weight, bias = (ones.copy(), zeros.copy()) if affine else (None, None)
        return cls(weight, bias, zeros, ones, np.zeros((), np.int64), eps, momentum)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        self._require_features(x)
        axes, spread = (0, *range(2, x.ndim)), (slice(None), *[None] * (x.ndim - 2))  # all axes but the features'
        training, count = context.training, x.size // max(len(self.running_mean), 1)
        if training and count < 2:
            raise ShapeError(
                f"{type(self).__name__} needs more than one value per channel in training, got x of shape {x.shape}"
            )
        # Where a feature is nearly constant, the rounding of its mean is large beside its deviations.
        mean = context.tapped("forward", "mean", x.mean(axis=axes) if training else self.running_mean)
        centred = x - mean[spread]
        variance = (centred * centred).mean(axis=axes) if training else self.running_var
        variance = context.tapped("forward", "variance", variance)
        deviation = np.sqrt(variance + self.eps)
        normal = centred / deviation[spread]
        if training:
            self._track(context, mean, variance * (count / (count - 1)))
        scale = 1 / deviation if self.weight is None else self.weight / deviation

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dweight, dbias = (dy * normal).sum(axis=axes), dy.sum(axis=axes)
            within = dy - (dbias[spread] + normal * dweight[spread]) / count if training else dy
            return within * scale[spread], {} if self.weight is None else {"weight": dweight, "bias": dbias}

        if self.weight is None or self.bias is None:
            return normal.copy(), backward
        return normal * self.weight[spread] + self.bias[spread], backward

    def twin(self) -> torch.nn.Module:
        import torch

        features, affine = len(self.running_mean), self.weight is not None
        return torch.nn.BatchNorm1d(features, self.eps, self.momentum, affine)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import sides

        return _cases(cls, st.lists(sides(), max_size=1))

    def _require_features(self, x: Array) -> None:
        self.require(x, "batch", len(self.running_mean), *["length"] * (x.ndim == 3))

    def _track(self, context: Context, mean: Array, variance: Array) -> None:
        tracked = int(self.num_batches_tracked) + 1
        share = 1 / tracked if self.momentum is None else self.momentum
        context.update("running_mean", (1 - share) * self.running_mean + share * mean)
        context.update("running_var", (1 - share) * self.running_var + share * variance)
        context.update("num_batches_tracked", np.asarray(tracked, np.int64))


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class BatchNorm2d(BatchNorm1d):
    """`BatchNorm1d` for images (batch, channels, height, width): the same formulas, of each channel by itself.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
    """

    def twin(self) -> torch.nn.Module:
        import torch

        features, affine = len(self.running_mean), self.weight is not None
        return torch.nn.BatchNorm2d(features, self.eps, self.momentum, affine)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import sides

        return _cases(cls, st.lists(sides(maximum=4), min_size=2, max_size=2))

    def _require_features(self, x: Array) -> None:
        self.require(x, "batch", len(self.running_mean), "height", "width")


def _cases(cls: type[BatchNorm1d], trailing: SearchStrategy[list[int]]) -> SearchStrategy[Case]:
    """Draw either layer, and an input whose axes after the features are ``trailing``."""
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, seeds, sides

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        training, features, tail = draw(st.booleans()), draw(sides(maximum=3)), draw(trailing)
        batch = draw(sides(minimum=2 if training else 1, maximum=4))
        weight, bias = (draw(arrays((features,))), draw(arrays((features,)))) if draw(st.booleans()) else (None, None)
        mean, variance = draw(arrays((features,))), draw(arrays((features,), 2.0**-5, 4))
        tracked = np.asarray(draw(st.integers(0, 3)), np.int64)
        eps, momentum = draw(st.sampled_from([1e-5, 1e-3, 0.5])), draw(st.sampled_from([0.1, 0.5, 1.0, None]))
        layer = cls(weight, bias, mean, variance, tracked, eps, momentum)
        return Case(layer, (draw(arrays((batch, features, *tail))),), draw(seeds()), training)

    return drawn()
