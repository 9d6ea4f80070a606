"""Mistakes in how a layer treats its calls: memory, precision, what it keeps and what it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients, LossBackward, untapped
from nets.layers import Dropout, Flatten, LeakyReLU, Sigmoid, Tanh
from nets.losses import CrossEntropyLoss
from tests.nets.faults.fault import DIFFERENCES, SHAPES, caught_by
from tests.nets.faults.passes import with_dx, with_pullback


@caught_by("results_own_their_memory")
class ViewOfInput(Flatten):
    """Returns a view of its input."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, backward = super().forward(x, context)
        return x.reshape(len(x), -1), backward


@caught_by(DIFFERENCES, "backward_is_linear", tensor="input")
class ConstantBackward(Flatten):
    """Ignores dy."""

    forward = with_dx(lambda at, _: np.ones_like(at.x))


@caught_by(SHAPES, name="ENG-13")
class AlwaysDouble(Flatten):
    """Returns float64, whatever the type of its input."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        return y.astype(np.float64), backward


@caught_by("calls_do_not_interfere", name="ENG-09")
class CachingSigmoid(Sigmoid):
    """Keeps its output on the class, so that a second call overwrites what the first pullback needs."""

    cache: list[Array] = []  # noqa: RUF012  the mistake

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        self.cache[:] = [y]
        return y, lambda dy: (dy * self.cache[0] * (1 - self.cache[0]), {})


@caught_by("calls_do_not_interfere", name="ENG-03")
class NeverReset(Tanh):
    """Adds to the gradient of an earlier backward pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        left = np.zeros_like(x)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            left[...] += right(dy)[0]
            return left.copy(), {}

        return y, backward


@caught_by("calls_do_not_interfere", name="ENG-09")
class RemembersOnItself(Tanh):
    """Keeps its output on the layer, so that a second call overwrites what the first pullback needs."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        object.__setattr__(self, "y", y)
        return y, lambda dy: (dy * (1 - self.y * self.y), {})  # type: ignore[attr-defined]  # set above


@caught_by("calls_do_not_interfere", name="DRP-10")
class OffForGood(Dropout):
    """Stays off after its first evaluation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if not context.training:
            object.__setattr__(self, "off", True)
        return super().forward(x, Context(context.training and not hasattr(self, "off"), context.key, context.tap))


@caught_by("taps_do_not_change_results")
class TapDependent(Sigmoid):
    """Computes another output if it is given a tap."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        return (y if context.tap is untapped else y * (1 + 1e-9)), backward


@caught_by("taps_do_not_change_results")
@dataclass(frozen=True, eq=False)
class OverwritesItsTap(CrossEntropyLoss):
    """Changes an array in place after passing it to the tap."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        shown = context.tapped("loss", "shifted", prediction - 1)
        shown += 1
        return super().forward(shown, target, context)


@caught_by("results_do_not_depend_on_memory_layout", tensor="input", name="ENG-08")
class ReadsItsMemory(Sigmoid):
    """Reads the elements of dy in memory order."""

    forward = with_pullback(lambda at, dy: at.right(dy.ravel(order="K").reshape(dy.shape)))


@caught_by(DIFFERENCES, "gradients_of_samples_do_not_mix", tensor="input")
class ScaledByBatch(Sigmoid):
    """Divides the gradient by the number of samples, which only a loss may do."""

    forward = with_dx(lambda at, dy: at.right(dy)[0] / len(at.x))


@caught_by("integers_are_taken_as_numbers", tensor="output", name="ENG-12")
class Truncated(LeakyReLU):
    """Gives its output the type of its input, which is an integer type for pixels."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        out = np.zeros_like(x)
        out[...] = y.astype(x.dtype)
        return out, right


@caught_by("integers_are_taken_as_numbers", tensor="output")
class WrapsAround(Sigmoid):
    """Negates its input without a conversion, which makes unsigned integers large."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y = 1 / (1 + np.exp(-x * 1.0))
        return y, lambda dy: (dy * y * (1 - y), {})


@caught_by("integers_are_taken_as_numbers", tensor="output")
class HalfOfBytes(Tanh):
    """Leaves the precision to NumPy, which chooses float16 for 8-bit integers."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return np.tanh(x), super().forward(x, context)[1]


@caught_by("precisions_agree", tensor="input")
class NarrowInside(Tanh):
    """Squares in float16 in the backward pass if the input is float32."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        if x.dtype != np.float32:
            return y, right
        return y, lambda dy: (dy * (1 - (y.astype(np.float16) ** 2).astype(np.float32)), {})
