"""Mistakes in convolutions of sequences."""

from __future__ import annotations

from dataclasses import replace

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import Conv1d
from nets.layers.convolution import Kernel
from nets.layers.windows import Windows
from tests.nets.faults.fault import DIFFERENCES, FORWARD, caught_by
from tests.nets.faults.passes import with_gradient, with_weight


@caught_by(FORWARD, tensor="output")
class PaddedOnOneSide(Conv1d):
    """Puts all padding before the sequence, consistently."""

    def _windows(self) -> Windows:
        windows = super()._windows()
        return replace(windows, padding=((0, 0), (sum(windows.padding[1]), 0)))


@caught_by(FORWARD, tensor="output")
class SequenceKernelFlipped(Conv1d):
    """Flips the kernel, as a convolution in mathematics does, consistently."""

    forward = with_weight(lambda weight: weight[:, :, ::-1], lambda grad: grad[:, :, ::-1])


@caught_by(DIFFERENCES, tensor="bias", name="CNV-11")
class BiasOverPlacesLast(Conv1d):
    """Sums the bias gradient as if the channels came last."""

    forward = with_gradient("bias", lambda _, dy: dy.reshape(-1, dy.shape[1]).sum(axis=0))


@caught_by(DIFFERENCES, tensor="bias", name="CNV-11")
class BiasOfTheFirst(Conv1d):
    """Sums the bias gradient over the positions of the first sample only."""

    forward = with_gradient("bias", lambda _, dy: dy[0].sum(axis=-1))


@caught_by(DIFFERENCES, tensor="weight", name="CNV-18")
class SequenceWeightByUndilated(Conv1d):
    """Correlates x with dy for the weight gradient as if the stride were 1."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        held = replace(self._windows(), stride=(1, 1)).columns(x[:, :, None], fill=0)[..., : y.shape[2]]
        kernel = Kernel(self.weight[:, :, None], self.groups)
        return y, lambda dy: (right(dy)[0], right(dy)[1] | {"weight": kernel.dweight(held, dy[:, :, None])[:, :, 0]})
