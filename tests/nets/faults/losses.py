"""Mistakes in losses, with the property that must see each one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Context, LossBackward
from nets.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SummedBCELoss,
)
from nets.losses.reduction import reduced
from tests.nets.faults.fault import DIFFERENCES, EXTREMES, FORWARD, INDICES, SHAPES, TWIN, caught_by
from tests.nets.faults.passes import with_factor, with_pullback

FINITE = "extreme_values_stay_finite"

EPSILON = 1e-7  # by which a probability is kept off 0 and 1


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-05")
class WithoutTwo(MSELoss):
    """The factor of the square's derivative is forgotten."""

    forward = with_pullback(lambda at, dvalue: at.right(dvalue) / 2)


@caught_by(FORWARD, tensor="output", name="LOS-05")
class HalvedBothWays(MSELoss):
    """Half the squared error, and its gradient, under the name of the squared error."""

    forward = with_factor(lambda _: 0.5)


@caught_by(DIFFERENCES, "backward_is_linear", tensor="prediction")
class OnesForDvalue(MSELoss):
    """Where nothing is reduced, the gradient is that of the sum, whatever dvalue is."""

    forward = with_pullback(
        lambda at, dvalue: at.right(np.ones_like(dvalue) if at.subject.reduction == "none" else dvalue)
    )


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-03")
class GradientOfTheSumOfErrors(L1Loss):
    """The mean is reported; its gradient is not divided by the number of elements."""

    forward = with_pullback(lambda at, dvalue: at.right(dvalue) * (at.x.size if at.subject.reduction == "mean" else 1))


@caught_by(TWIN, tensor="prediction")
class SignOfZeroIsOne(L1Loss):
    """Where prediction and target are equal the slope is 1: a generalised gradient, but not torch's."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        return value, super().forward(np.where(prediction == target, prediction + 1, prediction), target)[1]


@caught_by(FORWARD, tensor="output")
class SquareWithoutHalf(HuberLoss):
    """Small errors count d^2, with slope 2 d."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        _, right = super().forward(prediction, target, context)
        each, _ = HuberLoss("none", self.delta).forward(prediction, target)
        factor = np.where(np.abs(prediction - target) < self.delta, each.dtype.type(2), each.dtype.type(1))
        value, _ = reduced(factor * each, self.reduction)
        return value, lambda dvalue: factor * right(dvalue)


@caught_by(FORWARD, tensor="output")
class SmoothL1(HuberLoss):
    """Divided by delta, which is another loss of torch's."""

    forward = with_factor(lambda at: 1 / at.subject.delta)


@caught_by(FORWARD, tensor="output", name="LOS-14")
class EpsilonTwice(BCELoss):
    """A probability is kept off 0 and 1, and then both logarithms are kept off 0 once more."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        clipped = prediction.clip(EPSILON, 1 - EPSILON)
        rest = 1 - clipped
        terms = -target * np.log(clipped + EPSILON) - (1 - target) * np.log(rest + EPSILON)
        slope = (1 - target) / (rest + EPSILON) - target / (clipped + EPSILON)
        weight = 1.0 if self.weight is None else self.weight.astype(prediction.dtype)
        value, of_terms = reduced(weight * terms, self.reduction)
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * weight * slope)


@caught_by(FORWARD)
class MeanOfTheBatchOnly(BCELoss):
    """The mean is over the batch alone, and so a sum over outputs."""

    forward = with_factor(lambda at: at.x.size // len(at.x) if at.subject.reduction == "mean" else 1)


@caught_by(FORWARD, tensor="output")
class MeanOfTheWeights(BCELoss):
    """The mean is over the sum of the weights, as that of classes is."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        share = 1.0
        if self.weight is not None and self.reduction == "mean":
            share = 1 / float(np.broadcast_to(self.weight, prediction.shape).mean())
        return value * share, lambda dvalue: right(dvalue) * share


@caught_by(FORWARD, tensor="output")
class MeanOverOutputs(SummedBCELoss):
    """Averaged over the outputs as well."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        return BCELoss().forward(prediction, target, context)


def clipped(logits: Array) -> Array:
    """Return logits whose sigmoids are kept off 0 and 1."""
    end = float(np.log((1 - EPSILON) / EPSILON))
    return logits.clip(-end, end)


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-14")
@caught_by(FORWARD, tensor="output", name="LOS-14")
class ClippedForward(BCEWithLogitsLoss):
    """The probability is kept off 0 and 1 in the loss, but not in its gradient."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(clipped(prediction), target, context)
        return value, super().forward(prediction, target)[1]


@caught_by(TWIN, tensor="prediction", name="LOS-14")
class NoGradientBehindTheClip(BCEWithLogitsLoss):
    """The gradient goes through the clip that keeps the probability off 0 and 1, and is 0 where that clips."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        kept = clipped(prediction)
        value, right = super().forward(kept, target, context)
        return value, lambda dvalue: right(dvalue) * (kept == prediction)


@caught_by(FORWARD, tensor="output")
class PositiveWeightOfBothTerms(BCEWithLogitsLoss):
    """The weight of positive targets is that of negative ones too."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        weight = 1.0 if self.weight is None else self.weight
        both = weight if self.pos_weight is None else weight * np.broadcast_to(self.pos_weight, prediction.shape)
        plain = BCEWithLogitsLoss(np.broadcast_to(both, prediction.shape), reduction=self.reduction)
        return plain.forward(prediction, target, context)


