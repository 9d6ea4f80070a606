"""Cross-correlation of images with kernels, and its gradients, as products of matrices.

In memory the channels come last, (batch, height, width, channels): then a window is a few long runs of numbers, and a
pixel's outputs are neighbours. Only a few images at a time are unfolded, so that what is unfolded stays near the
processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradcheck.contract import Array

BYTES = 2**19  # of the windows that are unfolded at a time: half of an ordinary second-level cache
SHORT = 16  # numbers: where the runs of a window are shorter, its places are copied one after the other

Around = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Correlation:
    """``y[b, r, c, o] = sum over k, l, i of weight[o, k, l, i] x[b, r * fall + k * down, c * step + l * across, i]``.

    ``x`` is (batch, height, width, in), padded, y (batch, rows, columns, out) and weight (out, kernel height, kernel
    width, in / groups); the i are the channels of the group that o is in.
    """

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def product(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """Return y, plus ``bias`` (out,)."""
        outer = len(weight) // self.groups
        matrices = weight.reshape(self.groups, outer, -1).swapaxes(1, 2)
        counts = self._counts(x, weight)
        # As complex as any of them: that is how a gradient is checked by one evaluation an element.
        kind = np.result_type(x, weight) if bias is None else np.result_type(x, weight, bias)
        y = np.empty((len(x), *counts, self.groups, outer), kind)
        for images, held in self._unfolded(x, weight):
            some = y[images]
            np.matmul(held, matrices, out=some.reshape(-1, self.groups, outer).swapaxes(0, 1))
            if bias is not None:  # to a row of pixels at once, since one pixel's channels are few
                some.reshape(-1, counts[1] * len(weight))[...] += np.tile(bias, counts[1])
        return y.reshape(len(x), *counts, len(weight))

    def dweight(self, x: Array, weight: Array, dy: Array) -> Array:
        """Return the gradient of ``weight``."""
        outer = len(weight) // self.groups
        total = np.zeros((self.groups, outer, weight[0].size), np.result_type(x, dy))
        for images, held in self._unfolded(x, weight):
            total += np.matmul(dy[images].reshape(-1, self.groups, outer).transpose(1, 2, 0), held)
        return total.reshape(weight.shape)

    def dx(self, weight: Array, dy: Array, height: int, width: int) -> Array:
        """Return the gradient of x, (batch, height, width, in): dy, spread by the stride, with the turned kernel."""
        outputs, *kernel, inner = weight.shape
        turned = weight.reshape(self.groups, outputs // self.groups, *kernel, inner)[:, :, ::-1, ::-1]
        turned = turned.transpose(0, 4, 2, 3, 1).reshape(self.groups * inner, *kernel, outputs // self.groups)
        reach = [(k - 1) * d for k, d in zip(kernel, self.dilation, strict=True)]
        spread = np.zeros((len(dy), height + reach[0], width + reach[1], outputs), dy.dtype)
        rows, columns = dy.shape[1:3]
        (down, across), (fall, step) = reach, self.stride
        spread[:, down : down + fall * (rows - 1) + 1 : fall, across : across + step * (columns - 1) + 1 : step] = dy
        return Correlation((1, 1), self.dilation, self.groups).product(spread, turned)

    def _unfolded(self, x: Array, weight: Array) -> Iterator[tuple[slice, Array]]:
        """Yield some images, and what their windows hold: (groups, windows, kernel height * width * in / groups)."""
        rows, columns = self._counts(x, weight)
        down, across, inner = weight.shape[1:]
        image, row, pixel, channel = x.strides
        shape = len(x), rows, columns, self.groups, down, across, inner
        strides = image, row * self.stride[0], pixel * self.stride[1], channel * inner
        view = as_strided(
            x, shape, (*strides, row * self.dilation[0], pixel * self.dilation[1], channel), writeable=False
        )
        size = rows * columns * self.groups * weight[0].size
        count = max(1, BYTES // max(1, size * x.itemsize))
        for begin in range(0, len(x), count):
            images = slice(begin, begin + count)
            held = view[images]
            if across * inner < SHORT:
                held = np.ascontiguousarray(held.transpose(3, 4, 5, 6, 0, 1, 2)).transpose(4, 5, 6, 0, 1, 2, 3)
            yield images, held.reshape(-1, self.groups, weight[0].size).swapaxes(0, 1)

    def _counts(self, x: Array, weight: Array) -> tuple[int, int]:
        """Return the rows and columns of windows."""
        sides = zip(x.shape[1:3], weight.shape[1:3], self.dilation, self.stride, strict=True)
        rows, columns = ((side - (k - 1) * d - 1) // stride + 1 for side, k, d, stride in sides)
        return rows, columns
