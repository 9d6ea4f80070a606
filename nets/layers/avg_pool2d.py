"""Two-dimensional pooling by the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer
from nets.floating import floating
from nets.layers.pooling import Pooling, pooling_windows, poolings
from nets.layers.windows import Pair, Windows

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class AvgPool2d(Layer):
    """Mean ``y = sum over the window of x / divisor``, from (batch, channels, height, width) to (..., rows, columns).

    The windows are those of `MaxPool2d`, with zeros around the image and no dilation. A window's divisor is
    ``divisor_override``, or else the number of its pixels, those of the padding included if ``count_include_pad``; what
    hangs over the padded image in ``ceil_mode`` never counts. ``dx`` is the sum of ``dy / divisor`` over the windows
    that hold a pixel. Raises `ShapeError` for an input of other than four axes and for an image smaller than a window,
    ValueError for padding of more than half the kernel and for a divisor of 0.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
    """

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        self._windows()
        divisor = self.divisor_override
        if divisor is not None and not (isinstance(divisor, int) and divisor):
            raise ValueError(f"{type(self).__name__} needs divisor_override of a whole number but 0, got {divisor}")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self.require(x, "batch", "channels", "height", "width")
        windows, divisor = self._windows(), self._divisor(x)
        columns = windows.columns(x, fill=0)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dcolumns = np.broadcast_to((dy / divisor)[:, :, None], columns.shape)
            return windows.images(dcolumns, *x.shape[2:]), {}

        return columns.sum(axis=2) / divisor, backward

    def twin(self) -> torch.nn.Module:
        import torch

        counted = self.count_include_pad, self.divisor_override
        return torch.nn.AvgPool2d(self.kernel_size, self.stride, self.padding, self.ceil_mode, *counted)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        divisors = st.sampled_from([None] * 8 + [1, 7, -2])  # beside one, the rules of counting are idle

        def of(drawn: Pooling) -> SearchStrategy[Case]:
            given = drawn.kernel_size, drawn.stride, drawn.padding, drawn.ceil_mode
            layers = st.builds(cls, *map(st.just, given), st.booleans(), divisors)
            return cases(layers, arrays(drawn.shape))

        return poolings(largest_dilation=1).flatmap(of)

    def _windows(self) -> Windows:
        name = type(self).__name__
        return pooling_windows(name, self.kernel_size, self.stride, self.padding, 1, self.ceil_mode)

    def _divisor(self, x: Array) -> Array:
        """Return what the sum over each window is divided by, as an array (rows, columns) or a number."""
        kind = np.result_type(x, np.float32)
        if self.divisor_override is not None:
            return np.asarray(self.divisor_override, kind)
        windows, sides = self._windows(), x.shape[2:]
        axes = zip(windows.counts(*sides), sides, windows.kernel_size, windows.stride, windows.padding, strict=True)
        return np.outer(*(self._counted(*axis) for axis in axes)).astype(kind)

    def _counted(self, windows: int, side: int, kernel: int, stride: int, padding: tuple[int, int]) -> Array:
        """Return how many places of each window along an axis count."""
        before, behind = padding if self.count_include_pad else (0, 0)
        starts = np.arange(windows) * stride - padding[0]
        return np.minimum(starts + kernel, side + behind) - np.maximum(starts, -before)
