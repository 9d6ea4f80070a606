"""Mistakes in normalisations, dropout, embeddings and residuals, each with the property that must catch it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import BatchNorm1d, BatchNorm2d, Dropout, Dropout2d, Embedding, GroupNorm, LayerNorm, Residual

DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"
BUFFERS = "buffers_agree_with_twin"
SHAPES = "gradients_match_their_tensors"


class EpsOutsideTheRoot(LayerNorm):
    """Divides by ``sqrt(var) + eps``, forward and backward alike: no difference can show that."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(axis=axes, keepdims=True)
        root = np.sqrt((centred * centred).mean(axis=axes, keepdims=True))
        normal, inner = centred / (root + self.eps), np.where(root > 0, root, 1)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            g = dy if self.weight is None else dy * self.weight
            along = (g * centred).mean(axis=axes, keepdims=True) / (inner * (root + self.eps))
            dx = (g - g.mean(axis=axes, keepdims=True) - normal * along) / (root + self.eps)
            sums = (a.reshape(-1, *self.normalized_shape).sum(axis=0) for a in (dy * normal, dy))
            return dx, {k: a for k, a in zip(("weight", "bias"), sums, strict=True) if k in self.parameters()}

        y = normal if self.weight is None else normal * self.weight
        return y if self.bias is None else y + self.bias, backward


class EpsPerElement(LayerNorm):
    """Adds eps to the count of elements' sum, ``var + eps / count``, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return LayerNorm.forward(replace(self, eps=self.eps / np.prod(self.normalized_shape)), x, context)


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


class SummedOverFeatures(LayerNorm):
    """Sums the gradient of the bias over the features in place of over the rows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            sums = dy.sum(axis=tuple(range(-len(self.normalized_shape), 0)))
            return dx, grads | ({"bias": sums.reshape(-1)} if "bias" in grads else {})

        return y, backward


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


class GroupCountForgotten(GroupNorm):
    """Takes all channels for one group, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return GroupNorm.forward(replace(self, num_groups=1), x, context)


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


@dataclass(frozen=True, eq=False)
class StepByStep(BatchNorm2d):
    """Batch normalisation whose gradient of the input is told step by step, as by hand; subclasses err in a step."""

    def of_mean(self, dn: Array, dvariance: Array, centred: Array, deviation: Array, count: int) -> Array:
        """Return the gradient of the mean."""
        return -dn.sum(axis=(0, 2, 3)) / deviation - 2 * dvariance * centred.sum(axis=(0, 2, 3)) / count

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        if not context.training and self.running_mean is not None:
            return y, right
        axes, each, count = (0, 2, 3), (slice(None), None, None), x.size // self.num_features
        mean = context.tapped("forward", "own_mean", x.mean(axis=axes))
        centred = x - mean[each]
        deviation = np.sqrt(context.tapped("forward", "own_variance", (centred**2).mean(axis=axes)) + self.eps)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dn = dy if self.weight is None else dy * self.weight[each]
            dvariance = -(dn * centred).sum(axis=axes) / (2 * deviation**3)
            dmean = self.of_mean(dn, dvariance, centred, deviation, count)
            return dn / deviation[each] + (2 * dvariance[each] * centred + dmean[each]) / count, right(dy)[1]

        return y, backward


class WithoutTheTermThatIsZero(StepByStep):
    """Leaves the variance out of the gradient of the mean, where it is a sum of deviations: zero."""

    def of_mean(self, dn: Array, dvariance: Array, centred: Array, deviation: Array, count: int) -> Array:
        return -dn.sum(axis=(0, 2, 3)) / deviation


class MeanDividedTwice(StepByStep):
    """Divides the gradient of the mean by the number of values a second time."""

    def of_mean(self, dn: Array, dvariance: Array, centred: Array, deviation: Array, count: int) -> Array:
        return super().of_mean(dn, dvariance, centred, deviation, count) / count


class WeightByMean(BatchNorm1d):
    """Averages the gradient of the weight over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | ({"weight": grads["weight"] / len(x)} if "weight" in grads else {})

        return y, backward


class BiasOfTheInput(BatchNorm1d):
    """Sums the input, not dy, for the gradient of the bias."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | ({"bias": x.sum(axis=(0, *range(2, x.ndim)))} if "bias" in grads else {})

        return y, backward


class ForgetsInEvaluation(BatchNorm1d):
    """Normalises by the batch in evaluation too, whatever statistics are kept, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if context.training or self.running_mean is None or x.size == self.num_features:
            return super().forward(x, context)
        bare = replace(self, running_mean=None, running_var=None, num_batches_tracked=None)
        return BatchNorm1d.forward(bare, x, context)


class CountsFromZero(BatchNorm1d):
    """Averages over all batches with a count that is one behind."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        result = super().forward(x, context)
        tracked, mean = self.num_batches_tracked, self.running_mean
        if context.training and self.momentum is None and tracked is not None and mean is not None:
            share = 1 / max(int(tracked), 1)
            context.update("running_mean", (1 - share) * mean + share * x.mean(axis=(0, *range(2, x.ndim))))
        return result


class ElementsDropped(Dropout2d):
    """Drops single elements, not channels, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout(self.p).forward(x, context)


class RowsDropped(Dropout2d):
    """Drops the same channels of every sample, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if not context.training:
            return super().forward(x, context)
        kept = context.key.generator().random((x.shape[1], 1, 1)) >= self.p
        scale = kept.astype(x.dtype) / (1 - self.p if self.p < 1 else 1)
        return x * scale, lambda dy: (dy * scale, {})


class NotInverted2d(Dropout2d):
    """Scales in evaluation in place of in training, as the paper does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        share = 1 - self.p if self.p < 1 else 1.0
        y, right = super().forward(x, context)
        return y * share, lambda dy: (right(dy)[0] * share, {})


