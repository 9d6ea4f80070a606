"""Mistakes in smooth activations, and a change that is none."""

from __future__ import annotations

import math

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import ELU, GELU, SELU, Sigmoid, SiLU, Softplus, Tanh
from nets.layers.elu import SELU_ALPHA, SELU_SCALE
from tests.nets.faults.fault import DIFFERENCES, EXTREMES, FORWARD, TWIN, caught_by, equivalent
from tests.nets.faults.passes import given, with_dx, with_factor, with_pullback


@caught_by(DIFFERENCES, tensor="input", name="ACT-01")
class SigmoidOfActivation(Sigmoid):
    """Applies sigmoid' to the output y, where sigmoid'(x) = y (1 - y) is needed."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        again, _ = super().forward(y)
        return y, lambda dy: (dy * again * (1 - again), {})


@caught_by(DIFFERENCES, tensor="input", name="ACT-02")
class SigmoidOfPreActivation(Sigmoid):
    """Uses the derivative x (1 - x), which expects the output, on the pre-activation."""

    forward = with_dx(lambda at, dy: dy * at.x * (1 - at.x))


@caught_by("extreme_values_stay_finite", tensor="output")
class Overflowing(Sigmoid):
    """Computes e^x / (e^x + 1), which is NaN if e^x overflows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.exp(x) / (np.exp(x) + 1)
        return y, lambda dy: (dy * y * (1 - y), {})


@caught_by(DIFFERENCES, tensor="input", name="ACT-02")
class TanhOfPreActivation(Tanh):
    """Uses the derivative 1 - x^2, which expects the output, on the pre-activation."""

    forward = with_dx(lambda at, dy: dy * (1 - at.x * at.x))


@caught_by(DIFFERENCES, tensor="input", name="ACT-13")
class WithoutParentheses(SiLU):
    """Divides only the last term of 1 + e^-x + x e^-x by (1 + e^-x)^2."""

    forward = with_dx(lambda at, dy: dy * (1 + np.exp(-at.x) + at.x * np.exp(-at.x) / (1 + np.exp(-at.x)) ** 2))


@caught_by(DIFFERENCES, tensor="input")
class WithoutTheProduct(SiLU):
    """Treats the sigmoid as a constant."""

    forward = with_dx(lambda at, dy: dy / (1 + np.exp(-at.x)))


@caught_by(FORWARD, tensor="output", name="ACT-14")
class OtherApproximation(GELU):
    """Uses the tanh approximation in place of erf, and vice versa, consistently: 5e-4 apart at most."""

    forward = given(layer=lambda self: GELU("tanh" if self.approximate == "none" else "none"))


@caught_by(DIFFERENCES, TWIN, tensor="input", name="ACT-14")
class OtherApproximationBackward(GELU):
    """Differentiates the tanh approximation in place of erf, and vice versa."""

    forward = with_pullback(lambda at, dy: OtherApproximation(at.subject.approximate).forward(at.x)[1](dy))


@caught_by(FORWARD, tensor="output")
class BySigmoid(GELU):
    """Computes the coarse approximation x * sigmoid(1.702 x), consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = SiLU().forward(x * 1.702, context)
        return y / 1.702, right


@caught_by(FORWARD, tensor="output")
class ErrorFunctionOfX(GELU):
    """Forgets the square root of two in erf, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x * math.sqrt(2), context)
        return y / math.sqrt(2), right


@caught_by(DIFFERENCES, tensor="input")
class BetaForgotten(Softplus):
    """Differentiates as if beta were 1."""

    forward = with_dx(lambda at, dy: dy / (1 + np.exp(-at.x)))


@caught_by(FORWARD, tensor="output")
class NotDividedByBeta(Softplus):
    """Forgets to divide by beta, consistently."""

    forward = with_factor(lambda at: at.subject.beta)


@caught_by(FORWARD, tensor="output")
class ThresholdOfX(Softplus):
    """Compares x itself with the threshold, not beta * x."""

    forward = given(layer=lambda self: Softplus(self.beta, self.threshold * self.beta if self.beta > 0 else math.inf))


@caught_by("extreme_values_stay_finite", tensor="output")
class TextbookSoftplus(Softplus):
    """Computes log(1 + exp(x)) without a threshold: infinite from x = 710 on."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        power = np.exp(self.beta * x)
        return np.log1p(power) / self.beta, lambda dy: (dy * power / (1 + power), {})


@caught_by(DIFFERENCES, tensor="input")
class AlphaForgotten(ELU):
    """Writes exp(x) as y + 1, which is right only for alpha = 1."""

    forward = with_dx(lambda at, dy: dy * np.where(at.x > 0, 1, at.y + 1))


@caught_by(TWIN, tensor="input")
class SmoothAtZero(ELU):
    """Uses slope 1 at exactly zero; torch uses alpha."""

    forward = with_dx(lambda at, dy: np.where(at.x == 0, dy, at.right(dy)[0]))


@caught_by(FORWARD, tensor="output")
class ConstantsSwapped(SELU):
    """Swaps alpha and scale, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = ELU(SELU_SCALE).forward(x, context)
        return SELU_ALPHA * y, lambda dy: right(SELU_ALPHA * dy)


@caught_by(FORWARD, tensor="output")
class ScaledWhereNegative(SELU):
    """Scales the negative part only, consistently."""

    forward = given(layer=lambda _: ELU(SELU_SCALE * SELU_ALPHA))


@equivalent("EQ-03")
class DerivativeOfTheOutput(Sigmoid):
    """Has a derivative y (1 - y) that is called with the output."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def derivative(of: Array) -> Array:
            return np.asarray(of * (1 - of))

        return y, lambda dy: (dy * derivative(y), {})


@caught_by(EXTREMES)
class SigmoidClipped(Sigmoid):
    """Clips its input to [-15, 15], consistently: the output is 3e-7 for all inputs below."""

    forward = given(x=lambda _, x: x.clip(-15, 15))


@caught_by(EXTREMES)
class TanhClipped(Tanh):
    """Clips its input to [-10, 10], consistently: the output is 4e-9 off 1 for all inputs above."""

    forward = given(x=lambda _, x: x.clip(-10, 10))


@caught_by(EXTREMES, tensor="output")
class SoftplusClipped(Softplus):
    """Clips the exponent at 30 to avoid an overflow, and so stops growing there."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, right = super().forward(x, context)
        smooth = np.log1p(np.exp(np.minimum(x * self.beta, 30))) / self.beta
        return np.where(x * self.beta > self.threshold, x, smooth), right
