"""Two-dimensional convolution."""

from __future__ import annotations

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.floating import floating
from nets.layers.convolution import Convolution, Padding, convolution, padded_windows
from nets.layers.windows import Extents, Windows


class Conv2d(Convolution):
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

    axes = 2

    @classmethod
    def windows_with(cls, kernel_size: Extents, stride: Extents, padding: Padding, dilation: Extents) -> Windows:
        return padded_windows(cls.__name__, kernel_size, stride, padding, dilation)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        self.require(x, "batch", self.weight.shape[1] * self.groups, "height", "width")
        return convolution(self._windows(), x, self.weight, self.bias, self.groups)
