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
    """Writes ``dx = dy[...] = 0``, by which dx is the number 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx: Any
            dx = dy[x <= 0] = 0
            return dx, {}

        return y, backward


@caught_by(DIFFERENCES, TWIN, tensor="input")
class LeakingBackward(ReLU):
    """Lets the gradient of negative inputs pass."""

    forward = with_dx(lambda _, dy: dy.copy())


@caught_by(TWIN, tensor="input")
@caught_by(FORWARD, tensor="output")
class LeakingBothWays(ReLU):
    """Lets negative inputs pass, forward and backward alike: no difference can show that."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return x.copy(), lambda dy: (dy.copy(), {})


@caught_by(TWIN, tensor="input")
class SlopeOneAtZero(ReLU):
    """Takes the slope at exactly zero to be 1, where torch takes 0."""

    forward = with_dx(lambda at, dy: dy * (at.x >= 0))


@caught_by("arguments_are_left_untouched", name="ACT-08")
class ClippedInPlace(ReLU):
    """Sets the negative elements of its input to zero where they stand, for the layer before to see."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        x[x < 0] = 0
        return y, backward


@caught_by(DIFFERENCES, tensor="input", name="ACT-10")
class SlopeIgnored(LeakyReLU):
    """Lets no gradient of negative inputs pass, as a plain rectifier."""

    forward = with_dx(lambda at, dy: dy * (at.x > 0))


@caught_by(DIFFERENCES, tensor="input", name="ACT-10")
class SlopeOfTheDefault(LeakyReLU):
    """Writes the slope 0.01 into the backward pass, whatever it is."""

    forward = with_dx(lambda at, dy: np.where(at.x > 0, dy, 0.01 * dy))


@caught_by(DIFFERENCES, tensor="input", name="ACT-11")
class GatedByTheOutput(LeakyReLU):
    """Takes the gate from the output, whose sign is not the input's where the slope is negative."""

    forward = with_dx(lambda at, dy: np.where(at.y > 0, dy, at.subject.negative_slope * dy))


@caught_by(FORWARD, tensor="output", name="ACT-11")
class LargerOfTwo(LeakyReLU):
    """Computes max(slope * x, x), which is another function where the slope exceeds 1, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        mask = x > self.negative_slope * x
        slope = self.negative_slope
        return np.where(mask, x, slope * x), lambda dy: (np.where(mask, dy, slope * dy), {})


@caught_by(DIFFERENCES, SHAPES)
class SlopeNotSummed(PReLU):
    """Gives the slope a gradient for every element."""

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
    """Takes its gate from the output, which is positive where the input is."""

    forward = with_dx(lambda at, dy: np.where(at.y > 0, dy, 0))


@caught_by(KINKS)
class ChoosesAtFive(ReLU):
    """Says that it chooses at 5, with the margins of the choice at 0."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x < 5, margin=np.abs(x))


@caught_by(KINKS)
class MarginsOfTheOutput(LeakyReLU):
    """Takes the size of its output for the margin of its input."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(self.forward(x)[0]))


@caught_by(KINKS)
class MarginsWithASign(PReLU):
    """Takes the input for its own margin, which is below 0 where the input is."""

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=x)
