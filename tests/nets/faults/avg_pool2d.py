"""Mistakes in pooling by averages."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import AdaptiveAvgPool2d, AvgPool2d
from nets.layers.windows import Windows
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, caught_by, recast
from tests.nets.faults.passes import with_dx, with_pullback
from tests.nets.faults.windows import FancyWindows, FoldingWindows, LooseWindows, TurnedWindows


@caught_by(DIFFERENCES, TWIN, tensor="input", name="POL-05")
class NotDivided(AvgPool2d):
    """Gives every pixel of a window its whole gradient."""

    forward = with_pullback(lambda at, dy: at.right(dy * at.subject._divisor(at.x)))


@caught_by(DIFFERENCES, TWIN, tensor="input", name="POL-05")
class TurnedKernel(AvgPool2d):
    """Spreads the gradient over a kernel with height and width exchanged."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), TurnedWindows)


@caught_by(DIFFERENCES, TWIN, tensor="input", name="POL-05")
class WithoutGradient(AvgPool2d):
    """Gives the input no gradient at all."""

    forward = with_dx(lambda at, dy: np.zeros(at.x.shape, dy.dtype))


@caught_by(DIFFERENCES, tensor="input")
class AveragedOverlapsDropped(AvgPool2d):
    """Gives a pixel the gradient of one window only."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FancyWindows)


@caught_by(FORWARD, tensor="output")
class PaddingNeverCounted(AvgPool2d):
    """Divides by the pixels of the image only, whatever ``count_include_pad`` says."""

    def _divisor(self, x: Array) -> Array:
        return AvgPool2d._divisor(replace(self, count_include_pad=False), x)


@caught_by(FORWARD, tensor="output")
class PaddingAlwaysCounted(AvgPool2d):
    """Divides by the pixels of the padding, too, whatever ``count_include_pad`` says."""

    def _divisor(self, x: Array) -> Array:
        return AvgPool2d._divisor(replace(self, count_include_pad=True), x)


@caught_by(FORWARD, tensor="output")
class OverhangCounted(AvgPool2d):
    """Divides by the whole kernel where a window extends beyond the padded image."""

    def _divisor(self, x: Array) -> Array:
        kernel = np.asarray(math.prod(self._windows().kernel_size), x.dtype)
        counts_all = self.count_include_pad and self.divisor_override is None
        return kernel if counts_all else super()._divisor(x)


@caught_by(DIFFERENCES, tensor="input")
class OverhangCountedBack(AvgPool2d):
    """Divides by the whole kernel in the backward pass only, where a window holds fewer pixels."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        divisor = self._divisor(x)
        kernel = divisor if self.divisor_override else math.prod(self._windows().kernel_size)
        return y, lambda dy: right(dy * (divisor / kernel))


@caught_by(DIFFERENCES, tensor="input")
class DivisorForgotten(AvgPool2d):
    """Uses ``divisor_override`` in the forward pass only."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, AvgPool2d.forward(replace(self, divisor_override=None), x)[1]


@caught_by(DIFFERENCES, tensor="input")
class PaddingFolded(AvgPool2d):
    """Lets the gradient of the padding leak into the pixels at the border."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FoldingWindows)


@caught_by(FORWARD)
class StartsInThePadding(AvgPool2d):
    """Has one window too many in ``ceil_mode``: it starts beyond the image."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), LooseWindows)


@caught_by(FORWARD, tensor="output")
class WithoutOverlap(AdaptiveAvgPool2d):
    """Ends each window where the next one begins."""

    def _windows(self, side: int, size: int) -> list[tuple[int, int]]:
        starts = [i * side // size for i in range(size + 1)]
        return [(start, max(end, start + 1)) for start, end in itertools.pairwise(starts)]


@caught_by(DIFFERENCES, tensor="input")
class EqualShares(AdaptiveAvgPool2d):
    """Divides the gradients of all windows by the size of the first."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        axes = zip(x.shape[2:], y.shape[2:], strict=True)
        rows, columns = (np.array([end - start for start, end in self._windows(*axis)]) for axis in axes)
        sizes = np.outer(rows, columns)
        return y, lambda dy: right(dy * (sizes / sizes[0, 0]).astype(dy.dtype))


@caught_by(DIFFERENCES, TWIN, tensor="input", name="POL-08")
class Subsampled(AdaptiveAvgPool2d):
    """Where pixels are repeated s times, takes every s-th gradient, not the sum over the repetitions."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        (height, width), (rows, columns) = x.shape[2:], y.shape[2:]
        if rows % height or columns % width:
            return y, right
        return y, lambda dy: (dy[:, :, :: rows // height, :: columns // width].copy(), {})
