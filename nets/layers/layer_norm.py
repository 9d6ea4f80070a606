"""Normalisation over the last axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, parameter
from nets.floating import floating
from nets.initializers import Constant
from nets.layers.normalisation import normalised, require_affine
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class LayerNorm(Layer):
    """Layer normalisation ``y = n * weight + bias``, ``n = (x - mean) / sqrt(var + eps)``, over the last axes.

    From (..., *normalized_shape) to the same shape; ``var`` is the mean squared deviation. With ``g = dy * weight`` the
    gradient is ``dx = (g - mean(g) - n mean(g n)) / sqrt(var + eps)``. ``bias``, or both, may be None;
    ``normalized_shape`` is by default that of ``weight``. Raises `ShapeError` where the last axes are others.
    Ba, Kiros and Hinton (2016); https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
    """

    weight: Array | None = parameter(Constant(1.0))  # normalized_shape
    bias: Array | None = parameter(Constant(0.0))  # normalized_shape
    eps: float = 1e-5
    normalized_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.normalized_shape and self.weight is not None:
            object.__setattr__(self, "normalized_shape", self.weight.shape)
        shape = self.normalized_shape
        if min(shape, default=0) < 1:
            raise ValueError(f"LayerNorm needs normalized_shape of one axis or more, of at least 1 each, got {shape}")
        require_affine("LayerNorm", self.weight, self.bias, *shape)

    @classmethod
    def create(
        cls,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> Self:
        """Return a layer of weight one and bias zero."""
        shape = tuple(normalized_shape) if np.iterable(normalized_shape) else (normalized_shape,)
        weight = np.ones(shape) if elementwise_affine else None
        return cls(weight, np.zeros(shape) if elementwise_affine and bias else None, eps, shape)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        shape = self.normalized_shape
        self.require(x, "...", *shape)
        normal, pullback = normalised(x, tuple(range(-len(shape), 0)), self.eps, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            grads, rows = {}, (-1, *shape)
            if self.weight is not None:
                grads["weight"] = (dy * normal).reshape(rows).sum(axis=0)
            if self.bias is not None:
                grads["bias"] = dy.reshape(rows).sum(axis=0)
            return pullback(dy if self.weight is None else dy * self.weight), grads

        y = normal.copy() if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward

    def twin(self) -> torch.nn.Module:
        import torch

        affine = self.weight is not None
        return torch.nn.LayerNorm(list(self.normalized_shape), self.eps, affine, bias=self.bias is not None)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_with_offset, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            shape = (draw(sides(2)),) if draw(st.booleans()) else (draw(sides(maximum=3)), draw(sides(2, 4)))
            affine, biased = draw(st.sampled_from([(True, True), (True, False), (False, False)]))
            weight, bias = (draw(arrays(shape)) if there else None for there in (affine, biased))
            layer = cls(weight, bias, draw(st.sampled_from([1e-5, 1e-3, 0.5])), shape)
            leading = draw(st.lists(sides(maximum=4), max_size=2))
            return draw(cases(st.just(layer), arrays((*leading, *shape)) | arrays_with_offset((*leading, *shape))))

        return drawn()
