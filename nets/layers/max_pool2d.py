"""Two-dimensional pooling by the maximum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer
from nets.floating import floating
from nets.layers.masking import masked
from nets.layers.pooling import Pooling, pooling_windows, poolings
from nets.layers.windows import Pair, Windows
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(return_indices="a layer has one output")
@dataclass(frozen=True, eq=False)
class MaxPool2d(Layer):
    """Maximum ``y = max over the window of x``, from (batch, channels, height, width) to (..., rows, columns).

    The windows are those of `Conv2d`, with -inf around the image; ``stride`` None is ``kernel_size``. With
    ``ceil_mode`` the last windows may hang over the padded image, if they start in the image or before it. ``dx`` is
    the sum of ``dy`` over the windows that a pixel wins; of several maxima the first in row-major order wins, as in
    torch. A NaN wins, too (torch sends the gradient to the last of several, not to the first), and a window that
    dilation lets step over the whole image is -inf. Raises `ShapeError` for an input of other than four axes and for an
    image smaller than a window, ValueError for padding of more than half the kernel.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
    """

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair = 0
    dilation: Pair = 1
    ceil_mode: bool = field(default=False, kw_only=True)  # torch has another argument in fifth place

    def __post_init__(self) -> None:
        self._windows()

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        columns = self._columns(x)
        y = columns.max(axis=2)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            windows, placed = self._windows(), dy
            if dy.strides != y.strides:  # arranged as y is in memory
                placed = np.empty_like(y, dtype=dy.dtype)
                placed[...] = dy
            if windows.tiles(*x.shape[2:]):
                dx, places = np.empty_like(x, dtype=dy.dtype), list(windows.places(*y.shape[2:]))
                for k, won in self._winners(x, columns, y):
                    dx[places[k]] = masked(placed, won)
                return dx, {}
            dcolumns = np.empty_like(columns, dtype=dy.dtype)
            for k, won in self._winners(x, columns, y):
                dcolumns[:, :, k] = masked(placed, won)
            return windows.images(dcolumns, *x.shape[2:]), {}

        return y, backward

    def kinks(self, x: Array) -> Kinks:
        x = floating(x)
        columns = self._columns(x)
        first = columns.max(axis=2)
        choice, second = np.zeros(first.shape, np.intp), np.full_like(first, -np.inf)
        for k, won in self._winners(x, columns, first):
            choice[won] = k
            np.maximum(second, np.where(won, -np.inf, columns[:, :, k]), out=second)
        # A window of one pixel has no other to choose: its margin is inf.
        margin = np.subtract(first, second, out=np.zeros_like(first), where=first != second)
        return Kinks(choice, margin)

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.MaxPool2d(self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, distinct_arrays, seeds

        def of(drawn: Pooling) -> SearchStrategy[Case]:
            kernel_size, stride, padding, dilation, ceil_mode, shape = drawn
            negative = arrays(shape, -4, -1)  # to which padding with anything but -inf would be a maximum
            layer = cls(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
            # Half of them with ties, which only some windows have and only some mistakes are seen by.
            return cases(st.just(layer), negative | distinct_arrays(shape) | flat(shape) | flat(shape))

        def flat(shape: tuple[int, ...]) -> SearchStrategy[Array]:
            """Mostly 0 and -1, so that many maxima are 0: ties which rounding does not break."""

            def draw(seed: int) -> Array:
                rng = np.random.default_rng(seed)
                return np.where(rng.random(shape) < 0.05, 1.0, rng.integers(-1, 1, shape))

            return seeds().map(draw)

        return poolings(largest_dilation=2).flatmap(of)

    def _windows(self) -> Windows:
        name = type(self).__name__
        return pooling_windows(name, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def _columns(self, x: Array) -> Array:
        self.require(x, "batch", "channels", "height", "width")
        return self._windows().columns(floating(x), fill=-np.inf)

    def _winners(self, x: Array, columns: Array, y: Array) -> Iterator[tuple[int, Array]]:
        """Yield each place in a window, and in which windows its pixel is the first maximum."""
        nan = bool(np.isnan(y).any())
        # Where all pixels are -inf, they tie with the padding, and the first of them wins.
        pixels = None
        if self._windows().pads(*x.shape[2:]) and (y == -np.inf).any():
            pixels = self._windows().columns(np.ones((1, 1, *x.shape[2:])), fill=0)
        taken: Array | None = None
        for k in self._order():
            won = columns[:, :, k] == y
            if nan:
                won |= np.isnan(columns[:, :, k])
            if pixels is not None:
                won &= (pixels[:, :, k] != 0) | (y != -np.inf)
            if taken is not None:
                won &= ~taken
            taken = won if taken is None else taken | won
            yield k, won

    def _order(self) -> Sequence[int]:
        """Return the places in a window in the order in which they win."""
        height, width = self._windows().kernel_size
        return range(height * width)
