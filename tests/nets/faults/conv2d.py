"""Mistakes in convolutions of images, and a change that is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Conv2d
from nets.layers.convolution import Kernel
from nets.layers.windows import Windows
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, caught_by, equivalent, recast
from tests.nets.faults.passes import Pass, with_dx, with_gradient, with_weight
from tests.nets.faults.windows import FancyWindows, UndilatedWindows


def _spread_by(kind: type[Windows], at: Pass, dy: Array) -> Array:
    """Return dx as windows of another kind add it up."""
    dcolumns = Kernel(at.subject.weight, at.subject.groups).dheld(dy)
    return recast(at.subject._windows(), kind).images(dcolumns, *at.x.shape[2:])


@caught_by(DIFFERENCES, TWIN, tensor="input", name="CNV-04")
class RemainderAtTheTop(Conv2d):
    """Where the stride leaves rows without a window, puts their zero gradient at the top of the image."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        windows = self._windows()
        rest = (x.shape[2] + sum(windows.padding[0]) - windows.reach()[0]) % windows.stride[0]
        return y, lambda dy: (np.roll(right(dy)[0], rest, axis=2), right(dy)[1])


@caught_by(DIFFERENCES, TWIN, tensor="input", name="CNV-09")
class OverlapsDropped(Conv2d):
    """Gives a pixel the gradient of one window only."""

    forward = with_dx(lambda at, dy: _spread_by(FancyWindows, at, dy))


@caught_by(DIFFERENCES, TWIN, tensor="input", name="CNV-15")
class DilationForgotten(Conv2d):
    """Ignores dilation in the backward pass."""

    forward = with_dx(lambda at, dy: _spread_by(UndilatedWindows, at, dy))


@caught_by(DIFFERENCES, TWIN, tensor="bias", name="CNV-11")
class BiasOverChannelsLast(Conv2d):
    """Sums the bias gradient as if the channels came last."""

    forward = with_gradient("bias", lambda _, dy: dy.reshape(-1, dy.shape[1]).sum(axis=0))


@caught_by(DIFFERENCES, TWIN, tensor="weight", name="CNV-12")
class WeightByMean(Conv2d):
    """Averages the weight gradient over the batch."""

    forward = with_gradient("weight", lambda at, dy: at.right(dy)[1]["weight"] / len(at.x))


@caught_by(FORWARD, tensor="output")
class GroupsInterleaved(Conv2d):
    """Assigns the input channels to the groups in turn, not in blocks, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        dealt = np.arange(x.shape[1]).reshape(-1, self.groups).T.ravel()
        y, right = super().forward(x[:, dealt], context)
        return y, lambda dy: (right(dy)[0][:, np.argsort(dealt)], right(dy)[1])


@caught_by(FORWARD, tensor="output")
class KernelFlipped(Conv2d):
    """Flips the kernel, as a convolution in mathematics does, consistently."""

    forward = with_weight(lambda weight: weight[:, :, ::-1, ::-1], lambda grad: grad[:, :, ::-1, ::-1].copy())


@caught_by(FORWARD, tensor="output", name="CNV-07")
class ChannelsLastInTheKernel(Conv2d):
    """Reshapes its weight to (kernel, in) where it should transpose, consistently."""

    forward = with_weight(
        lambda weight: weight.reshape(len(weight), -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape),
        lambda grad: grad.reshape(*grad.shape[:2], -1).swapaxes(1, 2).reshape(grad.shape),
    )


@caught_by(FORWARD, tensor="output", name="CNV-16")
class SameFromAbove(Conv2d):
    """Puts the odd row and column of padding "same" above and to the left, consistently."""

    def _windows(self) -> Windows:
        windows = super()._windows()
        (above, below), (left, right) = windows.padding
        return replace(windows, padding=((below, above), (right, left)))


@caught_by(DIFFERENCES, TWIN, tensor="weight", name="CNV-18")
class WeightByUndilated(Conv2d):
    """Correlates x with dy for the weight gradient as if the stride were 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        held = replace(self._windows(), stride=(1, 1)).columns(x, fill=0)[..., : y.shape[2], : y.shape[3]]
        kernel = Kernel(self.weight, self.groups)
        return y, lambda dy: (right(dy)[0], right(dy)[1] | {"weight": kernel.dweight(held, dy)})


@caught_by(DIFFERENCES, tensor="weight", name="CNV-14")
class WeightOfTheNextGroup(Conv2d):
    """Slices the channels of x one group too far on for the weight gradient."""

    forward = with_gradient(
        "weight",
        lambda at, dy: Conv2d.forward(at.subject, np.roll(at.x, at.subject.weight.shape[1], 1))[1](dy)[1]["weight"],
    )


@caught_by(DIFFERENCES, tensor="weight", name="CNV-14")
class GroupsNestedInTheBatch(Conv2d):
    """Reads dy as (groups, batch, out / groups, ...) in the weight gradient, though it is (batch, groups, ...)."""

    forward = with_gradient(
        "weight",
        lambda at, dy: at.right(
            dy.reshape(at.subject.groups, len(dy), -1, *dy.shape[2:]).swapaxes(0, 1).reshape(dy.shape)
        )[1]["weight"],
    )


@caught_by(DIFFERENCES, tensor="bias")
class BiasOfLargeBatches(Conv2d):
    """Multiplies the bias gradient by 1.5 if the batch has three samples or more."""

    forward = with_gradient("bias", lambda _, dy: dy.sum(axis=(0, 2, 3)) * dy.dtype.type(1.5 if len(dy) > 2 else 1))


@equivalent("EQ-07")
class ScatteredWindowByWindow(Conv2d):
    """Adds dy times the unrotated kernel to each window of dx: that is the transpose."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        windows = self._windows()
        (above, below), (left, beside) = windows.padding
        (down, across), (fall, step) = windows.dilation, windows.stride

        def backward(dy: Array) -> tuple[Array, Gradients]:
            batch, channels, height, width = x.shape
            padded = np.zeros((batch, channels, above + height + below, left + width + beside), dy.dtype)
            outer, inner = len(self.weight) // self.groups, self.weight.shape[1]
            high, wide = windows.reach()
            for o, r, c in np.ndindex(*dy.shape[1:]):
                of_group = slice(o // outer * inner, (o // outer + 1) * inner)
                window = padded[:, of_group, r * fall :, c * step :][:, :, :high:down, :wide:across]
                window += dy[:, o, r, c, None, None, None] * self.weight[o]
            return padded[:, :, above : above + height, left : left + width].copy(), right(dy)[1]

        return y, backward
