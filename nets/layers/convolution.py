"""What convolutions share: the product of a kernel with what its windows hold, and their hyper-parameters."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from gradcheck.contract import Array, Backward, Case, Gradients, Into, Layer, Pullback, parameter
from nets.initializers import TORCH_DEFAULT
from nets.layers.correlation import Correlation
from nets.layers.windows import Extents, Windows, extents, one_or_all, windows_of
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy

Padding = Extents | Literal["same", "valid"]


@refuses(padding_mode="the padding is zeros", **PLACEMENT)
@dataclass(frozen=True, eq=False)
class Convolution(Layer):
    """What a cross-correlation over one axis or two is made of.

    Raises ValueError for hyper-parameters that fit no input and for groups that do not divide the channels.
    """

    axes: ClassVar[int]

    weight: Array = parameter(TORCH_DEFAULT)  # (out, in / groups, *kernel)
    bias: Array | None = parameter(TORCH_DEFAULT)  # (out,)
    stride: Extents = 1
    padding: Padding = 0
    dilation: Extents = 1
    groups: int = 1

    def __post_init__(self) -> None:
        require_groups(type(self).__name__, "output", len(self.weight), self.groups)
        self._windows()

    @classmethod
    def create(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: Extents,
        stride: Extents = 1,
        padding: Padding = 0,
        dilation: Extents = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        require_groups(cls.__name__, "input", in_channels, groups)
        kernel = cls.windows_with(kernel_size, stride, padding, dilation).kernel_size[-cls.axes :]
        weight = np.zeros((out_channels, in_channels // groups, *kernel))
        return cls(weight, np.zeros(out_channels) if bias else None, stride, padding, dilation, groups)

    @classmethod
    @abstractmethod
    def windows_with(cls, kernel_size: Extents, stride: Extents, padding: Padding, dilation: Extents) -> Windows:
        """Return the windows over images that are the input, or hold it in one row."""

    def twin(self) -> torch.nn.Module:
        import torch

        outputs, inner, *kernel = self.weight.shape
        made: Any = torch.nn.Conv1d if self.axes == 1 else torch.nn.Conv2d  # whose types say how many axes
        hyper = self.stride, self.padding, self.dilation, self.groups
        module: torch.nn.Module = made(inner * self.groups, outputs, kernel, *hyper, bias=self.bias is not None)
        return module

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return convolution_cases(cls, cls.axes)

    def _windows(self) -> Windows:
        return self.windows_with(self.weight.shape[2:], self.stride, self.padding, self.dilation)


@dataclass(frozen=True)
class Kernel:
    """The product ``Y = W C`` of a kernel ``W`` with what its windows hold, each group of channels by itself.

    ``weight`` is (out, in / groups, height, width), ``C`` (batch, in, kernel, rows, columns) as `Windows.columns`
    returns it, and ``Y`` (batch, out, rows, columns). Its gradients are ``dW = dY C^T`` and ``dC = W^T dY``.
    """

    weight: Array
    groups: int

    def product(self, held: Array) -> Array:
        """Return ``W C``."""
        y: Array = self._matrices() @ self._blocks(held)
        return y.reshape(len(held), len(self.weight), *held.shape[3:])

    def dheld(self, dy: Array) -> Array:
        """Return ``W^T dY``, the gradient of what the windows hold."""
        inner, *sides = self.weight.shape[1:]
        dheld: Array = self._matrices().swapaxes(-1, -2) @ self._blocks(dy)
        return dheld.reshape(len(dy), self.groups * inner, math.prod(sides), *dy.shape[2:])

    def dweight(self, held: Array, dy: Array) -> Array:
        """Return ``dY C^T``, summed over the batch."""
        products = self._blocks(dy) @ self._blocks(held).swapaxes(-1, -2)
        dweight: Array = products.sum(axis=0)
        return dweight.reshape(self.weight.shape)

    def _matrices(self) -> Array:
        """Return the kernel as (groups, out / groups, in / groups * height * width)."""
        outputs, *inner = self.weight.shape
        return self.weight.reshape(self.groups, outputs // self.groups, math.prod(inner))

    def _blocks(self, array: Array) -> Array:
        """Return (batch, channels, ..., rows, columns) as (batch, groups, channels / groups * ..., rows * columns)."""
        batch, *channels, rows, columns = array.shape
        return array.reshape(batch, self.groups, math.prod(channels) // self.groups, rows * columns)


def convolution(windows: Windows, x: Array, weight: Array, bias: Array | None, groups: int) -> tuple[Array, Backward]:
    """Return the cross-correlation of images (batch, in, height, width) with ``weight``, plus ``bias``."""
    windows.counts(*x.shape[2:])  # which raises where no window fits
    correlation, kernel = Correlation(windows.stride, windows.dilation, groups), _channels_last(weight)
    (above, below), (left, right) = windows.padding
    height, width = x.shape[2:]
    image = slice(None), slice(above, above + height), slice(left, left + width)
    padded = np.zeros((len(x), above + height + below, left + width + right, x.shape[1]), x.dtype)
    padded[image] = x.transpose(0, 2, 3, 1)
    y = correlation.product(padded, kernel, bias)

    def pull(dy: Array, into: Into, needed: bool) -> tuple[Array, Gradients]:
        last = _channels_last(dy)
        place = into.array("weight", x, dy)
        dweight = correlation.dweight(padded, kernel, last).transpose(0, 3, 1, 2)
        if place is not None:
            place.reshape(dweight.shape)[...] = dweight
        grads = {"weight": np.ascontiguousarray(dweight) if place is None else place}
        if bias is not None:
            pixels = last.reshape(-1, len(bias))
            grads["bias"] = np.ones(len(pixels), dy.dtype) @ pixels
        if not needed:
            return dy, grads
        return correlation.dx(kernel, last, *padded.shape[1:3])[image].transpose(0, 3, 1, 2), grads

    return y.transpose(0, 3, 1, 2), Pullback(pull)


def _channels_last(array: Array) -> Array:
    """Return (batch, channels, height, width) as (batch, height, width, channels), contiguous."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def padded_windows(owner: str, kernel_size: Extents, stride: Extents, padding: Padding, dilation: Extents) -> Windows:
    """Return the windows of a convolution, whose padding may be a word.

    "valid" is none, "same" as much as keeps the size of an image; an odd one goes below and to the right. Raises
    ValueError for another word, for "same" with a stride, and as `windows_of`.
    """
    if not isinstance(padding, str):
        return windows_of(owner, kernel_size, stride, padding, dilation)
    if padding not in ("same", "valid"):
        raise ValueError(f"{owner} needs padding of numbers, 'same' or 'valid', got {padding!r}")
    bare = windows_of(owner, kernel_size, stride, 0, dilation)
    if padding == "valid":
        return bare
    if max(bare.stride) > 1:
        raise ValueError(f"{owner} needs a stride of 1 for padding 'same', got {max(bare.stride)}")
    (above, below), (left, right) = (((reach - 1) // 2, reach // 2) for reach in bare.reach())
    return replace(bare, padding=((above, below), (left, right)))


def require_groups(owner: str, side: str, channels: int, groups: int) -> None:
    """Raise ValueError unless the channels of a side fall into ``groups`` runs of equal length."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{owner} needs groups that divide its {channels} {side} channels, got {groups}")


def convolution_cases(make: Callable[..., Layer], axes: int) -> SearchStrategy[Case]:
    """Cases of a convolution over ``axes`` axes, made of weight, bias, stride, padding, dilation and groups."""
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, cases, sides

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        padding = draw(extents(axes, 0, 2) | st.just("same") | st.just("valid"))
        # A kernel of one needs no padding to keep the size.
        kernel, dilation = draw(extents(axes, 2 if padding == "same" else 1, 4)), draw(extents(axes, 1, 3))
        stride = (1,) * axes if padding == "same" else draw(extents(axes, 1, 3))
        groups, inner, outer = draw(sides(maximum=3)), draw(sides(maximum=2)), draw(sides(maximum=2))
        # From the least image that the kernel fits on, so that strides divide what is beyond or do not.
        beyond = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        around = [2 * p for p in padding] if isinstance(padding, tuple) else beyond if padding == "same" else [0] * axes
        image = [max(1, 1 + b - a) + draw(st.integers(0, 3)) for b, a in zip(beyond, around, strict=True)]
        layer = st.builds(
            make,
            arrays((outer * groups, inner, *kernel)),
            st.none() | arrays((outer * groups,)),
            one_or_all(stride),
            st.just(padding) if isinstance(padding, str) else one_or_all(padding),
            one_or_all(dilation),
            st.just(groups),
        )
        return draw(cases(layer, arrays((draw(sides(maximum=3)), inner * groups, *image))))

    return drawn()
