"""Mistakes in rectifiers, with a slope and without; and a change that is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients, Kinks
from nets.layers import LeakyReLU, PReLU, ReLU
from tests.nets.faults.fault import DIFFERENCES, FORWARD, KINKS, SHAPES, TWIN, Fault


class LeakingBackward(ReLU):
    """Passes the gradient of negative inputs."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy.copy(), {})


class LeakingBothWays(ReLU):
    """Passes negative inputs, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return x.copy(), lambda dy: (dy.copy(), {})


class SlopeOneAtZero(ReLU):
    """Uses slope 1 at exactly zero; torch uses 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (x >= 0), {})


class ClippedInPlace(ReLU):
    """Sets the negative elements of its input to zero in place, which changes the output of the layer before."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        x[x < 0] = 0
        return y, backward


class ChainedAssignment(ReLU):
    """Writes ``dx = dy[...] = 0``, so dx is the number 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx: Any
            dx = dy[x <= 0] = 0
            return dx, {}

        return y, backward


class SlopeIgnored(LeakyReLU):
    """Passes no gradient for negative inputs, as a plain ReLU does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (x > 0), {})


class SlopeOfTheDefault(LeakyReLU):
    """Uses the slope 0.01 in the backward pass, whatever the layer's slope is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.where(x > 0, dy, 0.01 * dy), {})


class GatedByTheOutput(LeakyReLU):
    """Takes the gate from the output, whose sign differs from the input's if the slope is negative."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.where(y > 0, dy, self.negative_slope * dy), {})


class LargerOfTwo(LeakyReLU):
    """Computes max(slope * x, x), which is another function if the slope exceeds 1, consistently."""

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
    """Does not sum the slope's gradient over the elements."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0], {"weight": np.where(x > 0, 0, dy * x)})


class SlopesOfTheLastAxis(PReLU):
    """Sums the slopes' gradients as if the channels came last."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        slopes = len(self.weight)
        return y, lambda dy: (right(dy)[0], {"weight": np.where(x > 0, 0, dy * x).reshape(-1, slopes).sum(axis=0)})


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


class RectifierGatedByTheOutput(ReLU):
    """Takes its gate from the output, which is positive exactly where the input is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.where(y > 0, dy, 0), {})


class ChoosesAtFive(ReLU):
    """Reports a kink at 5, with the margins of one at 0."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x < 5, margin=np.abs(x))


class MarginsOfTheOutput(LeakyReLU):
    """Reports the size of its output as the margin of its input."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(self.forward(x)[0]))


class MarginsWithASign(PReLU):
    """Reports the input as its margin, which is negative for negative inputs."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=x)


PLANTED = [
    Fault(ChainedAssignment, DIFFERENCES, None, "ACT-09"),
    Fault(SlopeNotSummed, DIFFERENCES, None, ""),
    Fault(LeakingBackward, DIFFERENCES, "input", ""),
    Fault(LeakingBackward, TWIN, "input", ""),
    Fault(LeakingBothWays, FORWARD, "output", ""),
    Fault(LeakingBothWays, TWIN, "input", ""),
    Fault(SlopeOneAtZero, TWIN, "input", ""),
    Fault(ClippedInPlace, "arguments_are_left_untouched", None, "ACT-08"),
    Fault(ChainedAssignment, SHAPES, None, "ACT-09"),
    Fault(SlopeIgnored, DIFFERENCES, "input", "ACT-10"),
    Fault(SlopeOfTheDefault, DIFFERENCES, "input", "ACT-10"),
    Fault(GatedByTheOutput, DIFFERENCES, "input", "ACT-11"),
    Fault(LargerOfTwo, FORWARD, "output", "ACT-11"),
    Fault(LearntSlopeGatedByTheOutput, DIFFERENCES, "input", "ACT-11"),
    Fault(LearntSlopeGatedByTheOutput, TWIN, "input", "ACT-11"),
    Fault(SlopeNotSummed, SHAPES, None, ""),
    Fault(SlopesOfTheLastAxis, DIFFERENCES, "weight", ""),
    Fault(SlopesOfTheLastAxis, TWIN, "weight", ""),
    Fault(FirstSlopeForAll, FORWARD, "output", ""),
    Fault(SlopeByMean, DIFFERENCES, "weight", ""),
    Fault(SlopeByMean, "gradients_of_samples_do_not_mix", "weight", ""),
    Fault(ChoosesAtFive, KINKS, None, ""),
    Fault(MarginsOfTheOutput, KINKS, None, ""),
    Fault(MarginsWithASign, KINKS, None, ""),
]

BLIND: list[type] = [
    LeakingBothWays,
    SlopeOneAtZero,
    ClippedInPlace,
    LargerOfTwo,
    FirstSlopeForAll,
    ChoosesAtFive,
    MarginsOfTheOutput,
    MarginsWithASign,
]

EQUIVALENT: list[tuple[type, str]] = [(RectifierGatedByTheOutput, "EQ-04")]
