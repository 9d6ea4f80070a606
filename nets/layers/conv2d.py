"""Two-dimensional convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, parameter
from nets.initializers import TORCH_DEFAULT
from nets.layers.windows import Pair, Windows, windows_of
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(padding_mode="the padding is zeros", **PLACEMENT)
@dataclass(frozen=True, eq=False)
class Conv2d(Layer):
    """Cross-correlation, from (batch, in, height, width) to (batch, out, rows, columns), zeros around the image.

    ``y[b, o, r, c] = bias[o] + sum over i, k, l of weight[o, i, k, l] * x[b, i, r * stride + k * dilation - padding,
    c * stride + l * dilation - padding]``, where ``i`` runs over the input channels of the group that ``o`` is in: the
    channels fall into ``groups`` runs of equal length, on both sides. Hyper-parameters are one number or (down,
    across). As a matrix product with the windows as columns, ``Y = W C``, its gradients are ``dW = dY C^T`` and
    ``dC = W^T dY``, and a pixel collects from all windows that hold it; one that no window holds gets 0. Raises
    `ShapeError` for other channels and for an image smaller than the dilated kernel, ValueError for hyper-parameters
    that fit no image and for groups that do not divide the channels.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
    """

    weight: Array = parameter(TORCH_DEFAULT)  # (out, in / groups, kernel height, kernel width)
    bias: Array | None = parameter(TORCH_DEFAULT)  # (out,)
    stride: Pair = 1
    padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1

    def __post_init__(self) -> None:
        _require_groups("output", len(self.weight), self.groups)
        self._windows()

    @classmethod
    def create(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        _require_groups("input", in_channels, groups)
        height, width = windows_of(cls.__name__, kernel_size, stride, padding, dilation).kernel_size
        weight = np.zeros((out_channels, in_channels // groups, height, width))
        return cls(weight, np.zeros(out_channels) if bias else None, stride, padding, dilation, groups)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        groups, (outputs, inner) = self.groups, self.weight.shape[:2]
        self.require(x, "batch", inner * groups, "height", "width")
        windows = self._windows()
        patches = windows.columns(x, fill=0)
        kernel, rows, columns = patches.shape[2:]
        patches = patches.reshape(len(x), groups, inner * kernel, rows * columns)
        weight = self.weight.reshape(groups, outputs // groups, inner * kernel)
        y = (weight @ patches).reshape(len(x), outputs, rows, columns)
        if self.bias is not None:
            y += self.bias[:, None, None]

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dgroups = dy.reshape(len(x), groups, outputs // groups, rows * columns)
            dweight = (dgroups @ patches.swapaxes(-1, -2)).sum(axis=0)
            grads = {"weight": dweight.reshape(self.weight.shape)}
            if self.bias is not None:
                grads["bias"] = dy.sum(axis=(0, 2, 3))
            dpatches = weight.swapaxes(-1, -2) @ dgroups
            dcolumns = dpatches.reshape(len(x), inner * groups, kernel, rows, columns)
            return windows.images(dcolumns, *x.shape[2:]), grads

        return y, backward

    def twin(self) -> torch.nn.Module:
        import torch

        outputs, inner, height, width = self.weight.shape
        return torch.nn.Conv2d(
            inner * self.groups,
            outputs,
            (height, width),
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            bias=self.bias is not None,
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            kernel, stride = draw(pairs(1, 3)), draw(pairs(1, 3))
            padding, dilation = draw(pairs(0, 2)), draw(pairs(1, 2))
            groups, inner, outer = draw(sides(maximum=3)), draw(sides(maximum=2)), draw(sides(maximum=2))
            # From the least image that the kernel fits on, so that strides divide what is beyond or do not.
            fits = [max(1, (k - 1) * d + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
            height, width = (least + draw(st.integers(0, 3)) for least in fits)
            layer = st.builds(
                cls,
                arrays((outer * groups, inner, *kernel)),
                st.none() | arrays((outer * groups,)),
                *(one_or_both(pair) for pair in (stride, padding, dilation)),
                st.just(groups),
            )
            return draw(cases(layer, arrays((draw(sides(maximum=2)), inner * groups, height, width))))

        def pairs(least: int, most: int) -> SearchStrategy[tuple[int, int]]:
            return st.tuples(st.integers(least, most), st.integers(least, most))

        def one_or_both(pair: tuple[int, int]) -> SearchStrategy[Pair]:
            return st.sampled_from([pair, pair[0]]) if pair[0] == pair[1] else st.just(pair)

        return drawn()

    def _windows(self) -> Windows:
        height, width = self.weight.shape[2:]
        return windows_of(type(self).__name__, (height, width), self.stride, self.padding, self.dilation)


def _require_groups(side: str, channels: int, groups: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(f"Conv2d needs groups that divide its {channels} {side} channels, got {groups}")
