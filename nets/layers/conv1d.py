"""One-dimensional convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer, ShapeError, parameter
from nets.floating import floating
from nets.initializers import TORCH_DEFAULT
from nets.layers.convolution import convolution, convolution_cases, padded_windows, require_groups
from nets.layers.windows import LEAST, WHOLE, Windows
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

Single = int | tuple[int]


@refuses(padding_mode="the padding is zeros", **PLACEMENT)
@dataclass(frozen=True, eq=False)
class Conv1d(Layer):
    """Cross-correlation, from (batch, in, length) to (batch, out, places), zeros around the sequence.

    ``y[b, o, p] = bias[o] + sum over i, k of weight[o, i, k] * x[b, i, p * stride + k * dilation - padding]``: that of
    `Conv2d` over images of one row, with its groups, its paddings in words and its gradients. Hyper-parameters are one
    number, alone or in a tuple. Raises `ShapeError` for other channels and for a sequence shorter than the dilated
    kernel, ValueError for hyper-parameters that fit no sequence, for "same" with a stride and for groups that do not
    divide the channels.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html
    """

    weight: Array = parameter(TORCH_DEFAULT)  # (out, in / groups, kernel)
    bias: Array | None = parameter(TORCH_DEFAULT)  # (out,)
    stride: Single = 1
    padding: Single | Literal["same", "valid"] = 0
    dilation: Single = 1
    groups: int = 1

    def __post_init__(self) -> None:
        require_groups(type(self).__name__, "output", len(self.weight), self.groups)
        self._windows()

    @classmethod
    def create(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: Single,
        stride: Single = 1,
        padding: Single | Literal["same", "valid"] = 0,
        dilation: Single = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        require_groups(cls.__name__, "input", in_channels, groups)
        _, kernel = _in_a_row(cls.__name__, "kernel_size", kernel_size)
        weight = np.zeros((out_channels, in_channels // groups, kernel))
        return cls(weight, np.zeros(out_channels) if bias else None, stride, padding, dilation, groups)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self.require(x, "batch", self.weight.shape[1] * self.groups, "length")
        windows = self._windows()
        (_, reach), length = windows.reach(), x.shape[2] + sum(windows.padding[1])
        if length < reach:
            raise ShapeError(
                f"{type(self).__name__} needs x of a length of at least {reach}, padding included, got {length}"
            )
        y, right = convolution(windows, x[:, :, None], self.weight[:, :, None], self.bias, self.groups)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy[:, :, None])
            return dx[:, :, 0], grads | {"weight": grads["weight"][:, :, 0]}

        return y[:, :, 0], backward

    def twin(self) -> torch.nn.Module:
        import torch

        outputs, inner, kernel = self.weight.shape
        return torch.nn.Conv1d(
            inner * self.groups,
            outputs,
            kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            bias=self.bias is not None,
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return convolution_cases(cls, axes=1)

    def _windows(self) -> Windows:
        name = type(self).__name__
        return padded_windows(
            name,
            (1, self.weight.shape[2]),
            _in_a_row(name, "stride", self.stride),
            self.padding if isinstance(self.padding, str) else _in_a_row(name, "padding", self.padding),
            _in_a_row(name, "dilation", self.dilation),
        )


def _in_a_row(owner: str, name: str, value: Single) -> tuple[int, int]:
    """Return a hyper-parameter as (down, across) for images of one row; raises ValueError where it is out of range."""
    number = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
    if not isinstance(number, WHOLE):
        raise ValueError(f"{owner} needs {name} of one whole number, got {value!r}")
    if number < LEAST[name]:
        raise ValueError(f"{owner} needs {name} of at least {LEAST[name]}, got {number}")
    return LEAST[name], int(number)
