"""What pooling layers have in common: their windows, and the cases drawn of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nets.layers.windows import Pair, Windows, extents, one_or_all, windows_of

if TYPE_CHECKING:
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


def pooling_windows(
    owner: str, kernel_size: Pair, stride: Pair | None, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Windows:
    """Return the windows of a pooling layer; ``stride`` None is ``kernel_size``.

    Raises ValueError for a hyper-parameter below its least value, and for padding of more than half the kernel, which
    torch has not either: so nearly every window holds a pixel.
    """
    windows = windows_of(
        owner, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode=ceil_mode
    )
    around = windows.padding[0][0], windows.padding[1][0]
    if any(2 * p > k for p, k in zip(around, windows.kernel_size, strict=True)):
        kernel = "{} x {}".format(*windows.kernel_size)
        raise ValueError(f"{owner} needs padding of at most half its kernel of {kernel}, got {around}")
    return windows


class Pooling(NamedTuple):
    """Hyper-parameters of pooling, and the shape (batch, channels, height, width) of an input for them."""

    kernel_size: Pair
    stride: Pair | None
    padding: Pair
    dilation: Pair
    ceil_mode: bool
    shape: tuple[int, int, int, int]


def poolings(largest_dilation: int) -> SearchStrategy[Pooling]:
    """Windows that overlap, meet or leave pixels out, on images from the least that they fit on."""
    from hypothesis import strategies as st

    from gradcheck.strategies import sides

    @st.composite
    def drawn(draw: st.DrawFn) -> Pooling:
        ceil_mode = draw(st.sampled_from([False, True, True]))  # where nothing hangs over, it changes nothing
        kernel, dilation = draw(extents(2, 2, 4) | extents(2, 1, 4)), draw(extents(2, 1, largest_dilation))
        stride = draw(st.none() | extents(2, 1, 3) | extents(2, 2, 3))
        padding = draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
        axes = zip(kernel, dilation, padding, stride or kernel, strict=True)
        height, width = (draw(sizes(*axis, ceil_mode)) for axis in axes)
        return Pooling(
            draw(one_or_all(kernel)),
            None if stride is None else draw(one_or_all(stride)),
            draw(one_or_all(padding)),
            draw(one_or_all(dilation)),
            ceil_mode,
            (draw(sides(maximum=3)), draw(sides(maximum=2)), height, width),
        )

    def sizes(kernel: int, dilation: int, padding: int, stride: int, ceil_mode: bool) -> SearchStrategy[int]:
        """Draw as many pixels as some windows need, and some more that they leave out, or less that hang over."""
        whole = st.integers(0, 2).map(lambda windows: windows * stride + (kernel - 1) * dilation + 1 - 2 * padding)
        rest = st.integers(0, stride - 1).map(lambda rest: -rest if ceil_mode else rest)
        # Dilation must not let a window step over the whole image, from its padding above to that below.
        return st.tuples(whole, rest).map(lambda pixels: max(sum(pixels), dilation if padding else 1))

    return drawn()
