"""Mistakes in convolutions of sequences."""

from __future__ import annotations

from dataclasses import replace

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Conv1d
from nets.layers.convolution import Kernel
from nets.layers.windows import Windows
from tests.nets.faults.fault import DIFFERENCES, FORWARD, Fault
from tests.nets.faults.windows import with_gradient


class PaddedOnOneSide(Conv1d):
    """Puts all padding before the sequence, consistently."""

    def _windows(self) -> Windows:
        windows = super()._windows()
        return replace(windows, padding=((0, 0), (sum(windows.padding[1]), 0)))


class SequenceKernelFlipped(Conv1d):
    """Flips the kernel, as a convolution in mathematics does, consistently."""

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
    """Sums the bias gradient over the positions of the first sample only."""

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


PLANTED = [
    Fault(PaddedOnOneSide, FORWARD, "output", ""),
    Fault(SequenceKernelFlipped, FORWARD, "output", ""),
    Fault(BiasOverPlacesLast, DIFFERENCES, "bias", "CNV-11"),
    Fault(BiasOfTheFirst, DIFFERENCES, "bias", "CNV-11"),
    Fault(SequenceWeightByUndilated, DIFFERENCES, "weight", "CNV-18"),
]

BLIND: list[type] = [PaddedOnOneSide, SequenceKernelFlipped]