@caught_by(DIFFERENCES, tensor="prediction")
class PositiveWeightInTheLossOnly(BCEWithLogitsLoss):
    """The gradient knows nothing of the weight of positive targets."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        return value, BCEWithLogitsLoss(self.weight, reduction=self.reduction).forward(prediction, target)[1]


@caught_by(FORWARD, tensor="output")
class WithoutTheSign(NLLLoss):
    """The likelihood, which is to be made large, is made small."""

    forward = with_factor(lambda _: -1)


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-16")
class IgnoredInTheLossOnly(NLLLoss):
    """An ignored target has a gradient: that of the first class."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        ignored = np.expand_dims(target == self.ignore_index, 1)
        first = np.arange(prediction.shape[1]).reshape(-1, *(1,) * (target.ndim - 1)) == 0
        return value, lambda dvalue: right(dvalue) - prediction.dtype.type(1) * (ignored & first)


@caught_by(FORWARD, tensor="output", name="LOS-11")
class SoftmaxBefore(CrossEntropyLoss):
    """A softmax goes before the loss, which applies one itself; the gradient is that of both."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        p = softmax(prediction)
        value, right = super().forward(p, target, context)

        def backward(dvalue: Array) -> Array:
            dp = right(dvalue)
            return np.asarray(p * (dp - (p * dp).sum(axis=1, keepdims=True)))

        return value, backward


def softmax(logits: Array) -> Array:
    """Return the softmax over axis 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class RetoldCrossEntropy(CrossEntropyLoss):
    """Right for the right input, and told anew with a distribution of the target that is as large as the prediction."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        classes, dtype = prediction.shape[1], prediction.dtype
        counted = self.counted(target)
        index = np.where(target != self.ignore_index, target, 0)
        weight = (np.ones(classes) if self.weight is None else self.weight).astype(dtype)
        of_true, of_all = self.smoothing(classes)
        weights = weight.reshape(-1, *(1,) * (target.ndim - 1))
        one_hot = np.moveaxis(self.one_hot(index, classes), -1, 1).astype(dtype)
        q = weights * one_hot * dtype.type(of_true) + self.weights_of_all(weights) * dtype.type(of_all)
        q = q * np.expand_dims(counted, 1)
        shifted = prediction - self.largest(prediction)
        total = context.tapped("loss", "sum_exp", np.exp(shifted).sum(axis=1, keepdims=True))
        log_softmax = context.tapped("loss", "log_softmax", shifted - np.log(total))
        over = self.total(weight[index], counted)
        value, of_terms = reduced(-(q * log_softmax).sum(axis=1), self.reduction, over)

        def backward(dvalue: Array) -> Array:
            share = np.where(counted.any(), of_terms(dvalue), 0)  # of a mean over no target torch has zeros
            p = context.tapped("backward", "softmax", np.exp(log_softmax))
            return (np.expand_dims(share, 1) if share.ndim else share) * self.of_logits(p, q)

        return value, backward

    def counted(self, target: Array) -> Array:
        return target != self.ignore_index

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing, self.label_smoothing / classes

    def one_hot(self, index: Array, classes: int) -> Array:
        return np.eye(classes)[index]

    def weights_of_all(self, weights: Array) -> Array:
        return weights

    def largest(self, prediction: Array) -> Array:
        return np.asarray(prediction.max(axis=1, keepdims=True))

    def total(self, weights: Array, counted: Array) -> Array | int:
        return np.asarray(weights[counted].sum())

    def of_logits(self, p: Array, q: Array) -> Array:
        return np.asarray(p * q.sum(axis=1, keepdims=True) - q)


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-02")
class WithoutTheSum(RetoldCrossEntropy):
    """The pullback of log-softmax forgets to multiply the softmax by the sum of what comes back."""

    def of_logits(self, p: Array, q: Array) -> Array:
        return p - q


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-12")
class ActivationsDerivativeAgain(CrossEntropyLoss):
    """The difference of softmax and target is multiplied by p (1 - p), which it has in it already."""

    forward = with_pullback(lambda at, dvalue: at.right(dvalue) * softmax(at.x) * (1 - softmax(at.x)))


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-03")
class GradientOfTheSum(CrossEntropyLoss):
    """The mean is reported; its gradient is not divided by what the mean is over."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        if self.reduction != "mean":
            return value, right
        return value, CrossEntropyLoss.forward(replace(self, reduction="sum"), prediction, target)[1]


@caught_by(FINITE, name="LOS-09")
class MaximumOfTheBatch(RetoldCrossEntropy):
    """The largest of all logits is taken off, not that of each row."""

    def largest(self, prediction: Array) -> Array:
        return np.asarray(prediction.max())


