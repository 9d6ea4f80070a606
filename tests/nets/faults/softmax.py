"""Mistakes in softmax and its logarithm, and a change that is none."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import LogSoftmax, Softmax
from tests.nets.faults.fault import DIFFERENCES, FORWARD, Fault


class WithoutTheSum(LogSoftmax):
    """Returns dy - softmax(x), which is right only if dy sums to 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy - np.exp(y), {})


class OneMinusItself(LogSoftmax):
    """Returns dy * (1 - softmax(x)), the diagonal of the Jacobian only."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (1 - np.exp(y)), {})


class DiagonalOnly(Softmax):
    """Uses only the diagonal of the Jacobian."""

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
    """Sums over all axes in the backward pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (y * (dy - (y * dy).sum()), {})


class Unshifted(Softmax):
    """Does not subtract the largest element, so the exponentials overflow."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, right = super().forward(x, context)
        powers = np.exp(x)
        return powers / powers.sum(axis=self.dim, keepdims=True), right


class ShiftedByTheWhole(LogSoftmax):
    """Subtracts the largest element of the array, not that of the axis, so the logarithm can be of zero."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        shifted = x - x.max()
        y = shifted - np.log(np.exp(shifted).sum(axis=self.dim, keepdims=True))
        return y, lambda dy: (dy - np.exp(y) * dy.sum(axis=self.dim, keepdims=True), {})


class AppliedTwice(LogSoftmax):
    """Is applied to its own output, which it does not change."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, first = super().forward(x, context.child("first"))
        again, second = super().forward(y, context.child("second"))
        return again, lambda dy: first(second(dy)[0])


PLANTED = [
    Fault(WithoutTheSum, DIFFERENCES, "input", "LOS-02"),
    Fault(WithoutTheSum, "backward_is_linear", "input", "LOS-02"),
    Fault(OneMinusItself, DIFFERENCES, "input", "LOS-02"),
    Fault(DiagonalOnly, DIFFERENCES, "input", ""),
    Fault(AlongTheLastAxis, FORWARD, "output", ""),
    Fault(LogAlongTheLastAxis, FORWARD, "output", ""),
    Fault(AcrossAllAxes, DIFFERENCES, "input", ""),
    Fault(Unshifted, "extreme_values_stay_finite", "output", ""),
    Fault(ShiftedByTheWhole, "extreme_values_stay_finite", "output", ""),
]

BLIND: list[type] = [AlongTheLastAxis, LogAlongTheLastAxis, Unshifted, ShiftedByTheWhole]

EQUIVALENT: list[tuple[type, str]] = [(AppliedTwice, "EQ-02")]
