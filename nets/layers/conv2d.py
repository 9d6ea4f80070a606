"""Two-dimensional convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Layer, parameter
from nets.floating import floating
from nets.initializers import TORCH_DEFAULT
from nets.layers.convolution import Padding, convolution, convolution_cases, padded_windows, require_groups
from nets.layers.windows import Pair, Windows
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(padding_mode="the padding is zeros", **PLACEMENT)
@dataclass(frozen=True, eq=False)
class Conv2d(Layer):
    """Cross-correlation, from (batch, in, height, width) to (batch, out, rows, columns), zeros around the image.

    ``y[b, o, r, c] = bias[o] + sum over i, k, l of weight[o, i, k, l] * x[b, i, r * stride + k * dilation - padding,
    c * stride + l * dilation - padding]``, where ``i`` runs over the input channels of the group that ``o`` is in: the
    channels fall into ``groups`` runs of equal length, on both sides. Hyper-parameters are one number or (down,
    across); ``padding`` may also be "valid", which is none, or "same", which keeps the size of the image and puts the
    odd row and column below and to the right. As a matrix product with the windows as columns, ``Y = W C``, its
    gradients are ``dW = dY C^T`` and ``dC = W^T dY``, and a pixel collects from all windows that hold it; one that no
    window holds gets 0. Raises `ShapeError` for other channels and for an image smaller than the dilated kernel,
    ValueError for hyper-parameters that fit no image, for "same" with a stride and for groups that do not divide the
    channels.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
    """

    weight: Array = parameter(TORCH_DEFAULT)  # (out, in / groups, kernel height, kernel width)
    bias: Array | None = parameter(TORCH_DEFAULT)  # (out,)
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1

    def __post_init__(self) -> None:
        require_groups(type(self).__name__, "output", len(self.weight), self.groups)
        self._windows()

    @classmethod
    def create(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        require_groups(cls.__name__, "input", in_channels, groups)
        kernel = padded_windows(cls.__name__, kernel_size, stride, padding, dilation).kernel_size
        weight = np.zeros((out_channels, in_channels // groups, *kernel))
        return cls(weight, np.zeros(out_channels) if bias else None, stride, padding, dilation, groups)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self.require(x, "batch", self.weight.shape[1] * self.groups, "height", "width")
        return convolution(self._windows(), x, self.weight, self.bias, self.groups)

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
        return convolution_cases(cls, axes=2)

    def _windows(self) -> Windows:
        height, width = self.weight.shape[2:]
        return padded_windows(type(self).__name__, (height, width), self.stride, self.padding, self.dilation)