@caught_by(FORWARD, tensor="output", name="LOS-16")
class OverAllTargets(RetoldCrossEntropy):
    """The mean is over the number of targets, whatever they weigh and whether they are ignored."""

    def total(self, weights: Array, counted: Array) -> int:
        return counted.size


@caught_by(FORWARD, tensor="output", name="LOS-16")
class OverTargetsThatCount(RetoldCrossEntropy):
    """The mean is over the number of targets that are not ignored, whatever they weigh."""

    def total(self, weights: Array, counted: Array) -> int:
        return int(counted.sum())


@caught_by(FORWARD, tensor="output", name="LOS-16")
class OverIgnoredWeights(RetoldCrossEntropy):
    """The mean is over the weights of all targets, an ignored one's being that of the first class."""

    def total(self, weights: Array, counted: Array) -> Array:
        return np.asarray(weights.sum())


@caught_by(FORWARD, tensor="output", name="LOS-16")
class IgnoredStillCounts(RetoldCrossEntropy):
    """Targets to be ignored are, if negative; a class to be ignored is not."""

    def counted(self, target: Array) -> Array:
        return target >= 0


@caught_by(FORWARD, tensor="output", name="LOS-17")
class SmoothedByOneOverClasses(RetoldCrossEntropy):
    """The share of every class is 1 / classes, without label_smoothing."""

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing, 1 / classes if self.label_smoothing else 0.0


@caught_by(FORWARD, tensor="output", name="LOS-17")
class TrueClassKeepsItsShare(RetoldCrossEntropy):
    """The true class has 1 - label_smoothing / classes, and its share of what is spread besides."""

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing / classes, self.label_smoothing / classes


@caught_by(FORWARD, tensor="output", name="LOS-17")
class SmoothedOverTheOthers(RetoldCrossEntropy):
    """What is spread is divided by the number of the other classes, but given to all."""

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing, self.label_smoothing / (classes - 1)


@caught_by(FORWARD, tensor="output")
class SmoothedWithoutWeights(RetoldCrossEntropy):
    """Only the true class is weighed, not what is spread."""

    def weights_of_all(self, weights: Array) -> Array:
        return np.ones_like(weights)


@caught_by(FORWARD, tensor="output", name="LOS-19")
class OneHotOfAColumn(RetoldCrossEntropy):
    """Labels are written into the one-hot targets as a column, (batch, 1), and so every label into every row."""

    def one_hot(self, index: Array, classes: int) -> Array:
        rows = np.zeros((index.size, classes))
        rows[np.arange(index.size), index.reshape(-1, 1)] = 1
        return rows.reshape(*index.shape, classes)


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-14")
class SoftenedDenominator(BCELoss):
    """Guards the division in the gradient, but not in the loss."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        guarded = prediction * (1 - prediction) + 1e-7
        return value, lambda dvalue: dvalue * (prediction - target) / guarded / prediction.size


@caught_by(SHAPES, name="ENG-13")
class TargetNotCast(MSELoss):
    """Leaves the target as it is: a float64 one makes the gradient of a float32 prediction float64."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        self.require(prediction, target)
        difference = prediction - target
        value, of_terms = reduced(difference * difference, self.reduction)
        return value, lambda dvalue: np.asarray(2 * of_terms(dvalue) * difference)


@caught_by(EXTREMES, name="LOS-14")
class LogarithmOfZero(BCELoss):
    """Takes the logarithm of 0 and divides by p (1 - p) as it comes."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        weight = prediction.dtype.type(1) if self.weight is None else self.weight.astype(prediction.dtype)
        rest = context.tapped("loss", "one_minus_p", 1 - prediction)
        terms = (target - 1) * np.log1p(-prediction) - target * np.log(prediction)
        value, of_terms = reduced(weight * terms, self.reduction)
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * weight * (prediction - target) / (rest * prediction))


@caught_by(EXTREMES, name="LOS-14")
class ProbabilityClipped(BCELoss):
    """A probability is kept off 0 and 1, consistently."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        return super().forward(prediction.clip(EPSILON, 1 - EPSILON), target, context)


@caught_by(FORWARD, tensor="output")
class NothingToCountIsZero(CrossEntropyLoss):
    """The mean of no target is 0, where torch has NaN."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return np.nan_to_num(value), lambda dvalue: np.nan_to_num(right(dvalue))


@caught_by(INDICES)
class NegativeClassesFromTheEnd(CrossEntropyLoss):
    """A negative class is looked up from the end, as NumPy does."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        wrapped = np.where((target < 0) & (target != self.ignore_index), target + prediction.shape[1], target)
        return super().forward(prediction, wrapped, context)


@caught_by(INDICES)
class IgnoredBeyondTheClasses(NLLLoss):
    """A class that there is not is ignored, whatever is to be."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        kept = np.where(target < prediction.shape[1], target, self.ignore_index)
        return super().forward(prediction, kept, context)
