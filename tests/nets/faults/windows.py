"""What faulty windows and convolutions have in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import Array
from nets.layers.windows import Windows


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


class FlooredWindows(Windows):
    """Leaves out a window that hangs over, unless there is no other."""

    def _count(self, side: int, around: tuple[int, int], reach: int, stride: int) -> int:
        most = super()._count(side, around, reach, stride)
        return max((side + sum(around) - reach) // stride + 1, min(most, 1))


class LooseWindows(Windows):
    """Keeps a last window that starts behind the image."""

    def _count(self, side: int, around: tuple[int, int], reach: int, stride: int) -> int:
        room = side + sum(around) - reach
        return (-(-room // stride) if self.ceil_mode else room // stride) + 1


class FancyWindows(Windows):
    """Adds by index arrays, where += keeps one of several terms for the same pixel."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        rows, columns = dcolumns.shape[3:]
        dpadded = np.zeros((*dcolumns.shape[:2], *self._spaces(height, width)), dcolumns.dtype)
        pixels = np.indices(dpadded.shape[2:])
        held = [pixels[place[1:]] for place in self.places(rows, columns)]
        vertical, horizontal = np.stack(held, axis=1)
        dpadded[:, :, vertical, horizontal] += dcolumns
        return dpadded[self._image(height, width)].copy()


class UndilatedWindows(Windows):
    """Puts the gradient where a kernel without dilation would look."""

    def images(self, dcolumns: Array, height: int, width: int) -> Array:
        return Windows.images(replace(self, dilation=(1, 1)), dcolumns, height, width)
