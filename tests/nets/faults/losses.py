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
    """Leaves out the factor 2 of the derivative."""

    forward = with_pullback(lambda at, dvalue: at.right(dvalue) / 2)


@caught_by(FORWARD, tensor="output", name="LOS-05")
class HalvedBothWays(MSELoss):
    """Computes half the squared error and its gradient, not the squared error."""

    forward = with_factor(lambda _: 0.5)


@caught_by(DIFFERENCES, "backward_is_linear", tensor="prediction")
class OnesForDvalue(MSELoss):
    """Without a reduction, returns the gradient of the sum, whatever dvalue is."""

    forward = with_pullback(
        lambda at, dvalue: at.right(np.ones_like(dvalue) if at.subject.reduction == "none" else dvalue)
    )


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-03")
class GradientOfTheSumOfErrors(L1Loss):
    """Returns the mean, but does not divide its gradient by the number of elements."""

    forward = with_pullback(lambda at, dvalue: at.right(dvalue) * (at.x.size if at.subject.reduction == "mean" else 1))


@caught_by(TWIN, tensor="prediction")
class SignOfZeroIsOne(L1Loss):
    """Uses slope 1 where prediction and target are equal: a generalised gradient, but not torch's."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        return value, super().forward(np.where(prediction == target, prediction + 1, prediction), target)[1]


@caught_by(FORWARD, tensor="output")
class SquareWithoutHalf(HuberLoss):
    """Uses d^2 for small errors, with slope 2 d."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        _, right = super().forward(prediction, target, context)
        each, _ = HuberLoss("none", self.delta).forward(prediction, target)
        factor = np.where(np.abs(prediction - target) < self.delta, each.dtype.type(2), each.dtype.type(1))
        value, _ = reduced(factor * each, self.reduction)
        return value, lambda dvalue: factor * right(dvalue)


@caught_by(FORWARD, tensor="output")
class SmoothL1(HuberLoss):
    """Divides by delta, which is torch's SmoothL1Loss."""

    forward = with_factor(lambda at: 1 / at.subject.delta)


