"""Mistakes in smooth activations, and a change that is none."""

from __future__ import annotations

import math

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import ELU, GELU, SELU, Sigmoid, SiLU, Softplus, Tanh
from nets.layers.elu import SELU_ALPHA, SELU_SCALE
from tests.nets.faults.fault import DIFFERENCES, EXTREMES, FORWARD, TWIN, Fault


class SigmoidOfActivation(Sigmoid):
    """Applies sigmoid' to the output y, where sigmoid'(x) = y (1 - y) is needed."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        again, _ = super().forward(y)
        return y, lambda dy: (dy * again * (1 - again), {})


class SigmoidOfPreActivation(Sigmoid):
    """Uses the derivative x (1 - x), which expects the output, on the pre-activation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * x * (1 - x), {})


class Overflowing(Sigmoid):
    """Computes e^x / (e^x + 1), which is NaN if e^x overflows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.exp(x) / (np.exp(x) + 1)
        return y, lambda dy: (dy * y * (1 - y), {})


class TanhOfPreActivation(Tanh):
    """Uses the derivative 1 - x^2, which expects the output, on the pre-activation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (1 - x * x), {})


class WithoutParentheses(SiLU):
    """Divides only the last term of 1 + e^-x + x e^-x by (1 + e^-x)^2."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        power = np.exp(-x)
        return y, lambda dy: (dy * (1 + power + x * power / (1 + power) ** 2), {})


class WithoutTheProduct(SiLU):
    """Treats the sigmoid as a constant."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy / (1 + np.exp(-x)), {})


class OtherApproximation(GELU):
    """Uses the tanh approximation in place of erf, and vice versa, consistently: 5e-4 apart at most."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return GELU("tanh" if self.approximate == "none" else "none").forward(x, context)


class OtherApproximationBackward(GELU):
    """Differentiates the tanh approximation in place of erf, and vice versa."""

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
    """Computes log(1 + exp(x)) without a threshold: infinite from x = 710 on."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        power = np.exp(self.beta * x)
        return np.log1p(power) / self.beta, lambda dy: (dy * power / (1 + power), {})


class AlphaForgotten(ELU):
    """Writes exp(x) as y + 1, which is right only for alpha = 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * np.where(x > 0, 1, y + 1), {})


class SmoothAtZero(ELU):
    """Uses slope 1 at exactly zero; torch uses alpha."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(x == 0, dy, right(dy)[0]), {})


class ConstantsSwapped(SELU):
    """Swaps alpha and scale, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = ELU(SELU_SCALE).forward(x, context)
        return SELU_ALPHA * y, lambda dy: right(SELU_ALPHA * dy)


class ScaledWhereNegative(SELU):
    """Scales the negative part only, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return ELU(SELU_SCALE * SELU_ALPHA).forward(x, context)


class DerivativeOfTheOutput(Sigmoid):
    """Has a derivative y (1 - y) that is called with the output."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def derivative(of: Array) -> Array:
            return np.asarray(of * (1 - of))

        return y, lambda dy: (dy * derivative(y), {})


class SigmoidClipped(Sigmoid):
    """Clips its input to [-15, 15], consistently: the output is 3e-7 for all inputs below."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x.clip(-15, 15), context)


class TanhClipped(Tanh):
    """Clips its input to [-10, 10], consistently: the output is 4e-9 off 1 for all inputs above."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x.clip(-10, 10), context)


class SoftplusClipped(Softplus):
    """Clips the exponent at 30 to avoid an overflow, and so stops growing there."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, right = super().forward(x, context)
        smooth = np.log1p(np.exp(np.minimum(x * self.beta, 30))) / self.beta
        return np.where(x * self.beta > self.threshold, x, smooth), right


PLANTED = [
    Fault(SigmoidOfActivation, DIFFERENCES, "input", "ACT-01"),
    Fault(SigmoidOfPreActivation, DIFFERENCES, "input", "ACT-02"),
    Fault(Overflowing, "extreme_values_stay_finite", "output", ""),
    Fault(TanhOfPreActivation, DIFFERENCES, "input", "ACT-02"),
    Fault(WithoutParentheses, DIFFERENCES, "input", "ACT-13"),
    Fault(WithoutTheProduct, DIFFERENCES, "input", ""),
    Fault(OtherApproximation, FORWARD, "output", "ACT-14"),
    Fault(OtherApproximationBackward, DIFFERENCES, "input", "ACT-14"),
    Fault(OtherApproximationBackward, TWIN, "input", "ACT-14"),
    Fault(BySigmoid, FORWARD, "output", ""),
    Fault(ErrorFunctionOfX, FORWARD, "output", ""),
    Fault(BetaForgotten, DIFFERENCES, "input", ""),
    Fault(NotDividedByBeta, FORWARD, "output", ""),
    Fault(ThresholdOfX, FORWARD, "output", ""),
    Fault(TextbookSoftplus, "extreme_values_stay_finite", "output", ""),
    Fault(SigmoidClipped, EXTREMES, None, ""),
    Fault(TanhClipped, EXTREMES, None, ""),
    Fault(SoftplusClipped, EXTREMES, "output", ""),
    Fault(AlphaForgotten, DIFFERENCES, "input", ""),
    Fault(SmoothAtZero, TWIN, "input", ""),
    Fault(ConstantsSwapped, FORWARD, "output", ""),
    Fault(ScaledWhereNegative, FORWARD, "output", ""),
]

BLIND: list[type] = [
    Overflowing,
    OtherApproximation,
    BySigmoid,
    ErrorFunctionOfX,
    NotDividedByBeta,
    ThresholdOfX,
    TextbookSoftplus,
    SigmoidClipped,
    TanhClipped,
    SoftplusClipped,
    SmoothAtZero,
    ConstantsSwapped,
    ScaledWhereNegative,
]

EQUIVALENT: list[tuple[type, str]] = [(DerivativeOfTheOutput, "EQ-03")]
