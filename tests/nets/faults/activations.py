"""Mistakes in activations that people have made, and changes that are none.

``PLANTED`` holds (faulty class, property that must catch it, tensor or None, name of the fault in the collection);
``EQUIVALENT`` what looks like a mistake and is right, so that every property must be quiet.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import ELU, GELU, SELU, LeakyReLU, LogSoftmax, PReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from nets.layers.elu import SELU_ALPHA, SELU_SCALE

DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"


class TanhOfPreActivation(Tanh):
    """Uses the derivative 1 - x^2, which expects the output, on the pre-activation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (1 - x * x), {})


class ClippedInPlace(ReLU):
    """Sets the negative elements of its input to zero where they stand, for the layer before to see."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        x[x < 0] = 0
        return y, backward


class ChainedAssignment(ReLU):
    """Writes ``dx = dy[...] = 0``, by which dx is the number 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx: Any
            dx = dy[x <= 0] = 0
            return dx, {}

        return y, backward


class SlopeIgnored(LeakyReLU):
    """Lets no gradient of negative inputs pass, as a plain rectifier."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (x > 0), {})


class SlopeOfTheDefault(LeakyReLU):
    """Writes the slope 0.01 into the backward pass, whatever it is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.where(x > 0, dy, 0.01 * dy), {})


class GatedByTheOutput(LeakyReLU):
    """Takes the gate from the output, whose sign is not the input's where the slope is negative."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.where(y > 0, dy, self.negative_slope * dy), {})


class LargerOfTwo(LeakyReLU):
    """Computes max(slope * x, x), which is another function where the slope exceeds 1, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        mask = x > self.negative_slope * x
        slope = self.negative_slope
        return np.where(mask, x, slope * x), lambda dy: (np.where(mask, dy, slope * dy), {})


class LearntSlopeGatedByTheOutput(PReLU):
    """Takes the gate from the output, wrong once a slope has trained below zero."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        slopes = self.weight.reshape(-1, *[1] * (x.ndim - 2)) if len(self.weight) > 1 else self.weight
        return y, lambda dy: (np.where(y > 0, dy, slopes * dy), right(dy)[1])


class SlopeNotSummed(PReLU):
    """Gives the slope a gradient for every element."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0], {"weight": np.where(x > 0, 0, dy * x)})


class SlopesOfTheLastAxis(PReLU):
    """Sums the slopes' gradients as if the channels came last."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        slopes = len(self.weight)
        return y, lambda dy: (
            right(dy)[0],
            {"weight": np.where(x > 0, 0, dy * x).reshape(-1, slopes).sum(axis=0)},
        )


class FirstSlopeForAll(PReLU):
    """Uses the first channel's slope in all channels, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = PReLU(self.weight[:1]).forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {"weight": np.append(grads["weight"], np.zeros_like(self.weight[1:]))}

        return y, backward


class SlopeByMean(PReLU):
    """Averages a slope's gradient over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0], {"weight": right(dy)[1]["weight"] / len(x)})


class WithoutParentheses(SiLU):
    """Divides the last term of 1 + e^-x + x e^-x alone by (1 + e^-x)^2."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        power = np.exp(-x)
        return y, lambda dy: (dy * (1 + power + x * power / (1 + power) ** 2), {})


class WithoutTheProduct(SiLU):
    """Takes the sigmoid for a constant."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy / (1 + np.exp(-x)), {})


class OtherApproximation(GELU):
    """Computes the tanh approximation for erf, and the reverse, consistently: 5e-4 apart at most."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return GELU("tanh" if self.approximate == "none" else "none").forward(x, context)


class OtherApproximationBackward(GELU):
    """Differentiates the tanh approximation for erf, and the reverse."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, backward = GELU("tanh" if self.approximate == "none" else "none").forward(x, context)
        return super().forward(x, context)[0], backward


class BySigmoid(GELU):
    """Computes the coarse approximation x * sigmoid(1.702 x), consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = SiLU().forward(x * 1.702, context)
        return y / 1.702, right


class ErrorFunctionOfX(GELU):
    """Forgets the square root of two in erf, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x * math.sqrt(2), context)
        return y / math.sqrt(2), right


class BetaForgotten(Softplus):
    """Differentiates as if beta were 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy / (1 + np.exp(-x)), {})


class NotDividedByBeta(Softplus):
    """Forgets to divide by beta, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y * self.beta, lambda dy: right(dy * self.beta)


class ThresholdOfX(Softplus):
    """Compares x itself with the threshold, not beta * x."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = Softplus(self.beta, self.threshold * self.beta if self.beta > 0 else math.inf).forward(x, context)
        return y, backward


class TextbookSoftplus(Softplus):
    """Computes log(1 + exp(x)) as it stands, without a threshold: infinite from x = 710 on."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        power = np.exp(self.beta * x)
        return np.log1p(power) / self.beta, lambda dy: (dy * power / (1 + power), {})


class AlphaForgotten(ELU):
    """Writes exp(x) as y + 1, which is right for alpha = 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * np.where(x > 0, 1, y + 1), {})


class SmoothAtZero(ELU):
    """Takes the slope at exactly zero to be 1, where torch takes alpha."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(x == 0, dy, right(dy)[0]), {})


class ConstantsSwapped(SELU):
    """Swaps alpha and scale, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = ELU(SELU_SCALE).forward(x, context)
        return SELU_ALPHA * y, lambda dy: right(SELU_ALPHA * dy)


