"""The windows of convolution and pooling: what a kernel sees of an image, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array, ShapeError

Pair = int | tuple[int, int]
LEAST = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


@dataclass(frozen=True)
class Windows:
    """The windows of a kernel over images (batch, channels, height, width), each hyper-parameter as (down, across).

    Along each axis window i holds the pixels ``i * stride + k * dilation - padding``, k = 0 .. kernel_size - 1, as in
    torch; pixels behind the last whole window are in none.
    """

    owner: str
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def reach(self) -> tuple[int, int]:
        """Return the height and width of a window, in pixels of the image."""
        down, across = ((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return down, across

    def columns(self, x: Array, fill: float) -> Array:
        """Return what every window holds, ``fill`` where it is padding: (batch, channels, kernel, rows, columns).

        Raises `ShapeError` for an image that is smaller than one window.
        """
        (height, width), (down, across) = x.shape[2:], self.padding
        padded = np.full((*x.shape[:2], height + 2 * down, width + 2 * across), fill, x.dtype)
        padded[:, :, down : down + height, across : across + width] = x
        rows, columns = self._counts(height, width)
        held = np.empty((*x.shape[:2], self.kernel_size[0] * self.kernel_size[1], rows, columns), x.dtype)
        for k, (vertical, horizontal) in enumerate(self._places(rows, columns)):
            held[:, :, k] = padded[:, :, vertical, horizontal]
        return held

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        """Return the pullback of `columns`: every pixel gets the sum over all windows that hold it."""
        (down, across), (rows, columns) = self.padding, dcolumns.shape[3:]
        dpadded = np.zeros((*dcolumns.shape[:2], height + 2 * down, width + 2 * across), dcolumns.dtype)
        # One offset in all windows meets no pixel twice, so that += adds every term; overlaps lie between offsets.
        for k, (vertical, horizontal) in enumerate(self._places(rows, columns)):
            dpadded[:, :, vertical, horizontal] += dcolumns[:, :, k]
        return dpadded[:, :, down : down + height, across : across + width].copy()

    def _counts(self, height: int, width: int) -> tuple[int, int]:
        spaces = [side + 2 * p for side, p in zip((height, width), self.padding, strict=True)]
        if any(space < reach for space, reach in zip(spaces, self.reach(), strict=True)):
            needed, got = ("{} x {}".format(*sides) for sides in (self.reach(), spaces))
            raise ShapeError(f"{self.owner} needs x of at least {needed} pixels, padding included, got {got}")
        rows, columns = ((n - r) // s + 1 for n, r, s in zip(spaces, self.reach(), self.stride, strict=True))
        return rows, columns

    def _places(self, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
        """Yield, for each offset in the kernel, the padded pixels that the windows have there."""
        (down, across), (fall, step) = self.dilation, self.stride
        for i, j in np.ndindex(self.kernel_size):
            top, left = i * down, j * across
            yield slice(top, top + fall * (rows - 1) + 1, fall), slice(left, left + step * (columns - 1) + 1, step)


def windows_of(owner: str, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Windows:
    """Return the windows of a layer; raises ValueError for a hyper-parameter below its least value."""
    windows = Windows(owner, _pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation))
    for name, least in LEAST.items():
        if min(getattr(windows, name)) < least:
            raise ValueError(f"{owner} needs {name} of at least {least}, got {getattr(windows, name)}")
    return windows


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
