"""Mistakes in layer and group normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import GroupNorm, LayerNorm
from tests.nets.faults.fault import DIFFERENCES, FORWARD, SHAPES, caught_by


@caught_by(FORWARD, tensor="output", name="LN-01")
class EpsOutsideTheRoot(LayerNorm):
    """Divides by ``sqrt(var) + eps``, forward and backward alike: no difference can show that."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(axis=axes, keepdims=True)
        root = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
        normal, inner = centred / (root + self.eps), np.where(root > 0, root, 1)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            g = dy if self.weight is None else dy * self.weight
            along = (g * centred).mean(axis=axes, keepdims=True) / inner
            dx = (g - g.mean(axis=axes, keepdims=True) - normal * along) / (root + self.eps)
            sums = (a.reshape(-1, *self.normalized_shape).sum(axis=0) for a in (dy * normal, dy))
            return dx, {k: a for k, a in zip(("weight", "bias"), sums, strict=True) if k in self.parameters()}

        y = normal if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward


@caught_by(FORWARD, tensor="output", name="LN-01")
class EpsPerElement(LayerNorm):
    """Adds eps to the count of elements' sum, ``var + eps / count``, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return LayerNorm.forward(replace(self, eps=self.eps / np.prod(self.normalized_shape)), x, context)


@caught_by(DIFFERENCES, SHAPES, name="LN-05")
class SummedOverFeatures(LayerNorm):
    """Sums the gradient of the bias over the features in place of over the rows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            sums = dy.sum(axis=tuple(range(-len(self.normalized_shape), 0)))
            return dx, grads | ({"bias": sums.reshape(-1)} if "bias" in grads else {})

        return y, backward


@caught_by(DIFFERENCES, name="LN-05")
class WeightAndBiasSwapped(LayerNorm):
    """Returns the gradients of weight and bias in each other's place."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {name: grads["weight" if name == "bias" else "bias"] for name in grads} if len(
                grads
            ) == 2 else grads

        return y, backward


@caught_by(DIFFERENCES, tensor="input")
class WithoutTheMeanOfTheRow(LayerNorm):
    """Takes the mean for a constant."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        axes = tuple(range(-len(self.normalized_shape), 0))
        deviation = np.sqrt(x.var(axis=axes, keepdims=True) + self.eps)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            g = dy if self.weight is None else dy * self.weight
            return dx + g.mean(axis=axes, keepdims=True) / deviation, grads

        return y, backward


@caught_by(FORWARD, tensor="output")
class OverTheLastAxisOnly(LayerNorm):
    """Normalises over the last axis alone, where two are to be normalised together, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        normal, pullback = LayerNorm.create(x.shape[-1], self.eps, elementwise_affine=False).forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            sums = (a.reshape(-1, *self.normalized_shape).sum(axis=0) for a in (dy * normal, dy))
            grads = {k: a for k, a in zip(("weight", "bias"), sums, strict=True) if k in self.parameters()}
            return pullback(dy if self.weight is None else dy * self.weight)[0], grads

        y = normal if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward


@caught_by(FORWARD, tensor="output")
class GroupsInterleaved(GroupNorm):
    """Takes every k-th channel into a group, not k neighbours, consistently."""

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
    """Gives all channels of a group the weight and bias of its first, consistently."""

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
    """Takes all channels for one group, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return GroupNorm.forward(replace(self, num_groups=1), x, context)


@caught_by(DIFFERENCES, tensor="input")
class WeightBehindTheMeans(GroupNorm):
    """Multiplies by the weight after the means of dy are taken, which is right for one weight a group alone."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        _, plain = GroupNorm.forward(replace(self, weight=None, bias=None), x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx = plain(dy)[0]
            weight = np.ones(self.num_channels) if self.weight is None else self.weight
            return dx * weight.reshape(-1, *[1] * (x.ndim - 2)).astype(dx.dtype), right(dy)[1]

        return y, backward


@caught_by("precisions_agree")
class MeanOfSquares(LayerNorm):
    """Takes the variance for mean(x^2) - mean(x)^2, which cancels where the mean is large, and clips it at 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        axes = tuple(range(-len(self.normalized_shape), 0))
        mean = x.mean(axis=axes, keepdims=True)
        variance = np.maximum((x * x).mean(axis=axes, keepdims=True) - mean * mean, 0)
        mean = context.tapped("forward", "mean", mean)
        deviation = np.sqrt(context.tapped("forward", "variance", variance) + self.eps)
        normal = (x - mean) / deviation

        def backward(dy: Array) -> tuple[Array, Gradients]:
            g = dy if self.weight is None else dy * self.weight
            along = (g * normal).mean(axis=axes, keepdims=True)
            sums = (a.reshape(-1, *self.normalized_shape).sum(axis=0) for a in (dy * normal, dy))
            grads = {k: a for k, a in zip(("weight", "bias"), sums, strict=True) if k in self.parameters()}
            return (g - g.mean(axis=axes, keepdims=True) - normal * along) / deviation, grads

        y = normal.copy() if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward
