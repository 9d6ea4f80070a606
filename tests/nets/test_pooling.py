"""Pooling at values known in closed form, at its edges, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Context, Layer, ShapeError
from gradcheck.numerics.rounding import Recorder, nudged
from nets.initializers import initialize
from nets.layers import AdaptiveAvgPool2d, AvgPool2d, Conv2d, MaxPool2d, ReLU, Sequential
from nets.layers.containers import kinks_along
from nets.refusals import UnsupportedArgumentError
from tests.nets.refused import needs, refusal


def row(*pixels: float) -> Array:
    """Return an image of one sample, one channel and one row."""
    return np.array([[[pixels]]], np.float64)


def test_pixels_in_no_window_have_no_gradient() -> None:
    for pool in (MaxPool2d(2, stride=3), AvgPool2d(2, stride=3)):
        _, backward = pool.forward(np.ones((1, 1, 6, 5)))
        assert backward(np.ones((1, 1, 2, 2)))[0][0, 0, 5].tolist() == [0] * 5


def test_of_equal_maxima_the_first_wins_and_overlaps_add_up() -> None:
    y, backward = MaxPool2d((1, 2), stride=1).forward(np.array([[[[2.0, 2.0, 1.0, 3.0]]]]))
    assert y.tolist() == [[[[2, 2, 3]]]]
    assert backward(np.array([[[[1.0, 10.0, 100.0]]]]))[0].tolist() == [[[[1, 10, 0, 100]]]]
    _, backward = MaxPool2d((1, 3), stride=1).forward(np.array([[[[1.0, 2.0, 5.0, 0.0, 0.0]]]]))
    assert backward(np.array([[[[1.0, 10.0, 100.0]]]]))[0].tolist() == [[[[0, 0, 111, 0, 0]]]]


def test_a_pool_takes_nan_and_infinities_as_torch_does() -> None:
    x = np.array([[[[np.nan, 1, -np.inf, -np.inf, np.inf, 2], [0, 3, -np.inf, -np.inf, np.inf, np.nan]]]])
    for pool in (MaxPool2d(2), MaxPool2d(2, padding=1), MaxPool2d((2, 1))):
        np.testing.assert_array_equal(pool.forward(x)[0], pool.twin()(torch.tensor(x)).numpy())
        of_means = AvgPool2d(pool.kernel_size, padding=pool.padding)
        with np.errstate(invalid="ignore"):  # inf - inf
            means, _ = of_means.forward(x)
        np.testing.assert_array_equal(means, of_means.twin()(torch.tensor(x)).numpy())
    assert MaxPool2d(2, padding=1, dilation=2).forward(np.ones((1, 1, 1, 1)))[0].tolist() == [[[[-np.inf]]]]


def by_argmax(pool: MaxPool2d, x: Array, dy: Array) -> tuple[Array, Array]:
    """Return y and dx window by window: the winner is what argmax finds in a window of pixels."""
    windows = pool._windows()
    (height, width), step, padding = windows.kernel_size, windows.stride, [before for before, _ in windows.padding]
    y, dx = np.empty_like(dy), np.zeros_like(x)
    for at in np.ndindex(dy.shape):
        top, left = at[2] * step[0] - padding[0], at[3] * step[1] - padding[1]
        window = at[0], at[1], slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        place = np.unravel_index(x[window].argmax(), x[window].shape)
        y[at] = x[window][place]
        dx[window][place] += dy[at]
    return y, dx


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pool", [MaxPool2d(2, 2), MaxPool2d(2, 2, 1), MaxPool2d(3, 2), MaxPool2d((1, 2), 3)])
def test_winners_are_those_of_argmax_however_images_lie_in_memory(pool: MaxPool2d, dtype: type) -> None:
    rng = np.random.default_rng(3)
    for values in ((-0.0, 0.0), (0.0, 1.0, 2.0), (-np.inf, np.inf, np.nan), (-np.inf, -np.inf, -1.0)):
        x = rng.choice(np.array(values, dtype), (2, 3, 6, 6))
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for images in (x, last):
            y, backward = pool.forward(images)
            dy = rng.choice(np.array([-1, 2, np.inf], dtype), y.shape)
            with np.errstate(invalid="ignore"):  # where windows overlap, inf - inf
                dx, (expected, gradient) = backward(dy)[0], by_argmax(pool, x, dy)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(dx, gradient)
            np.testing.assert_array_equal(np.signbit(dx), np.signbit(gradient))
            winners = pool.kinks(images).choice
            assert winners.shape == y.shape


def test_a_pool_knows_its_winners_and_how_far_ahead_they_are() -> None:
    x = np.array([[[[1.0, 4.0, -np.inf, 7.0, 2.0], [3.0, 4.0, -np.inf, -np.inf, 2.0]]]])
    kinks = MaxPool2d(2, padding=(0, 1)).kinks(x)
    assert kinks.choice.tolist() == [[[[3, 0, 0]]]]
    assert kinks.margin.tolist() == [[[[2.0, 0.0, 5.0]]]]
    lonely = MaxPool2d((1, 2), padding=(0, 1)).kinks(x[:, :, :1, :2])
    assert (lonely.choice.tolist(), lonely.margin.tolist()) == ([[[[1, 0]]]], [[[[np.inf, np.inf]]]])


def test_pixels_of_minus_infinity_win_over_the_padding_as_in_torch() -> None:
    x, pool = np.full((1, 1, 3, 3), -np.inf), MaxPool2d(2, padding=1)
    y, backward = pool.forward(x)
    theirs = torch.tensor(x, requires_grad=True)
    pool.twin()(theirs).backward(torch.ones(y.shape))
    assert theirs.grad is not None
    np.testing.assert_array_equal(backward(np.ones(y.shape))[0], theirs.grad.numpy())


def test_a_pool_of_integers_is_that_of_the_same_numbers() -> None:
    x = np.array([[[[0, 0, 3], [0, 0, 200]]]], np.uint8)
    for pool in (MaxPool2d(2, padding=1), AvgPool2d(2, padding=1, divisor_override=-3), AdaptiveAvgPool2d(2)):
        y, backward = pool.forward(x)
        wide, of_wide = pool.forward(x.astype(np.float64))
        np.testing.assert_allclose(y, wide, rtol=1e-6)  # some in float32
        np.testing.assert_allclose(backward(np.ones(y.shape))[0], of_wide(np.ones(y.shape))[0], rtol=1e-6)


def test_a_last_window_may_hang_over_if_it_starts_in_the_image() -> None:
    x = row(5, 1, 2, 3, 4)
    pool = MaxPool2d((1, 2), stride=2, ceil_mode=True)
    y, backward = pool.forward(x)
    assert y.tolist() == row(5, 3, 4).tolist()
    assert backward(row(1, 10, 100))[0].tolist() == row(1, 0, 0, 10, 100).tolist()
    kinks = pool.kinks(x)
    assert (kinks.choice.tolist(), kinks.margin.tolist()) == ([[[[0, 1, 0]]]], [[[[4.0, 1.0, np.inf]]]])
    # A window at the sixth pixel would hold padding only.
    assert MaxPool2d((1, 2), 2, (0, 1), ceil_mode=True).forward(x)[0].tolist() == row(5, 2, 4).tolist()
    assert MaxPool2d((1, 1), 5, ceil_mode=True).forward(x)[0].tolist() == row(5).tolist()


def test_an_image_smaller_than_its_window_is_taken_where_a_stride_goes_so_far() -> None:
    for pool in (MaxPool2d(3, ceil_mode=True), AvgPool2d(3, ceil_mode=True)):
        assert pool.forward(row(7.0))[0].tolist() == row(7.0).tolist()


def test_a_mean_divides_by_what_counts() -> None:
    x, around = row(6, 12, 18, 24), (0, 1)
    assert AvgPool2d((1, 3), 2, around).forward(x)[0].tolist() == row(6, 18).tolist()
    assert AvgPool2d((1, 3), 2, around, count_include_pad=False).forward(x)[0].tolist() == row(9, 18).tolist()
    # The last window begins at the last pixel: it holds that and one of the padding, and hangs over by one.
    assert AvgPool2d((1, 3), (1, 4), around, ceil_mode=True).forward(x)[0].tolist() == row(6, 12).tolist()
    pixels = AvgPool2d((1, 3), (1, 4), around, ceil_mode=True, count_include_pad=False)
    assert pixels.forward(x)[0].tolist() == row(9, 24).tolist()
    sums = AvgPool2d((1, 3), (1, 4), around, True, divisor_override=-2)
    assert sums.forward(x)[0].tolist() == row(-9, -12).tolist()


def test_every_pixel_has_its_share_of_the_means_that_hold_it() -> None:
    _, backward = AvgPool2d((2, 3), (1, 2)).forward(np.ones((1, 1, 2, 5)))
    assert backward(row(6, 12))[0].tolist() == [[[[1, 1, 3, 2, 2]] * 2]]


def test_adaptive_windows_overlap_where_the_sizes_do_not_divide() -> None:
    y, backward = AdaptiveAvgPool2d((1, 3)).forward(row(2, 4, 6, 8, 10))
    assert y.tolist() == row(3, 6, 9).tolist()
    assert backward(row(2, 6, 20))[0].tolist() == row(1, 3, 2, 12, 10).tolist()


def test_an_adaptive_mean_to_twice_the_size_repeats_every_pixel() -> None:
    x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    y, backward = AdaptiveAvgPool2d((4, 6)).forward(x)
    assert y.tolist() == x.repeat(2, axis=2).repeat(2, axis=3).tolist()
    dy = np.arange(24.0).reshape(1, 1, 4, 6)
    assert backward(dy)[0].tolist() == dy.reshape(1, 1, 2, 2, 3, 2).sum(axis=(3, 5)).tolist()


def test_an_adaptive_mean_keeps_an_axis_that_is_not_given() -> None:
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    assert AdaptiveAvgPool2d((None, None)).forward(x)[0].tolist() == x.tolist()
    assert AdaptiveAvgPool2d((None, 1)).forward(x)[0].tolist() == x.mean(axis=3, keepdims=True).tolist()
    assert AdaptiveAvgPool2d(1).forward(x)[0].tolist() == x.mean(axis=(2, 3), keepdims=True).tolist()


def test_an_infinite_pixel_stays_in_its_windows() -> None:
    x = row(1, 1, 1, np.inf, 1, 1, 1)
    assert AvgPool2d((1, 2), 1).forward(x)[0].tolist() == row(1, 1, np.inf, np.inf, 1, 1).tolist()
    assert AdaptiveAvgPool2d((1, 3)).forward(x)[0].tolist() == row(1, np.inf, 1).tolist()
    _, backward = AdaptiveAvgPool2d((1, 3)).forward(x)
    assert backward(row(0, np.nan, 0))[0][0, 0, 0, [0, 1, 5, 6]].tolist() == [0] * 4


def test_an_empty_batch_gives_an_empty_batch() -> None:
    for pool in (MaxPool2d(2), AvgPool2d(2), AdaptiveAvgPool2d(2)):
        y, backward = pool.forward(np.ones((0, 3, 4, 4)))
        assert (y.shape, backward(y)[0].shape) == ((0, 3, 2, 2), (0, 3, 4, 4))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (MaxPool2d(2), (4, 4), "x of shape (batch, channels, height, width), got (4, 4)"),
        (AvgPool2d(2), (1, 4, 4), "x of shape (batch, channels, height, width), got (1, 4, 4)"),
        (AdaptiveAvgPool2d(2), (1, 4, 4), "x of shape (batch, channels, height, width), got (1, 4, 4)"),
        (MaxPool2d((3, 2)), (1, 1, 2, 2), "x of at least 3 x 2 pixels, padding included, got 2 x 2"),
        (AvgPool2d((3, 2), padding=(1, 0)), (1, 1, 1, 1), "x of at least 3 x 2 pixels, padding included, got 3 x 1"),
        (
            AvgPool2d((4, 2), (2, 5), ceil_mode=True),
            (1, 1, 2, 1),
            "x of at least 3 x 1 pixels, padding included, got 2 x 1",
        ),
        (MaxPool2d(2, padding=1), (1, 1, 0, 3), "x of at least one pixel, got 0 x 3"),
        (AdaptiveAvgPool2d(2), (1, 1, 3, 0), "x of at least one pixel, got 3 x 0"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    assert needs(ShapeError, layer.forward, np.ones(shape)) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(MaxPool2d, 2, dilation=0), "dilation of at least 1, got (0, 0)"),
        (partial(AvgPool2d, 2, (1, 0)), "stride of at least 1, got (1, 0)"),
        (partial(MaxPool2d, 3, padding=2), "padding of at most half its kernel of 3 x 3, got (2, 2)"),
        (partial(MaxPool2d, (4, 1), padding=(2, 1)), "padding of at most half its kernel of 4 x 1, got (2, 1)"),
        (partial(MaxPool2d, 2, padding=2, dilation=3), "padding of at most half its kernel of 2 x 2, got (2, 2)"),
        (partial(AvgPool2d, (2, 3), padding=2), "padding of at most half its kernel of 2 x 3, got (2, 2)"),
        (partial(AvgPool2d, 2, divisor_override=0), "divisor_override of a whole number but 0, got 0"),
        (partial(AvgPool2d, 2, divisor_override=2.5), "divisor_override of a whole number but 0, got 2.5"),  # type: ignore[arg-type]  # as in torch
        (partial(AdaptiveAvgPool2d, 0), "output_size of at least 1, got 0"),
        (partial(AdaptiveAvgPool2d, (None, -1)), "output_size of at least 1, got (None, -1)"),
        (partial(AdaptiveAvgPool2d, None), "output_size of one whole number or two, got None"),  # type: ignore[arg-type]  # torch's signature has it, and its forward not
    ],
)
def test_pooling_that_cannot_be_is_refused(make: Callable[[], Layer], message: str) -> None:
    assert needs(ValueError, make) == message


def test_the_places_of_the_maxima_are_refused() -> None:
    told = refusal(UnsupportedArgumentError, MaxPool2d, 2, return_indices=True)
    assert told == "MaxPool2d does not support return_indices: a layer has one output"
    with pytest.raises(TypeError, match="takes 4 arguments by position, got 5"):
        MaxPool2d(2, 2, 0, 1, True)  # type: ignore[call-arg]  # return_indices again, in its place


def flat_picture(dtype: type) -> Array:
    """Return a picture with a background of one shade, which ties in most windows."""
    picture: Array = np.full((2, 1, 12, 12), 0.3, dtype)
    picture[:, :, 4:7, 5:9] = np.random.default_rng(0).random((2, 1, 3, 4))
    return picture


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_ties_in_a_window_still_does_in_a_shadow(dtype: type) -> None:
    convolution = Conv2d.create(1, 3, 3)
    initialize(convolution, np.random.default_rng(0))
    chain = Sequential((convolution.astype(dtype), ReLU(), MaxPool2d(2)))
    picture = flat_picture(dtype)

    def choices(rng: np.random.Generator | None) -> Array:
        recorder = Recorder(rng)
        chain.forward(recorder("data/x", picture), Context(tap=recorder))
        (pool,) = (kinks for path, kinks in kinks_along(chain, picture, recorder.taps) if path == "2")
        assert (pool.margin == 0).mean() > 0.3  # ties, in shadows too
        return pool.choice

    rng = np.random.default_rng(1)
    plain = choices(None)
    for _ in range(20):
        assert np.array_equal(choices(rng), plain)


def test_nudges_of_their_own_would_part_ties() -> None:
    picture, rng = flat_picture(np.float64), np.random.default_rng(1)
    alone = picture * (1 + np.finfo(float).eps * rng.uniform(-2, 2, picture.shape))
    pool = MaxPool2d(2)
    assert not np.array_equal(pool.kinks(alone).choice, pool.kinks(picture).choice)
    assert np.array_equal(pool.kinks(nudged(picture, rng)).choice, pool.kinks(picture).choice)
