"""Mistakes in transposed convolutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import ConvTranspose2d
from nets.layers.convolution import Kernel
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, caught_by
from tests.nets.faults.passes import with_gradient, with_weight


@caught_by(FORWARD)
class OutputPaddingIgnored(ConvTranspose2d):
    """Ignores output_padding and makes the smallest possible output, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        down, across = self._extra()
        rows, columns = y.shape[2] - down, y.shape[3] - across
        added = ((0, 0), (0, 0), (0, down), (0, across))
        return y[:, :, :rows, :columns].copy(), lambda dy: right(np.pad(dy, added))


@caught_by(FORWARD, tensor="output")
class OutputPaddingAbove(ConvTranspose2d):
    """Adds the rows and columns of output_padding above and to the left, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        down, across = self._extra()
        return np.roll(y, (down, across), (2, 3)), lambda dy: right(np.roll(dy, (-down, -across), (2, 3)))


@caught_by(DIFFERENCES, TWIN, tensor="bias")
class BiasWithoutOutputPadding(ConvTranspose2d):
    """Leaves the rows that output_padding adds, which hold the bias alone, out of the bias gradient."""

    forward = with_gradient("bias", lambda at, dy: dy[:, :, : dy.shape[2] - at.subject._extra()[0]].sum(axis=(0, 2, 3)))


@caught_by(FORWARD, tensor="output")
class TransposedKernelFlipped(ConvTranspose2d):
    """Rotates the kernel by 180 degrees, as a convolution of the padded input must, consistently."""

    forward = with_weight(lambda weight: weight[:, :, ::-1, ::-1], lambda grad: grad[:, :, ::-1, ::-1])


@caught_by(FORWARD, tensor="output")
class TransposedGroupsInterleaved(ConvTranspose2d):
    """Assigns the output channels to the groups in turn, not in blocks, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        unbiased = replace(self, bias=None)
        y, right = ConvTranspose2d.forward(unbiased, x, context)
        dealt = np.arange(y.shape[1]).reshape(self.groups, -1).T.ravel()
        spread = 0 if self.bias is None else self.bias[:, None, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy[:, np.argsort(dealt)])
            return dx, grads | ({} if self.bias is None else {"bias": dy.sum(axis=(0, 2, 3))})

        return y[:, dealt] + spread, backward


@caught_by(DIFFERENCES, tensor="weight")
class TransposedWeightOfTheNextGroup(ConvTranspose2d):
    """Slices the channels of x one group too far on for the weight gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        _, of_others = super().forward(np.roll(x, len(self.weight) // self.groups, axis=1), context)
        return y, lambda dy: (right(dy)[0], right(dy)[1] | {"weight": of_others(dy)[1]["weight"]})


@caught_by(DIFFERENCES, TWIN, tensor="input")
class InputByUnstrided(ConvTranspose2d):
    """Convolves dy with stride 1 for the input gradient, and keeps the corner that fits."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        (rows, columns), kernel = x.shape[2:], Kernel(self.weight, self.groups)

        def dx(dy: Array) -> Array:
            held = replace(self._windows(), stride=(1, 1)).columns(dy, fill=0)
            return kernel.product(held)[:, :, :rows, :columns].copy()

        return y, lambda dy: (dx(dy), right(dy)[1])
