"""Faults of convolutions, each with the property that must see it; and what looks like a fault and is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Conv1d, Conv2d, ConvTranspose2d
from nets.layers.convolution import Kernel
from nets.layers.windows import Windows, pair_of

DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"


def with_gradient(right: Backward, name: str, wrong: Callable[[Array], Array]) -> Backward:
    """Return a pullback with the gradient of one parameter, where it has one, made from dy by ``wrong``."""

    def backward(dy: Array) -> tuple[Array, Gradients]:
        dx, grads = right(dy)
        return dx, grads | ({name: wrong(dy)} if name in grads else {})

    return backward


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
    """Takes dy for (groups, batch, out / groups, ...) in the weight gradient, where it is (batch, groups, ...)."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        held = self._windows().columns(x, fill=0)

        def dweight(dy: Array) -> Array:
            nested = dy.reshape(self.groups, len(x), -1, *dy.shape[2:]).swapaxes(0, 1).reshape(dy.shape)
            return Kernel(self.weight, self.groups).dweight(held, nested)

        return y, with_gradient(right, "weight", dweight)


class PaddedOnOneSide(Conv1d):
    """Pads all of it before the sequence, consistently."""

    def _windows(self) -> Windows:
        windows = super()._windows()
        return replace(windows, padding=((0, 0), (sum(windows.padding[1]), 0)))


class SequenceKernelFlipped(Conv1d):
    """Convolves as mathematicians do, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = Conv1d.forward(self.replace_arrays({"weight": self.weight[:, :, ::-1]}), x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"][:, :, ::-1]}

        return y, backward


class BiasOverPlacesLast(Conv1d):
    """Sums the bias gradient as if the channels came last."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, with_gradient(right, "bias", lambda dy: dy.reshape(-1, dy.shape[1]).sum(axis=0))


class BiasOfTheFirst(Conv1d):
    """Sums the bias gradient over the places, and forgets all samples but the first."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, with_gradient(right, "bias", lambda dy: dy[0].sum(axis=-1))


class SequenceWeightByUndilated(Conv1d):
    """Correlates x with dy for the weight gradient as if the stride were 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        held = replace(self._windows(), stride=(1, 1)).columns(x[:, :, None], fill=0)[..., : y.shape[2]]
        kernel = Kernel(self.weight[:, :, None], self.groups)
        return y, with_gradient(right, "weight", lambda dy: kernel.dweight(held, dy[:, :, None])[:, :, 0])


class OutputPaddingIgnored(ConvTranspose2d):
    """Makes the least of the sizes that the stride allows, whatever output_padding says, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        down, across = pair_of(self.output_padding)
        rows, columns = y.shape[2] - down, y.shape[3] - across
        added = ((0, 0), (0, 0), (0, down), (0, across))
        return y[:, :, :rows, :columns].copy(), lambda dy: right(np.pad(dy, added))


class OutputPaddingAbove(ConvTranspose2d):
    """Adds the rows and columns of output_padding above and to the left, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        down, across = pair_of(self.output_padding)
        return np.roll(y, (down, across), (2, 3)), lambda dy: right(np.roll(dy, (-down, -across), (2, 3)))


class BiasWithoutOutputPadding(ConvTranspose2d):
    """Leaves the rows that output_padding adds, which hold the bias alone, out of the bias gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        rows = y.shape[2] - pair_of(self.output_padding)[0]
        return y, with_gradient(right, "bias", lambda dy: dy[:, :, :rows].sum(axis=(0, 2, 3)))


class TransposedKernelFlipped(ConvTranspose2d):
    """Turns the kernel by half a turn, as a convolution of the padded input would have to, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        turned = self.replace_arrays({"weight": self.weight[:, :, ::-1, ::-1]})
        y, right = ConvTranspose2d.forward(turned, x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, grads | {"weight": grads["weight"][:, :, ::-1, ::-1]}

        return y, backward


class TransposedGroupsInterleaved(ConvTranspose2d):
    """Deals the output channels out to the groups in turn, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        unbiased = replace(self, bias=None)
        y, right = ConvTranspose2d.forward(unbiased, x, context)
        dealt = np.arange(y.shape[1]).reshape(self.groups, -1).T.ravel()
        spread = 0 if self.bias is None else self.bias[:, None, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy[:, np.argsort(dealt)])
            return dx, grads | ({} if self.bias is None else {"bias": dy.sum(axis=(0, 2, 3))})

        return y[:, dealt] + spread, backward


class TransposedWeightOfTheNextGroup(ConvTranspose2d):
    """Slices the channels of x one group too far on for the weight gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        _, of_others = super().forward(np.roll(x, len(self.weight) // self.groups, axis=1), context)
        return y, with_gradient(right, "weight", lambda dy: of_others(dy)[1]["weight"])


class InputByUnstrided(ConvTranspose2d):
    """Convolves dy with stride 1 for the input gradient, and keeps the corner that fits."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            held = replace(self._windows(), stride=(1, 1)).columns(dy, fill=0)
            return Kernel(self.weight, self.groups).product(held)[:, :, : x.shape[2], : x.shape[3]].copy(), right(dy)[1]

        return y, backward


class ScatteredWindowByWindow(Conv2d):
    """Adds dy times the kernel to the window of dx at every place, and turns no kernel: that is the transpose."""

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


PLANTED: list[tuple[type, str, str | None, str]] = [
    (ChannelsLastInTheKernel, FORWARD, "output", "CNV-07"),
    (SameFromAbove, FORWARD, "output", "CNV-16"),
    (WeightByUndilated, DIFFERENCES, "weight", "CNV-18"),
    (WeightByUndilated, TWIN, "weight", "CNV-18"),
    (WeightOfTheNextGroup, DIFFERENCES, "weight", "CNV-14"),
    (GroupsNestedInTheBatch, DIFFERENCES, "weight", "CNV-14"),
    (PaddedOnOneSide, FORWARD, "output", ""),
    (SequenceKernelFlipped, FORWARD, "output", ""),
    (BiasOverPlacesLast, DIFFERENCES, "bias", "CNV-11"),
    (BiasOfTheFirst, DIFFERENCES, "bias", "CNV-11"),
    (SequenceWeightByUndilated, DIFFERENCES, "weight", "CNV-18"),
    (OutputPaddingIgnored, FORWARD, None, ""),
    (OutputPaddingAbove, FORWARD, "output", ""),
    (BiasWithoutOutputPadding, DIFFERENCES, "bias", ""),
    (BiasWithoutOutputPadding, TWIN, "bias", ""),
    (TransposedKernelFlipped, FORWARD, "output", ""),
    (TransposedGroupsInterleaved, FORWARD, "output", ""),
    (TransposedWeightOfTheNextGroup, DIFFERENCES, "weight", ""),
    (InputByUnstrided, DIFFERENCES, "input", ""),
    (InputByUnstrided, TWIN, "input", ""),
]

EQUIVALENT: list[tuple[type, str]] = [(ScatteredWindowByWindow, "EQ-07")]
