"""Mistakes in pooling by maximum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients, Kinks
from nets.layers import MaxPool2d
from nets.layers.windows import Windows
from tests.nets.faults.fault import DIFFERENCES, EXTREMES, FORWARD, KINKS, TWIN, caught_by, recast
from tests.nets.faults.windows import FancyWindows, FlooredWindows, UncroppedWindows


@caught_by(DIFFERENCES, TWIN, tensor="input")
class PooledOverlapsDropped(MaxPool2d):
    """Gives a pixel the gradient of one window only."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FancyWindows)


@caught_by(FORWARD, tensor="output", name="POL-04")
class PaddedWithZero(MaxPool2d):
    """Pads with 0, which wins over negative pixels."""

    def _columns(self, x: Array) -> Array:
        return self._windows().columns(x, fill=0)


@caught_by(TWIN, DIFFERENCES, tensor="input", name="POL-01")
class EveryTiedMaximum(MaxPool2d):
    """Gives the full gradient to each of several tied maxima."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        mask = self._columns(x) == y[:, :, None]
        return y, lambda dy: (self._windows().images(mask * dy[:, :, None], *x.shape[2:]), {})


@caught_by(DIFFERENCES, tensor="input")
class PaddingKept(MaxPool2d):
    """Crops the gradient of the padded image in the wrong place."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), UncroppedWindows)


@caught_by(FORWARD)
class NeverCeil(MaxPool2d):
    """Leaves out windows that extend beyond the image, whatever ``ceil_mode`` says."""

    def _windows(self) -> Windows:
        return recast(super()._windows(), FlooredWindows)


@caught_by(TWIN, tensor="input")
class LastMaximumWins(MaxPool2d):
    """Gives the gradient to the last of several tied maxima: a generalised gradient, too, but not torch's."""

    def _order(self) -> Sequence[int]:
        return super()._order()[::-1]


@caught_by(TWIN, tensor="input")
class TieSplit(MaxPool2d):
    """Divides the gradient equally between tied maxima: a generalised gradient, too, but not torch's."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        mask = self._columns(x) == y[:, :, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            shares = dy / mask.sum(axis=2, dtype=dy.dtype)
            return self._windows().images(mask * shares[:, :, None], *x.shape[2:]), {}

        return y, backward


@caught_by(TWIN, tensor="input")
class TransposedOrder(MaxPool2d):
    """Takes the first maximum by columns, as `numpy.argmax` of a transposed window does."""

    def _order(self) -> Sequence[int]:
        height, width = self._windows().kernel_size
        return list(np.arange(height * width).reshape(height, width).T.ravel())


@caught_by(EXTREMES, name="POL-04")
class PaddedWithALargeNumber(MaxPool2d):
    """Pads with -999, which wins over smaller values."""

    def _columns(self, x: Array) -> Array:
        return self._windows().columns(x, fill=-999)


@caught_by(KINKS)
class MarginsOfNone(MaxPool2d):
    """Reports infinite margins, as if no change of the input could change a maximum."""

    def kinks(self, x: Array) -> Kinks:
        kinks = super().kinks(x)
        return Kinks(kinks.choice, np.full_like(kinks.margin, np.inf))


@caught_by(KINKS)
class MarginsHalved(MaxPool2d):
    """Reports half the distance to the second maximum as the margin, as if both moved."""

    def kinks(self, x: Array) -> Kinks:
        kinks = super().kinks(x)
        return Kinks(kinks.choice, kinks.margin / 2)
