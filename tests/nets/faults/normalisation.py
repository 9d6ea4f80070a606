"""Mistakes in layer and group normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import GroupNorm, LayerNorm
from tests.nets.faults.fault import DIFFERENCES, FORWARD, SHAPES, Fault


class EpsOutsideTheRoot(LayerNorm):
    """Divides by ``sqrt(var) + eps``, consistently."""

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


class EpsPerElement(LayerNorm):
    """Adds eps to the sum of squares, so it uses ``var + eps / count``, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return LayerNorm.forward(replace(self, eps=self.eps / np.prod(self.normalized_shape)), x, context)


class WeightAndBiasSwapped(LayerNorm):
    """Swaps the gradients of weight and bias."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {name: grads["weight" if name == "bias" else "bias"] for name in grads} if len(
                grads
            ) == 2 else grads

        return y, backward


class SummedOverFeatures(LayerNorm):
    """Sums the bias gradient over the features, not over the rows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            sums = dy.sum(axis=tuple(range(-len(self.normalized_shape), 0)))
            return dx, grads | ({"bias": sums.reshape(-1)} if "bias" in grads else {})

        return y, backward


class WithoutTheMeanOfTheRow(LayerNorm):
    """Treats the mean as a constant."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        axes = tuple(range(-len(self.normalized_shape), 0))
        deviation = np.sqrt(x.var(axis=axes, keepdims=True) + self.eps)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            g = dy if self.weight is None else dy * self.weight
            return dx + g.mean(axis=axes, keepdims=True) / deviation, grads

        return y, backward


class OverTheLastAxisOnly(LayerNorm):
    """Normalises over the last axis only, where it must over two, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        normal, pullback = LayerNorm.create(x.shape[-1], self.eps, elementwise_affine=False).forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            sums = (a.reshape(-1, *self.normalized_shape).sum(axis=0) for a in (dy * normal, dy))
            grads = {k: a for k, a in zip(("weight", "bias"), sums, strict=True) if k in self.parameters()}
            return pullback(dy if self.weight is None else dy * self.weight)[0], grads

        y = normal if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward


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


class GroupCountForgotten(GroupNorm):
    """Treats all channels as one group, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return GroupNorm.forward(replace(self, num_groups=1), x, context)


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


class MeanOfSquares(LayerNorm):
    """Computes the variance as mean(x^2) - mean(x)^2, which cancels if the mean is large, and clips it at 0."""

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


PLANTED = [
    Fault(SummedOverFeatures, DIFFERENCES, None, "LN-05"),
    Fault(EpsOutsideTheRoot, FORWARD, "output", "LN-01"),
    Fault(EpsPerElement, FORWARD, "output", "LN-01"),
    Fault(WeightAndBiasSwapped, DIFFERENCES, None, "LN-05"),
    Fault(SummedOverFeatures, SHAPES, None, "LN-05"),
    Fault(WithoutTheMeanOfTheRow, DIFFERENCES, "input", ""),
    Fault(OverTheLastAxisOnly, FORWARD, "output", ""),
    Fault(GroupsInterleaved, FORWARD, "output", ""),
    Fault(AffinePerGroup, FORWARD, "output", ""),
    Fault(GroupCountForgotten, FORWARD, "output", ""),
    Fault(WeightBehindTheMeans, DIFFERENCES, "input", ""),
    Fault(MeanOfSquares, "precisions_agree", None, ""),
]

BLIND: list[type] = [
    EpsOutsideTheRoot,
    EpsPerElement,
    OverTheLastAxisOnly,
    GroupsInterleaved,
    AffinePerGroup,
    GroupCountForgotten,
    MeanOfSquares,
]
