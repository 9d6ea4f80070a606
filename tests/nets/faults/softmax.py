"""Mistakes in softmax and its logarithm, and a change that is none."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import LogSoftmax, Softmax
from tests.nets.faults.fault import DIFFERENCES, FORWARD, caught_by, equivalent
from tests.nets.faults.passes import given, with_dx


@caught_by(DIFFERENCES, "backward_is_linear", tensor="input", name="LOS-02")
class WithoutTheSum(LogSoftmax):
    """Returns dy - softmax(x), which is right only if dy sums to 1."""

    forward = with_dx(lambda at, dy: dy - np.exp(at.y))


@caught_by(DIFFERENCES, tensor="input", name="LOS-02")
class OneMinusItself(LogSoftmax):
    """Returns dy * (1 - softmax(x)), the diagonal of the Jacobian only."""

    forward = with_dx(lambda at, dy: dy * (1 - np.exp(at.y)))


@caught_by(DIFFERENCES, tensor="input")
class DiagonalOnly(Softmax):
    """Uses only the diagonal of the Jacobian."""

    forward = with_dx(lambda at, dy: dy * at.y * (1 - at.y))


@caught_by(FORWARD, tensor="output")
class AlongTheLastAxis(Softmax):
    """Normalises the last axis whatever ``dim`` is, consistently."""

    forward = given(layer=lambda _: Softmax(-1))


@caught_by(FORWARD, tensor="output")
class LogAlongTheLastAxis(LogSoftmax):
    """Normalises the last axis whatever ``dim`` is, consistently."""

    forward = given(layer=lambda _: LogSoftmax(-1))


@caught_by(DIFFERENCES, tensor="input")
class AcrossAllAxes(Softmax):
    """Sums over all axes in the backward pass."""

    forward = with_dx(lambda at, dy: at.y * (dy - (at.y * dy).sum()))


@caught_by("extreme_values_stay_finite", tensor="output")
class Unshifted(Softmax):
    """Does not subtract the largest element, so the exponentials overflow."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, right = super().forward(x, context)
        powers = np.exp(x)
        return powers / powers.sum(axis=self.dim, keepdims=True), right


@caught_by("extreme_values_stay_finite", tensor="output")
class ShiftedByTheWhole(LogSoftmax):
    """Subtracts the largest element of the array, not that of the axis, so the logarithm can be of zero."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        shifted = x - x.max()
        y = shifted - np.log(np.exp(shifted).sum(axis=self.dim, keepdims=True))
        return y, lambda dy: (dy - np.exp(y) * dy.sum(axis=self.dim, keepdims=True), {})


@equivalent("EQ-02")
class AppliedTwice(LogSoftmax):
    """Is applied to its own output, which it does not change."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, first = super().forward(x, context.child("first"))
        again, second = super().forward(y, context.child("second"))
        return again, lambda dy: first(second(dy)[0])
