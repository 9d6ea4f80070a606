"""Mistakes in layer and group normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import GroupNorm, LayerNorm
from tests.nets.faults.fault import DIFFERENCES, FORWARD, SHAPES, caught_by
from tests.nets.faults.passes import given, with_gradient


def axes_of(layer: LayerNorm) -> tuple[int, ...]:
    """Return the axes over which a layer normalises."""
    return tuple(range(-len(layer.normalized_shape), 0))


class _Renormalised(LayerNorm):
    """What those that normalise in another way have in common: weight and bias, and their gradients."""

    def normalised(self, x: Array, context: Context) -> tuple[Array, Callable[[Array], Array]]:
        """Return the normalised input and its pullback."""
        raise NotImplementedError

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        normal, pullback = self.normalised(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            sums = (a.reshape(-1, *self.normalized_shape).sum(axis=0) for a in (dy * normal, dy))
            grads = {k: a for k, a in zip(("weight", "bias"), sums, strict=True) if k in self.parameters()}
            return pullback(dy if self.weight is None else dy * self.weight), grads

        y = normal.copy() if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward


@caught_by(FORWARD, tensor="output", name="LN-01")
class EpsOutsideTheRoot(_Renormalised):
    """Divides by ``sqrt(var) + eps``, consistently."""

    def normalised(self, x: Array, context: Context) -> tuple[Array, Callable[[Array], Array]]:
        axes = axes_of(self)
        centred = x - x.mean(axis=axes, keepdims=True)
        root = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
        normal, inner = centred / (root + self.eps), np.where(root > 0, root, 1)

        def pullback(g: Array) -> Array:
            along = (g * centred).mean(axis=axes, keepdims=True) / inner
            return np.asarray((g - g.mean(axis=axes, keepdims=True) - normal * along) / (root + self.eps))

        return normal, pullback


@caught_by(FORWARD, tensor="output", name="LN-01")
class EpsPerElement(LayerNorm):
    """Adds eps to the sum of squares, so it uses ``var + eps / count``, consistently."""

    forward = given(layer=lambda self: replace(self, eps=self.eps / np.prod(self.normalized_shape)))


@caught_by(DIFFERENCES, SHAPES, name="LN-05")
class SummedOverFeatures(LayerNorm):
    """Sums the bias gradient over the features, not over the rows."""

    forward = with_gradient("bias", lambda at, dy: dy.sum(axis=axes_of(at.subject)).reshape(-1))


@caught_by(DIFFERENCES, name="LN-05")
class WeightAndBiasSwapped(LayerNorm):
    """Swaps the gradients of weight and bias."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, dict(zip(grads, reversed(grads.values()), strict=True))

        return y, backward


@caught_by(DIFFERENCES, tensor="input")
class WithoutTheMeanOfTheRow(LayerNorm):
    """Treats the mean as a constant."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        deviation = np.sqrt(x.var(axis=axes_of(self), keepdims=True) + self.eps)

        def dmean(dy: Array) -> Array:
            g = dy if self.weight is None else dy * self.weight
            return np.asarray(g.mean(axis=axes_of(self), keepdims=True) / deviation)

        return y, lambda dy: (right(dy)[0] + dmean(dy), right(dy)[1])


@caught_by(FORWARD, tensor="output")
class OverTheLastAxisOnly(_Renormalised):
    """Normalises over the last axis only, where it must over two, consistently."""

    def normalised(self, x: Array, context: Context) -> tuple[Array, Callable[[Array], Array]]:
        normal, right = LayerNorm.create(x.shape[-1], self.eps, elementwise_affine=False).forward(x, context)
        return normal, lambda g: right(g)[0]


@caught_by(FORWARD, tensor="output")
class GroupsInterleaved(GroupNorm):
    """Puts every k-th channel into a group, not k neighbours, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        order = np.arange(self.num_channels).reshape(-1, self.num_groups).T.reshape(-1)
        back = np.argsort(order)
        arrays = {name: array[order] for name, array in self.parameters().items()}
        y, right = GroupNorm.forward(self.replace_arrays(arrays), np.ascontiguousarray(x[:, order]), context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy[:, order])
            return dx[:, back], {name: grad[back] for name, grad in grads.items()}

        return y[:, back], backward


@caught_by(FORWARD, tensor="output")
class AffinePerGroup(GroupNorm):
    """Uses the weight and bias of a group's first channel for all its channels, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        each = self.num_channels // self.num_groups
        arrays = {name: np.repeat(array[::each], each) for name, array in self.parameters().items()}
        y, right = GroupNorm.forward(self.replace_arrays(arrays), x, context)

        def shared(grad: Array) -> Array:
            only = np.zeros_like(grad)
            only[::each] = grad.reshape(-1, each).sum(axis=1)
            return only

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {name: shared(grad) for name, grad in grads.items()}

        return y, backward


@caught_by(FORWARD, tensor="output")
class GroupCountForgotten(GroupNorm):
    """Treats all channels as one group, consistently."""

    forward = given(layer=lambda self: replace(self, num_groups=1))


@caught_by(DIFFERENCES, tensor="input")
class WeightBehindTheMeans(GroupNorm):
    """Multiplies by the weight after taking the means of dy, which is right only with one weight per group."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        _, plain = GroupNorm.forward(replace(self, weight=None, bias=None), x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx = plain(dy)[0]
            weight = np.ones(self.num_channels) if self.weight is None else self.weight
            return dx * weight.reshape(-1, *[1] * (x.ndim - 2)).astype(dx.dtype), right(dy)[1]

        return y, backward


@caught_by("precisions_agree")
class MeanOfSquares(_Renormalised):
    """Computes the variance as mean(x^2) - mean(x)^2, which cancels if the mean is large, and clips it at 0."""

    def normalised(self, x: Array, context: Context) -> tuple[Array, Callable[[Array], Array]]:
        axes = axes_of(self)
        mean = x.mean(axis=axes, keepdims=True)
        variance = np.maximum((x * x).mean(axis=axes, keepdims=True) - mean * mean, 0)
        mean = context.tapped("forward", "mean", mean)
        deviation = np.sqrt(context.tapped("forward", "variance", variance) + self.eps)
        normal = (x - mean) / deviation

        def pullback(g: Array) -> Array:
            along = (g * normal).mean(axis=axes, keepdims=True)
            return np.asarray((g - g.mean(axis=axes, keepdims=True) - normal * along) / deviation)

        return normal, pullback
