"""Mistakes in batch normalisation, and a change that is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import BatchNorm1d, BatchNorm2d
from tests.nets.faults.fault import BUFFERS, DIFFERENCES, FORWARD, TWIN, caught_by, equivalent
from tests.nets.faults.passes import given, with_gradient


class RetoldBatchNorm(BatchNorm2d):
    """Batch normalisation with the gradient of its input told anew: right, but for what subclasses get wrong."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        """Return the factors of the sums of dy and of dy n."""
        count = x.size // x.shape[1]
        return (1 / count, 1 / count) if training else (0, 0)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        axes, each = (0, 2, 3), (slice(None), None, None)
        mean, variance = (x.mean(axis=axes), x.var(axis=axes))
        running = None if context.training else self._running()
        if running is not None:
            mean, variance = running
        deviation = np.sqrt(variance + self.eps)
        normal = (x - mean[each]) / deviation[each]
        of_dy, of_dyn = self.terms(x, training=running is None)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            g = dy if self.weight is None else dy * self.weight[each]
            sums, along = (a.sum(axis=axes)[each] for a in (g, g * normal))
            return (g - of_dy * sums - normal * of_dyn * along) / deviation[each], right(dy)[1]

        return y, backward


@caught_by(FORWARD, tensor="output", name="BN-05")
class NormalisedByUnbiased(BatchNorm2d):
    """Divides by the unbiased deviation, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if not context.training and self.running_mean is not None:
            return super().forward(x, context)
        axes, each, count = (0, 2, 3), (slice(None), None, None), x.size // x.shape[1]
        share = count / (count - 1)
        bare = replace(self, weight=None, bias=None, eps=self.eps / share)
        normal, pullback = BatchNorm2d.forward(bare, x, context)
        normal = normal / math.sqrt(share)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            grads = {"weight": (dy * normal).sum(axis=axes), "bias": dy.sum(axis=axes)}
            g = dy if self.weight is None else dy * self.weight[each]
            return pullback(g / math.sqrt(share))[0], {name: grads[name] for name in self.parameters()}

        y = normal if self.weight is None else normal * self.weight[each]
        return y if self.bias is None else y + self.bias[each], backward


@caught_by(FORWARD, tensor="output", name="BN-09")
class PerPixelStatistics(BatchNorm2d):
    """Treats every pixel as a feature of its own, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        pixels, features = x.shape[2] * x.shape[3], x.shape[1]

        def each(array: Array | None) -> Any:  # noqa: ANN401  None for None
            return None if array is None else np.repeat(array, pixels)

        weight, bias, mean, variance = map(each, (self.weight, self.bias, self.running_mean, self.running_var))
        rest = (self.num_batches_tracked, self.eps, self.momentum, features * pixels)
        flat = BatchNorm1d(weight, bias, mean, variance, *rest)
        y, right = flat.forward(x.reshape(len(x), -1), Context(context.training))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy.reshape(len(x), -1))
            return dx.reshape(x.shape), {k: grad.reshape(features, pixels).sum(axis=1) for k, grad in grads.items()}

        return y.reshape(x.shape), backward


@caught_by(DIFFERENCES, TWIN, tensor="input", name="BN-10")
class DividesByBatch(RetoldBatchNorm):
    """Averages over the batch only, not over the pixels, too."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        return (1 / len(x), 1 / len(x)) if training else (0, 0)


@caught_by(DIFFERENCES, TWIN, tensor="input", name="BN-08")
class TrainingFormulaInEvaluation(RetoldBatchNorm):
    """Differentiates running statistics as if they came from the batch."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        return super().terms(x, training=True)


@caught_by(DIFFERENCES, TWIN, tensor="input")
class WithoutTheMean(RetoldBatchNorm):
    """Treats the mean as a constant."""

    def terms(self, x: Array, *, training: bool) -> tuple[float, float]:
        return 0, super().terms(x, training=training)[1]


@caught_by(BUFFERS, tensor="running_var", name="BN-04")
class BiasedRunningVariance(BatchNorm1d):
    """Keeps the variance that it normalises by, not the unbiased one."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        result = super().forward(x, context)
        if context.training and self.num_batches_tracked is not None and self.running_var is not None:
            share = 1 / (int(self.num_batches_tracked) + 1) if self.momentum is None else self.momentum
            variance = x.var(axis=(0, *range(2, x.ndim)))
            context.update("running_var", (1 - share) * self.running_var + share * variance)
        return result