class MaskForgotten2d(Dropout2d):
    """Lets the gradient of dropped channels pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        scale = 1 / (1 - self.p) if context.training and self.p < 1 else 1.0
        return super().forward(x, context)[0], lambda dy: (dy * scale, {})


class ScaleForgotten2d(Dropout2d):
    """Drops the gradient, and does not scale what is left."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(right(np.ones_like(dy))[0] != 0, dy, 0), {})


class AlwaysAHalf2d(Dropout2d):
    """Drops half of the channels, whatever it is asked."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout2d(0.5).forward(x, context)


class LastIndexWins(Embedding):
    """Assigns a row's gradient where several must be added up."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dweight = np.zeros(self.weight.shape, dy.dtype)
            dweight[x] += dy
            if self.padding_idx is not None:
                dweight[self.padding_idx] = 0
            return right(dy)[0], {"weight": dweight}

        return y, backward


class Gathered(Embedding):
    """Looks gradients up by index, where they must be scattered."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            rows, places = dy.reshape(-1, dy.shape[-1]), np.resize(x.reshape(-1), len(self.weight))
            dweight = rows[places % len(rows)]
            if self.padding_idx is not None:
                dweight[self.padding_idx] = 0
            return right(dy)[0], {"weight": dweight}

        return y, backward


class PaddingTrained(Embedding):
    """Gives the row of the padding a gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Embedding(self.weight).forward(x, context)


class PaddingFromTheStart(Embedding):
    """Takes the absolute value of a padding index, which counts from the end if it is negative."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        padding = self.padding_idx
        own = None if padding is None else min(abs(padding), len(self.weight) - 1)
        return Embedding(self.weight, own).forward(x, context)


class PaddingIsZero(Embedding):
    """Looks zeros up for the padding, whatever its row holds."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        padding = -1 if self.padding_idx is None else self.padding_idx % len(self.weight)
        return np.where((x == padding)[..., None], 0, y), right


class SkipForgotten(Residual):
    """Assigns the branch's gradient where that of the skip is to be added: of two consumers one counts."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0] - dy, right(dy)[1])


class SkipTwice(Residual):
    """Adds the gradient of the skip twice."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0] + dy, right(dy)[1])


class BranchForgotten(Residual):
    """Passes dy on as it is: the last consumer's gradient takes the place of the first's."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (dy.copy(), right(dy)[1])


class WithoutTheSkip(Residual):
    """Leaves the input out, forward and backward alike."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y - x, lambda dy: (right(dy)[0] - dy, right(dy)[1])


class BranchEvaluates(Residual):
    """Calls its branch in evaluation mode always."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, Context(False, context.key, context.tap, context.updates))


PLANTED: list[tuple[type, str, str | None, str]] = [
    (EpsOutsideTheRoot, FORWARD, "output", "LN-01"),
    (EpsPerElement, FORWARD, "output", "LN-01"),
    (WeightAndBiasSwapped, DIFFERENCES, None, "LN-05"),
    (SummedOverFeatures, SHAPES, None, "LN-05"),
    (WithoutTheMeanOfTheRow, DIFFERENCES, "input", ""),
    (OverTheLastAxisOnly, FORWARD, "output", ""),
    (GroupsInterleaved, FORWARD, "output", ""),
    (AffinePerGroup, FORWARD, "output", ""),
    (GroupCountForgotten, FORWARD, "output", ""),
    (WeightBehindTheMeans, DIFFERENCES, "input", ""),
    (MeanDividedTwice, DIFFERENCES, "input", "BN-03"),
    (WeightByMean, DIFFERENCES, "weight", "BN-13"),
    (BiasOfTheInput, DIFFERENCES, "bias", "BN-13"),
    (BiasOfTheInput, "backward_is_linear", "bias", "BN-13"),
    (ForgetsInEvaluation, FORWARD, "output", ""),
    (CountsFromZero, BUFFERS, "running_mean", ""),
    (ElementsDropped, FORWARD, "output", ""),
    (RowsDropped, FORWARD, "output", ""),
    (NotInverted2d, FORWARD, "output", "DRP-01"),
    (MaskForgotten2d, DIFFERENCES, "input", "DRP-04"),
    (ScaleForgotten2d, DIFFERENCES, "input", "DRP-05"),
    (AlwaysAHalf2d, FORWARD, "output", "DRP-08"),
    (LastIndexWins, DIFFERENCES, "weight", "EMB-01"),
    (Gathered, DIFFERENCES, "weight", "EMB-03"),
    (PaddingTrained, TWIN, "weight", ""),
    (PaddingTrained, DIFFERENCES, "weight", ""),
    (PaddingFromTheStart, TWIN, "weight", ""),
    (PaddingIsZero, FORWARD, "output", ""),
    (SkipForgotten, DIFFERENCES, "input", "ENG-01"),
    (BranchForgotten, DIFFERENCES, "input", "ENG-01"),
    (SkipTwice, DIFFERENCES, "input", ""),
    (WithoutTheSkip, FORWARD, "output", ""),
    (BranchEvaluates, FORWARD, "output", ""),
]

# What looks like a mistake and computes the same: every property must stay quiet.
EQUIVALENT: list[tuple[type, str]] = [(WithoutTheTermThatIsZero, "EQ-01")]
