"""Normalisation over groups of channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError, parameter
from nets.floating import floating
from nets.initializers import Constant
from nets.layers.normalisation import normalised, require_affine, without_bias
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class GroupNorm(Layer):
    """Group normalisation ``y = n * weight + bias``, ``n = (x - mean) / sqrt(var + eps)``, of each group of a sample.

    For (batch, channels, ...), whose channels are cut into ``num_groups`` runs of equal length; ``mean`` and ``var``,
    the mean squared deviation, are those of all elements of a group. With ``g = dy * weight``, each channel with a
    weight of its own, the gradient is ``dx = (g - mean(g) - n mean(g n)) / sqrt(var + eps)``. ``bias``, or both, may be
    None. Raises `ShapeError` for another number of channels, and as torch for a single value in one sample.
    Wu and He (2018); https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html
    """

    weight: Array | None = parameter(Constant(1.0))  # (channels,)
    bias: Array | None = parameter(Constant(0.0))  # (channels,)
    num_groups: int = 1
    num_channels: int = 0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if not self.num_channels and self.weight is not None:
            object.__setattr__(self, "num_channels", len(self.weight))
        if self.num_groups < 1 or self.num_channels < 1 or self.num_channels % self.num_groups:
            channels = f"{self.num_channels} channels"
            raise ValueError(f"GroupNorm needs num_groups that divide its {channels}, got {self.num_groups}")
        require_affine("GroupNorm", self.weight, self.bias, self.num_channels)

    @classmethod
    def create(
        cls, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True
    ) -> Self:
        """Return a layer of weight one and bias zero."""
        weight = np.ones(num_channels) if affine else None
        return cls(weight, np.zeros(num_channels) if affine and bias else None, num_groups, num_channels, eps)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm needs x of shape (batch, {self.num_channels}, ...), got {x.shape}")
        if x.size == self.num_groups:
            raise ShapeError(f"GroupNorm needs x of more than one value per group, got {x.shape}")
        axes, each = (0, *range(2, x.ndim)), (slice(None), *[None] * (x.ndim - 2))  # all axes but the channels'
        groups = (len(x), self.num_groups, math.prod(x.shape[1:]) // self.num_groups)
        of_groups, pullback = normalised(x.reshape(groups), (2,), self.eps, context)
        normal = of_groups.reshape(x.shape)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            grads = {}
            if self.weight is not None:
                grads["weight"] = (dy * normal).sum(axis=axes)
            if self.bias is not None:
                grads["bias"] = dy.sum(axis=axes)
            g = dy if self.weight is None else dy * self.weight[each]
            return pullback(g.reshape(groups)).reshape(x.shape), grads

        y = normal.copy() if self.weight is None else normal * self.weight[each]
        return y if self.bias is None else y + self.bias[each], backward

    def twin(self) -> torch.nn.Module:
        import torch

        bias = without_bias(self.weight, self.bias)
        return torch.nn.GroupNorm(self.num_groups, self.num_channels, self.eps, self.weight is not None, **bias)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_with_offset, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            groups, each = draw(sides(maximum=3)), draw(sides(maximum=3))
            channels = groups * each
            tail = draw(st.lists(sides(maximum=4), max_size=2))
            if each == 1:  # a group of one value has no deviation
                tail = [draw(sides(2, 4)), *tail[1:]]
            affine, biased = draw(st.sampled_from([(True, True), (True, False), (False, False)]))
            weight, bias = (draw(arrays((channels,))) if there else None for there in (affine, biased))
            layer = cls(weight, bias, groups, channels, draw(st.sampled_from([1e-5, 1e-3, 0.5])))
            x = (draw(sides(maximum=3)), channels, *tail)
            return draw(cases(st.just(layer), arrays(x) | arrays_with_offset(x)))

        return drawn()