@caught_by(BUFFERS, tensor="running_mean")
class LearnsInEvaluation(BatchNorm1d):
    """Moves its running mean in evaluation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if self.running_mean is not None:
            context.update("running_mean", 0.9 * self.running_mean + 0.1 * x.mean(axis=(0, *range(2, x.ndim))))
        return super().forward(x, context)


@caught_by(BUFFERS)
class CountsInPlace(BatchNorm1d):
    """Increments the batch count in place, so that a forward pass is not pure."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked[...] += 1
        return super().forward(x, context)


@caught_by(BUFFERS)
class CountsInFloats(BatchNorm1d):
    """Counts batches in floating point."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        result = super().forward(x, context)
        if self.num_batches_tracked is not None:
            context.update("num_batches_tracked", np.asarray(self.num_batches_tracked + 1.0))
        return result


@caught_by(BUFFERS)
class Misnamed(BatchNorm1d):
    """Proposes a buffer that it does not have."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if self.running_mean is not None:
            context.update("mean", self.running_mean.copy())
        return super().forward(x, context)


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


@equivalent("EQ-01")
class WithoutTheTermThatIsZero(StepByStep):
    """Leaves the variance out of the gradient of the mean: that term is a sum of deviations, which is zero."""

    def of_mean(self, dn: Array, dvariance: Array, centred: Array, deviation: Array, count: int) -> Array:
        return -dn.sum(axis=(0, 2, 3)) / deviation


@caught_by(DIFFERENCES, tensor="input", name="BN-03")
class MeanDividedTwice(StepByStep):
    """Divides the gradient of the mean by the number of values a second time."""

    def of_mean(self, dn: Array, dvariance: Array, centred: Array, deviation: Array, count: int) -> Array:
        return super().of_mean(dn, dvariance, centred, deviation, count) / count


@caught_by(DIFFERENCES, tensor="weight", name="BN-13")
class WeightByMean(BatchNorm1d):
    """Averages the gradient of the weight over the batch."""

    forward = with_gradient("weight", lambda at, dy: at.right(dy)[1]["weight"] / len(at.x))


@caught_by(DIFFERENCES, "backward_is_linear", tensor="bias", name="BN-13")
class BiasOfTheInput(BatchNorm1d):
    """Sums the input, not dy, for the gradient of the bias."""

    forward = with_gradient("bias", lambda at, _: at.x.sum(axis=(0, *range(2, at.x.ndim))))


@caught_by(FORWARD, tensor="output")
class ForgetsInEvaluation(BatchNorm1d):
    """Normalises by the batch in evaluation too, whatever statistics are kept, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if context.training or self.running_mean is None or x.size == self.num_features:
            return super().forward(x, context)
        bare = replace(self, running_mean=None, running_var=None, num_batches_tracked=None)
        return BatchNorm1d.forward(bare, x, context)


@caught_by(BUFFERS, tensor="running_mean")
class CountsFromZero(BatchNorm1d):
    """Averages over all batches with a count that is one behind."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        result = super().forward(x, context)
        tracked, mean = self.num_batches_tracked, self.running_mean
        if context.training and self.momentum is None and tracked is not None and mean is not None:
            share = 1 / max(int(tracked), 1)
            context.update("running_mean", (1 - share) * mean + share * x.mean(axis=(0, *range(2, x.ndim))))
        return result


@caught_by(BUFFERS)
class MomentumIfTrue(BatchNorm1d):
    """Tests ``if momentum``: a momentum of 0 averages over all batches, where it must keep the statistics."""

    forward = given(layer=lambda self: replace(self, momentum=self.momentum or None))
