"""What pooling layers have in common: their windows, and the cases drawn of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nets.layers.windows import Pair, Windows, pair_of, windows_of

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
    if any(2 * p > k for p, k in zip(pair_of(padding), windows.kernel_size, strict=True)):
        kernel = "{} x {}".format(*windows.kernel_size)
        raise ValueError(f"{owner} needs padding of at most half its kernel of {kernel}, got {pair_of(padding)}")
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
        kernel, dilation = draw(pairs(st.integers(1, 3))), draw(pairs(st.integers(1, largest_dilation)))
        stride = draw(st.none() | pairs(st.integers(1, 4)))
        padding = draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
        ceil_mode = draw(st.booleans())
        axes = zip(kernel, dilation, padding, stride or kernel, strict=True)
        # Nor may dilation let a window step over the whole image, from its padding above to that below.
        fits = [max(d if p else 1, (k - 1) * d + 1 - 2 * p - (s - 1 if ceil_mode else 0)) for k, d, p, s in axes]
        height, width = (least + draw(st.integers(0, 4)) for least in fits)
        shape = draw(sides(maximum=2)), draw(sides(maximum=2)), height, width
        return Pooling(
            draw(one_or_both(kernel)),
            None if stride is None else draw(one_or_both(stride)),
            draw(one_or_both(padding)),
            draw(one_or_both(dilation)),
            ceil_mode,
            shape,
        )

    def pairs(numbers: SearchStrategy[int]) -> SearchStrategy[tuple[int, int]]:
        return st.tuples(numbers, numbers)

    def one_or_both(pair: tuple[int, int]) -> SearchStrategy[Pair]:
        return st.sampled_from([pair, pair[0]]) if pair[0] == pair[1] else st.just(pair)

    return drawn()
