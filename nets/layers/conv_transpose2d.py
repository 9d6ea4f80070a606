"""Two-dimensional transposed convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError, parameter
from nets.floating import floating
from nets.initializers import TORCH_DEFAULT
from nets.layers.convolution import Kernel, require_groups
from nets.layers.windows import Pair, Windows, extents, numbers_of, one_or_all, windows_of
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(padding_mode="the padding is zeros", **PLACEMENT)
@dataclass(frozen=True, eq=False)
class ConvTranspose2d(Layer):
    """The adjoint of `Conv2d`, from (batch, in, rows, columns) to (batch, out, height, width), plus a bias.

    Every pixel of x, times the kernel, is added to the window of y at its place: ``y[b, o, r * stride + k * dilation -
    padding, c * stride + l * dilation - padding] += weight[i, o, k, l] * x[b, i, r, c]`` for all ``i`` of the group
    that ``o`` is in; what falls outside is cut off. ``height = (rows - 1) * stride - 2 * padding +
    dilation * (kernel - 1) + output_padding + 1``, the width alike: ``output_padding`` adds rows below and columns to
    the right, since a convolution with a stride makes one size of several. ``dx`` is the convolution of ``dy``, and in
    ``dweight`` x and dy change places. Hyper-parameters are one number or (down, across). Raises `ShapeError` for other
    channels and where nothing is left of y, ValueError for hyper-parameters that fit no image, for output_padding not
    smaller than stride or dilation and for groups that do not divide the channels.
    Zeiler et al. (2010); https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html
    """

    weight: Array = parameter(TORCH_DEFAULT)  # (in, out / groups, kernel height, kernel width)
    bias: Array | None = parameter(TORCH_DEFAULT)  # (out,)
    stride: Pair = 1
    padding: Pair = 0
    output_padding: Pair = 0
    groups: int = 1
    dilation: Pair = 1

    def __post_init__(self) -> None:
        require_groups(type(self).__name__, "input", len(self.weight), self.groups)
        windows, extra = self._windows(), self._extra()
        steps = zip(extra, windows.stride, windows.dilation, strict=True)
        if min(extra) < 0 or any(more >= max(stride, dilation) for more, stride, dilation in steps):
            name = type(self).__name__
            raise ValueError(f"{name} needs output_padding from 0 to below stride or dilation, got {extra}")

    @classmethod
    def create(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
    ) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        require_groups(cls.__name__, "output", out_channels, groups)
        kernel = windows_of(cls.__name__, kernel_size, stride, padding, dilation).kernel_size
        weight = np.zeros((in_channels, out_channels // groups, *kernel))
        return cls(weight, np.zeros(out_channels) if bias else None, stride, padding, output_padding, groups, dilation)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self.require(x, "batch", len(self.weight), "height", "width")
        rows, columns = x.shape[2:]
        windows, kernel = self._windows(), Kernel(self.weight, self.groups)
        y = windows.images(kernel.dheld(x), *self._sides(rows, columns))
        if self.bias is not None:
            y += self.bias[:, None, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            # Where output_padding reaches a stride, y has room for windows that are no pixel's.
            held = windows.columns(dy, fill=0)[..., :rows, :columns]
            grads = {"weight": kernel.dweight(held, x)}
            if self.bias is not None:
                grads["bias"] = dy.sum(axis=(0, 2, 3))
            return kernel.product(held), grads

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        inputs, outer, height, width = self.weight.shape
        hyper = self.stride, self.padding, self.output_padding, self.groups, self.bias is not None, self.dilation
        return torch.nn.ConvTranspose2d(inputs, outer * self.groups, (height, width), *hyper)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            kernel, stride, dilation = (draw(extents(2, 1, 3)) for _ in range(3))
            padding = draw(extents(2, 0, 2))
            extra = [draw(st.integers(0, max(steps) - 1)) for steps in zip(stride, dilation, strict=True)]
            groups, inner, outer = draw(sides(maximum=3)), draw(sides(maximum=2)), draw(sides(maximum=2))
            # From the least image of which padding leaves something.
            left = [
                (k - 1) * d + 1 + more - 2 * p for k, d, more, p in zip(kernel, dilation, extra, padding, strict=True)
            ]
            fits = [1 + max(0, -((n - 1) // s)) for n, s in zip(left, stride, strict=True)]
            height, width = (least + draw(st.integers(0, 2)) for least in fits)
            layer = st.builds(
                cls,
                arrays((inner * groups, outer, *kernel)),
                st.none() | arrays((outer * groups,)),
                *(one_or_all(values) for values in (stride, padding, extra)),
                st.just(groups),
                one_or_all(dilation),
            )
            return draw(cases(layer, arrays((draw(sides(maximum=2)), inner * groups, height, width))))

        return drawn()

    def _windows(self) -> Windows:
        height, width = self.weight.shape[2:]
        return windows_of(type(self).__name__, (height, width), self.stride, self.padding, self.dilation)

    def _extra(self) -> tuple[int, int]:
        return numbers_of(type(self).__name__, "output_padding", self.output_padding)

    def _sides(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the height and width of y; raises `ShapeError` where nothing is left of it."""
        windows = self._windows()
        sizes = zip((rows, columns), windows.stride, windows.reach(), windows.padding, strict=True)
        ends = ((n - 1) * step + reach - sum(around) for n, step, reach, around in sizes)
        height, width = (end + more for end, more in zip(ends, self._extra(), strict=True))
        if min(rows, columns, height, width) < 1:
            raise ShapeError(
                f"{type(self).__name__} needs x of at least 1 x 1 pixels, and y likewise, "
                f"got {rows} x {columns} and {height} x {width}"
            )
        return height, width
