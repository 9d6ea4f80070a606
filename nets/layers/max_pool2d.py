"""Two-dimensional pooling by the maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer
from nets.layers.windows import Pair, Windows, pair_of, windows_of

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class MaxPool2d(Layer):
    """Maximum ``y = max over the window of x``, from (batch, channels, height, width) to (..., rows, columns).

    The windows are those of `Conv2d`, with -inf around the image; ``stride`` None is ``kernel_size``. ``dx`` is the sum
    of ``dy`` over the windows that a pixel wins; of several maxima the first in row-major order wins, as in torch. A
    NaN wins, too (torch sends the gradient to the last of several, not to the first), and a window that dilation lets
    step over the whole image is -inf. Raises `ShapeError` for an input of other than four axes and for an image smaller
    than a window, ValueError for padding of more than half a window.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
    """

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    dilation: Pair = 1

    def __post_init__(self) -> None:
        self._windows()

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        windows, columns = self._windows(), self._columns(x)
        winner = columns.argmax(axis=2, keepdims=True)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dcolumns = np.zeros(columns.shape, dy.dtype)
            np.put_along_axis(dcolumns, winner, dy[:, :, None], axis=2)
            return windows.images(dcolumns, *x.shape[2:]), {}

        return np.take_along_axis(columns, winner, axis=2)[:, :, 0].copy(), backward

    def kinks(self, x: Array) -> Kinks:
        columns = self._columns(x)
        winner = columns.argmax(axis=2, keepdims=True)
        first = np.take_along_axis(columns, winner, axis=2)
        np.put_along_axis(columns, winner, -np.inf, axis=2)
        second = columns.max(axis=2, keepdims=True)
        # A window of one pixel has no other to choose: its margin is inf.
        margin = np.subtract(first, second, out=np.zeros_like(first), where=first != second)
        return Kinks(choice=winner[:, :, 0], margin=margin[:, :, 0])

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.MaxPool2d(self.kernel_size, self.stride, self.padding, self.dilation)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, distinct_arrays, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            kernel, dilation = draw(pairs(st.integers(1, 3))), draw(pairs(st.integers(1, 2)))
            stride = draw(st.none() | st.sampled_from([1, 2, 3]) | pairs(st.integers(1, 3)))
            padding = draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
            # From the least image that the kernel fits on and cannot step over.
            sizes = zip(kernel, dilation, padding, strict=True)
            fits = [max(d, (k - 1) * d + 1 - 2 * p) for k, d, p in sizes]
            height, width = (least + draw(st.integers(0, 3)) for least in fits)
            shape = (draw(sides(maximum=2)), draw(sides(maximum=2)), height, width)
            tied = arrays(shape, -1, 0).map(np.round)  # maxima of zero, whose ties rounding does not break
            layer = cls(kernel[0] if kernel[0] == kernel[1] else kernel, stride, padding, dilation)
            return draw(cases(st.just(layer), arrays(shape) | distinct_arrays(shape) | tied))

        def pairs(sizes: SearchStrategy[int]) -> SearchStrategy[tuple[int, int]]:
            return st.tuples(sizes, sizes)

        return drawn()

    def _windows(self) -> Windows:
        name, stride = type(self).__name__, self.kernel_size if self.stride is None else self.stride
        windows = windows_of(name, self.kernel_size, stride, self.padding, self.dilation)
        if any(2 * p > reach for p, reach in zip(pair_of(self.padding), windows.reach(), strict=True)):
            reach = "{} x {}".format(*windows.reach())
            raise ValueError(f"{name} needs padding of at most half its window of {reach}, got {pair_of(self.padding)}")
        return windows

    def _columns(self, x: Array) -> Array:
        self.require(x, "batch", "channels", "height", "width")
        return self._windows().columns(x, fill=-np.inf)
