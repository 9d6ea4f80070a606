"""The windows of convolution and pooling: what a kernel sees of an image, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.contract import Array, ShapeError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Pair = int | tuple[int, int]
Extents = int | tuple[int, ...]  # one number for every axis, or one an axis
WHOLE = (int, np.integer)
LEAST = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


@dataclass(frozen=True)
class Windows:
    """The windows of a kernel over images (batch, channels, height, width), hyper-parameters as (down, across).

    ``padding`` is ((above, below), (left, right)). Along each axis window i holds the pixels
    ``i * stride + k * dilation - padding``, k = 0 .. kernel_size - 1, as in torch; pixels behind the last whole window
    are in none, but with ``ceil_mode`` in one more, which hangs over the padded image. It must not start behind the
    image.
    """

    owner: str
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    ceil_mode: bool = False

    def reach(self) -> tuple[int, int]:
        """Return the height and width of a window, in pixels of the image."""
        down, across = ((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return down, across

    def counts(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of windows on an image; raises `ShapeError` where not one fits."""
        if min(height, width) < 1:
            raise ShapeError(f"{self.owner} needs x of at least one pixel, got {height} x {width}")
        axes = zip((height, width), self.padding, self.reach(), self.stride, strict=True)
        rows, columns = (self._count(*axis) for axis in axes)
        if min(rows, columns) < 1:
            over = ((stride - 1) * self.ceil_mode for stride in self.stride)
            least = (max(1, reach - most) for reach, most in zip(self.reach(), over, strict=True))
            needed, got = ("{} x {}".format(*sides) for sides in (least, self._padded(height, width)))
            raise ShapeError(f"{self.owner} needs x of at least {needed} pixels, padding included, got {got}")
        return rows, columns

    def columns(self, x: Array, fill: float) -> Array:
        """Return what every window holds, ``fill`` where it is padding: (batch, channels, kernel, rows, columns).

        Raises `ShapeError` for an image that is smaller than one window.
        """
        rows, columns = self.counts(*x.shape[2:])
        padded = x
        if self.pads(*x.shape[2:]):
            padded = np.full_like(x, fill, shape=(*x.shape[:2], *self._spaces(*x.shape[2:])))
            padded[self._image(*x.shape[2:])] = x
        kernel = self.kernel_size[0] * self.kernel_size[1]
        # One offset after the other in memory, each as the images are, so that what is done with one is done in a run.
        held = np.empty_like(x, shape=(kernel * len(x), x.shape[1], rows, columns))
        held = held.reshape(kernel, *x.shape[:2], rows, columns)
        for offset, place in zip(held, self.places(rows, columns), strict=True):
            offset[...] = padded[place]
        return np.moveaxis(held, 0, 2)

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        """Return the pullback of `columns`: every pixel gets the sum over all windows that hold it."""
        dpadded = np.zeros_like(dcolumns[:, :, 0], shape=(*dcolumns.shape[:2], *self._spaces(height, width)))
        # One offset in all windows meets no pixel twice, so that += adds every term; overlaps lie between offsets.
        for k, place in enumerate(self.places(*dcolumns.shape[3:])):
            dpadded[place] += dcolumns[:, :, k]
        return dpadded[self._image(height, width)].copy() if self.pads(height, width) else dpadded

    def tiles(self, height: int, width: int) -> bool:
        """Return whether every pixel is in one window, and nothing else is."""
        sizes = (n * k for n, k in zip(self.counts(height, width), self.kernel_size, strict=True))
        return self.stride == self.reach() == self.kernel_size and (*sizes,) == (height, width)

    def pads(self, height: int, width: int) -> bool:
        """Return whether windows may hold more than the image."""
        return self._spaces(height, width) != (height, width)

    def _count(self, side: int, around: tuple[int, int], reach: int, stride: int) -> int:
        """Return how many windows there are along an axis, less than one where not one fits."""
        room = side + sum(around) - reach
        if not self.ceil_mode:
            return room // stride + 1
        last = -(-room // stride)
        return last + 1 if last * stride < side + around[0] else last

    def _spaces(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of an image with its padding and with what the last windows hang over it."""
        counts = zip(self.counts(height, width), self.stride, self.reach(), strict=True)
        ends = ((count - 1) * stride + reach for count, stride, reach in counts)
        down, across = (max(sides) for sides in zip(self._padded(height, width), ends, strict=True))
        return down, across

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of an image with its padding."""
        down, across = (side + sum(around) for side, around in zip((height, width), self.padding, strict=True))
        return down, across

    def _image(self, height: int, width: int) -> tuple[slice, slice, slice, slice]:
        """Return where the image lies in its padding."""
        (above, _), (left, _) = self.padding
        return slice(None), slice(None), slice(above, above + height), slice(left, left + width)

    def places(self, rows: int, columns: int) -> Iterator[tuple[slice, slice, slice, slice]]:
        """Yield, for each offset in the kernel, where the padded pixels are that the windows have there."""
        (down, across), (fall, step) = self.dilation, self.stride
        for i, j in np.ndindex(self.kernel_size):
            top, left = i * down, j * across
            vertical = slice(top, top + fall * (rows - 1) + 1, fall)
            yield slice(None), slice(None), vertical, slice(left, left + step * (columns - 1) + 1, step)


def windows_of(
    owner: str, kernel_size: Extents, stride: Extents, padding: Extents, dilation: Extents, ceil_mode: bool = False
) -> Windows:
    """Return the windows of a layer; raises ValueError for a hyper-parameter out of range."""
    given = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    pairs = {name: numbers_of(owner, name, value) for name, value in given.items()}
    for name, pair in pairs.items():
        if min(pair) < LEAST[name]:
            raise ValueError(f"{owner} needs {name} of at least {LEAST[name]}, got {pair}")
    down, across = pairs["padding"]
    around = (down, down), (across, across)
    return Windows(owner, pairs["kernel_size"], pairs["stride"], around, pairs["dilation"], ceil_mode)


def numbers_of(owner: str, name: str, value: Extents) -> tuple[int, int]:
    """Return one whole number for both axes, or the two that are given; raises ValueError for anything else."""
    numbers = (value, value) if isinstance(value, WHOLE) else value
    if not (isinstance(numbers, (tuple, list)) and len(numbers) == 2 and all(isinstance(n, WHOLE) for n in numbers)):
        raise ValueError(f"{owner} needs {name} of one whole number or two, got {value!r}")
    return int(numbers[0]), int(numbers[1])


def extents(axes: int, least: int, most: int) -> SearchStrategy[tuple[int, ...]]:
    """Tuples of numbers from ``least`` to ``most``, one an axis."""
    from hypothesis import strategies as st

    return st.tuples(*[st.integers(least, most)] * axes)


def one_or_all(values: Sequence[int]) -> SearchStrategy[Any]:
    """One number where it says the same, or the numbers of the axes."""
    from hypothesis import strategies as st

    every = tuple(values)
    return st.sampled_from([every, every[0]]) if len(set(every)) == 1 else st.just(every)
