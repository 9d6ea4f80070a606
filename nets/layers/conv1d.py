"""One-dimensional convolution."""

from __future__ import annotations

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients, ShapeError
from nets.floating import floating
from nets.layers.convolution import Convolution, Padding, convolution, padded_windows
from nets.layers.windows import LEAST, WHOLE, Extents, Windows


class Conv1d(Convolution):
    """Cross-correlation, from (batch, in, length) to (batch, out, places), zeros around the sequence.

    ``y[b, o, p] = bias[o] + sum over i, k of weight[o, i, k] * x[b, i, p * stride + k * dilation - padding]``: that of
    `Conv2d` over images of one row, with its groups, its paddings in words and its gradients. Hyper-parameters are one
    number, alone or in a tuple. Raises `ShapeError` for other channels and for a sequence shorter than the dilated
    kernel, ValueError for hyper-parameters that fit no sequence, for "same" with a stride and for groups that do not
    divide the channels.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html
    """

    axes = 1

    @classmethod
    def windows_with(cls, kernel_size: Extents, stride: Extents, padding: Padding, dilation: Extents) -> Windows:
        name = cls.__name__
        return padded_windows(
            name,
            _in_a_row(name, "kernel_size", kernel_size),
            _in_a_row(name, "stride", stride),
            padding if isinstance(padding, str) else _in_a_row(name, "padding", padding),
            _in_a_row(name, "dilation", dilation),
        )

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


def _in_a_row(owner: str, name: str, value: Extents) -> tuple[int, int]:
    """Return a hyper-parameter as (down, across) for images of one row; raises ValueError where it is out of range."""
    number = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
    if not isinstance(number, WHOLE):
        raise ValueError(f"{owner} needs {name} of one whole number, got {value!r}")
    if number < LEAST[name]:
        raise ValueError(f"{owner} needs {name} of at least {LEAST[name]}, got {number}")
    return LEAST[name], int(number)
