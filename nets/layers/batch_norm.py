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
    require_shape,
)
from nets.floating import floating
from nets.initializers import Constant
from nets.layers.normalisation import require_affine, without_bias
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
    ``var * m / (m - 1)``; ``momentum`` None averages over all batches alike. Without running statistics evaluation is
    as training. ``bias``, or it and ``weight``, may be None; ``num_features`` is by default as many as there are.
    Raises `ShapeError` for another number of features, and for a single value per feature where the mean is its own.
    Ioffe and Szegedy (2015); https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
    """

    weight: Array | None = parameter(Constant(1.0))  # (features,)
    bias: Array | None = parameter(Constant(0.0))  # (features,)
    running_mean: Array | None = buffer()  # (features,)
    running_var: Array | None = buffer()  # (features,)
    num_batches_tracked: Array | None = buffer()  # (), int64
    eps: float = 1e-5
    momentum: float | None = 0.1
    num_features: int = 0

    def __post_init__(self) -> None:
        name, statistics = type(self).__name__, (self.running_mean, self.running_var, self.num_batches_tracked)
        if len({array is None for array in statistics}) > 1:
            raise ValueError(f"{name} needs running_mean, running_var and num_batches_tracked, or none of them")
        if not self.num_features:
            features = next((len(array) for array in (self.weight, self.running_mean) if array is not None), 0)
            object.__setattr__(self, "num_features", features)
        if self.num_features < 1:
            raise ValueError(f"{name} needs num_features of at least 1, got {self.num_features}")
        require_affine(name, self.weight, self.bias, self.num_features)
        for field, array in (("running_mean", self.running_mean), ("running_var", self.running_var)):
            if array is not None:
                require_shape(name, field, array, self.num_features)

    @classmethod
    def create(
        cls,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
    ) -> Self:
        """Return a layer that has seen nothing: weight and variance one, bias and mean zero."""
        ones, zeros = np.ones(num_features), np.zeros(num_features)
        weight, shift = ones.copy() if affine else None, zeros.copy() if affine and bias else None
        mean, variance = (zeros, ones) if track_running_stats else (None, None)
        tracked = np.zeros((), np.int64) if track_running_stats else None
        return cls(weight, shift, mean, variance, tracked, eps, momentum, num_features)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self._require_features(x)
        axes, spread = (0, *range(2, x.ndim)), (slice(None), *[None] * (x.ndim - 2))  # all axes but the features'
        count, running = x.size // self.num_features, None if context.training else self._running()
        if running is None and count < 2:
            when = " in training" if self.running_mean is not None else ""
            raise ShapeError(f"{type(self).__name__} needs x of more than one value per channel{when}, got {x.shape}")
        # Where a feature is nearly constant, the rounding of its mean is large beside its deviations.
        mean = context.tapped("forward", "mean", running[0] if running else x.mean(axis=axes))
        centred = x - mean[spread]
        variance = running[1] if running else (centred * centred).mean(axis=axes)
        variance = context.tapped("forward", "variance", variance)
        deviation = np.sqrt(variance + self.eps)
        normal = centred / deviation[spread]
        if context.training:
            self._track(context, mean, variance * (count / (count - 1)))
        scale = 1 / deviation if self.weight is None else self.weight / deviation

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dweight, dbias = (dy * normal).sum(axis=axes), dy.sum(axis=axes)
            within = dy if running else dy - (dbias[spread] + normal * dweight[spread]) / count
            grads = {} if self.weight is None else {"weight": dweight}
            return within * scale[spread], grads if self.bias is None else grads | {"bias": dbias}

        y = normal.copy() if self.weight is None else normal * self.weight[spread]
        return y if self.bias is None else y + self.bias[spread], backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.BatchNorm1d(*self._arguments(), **without_bias(self.weight, self.bias))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import sides

        return _cases(cls, st.lists(sides(), max_size=1))

    def _require_features(self, x: Array) -> None:
        self.require(x, "batch", self.num_features, *["length"] * (x.ndim == 3))

    def _arguments(self) -> tuple[int, float, float | None, bool, bool]:
        tracked = self.running_mean is not None
        return self.num_features, self.eps, self.momentum, self.weight is not None, tracked

    def _running(self) -> tuple[Array, Array] | None:
        """Return the running mean and variance, if they are kept."""
        return None if self.running_mean is None or self.running_var is None else (self.running_mean, self.running_var)

    def _track(self, context: Context, mean: Array, variance: Array) -> None:
        running = self._running()
        if running is None or self.num_batches_tracked is None:
            return
        tracked = int(self.num_batches_tracked) + 1
        share = 1 / tracked if self.momentum is None else self.momentum
        context.update("running_mean", (1 - share) * running[0] + share * mean)
        context.update("running_var", (1 - share) * running[1] + share * variance)
        context.update("num_batches_tracked", np.asarray(tracked, np.int64))


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class BatchNorm2d(BatchNorm1d):
    """`BatchNorm1d` for images (batch, channels, height, width): the same formulas, of each channel by itself.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
    """

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.BatchNorm2d(*self._arguments(), **without_bias(self.weight, self.bias))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import sides

        return _cases(cls, st.lists(sides(maximum=4), min_size=2, max_size=2))

    def _require_features(self, x: Array) -> None:
        self.require(x, "batch", self.num_features, "height", "width")


def _cases(cls: type[BatchNorm1d], trailing: SearchStrategy[list[int]]) -> SearchStrategy[Case]:
    """Draw either layer, and an input whose axes after the features are ``trailing``."""
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, arrays_with_offset, seeds, sides

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        training, features, tail = draw(st.booleans()), draw(sides(maximum=3)), draw(trailing)
        tracks = draw(st.sampled_from([True, True, True, False]))
        batch = draw(sides(minimum=2 if training or not tracks else 1, maximum=4))
        affine, biased = draw(st.sampled_from([(True, True), (True, False), (False, False)]))
        weight, bias = (draw(arrays((features,))) if there else None for there in (affine, biased))
        eps, momentum = draw(st.sampled_from([1e-5, 1e-3, 0.5])), draw(st.sampled_from([None, 0.1, 0.5, 1.0, 0.0]))
        mean, variance = (draw(arrays((features,), low, 4)) if tracks else None for low in (-4, 2.0**-5))
        tracked = np.asarray(draw(st.integers(0, 3)), np.int64) if tracks else None
        layer = cls(weight, bias, mean, variance, tracked, eps, momentum, features)
        x = draw(arrays((batch, features, *tail)) | arrays_with_offset((batch, features, *tail)))
        return Case(layer, (x,), draw(seeds()), training)

    return drawn()
