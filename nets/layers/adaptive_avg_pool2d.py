"""Two-dimensional pooling by the mean to a given size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError
from nets.floating import floating
from nets.layers.windows import WHOLE

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

Bounds = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class AdaptiveAvgPool2d(Layer):
    """Mean ``y = mean over the window of x``, from (batch, channels, height, width) to (..., rows, columns).

    ``output_size`` is (rows, columns) or one number for both; None in its place keeps the input's. Along an axis of n
    pixels, window i of m holds the pixels from ``floor(i n / m)`` up to, but not including, ``ceil((i + 1) n / m)``:
    where m does not divide n, neighbours overlap, and to more than n they repeat pixels (m = 2n is up-sampling by the
    nearest). ``dx`` is the sum over the windows that hold a pixel of ``dy`` by their number of pixels. Raises
    `ShapeError` for an input of other than four axes or without pixels, ValueError for an ``output_size`` below 1.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
    """

    output_size: int | tuple[int | None, int | None]

    def __post_init__(self) -> None:
        name, sizes = type(self).__name__, self._sizes()
        if not (isinstance(sizes, (tuple, list)) and len(sizes) == 2 and all(_is_size(size) for size in sizes)):
            raise ValueError(f"{name} needs output_size of one whole number or two, got {self.output_size!r}")
        if any(size is not None and size < 1 for size in sizes):
            raise ValueError(f"{name} needs output_size of at least 1, got {self.output_size}")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self.require(x, "batch", "channels", "height", "width")
        height, width = x.shape[2:]
        if min(height, width) < 1:
            raise ShapeError(f"{type(self).__name__} needs x of at least one pixel, got {height} x {width}")
        axes = zip((height, width), self._sizes(), strict=True)
        rows, columns = (self._windows(side, size or side) for side, size in axes)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            drows = _shares(dy, columns, width)
            return _shares(drows.swapaxes(2, 3), rows, height).swapaxes(2, 3), {}

        return _means(_means(x.swapaxes(2, 3), rows).swapaxes(2, 3), columns), backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.AdaptiveAvgPool2d(self._sizes())

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        def of(height: int, width: int) -> SearchStrategy[Case]:
            shapes = st.tuples(sides(maximum=2), sides(maximum=2), st.just(height), st.just(width))
            repeating = st.tuples(*(st.sampled_from([side, 2 * side, 3 * side]) for side in (height, width)))
            layers = st.builds(cls, st.integers(1, 7) | st.tuples(sizes(height), sizes(width)) | repeating)
            return shapes.flatmap(lambda shape: cases(layers, arrays(shape)))

        def sizes(side: int) -> SearchStrategy[int | None]:
            return st.sampled_from([None, 1]) | st.integers(1, 2 * side + 1)

        return st.tuples(sides(maximum=7), sides(maximum=7)).flatmap(lambda drawn: of(*drawn))

    def _sizes(self) -> tuple[int | None, int | None]:
        return (self.output_size, self.output_size) if isinstance(self.output_size, WHOLE) else self.output_size

    def _windows(self, side: int, size: int) -> Bounds:
        """Return where the windows along an axis begin and end."""
        return [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]


def _is_size(size: object) -> bool:
    return size is None or isinstance(size, WHOLE)


def _means(x: Array, windows: Bounds) -> Array:
    """Return the means over windows along the last axis."""
    return np.stack([x[..., start:end].mean(axis=-1) for start, end in windows], axis=-1)


def _shares(dy: Array, windows: Bounds, side: int) -> Array:
    """Return the pullback of `_means`: every pixel gets its share of the windows that hold it."""
    dx = np.zeros((*dy.shape[:-1], side), dy.dtype)
    for i, (start, end) in enumerate(windows):
        dx[..., start:end] += dy[..., i : i + 1] / (end - start)
    return dx