class ScaledWhereNegative(SELU):
    """Scales the negative part alone, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return ELU(SELU_SCALE * SELU_ALPHA).forward(x, context)


class WithoutTheSum(LogSoftmax):
    """Gives dy - softmax(x), which takes the sum of dy to be 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy - np.exp(y), {})


class OneMinusItself(LogSoftmax):
    """Gives dy * (1 - softmax(x)): every element's own derivative, and none of the others'."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (1 - np.exp(y)), {})


class DiagonalOnly(Softmax):
    """Takes the diagonal of the Jacobian for all of it."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * y * (1 - y), {})


class AlongTheLastAxis(Softmax):
    """Normalises the last axis whatever ``dim`` is, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Softmax(-1).forward(x, context)


class LogAlongTheLastAxis(LogSoftmax):
    """Normalises the last axis whatever ``dim`` is, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return LogSoftmax(-1).forward(x, context)


class AcrossAllAxes(Softmax):
    """Sums over all axes on the way back."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (y * (dy - (y * dy).sum()), {})


class Unshifted(Softmax):
    """Does not take off the largest element, so that the exponentials overflow."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, right = super().forward(x, context)
        powers = np.exp(x)
        return powers / powers.sum(axis=self.dim, keepdims=True), right


class ShiftedByTheWhole(LogSoftmax):
    """Takes off the largest element of the array, not that of the axis, so that the logarithm can be of zero."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        shifted = x - x.max()
        y = shifted - np.log(np.exp(shifted).sum(axis=self.dim, keepdims=True))
        return y, lambda dy: (dy - np.exp(y) * dy.sum(axis=self.dim, keepdims=True), {})


PLANTED: list[tuple[type, str, str | None, str]] = [
    (TanhOfPreActivation, DIFFERENCES, "input", "ACT-02"),
    (ClippedInPlace, "arguments_are_left_untouched", None, "ACT-08"),
    (ChainedAssignment, "gradients_match_their_tensors", None, "ACT-09"),
    (SlopeIgnored, DIFFERENCES, "input", "ACT-10"),
    (SlopeOfTheDefault, DIFFERENCES, "input", "ACT-10"),
    (GatedByTheOutput, DIFFERENCES, "input", "ACT-11"),
    (LargerOfTwo, FORWARD, "output", "ACT-11"),
    (LearntSlopeGatedByTheOutput, DIFFERENCES, "input", "ACT-11"),
    (LearntSlopeGatedByTheOutput, TWIN, "input", "ACT-11"),
    (SlopeNotSummed, "gradients_match_their_tensors", None, ""),
    (SlopesOfTheLastAxis, DIFFERENCES, "weight", ""),
    (SlopesOfTheLastAxis, TWIN, "weight", ""),
    (FirstSlopeForAll, FORWARD, "output", ""),
    (SlopeByMean, DIFFERENCES, "weight", ""),
    (SlopeByMean, "gradients_of_samples_do_not_mix", "weight", ""),
    (WithoutParentheses, DIFFERENCES, "input", "ACT-13"),
    (WithoutTheProduct, DIFFERENCES, "input", ""),
    (OtherApproximation, FORWARD, "output", "ACT-14"),
    (OtherApproximationBackward, DIFFERENCES, "input", "ACT-14"),
    (OtherApproximationBackward, TWIN, "input", "ACT-14"),
    (BySigmoid, FORWARD, "output", ""),
    (ErrorFunctionOfX, FORWARD, "output", ""),
    (BetaForgotten, DIFFERENCES, "input", ""),
    (NotDividedByBeta, FORWARD, "output", ""),
    (ThresholdOfX, FORWARD, "output", ""),
    (TextbookSoftplus, "extreme_values_stay_finite", "output", ""),
    (AlphaForgotten, DIFFERENCES, "input", ""),
    (SmoothAtZero, TWIN, "input", ""),
    (ConstantsSwapped, FORWARD, "output", ""),
    (ScaledWhereNegative, FORWARD, "output", ""),
    (WithoutTheSum, DIFFERENCES, "input", "LOS-02"),
    (WithoutTheSum, "backward_is_linear", "input", "LOS-02"),
    (OneMinusItself, DIFFERENCES, "input", "LOS-02"),
    (DiagonalOnly, DIFFERENCES, "input", ""),
    (AlongTheLastAxis, FORWARD, "output", ""),
    (LogAlongTheLastAxis, FORWARD, "output", ""),
    (AcrossAllAxes, DIFFERENCES, "input", ""),
    (Unshifted, "extreme_values_stay_finite", "output", ""),
    (ShiftedByTheWhole, "extreme_values_stay_finite", "output", ""),
]


class AppliedTwice(LogSoftmax):
    """Is applied to its own output, which it leaves as it is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, first = super().forward(x, context.child("first"))
        again, second = super().forward(y, context.child("second"))
        return again, lambda dy: first(second(dy)[0])


class DerivativeOfTheOutput(Sigmoid):
    """Has a derivative y (1 - y) that is called with the output."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def derivative(of: Array) -> Array:
            return np.asarray(of * (1 - of))

        return y, lambda dy: (dy * derivative(y), {})


class RectifierGatedByTheOutput(ReLU):
    """Takes its gate from the output, which is positive where the input is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.where(y > 0, dy, 0), {})


EQUIVALENT: list[tuple[type, str]] = [
    (AppliedTwice, "EQ-02"),
    (DerivativeOfTheOutput, "EQ-03"),
    (RectifierGatedByTheOutput, "EQ-04"),
]