@caught_by(FORWARD, tensor="output", name="LOS-14")
class EpsilonTwice(BCELoss):
    """Clips the probability off 0 and 1, and then adds EPSILON in both logarithms, too."""

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
    """Takes the mean over the batch only, and so the sum over outputs."""

    forward = with_factor(lambda at: at.x.size // len(at.x) if at.subject.reduction == "mean" else 1)


@caught_by(FORWARD, tensor="output")
class MeanOfTheWeights(BCELoss):
    """Divides by the sum of the weights, as losses with class weights do."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        share = 1.0
        if self.weight is not None and self.reduction == "mean":
            share = 1 / float(np.broadcast_to(self.weight, prediction.shape).mean())
        return value * share, lambda dvalue: right(dvalue) * share


@caught_by(FORWARD, tensor="output")
class MeanOverOutputs(SummedBCELoss):
    """Averages over the outputs, too."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        return BCELoss().forward(prediction, target, context)


def clipped(logits: Array) -> Array:
    """Return logits whose sigmoids are kept off 0 and 1."""
    end = float(np.log((1 - EPSILON) / EPSILON))
    return logits.clip(-end, end)


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-14")
@caught_by(FORWARD, tensor="output", name="LOS-14")
class ClippedForward(BCEWithLogitsLoss):
    """Clips the probability off 0 and 1 in the loss, but not in its gradient."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(clipped(prediction), target, context)
        return value, super().forward(prediction, target)[1]


@caught_by(TWIN, tensor="prediction", name="LOS-14")
class NoGradientBehindTheClip(BCEWithLogitsLoss):
    """Clips the probability off 0 and 1 and differentiates the clip, so the gradient is 0 there."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        kept = clipped(prediction)
        value, right = super().forward(kept, target, context)
        return value, lambda dvalue: right(dvalue) * (kept == prediction)


@caught_by(FORWARD, tensor="output")
class PositiveWeightOfBothTerms(BCEWithLogitsLoss):
    """Applies the weight of positive targets to negative ones, too."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        weight = 1.0 if self.weight is None else self.weight
        both = weight if self.pos_weight is None else weight * np.broadcast_to(self.pos_weight, prediction.shape)
        plain = BCEWithLogitsLoss(np.broadcast_to(both, prediction.shape), reduction=self.reduction)
        return plain.forward(prediction, target, context)


@caught_by(DIFFERENCES, tensor="prediction")
class PositiveWeightInTheLossOnly(BCEWithLogitsLoss):
    """Leaves the weight of positive targets out of the gradient."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        return value, BCEWithLogitsLoss(self.weight, reduction=self.reduction).forward(prediction, target)[1]


@caught_by(FORWARD, tensor="output")
class WithoutTheSign(NLLLoss):
    """Has the wrong sign, so that training minimises the likelihood."""

    forward = with_factor(lambda _: -1)


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-16")
class IgnoredInTheLossOnly(NLLLoss):
    """Gives an ignored target the gradient of the first class."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        ignored = np.expand_dims(target == self.ignore_index, 1)
        first = np.arange(prediction.shape[1]).reshape(-1, *(1,) * (target.ndim - 1)) == 0
        return value, lambda dvalue: right(dvalue) - prediction.dtype.type(1) * (ignored & first)


@caught_by(FORWARD, tensor="output", name="LOS-11")
class SoftmaxBefore(CrossEntropyLoss):
    """Applies a softmax before the loss, which applies one itself, consistently."""

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
    """Multiplies softmax minus target by p (1 - p), which is already in it."""

    forward = with_pullback(lambda at, dvalue: at.right(dvalue) * softmax(at.x) * (1 - softmax(at.x)))


@caught_by(DIFFERENCES, tensor="prediction", name="LOS-03")
class GradientOfTheSum(CrossEntropyLoss):
    """Returns the mean, but does not divide its gradient by the count or the weights."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        if self.reduction != "mean":
            return value, right
        return value, CrossEntropyLoss.forward(replace(self, reduction="sum"), prediction, target)[1]


@caught_by(FINITE, name="LOS-09")
class MaximumOfTheBatch(RetoldCrossEntropy):
    """Subtracts the largest of all logits, not that of each row."""

    def largest(self, prediction: Array) -> Array:
        return np.asarray(prediction.max())


@caught_by(FORWARD, tensor="output", name="LOS-16")
class OverAllTargets(RetoldCrossEntropy):
    """Divides by the number of all targets, ignored ones too, not by the sum of the weights."""

    def total(self, weights: Array, counted: Array) -> int:
        return counted.size


@caught_by(FORWARD, tensor="output", name="LOS-16")
class OverTargetsThatCount(RetoldCrossEntropy):
    """Divides by the number of targets that are not ignored, not by the sum of their weights."""

    def total(self, weights: Array, counted: Array) -> int:
        return int(counted.sum())


@caught_by(FORWARD, tensor="output", name="LOS-16")
class OverIgnoredWeights(RetoldCrossEntropy):
    """Divides by the weights of all targets, and gives an ignored one the weight of the first class."""

    def total(self, weights: Array, counted: Array) -> Array:
        return np.asarray(weights.sum())


@caught_by(FORWARD, tensor="output", name="LOS-16")
class IgnoredStillCounts(RetoldCrossEntropy):
    """Ignores negative targets only: an ignore_index that is a class is not ignored."""

    def counted(self, target: Array) -> Array:
        return target >= 0


@caught_by(FORWARD, tensor="output", name="LOS-17")
class SmoothedByOneOverClasses(RetoldCrossEntropy):
    """Adds 1 / classes to every class, not label_smoothing / classes."""

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing, 1 / classes if self.label_smoothing else 0.0


@caught_by(FORWARD, tensor="output", name="LOS-17")
class TrueClassKeepsItsShare(RetoldCrossEntropy):
    """Gives the true class 1 - label_smoothing / classes, plus its share of the smoothed part."""

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing / classes, self.label_smoothing / classes


@caught_by(FORWARD, tensor="output", name="LOS-17")
class SmoothedOverTheOthers(RetoldCrossEntropy):
    """Divides label_smoothing by the number of the other classes, but adds it to all classes."""

    def smoothing(self, classes: int) -> tuple[float, float]:
        return 1 - self.label_smoothing, self.label_smoothing / (classes - 1)


@caught_by(FORWARD, tensor="output")
class SmoothedWithoutWeights(RetoldCrossEntropy):
    """Applies class weights to the true class only, not to the smoothed part."""

    def weights_of_all(self, weights: Array) -> Array:
        return np.ones_like(weights)


@caught_by(FORWARD, tensor="output", name="LOS-19")
class OneHotOfAColumn(RetoldCrossEntropy):
    """Indexes the one-hot targets with labels of shape (batch, 1), which writes every label into every row."""

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
    """Does not convert the target: a float64 target makes the gradient of a float32 prediction float64."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        self.require(prediction, target)
        difference = prediction - target
        value, of_terms = reduced(difference * difference, self.reduction)
        return value, lambda dvalue: np.asarray(2 * of_terms(dvalue) * difference)


@caught_by(EXTREMES, name="LOS-14")
class LogarithmOfZero(BCELoss):
    """Takes the logarithm of 0 and divides by p (1 - p) without a guard."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        weight = prediction.dtype.type(1) if self.weight is None else self.weight.astype(prediction.dtype)
        rest = context.tapped("loss", "one_minus_p", 1 - prediction)
        terms = (target - 1) * np.log1p(-prediction) - target * np.log(prediction)
        value, of_terms = reduced(weight * terms, self.reduction)
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * weight * (prediction - target) / (rest * prediction))


@caught_by(EXTREMES, name="LOS-14")
class ProbabilityClipped(BCELoss):
    """Clips the probability off 0 and 1, consistently."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        return super().forward(prediction.clip(EPSILON, 1 - EPSILON), target, context)


@caught_by(FORWARD, tensor="output")
class NothingToCountIsZero(CrossEntropyLoss):
    """Returns 0 as the mean of no targets; torch returns NaN."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return np.nan_to_num(value), lambda dvalue: np.nan_to_num(right(dvalue))


@caught_by(INDICES)
class NegativeClassesFromTheEnd(CrossEntropyLoss):
    """Looks up a negative class from the end, as NumPy does."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        wrapped = np.where((target < 0) & (target != self.ignore_index), target + prediction.shape[1], target)
        return super().forward(prediction, wrapped, context)


@caught_by(INDICES)
class IgnoredBeyondTheClasses(NLLLoss):
    """Ignores targets beyond the last class, whatever ignore_index is."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        kept = np.where(target < prediction.shape[1], target, self.ignore_index)
        return super().forward(prediction, kept, context)
