"""Mistakes in rectifiers, with a slope and without; and a change that is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients, Kinks
from nets.layers import LeakyReLU, PReLU, ReLU
from tests.nets.faults.fault import DIFFERENCES, FORWARD, KINKS, SHAPES, TWIN, caught_by, equivalent
from tests.nets.faults.passes import with_dx, with_gradient


@caught_by(DIFFERENCES, SHAPES, name="ACT-09")
class ChainedAssignment(ReLU):
    """Writes ``dx = dy[...] = 0``, so dx is the number 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx: Any
            dx = dy[x <= 0] = 0
            return dx, {}

        return y, backward


@caught_by(DIFFERENCES, TWIN, tensor="input")
class LeakingBackward(ReLU):
    """Passes the gradient of negative inputs."""

    forward = with_dx(lambda _, dy: dy.copy())


@caught_by(TWIN, tensor="input")
@caught_by(FORWARD, tensor="output")
class LeakingBothWays(ReLU):
    """Passes negative inputs, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return x.copy(), lambda dy: (dy.copy(), {})


@caught_by(TWIN, tensor="input")
class SlopeOneAtZero(ReLU):
    """Uses slope 1 at exactly zero; torch uses 0."""

    forward = with_dx(lambda at, dy: dy * (at.x >= 0))


@caught_by("arguments_are_left_untouched", name="ACT-08")
class ClippedInPlace(ReLU):
    """Sets the negative elements of its input to zero in place, which changes the output of the layer before."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        x[x < 0] = 0
        return y, backward


@caught_by(DIFFERENCES, tensor="input", name="ACT-10")
class SlopeIgnored(LeakyReLU):
    """Passes no gradient for negative inputs, as a plain ReLU does."""

    forward = with_dx(lambda at, dy: dy * (at.x > 0))


@caught_by(DIFFERENCES, tensor="input", name="ACT-10")
class SlopeOfTheDefault(LeakyReLU):
    """Uses the slope 0.01 in the backward pass, whatever the layer's slope is."""

    forward = with_dx(lambda at, dy: np.where(at.x > 0, dy, 0.01 * dy))


@caught_by(DIFFERENCES, tensor="input", name="ACT-11")
class GatedByTheOutput(LeakyReLU):
    """Takes the gate from the output, whose sign differs from the input's if the slope is negative."""

    forward = with_dx(lambda at, dy: np.where(at.y > 0, dy, at.subject.negative_slope * dy))


@caught_by(FORWARD, tensor="output", name="ACT-11")
class LargerOfTwo(LeakyReLU):
    """Computes max(slope * x, x), which is another function if the slope exceeds 1, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        mask = x > self.negative_slope * x
        slope = self.negative_slope
        return np.where(mask, x, slope * x), lambda dy: (np.where(mask, dy, slope * dy), {})


@caught_by(DIFFERENCES, SHAPES)
class SlopeNotSummed(PReLU):
    """Does not sum the slope's gradient over the elements."""

    forward = with_gradient("weight", lambda at, dy: np.where(at.x > 0, 0, dy * at.x))


@caught_by(DIFFERENCES, TWIN, tensor="input", name="ACT-11")
class LearntSlopeGatedByTheOutput(PReLU):
    """Takes the gate from the output, wrong once a slope has trained below zero."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        slopes = self.weight.reshape(-1, *[1] * (x.ndim - 2)) if len(self.weight) > 1 else self.weight
        return y, lambda dy: (np.where(y > 0, dy, slopes * dy), right(dy)[1])


@caught_by(DIFFERENCES, TWIN, tensor="weight")
class SlopesOfTheLastAxis(PReLU):
    """Sums the slopes' gradients as if the channels came last."""

    forward = with_gradient(
        "weight", lambda at, dy: np.where(at.x > 0, 0, dy * at.x).reshape(-1, len(at.subject.weight)).sum(axis=0)
    )


@caught_by(FORWARD, tensor="output")
class FirstSlopeForAll(PReLU):
    """Uses the first channel's slope in all channels, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = PReLU(self.weight[:1]).forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {"weight": np.append(grads["weight"], np.zeros_like(self.weight[1:]))}

        return y, backward


@caught_by(DIFFERENCES, "gradients_of_samples_do_not_mix", tensor="weight")
class SlopeByMean(PReLU):
    """Averages a slope's gradient over the batch."""

    forward = with_gradient("weight", lambda at, dy: at.right(dy)[1]["weight"] / len(at.x))


@equivalent("EQ-04")
class RectifierGatedByTheOutput(ReLU):
    """Takes its gate from the output, which is positive exactly where the input is."""

    forward = with_dx(lambda at, dy: np.where(at.y > 0, dy, 0))


@caught_by(KINKS)
class ChoosesAtFive(ReLU):
    """Reports a kink at 5, with the margins of one at 0."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x < 5, margin=np.abs(x))


@caught_by(KINKS)
class MarginsOfTheOutput(LeakyReLU):
    """Reports the size of its output as the margin of its input."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(self.forward(x)[0]))


@caught_by(KINKS)
class MarginsWithASign(PReLU):
    """Reports the input as its margin, which is negative for negative inputs."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=x)
