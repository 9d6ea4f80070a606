"""Mistakes of pooling layers, and the property that must catch each."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from nets.layers.windows import Windows

DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"


class FoldingWindows(Windows):
    """Gives the nearest pixel of the image what the padding has of the gradient."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        (above, _), (left, _) = self.padding
        down, across = self._spaces(height, width)
        whole = Windows.images(replace(self, padding=((0, 0), (0, 0))), dcolumns, down, across)
        dx = np.zeros((*dcolumns.shape[:2], height, width), dcolumns.dtype)
        for i, j in np.ndindex(down, across):
            dx[:, :, min(max(i - above, 0), height - 1), min(max(j - left, 0), width - 1)] += whole[:, :, i, j]
        return dx


class UncroppedWindows(Windows):
    """Takes the image to begin where its padding does, on the way back."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        around = [(0, before + behind) for before, behind in self.padding]
        return Windows.images(replace(self, padding=(around[0], around[1])), dcolumns, height, width)


class TurnedWindows(Windows):
    """Takes the kernel to be as high as it is wide, and as wide as it is high, on the way back."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        room = sum(self.kernel_size)  # for where the turned kernel is too long
        around = [(before, behind + room) for before, behind in self.padding]
        turned = replace(self, kernel_size=self.kernel_size[::-1], padding=(around[0], around[1]))
        return Windows.images(turned, dcolumns, height, width)


class AssigningWindows(Windows):
    """Keeps, of several windows that hold a pixel, the gradient of one."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        dpadded = np.zeros((*dcolumns.shape[:2], *self._spaces(height, width)), dcolumns.dtype)
        for k, (vertical, horizontal) in enumerate(self._places(*dcolumns.shape[3:])):
            dpadded[:, :, vertical, horizontal] = dcolumns[:, :, k]
        return dpadded[self._image(height, width)].copy()


class LooseWindows(Windows):
    """Keeps a last window that starts behind the image."""

    def _count(self, side: int, around: tuple[int, int], reach: int, stride: int) -> int:
        room = side + sum(around) - reach
        return (-(-room // stride) if self.ceil_mode else room // stride) + 1


def recast(windows: Windows, kind: type[Windows]) -> Windows:
    """Return the same windows as another class of them."""
    return kind(**vars(windows))


class NotDivided(AvgPool2d):
    """Gives every pixel of a window its whole gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: right(dy * self._divisor(x))


class TurnedKernel(AvgPool2d):
    """Spreads the gradient over the kernel of exchanged height and width."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), TurnedWindows)


class WithoutGradient(AvgPool2d):
    """Gives the input no gradient at all."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (np.zeros(x.shape, dy.dtype), {})


class AveragedOverlapsDropped(AvgPool2d):
    """Lets a pixel have the gradient of one window only."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), AssigningWindows)


class PaddingNeverCounted(AvgPool2d):
    """Divides by the pixels of the image only, whatever it is told."""

    def _divisor(self, x: Array) -> Array:
        return AvgPool2d._divisor(replace(self, count_include_pad=False), x)


class PaddingAlwaysCounted(AvgPool2d):
    """Divides by the pixels of the padding, too, whatever it is told."""

    def _divisor(self, x: Array) -> Array:
        return AvgPool2d._divisor(replace(self, count_include_pad=True), x)


class OverhangCounted(AvgPool2d):
    """Divides a window that hangs over the padded image by the whole kernel."""

    def _divisor(self, x: Array) -> Array:
        kernel = np.asarray(math.prod(self._windows().kernel_size), x.dtype)
        counts_all = self.count_include_pad and self.divisor_override is None
        return kernel if counts_all else super()._divisor(x)


class OverhangCountedBack(AvgPool2d):
    """Divides by the whole kernel on the way back only, where the window holds less."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        divisor = self._divisor(x)
        kernel = divisor if self.divisor_override else math.prod(self._windows().kernel_size)
        return y, lambda dy: right(dy * (divisor / kernel))


class DivisorForgotten(AvgPool2d):
    """Takes ``divisor_override`` on the way forward only."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, AvgPool2d.forward(replace(self, divisor_override=None), x)[1]


class PaddingFolded(AvgPool2d):
    """Lets the gradient of the padding leak into the pixels at the border."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FoldingWindows)


