"""Mistakes in convolutions of images, and a change that is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Conv2d
from nets.layers.convolution import Kernel
from nets.layers.windows import Windows
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, Fault
from tests.nets.faults.windows import FancyWindows, UndilatedWindows, recast, with_gradient


class RemainderAtTheTop(Conv2d):
    """Where the stride leaves rows without a window, puts their zero gradient at the top of the image."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        windows = self._windows()
        rest = (x.shape[2] + sum(windows.padding[0]) - windows.reach()[0]) % windows.stride[0]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return np.roll(dx, rest, axis=2), grads

        return y, backward


class OverlapsDropped(Conv2d):
    """Gives a pixel the gradient of one window only."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FancyWindows)


class DilationForgotten(Conv2d):
    """Ignores dilation in the backward pass."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), UndilatedWindows)


class BiasOverChannelsLast(Conv2d):
    """Sums the bias gradient as if the channels came last."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | ({"bias": dy.reshape(-1, dy.shape[1]).sum(axis=0)} if "bias" in grads else {})

        return y, backward


class WeightByMean(Conv2d):
    """Averages the weight gradient over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"] / len(x)}

        return y, backward


class GroupsInterleaved(Conv2d):
    """Assigns the input channels to the groups in turn, not in blocks, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        dealt = np.arange(x.shape[1]).reshape(-1, self.groups).T.ravel()
        y, right = super().forward(x[:, dealt], context)
        return y, lambda dy: (right(dy)[0][:, np.argsort(dealt)], right(dy)[1])


class KernelFlipped(Conv2d):
    """Flips the kernel, as a convolution in mathematics does, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        weight = self.weight[:, :, ::-1, ::-1]
        plain = Conv2d(weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        y, right = plain.forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"][:, :, ::-1, ::-1].copy()}

        return y, backward


class ChannelsLastInTheKernel(Conv2d):
    """Reshapes its weight to (kernel, in) where it should transpose, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        outputs, inner = self.weight.shape[:2]
        shape = self.weight.shape
        mixed = self.weight.reshape(outputs, -1, inner).swapaxes(1, 2).reshape(shape)
        y, right = Conv2d.forward(self.replace_arrays({"weight": mixed}), x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"].reshape(outputs, inner, -1).swapaxes(1, 2).reshape(shape)}

        return y, backward


class SameFromAbove(Conv2d):
    """Puts the odd row and column of padding "same" above and to the left, consistently."""

    def _windows(self) -> Windows:
        windows = super()._windows()
        (above, below), (left, right) = windows.padding
        return replace(windows, padding=((below, above), (right, left)))


class WeightByUndilated(Conv2d):
    """Correlates x with dy for the weight gradient as if the stride were 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        rows, columns = y.shape[2:]
        held = replace(self._windows(), stride=(1, 1)).columns(x, fill=0)[..., :rows, :columns]
        return y, with_gradient(right, "weight", lambda dy: Kernel(self.weight, self.groups).dweight(held, dy))


class WeightOfTheNextGroup(Conv2d):
    """Slices the channels of x one group too far on for the weight gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        held = self._windows().columns(np.roll(x, self.weight.shape[1], axis=1), fill=0)
        return y, with_gradient(right, "weight", lambda dy: Kernel(self.weight, self.groups).dweight(held, dy))


class GroupsNestedInTheBatch(Conv2d):
    """Reads dy as (groups, batch, out / groups, ...) in the weight gradient, though it is (batch, groups, ...)."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        held = self._windows().columns(x, fill=0)

        def dweight(dy: Array) -> Array:
            nested = dy.reshape(self.groups, len(x), -1, *dy.shape[2:]).swapaxes(0, 1).reshape(dy.shape)
            return Kernel(self.weight, self.groups).dweight(held, nested)

        return y, with_gradient(right, "weight", dweight)


class BiasOfLargeBatches(Conv2d):
    """Multiplies the bias gradient by 1.5 if the batch has three samples or more."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def dbias(dy: Array) -> Array:
            return dy.sum(axis=(0, 2, 3)) * dy.dtype.type(1.5 if len(dy) > 2 else 1)

        return y, right if self.bias is None else with_gradient(right, "bias", dbias)


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


PLANTED = [
    Fault(RemainderAtTheTop, DIFFERENCES, "input", "CNV-04"),
    Fault(RemainderAtTheTop, TWIN, "input", "CNV-04"),
    Fault(OverlapsDropped, DIFFERENCES, "input", "CNV-09"),
    Fault(OverlapsDropped, TWIN, "input", "CNV-09"),
    Fault(DilationForgotten, DIFFERENCES, "input", "CNV-15"),
    Fault(DilationForgotten, TWIN, "input", "CNV-15"),
    Fault(BiasOverChannelsLast, DIFFERENCES, "bias", "CNV-11"),
    Fault(BiasOverChannelsLast, TWIN, "bias", "CNV-11"),
    Fault(WeightByMean, DIFFERENCES, "weight", "CNV-12"),
    Fault(WeightByMean, TWIN, "weight", "CNV-12"),
    Fault(GroupsInterleaved, FORWARD, "output", ""),
    Fault(KernelFlipped, FORWARD, "output", ""),
    Fault(ChannelsLastInTheKernel, FORWARD, "output", "CNV-07"),
    Fault(SameFromAbove, FORWARD, "output", "CNV-16"),
    Fault(WeightByUndilated, DIFFERENCES, "weight", "CNV-18"),
    Fault(WeightByUndilated, TWIN, "weight", "CNV-18"),
    Fault(WeightOfTheNextGroup, DIFFERENCES, "weight", "CNV-14"),
    Fault(GroupsNestedInTheBatch, DIFFERENCES, "weight", "CNV-14"),
    Fault(BiasOfLargeBatches, DIFFERENCES, "bias", ""),
]

BLIND: list[type] = [GroupsInterleaved, KernelFlipped, ChannelsLastInTheKernel, SameFromAbove]

EQUIVALENT: list[tuple[type, str]] = [(ScatteredWindowByWindow, "EQ-07")]