class PaddingKept(MaxPool2d):
    """Cuts the gradient of the image out of that with padding in the wrong place."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), UncroppedWindows)


class StartsInThePadding(AvgPool2d):
    """Has one window too many in ``ceil_mode``, which starts behind the image."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), LooseWindows)


class NeverCeil(MaxPool2d):
    """Leaves out windows that hang over, whatever it is told."""

    def _windows(self) -> Windows:
        return replace(super()._windows(), ceil_mode=False)


class LastMaximumWins(MaxPool2d):
    """Lets the last of several maxima win: as good a generalised gradient, but not torch's."""

    def _winner(self, x: Array, columns: Array) -> Array:
        return columns.shape[2] - 1 - columns[:, :, ::-1].argmax(axis=2, keepdims=True)


class TieSplit(MaxPool2d):
    """Divides the gradient equally between several maxima: as good a generalised gradient, but not torch's."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        mask = self._columns(x) == y[:, :, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            shares = dy / mask.sum(axis=2, dtype=dy.dtype)
            return self._windows().images(mask * shares[:, :, None], *x.shape[2:]), {}

        return y, backward


class TransposedOrder(MaxPool2d):
    """Takes the first maximum by columns, as `numpy.argmax` of a transposed window does."""

    def _winner(self, x: Array, columns: Array) -> Array:
        height, width = self._windows().kernel_size
        order = np.arange(height * width).reshape(height, width).T.reshape(-1)
        return order[columns[:, :, order].argmax(axis=2, keepdims=True)]


class WithoutOverlap(AdaptiveAvgPool2d):
    """Ends each window where the next one begins."""

    def _windows(self, side: int, size: int) -> list[tuple[int, int]]:
        starts = [i * side // size for i in range(size + 1)]
        return [(start, max(end, start + 1)) for start, end in itertools.pairwise(starts)]


class EqualShares(AdaptiveAvgPool2d):
    """Divides the gradient by one size for all windows, that of the first."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        axes = zip(x.shape[2:], y.shape[2:], strict=True)
        rows, columns = (np.array([end - start for start, end in self._windows(*axis)]) for axis in axes)
        sizes = np.outer(rows, columns)
        return y, lambda dy: right(dy * (sizes / sizes[0, 0]).astype(dy.dtype))


class Subsampled(AdaptiveAvgPool2d):
    """Takes every s-th gradient where it repeats pixels s times, instead of the sums over their repetitions."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        (height, width), (rows, columns) = x.shape[2:], y.shape[2:]
        if rows % height or columns % width:
            return y, right
        return y, lambda dy: (dy[:, :, :: rows // height, :: columns // width].copy(), {})


PLANTED: list[tuple[type, str, str | None, str]] = [
    (NotDivided, DIFFERENCES, "input", "POL-05"),
    (NotDivided, TWIN, "input", "POL-05"),
    (TurnedKernel, DIFFERENCES, "input", "POL-05"),
    (TurnedKernel, TWIN, "input", "POL-05"),
    (WithoutGradient, DIFFERENCES, "input", "POL-05"),
    (WithoutGradient, TWIN, "input", "POL-05"),
    (Subsampled, DIFFERENCES, "input", "POL-08"),
    (Subsampled, TWIN, "input", "POL-08"),
    (AveragedOverlapsDropped, DIFFERENCES, "input", ""),
    (PaddingNeverCounted, FORWARD, "output", ""),
    (PaddingAlwaysCounted, FORWARD, "output", ""),
    (OverhangCounted, FORWARD, "output", ""),
    (OverhangCountedBack, DIFFERENCES, "input", ""),
    (DivisorForgotten, DIFFERENCES, "input", ""),
    (PaddingFolded, DIFFERENCES, "input", ""),
    (PaddingKept, DIFFERENCES, "input", ""),
    (StartsInThePadding, FORWARD, None, ""),
    (NeverCeil, FORWARD, None, ""),
    (LastMaximumWins, TWIN, "input", ""),
    (TieSplit, TWIN, "input", ""),
    (TransposedOrder, TWIN, "input", ""),
    (WithoutOverlap, FORWARD, "output", ""),
    (EqualShares, DIFFERENCES, "input", ""),
]

# Right of themselves, but not what torch computes: differences pass them.
LEFT_TO_THE_TWIN: list[type] = [
    PaddingNeverCounted,
    PaddingAlwaysCounted,
    OverhangCounted,
    LastMaximumWins,
    TieSplit,
    TransposedOrder,
    WithoutOverlap,
]
