"""Convolutions at values known in closed form; their sizes, their paddings in words, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Case, Layer, ShapeError
from gradcheck.numerics.agreement import Verdict
from gradcheck.trials import check_case, properties_of
from nets.layers import Conv1d, Conv2d, ConvTranspose2d
from nets.layers.windows import Pair
from nets.refusals import UnsupportedArgumentError
from tests.nets.refused import needs, refusal

pytestmark = pytest.mark.rounding


def normal(*shape: int) -> Array:
    """Return numbers of full mantissas, the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape)


def test_a_convolution_at_known_values() -> None:
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    edges = replace(
        Conv2d.create(1, 1, (1, 2), stride=(2, 2)), weight=np.array([[[[-1.0, 3.0]]]]), bias=np.array([0.5])
    )
    y, backward = edges.forward(x)
    assert y.tolist() == [[[[3.5, 7.5], [19.5, 23.5]]]]
    dx, grads = backward(np.ones(y.shape))
    assert dx.tolist() == [[[[-1, 3, -1, 3], [0, 0, 0, 0], [-1, 3, -1, 3]]]]
    assert (grads["weight"].tolist(), grads["bias"].tolist()) == ([[[[20.0, 24.0]]]], [4.0])


def test_pixels_in_no_window_have_no_gradient() -> None:
    _, backward = Conv2d(np.ones((1, 1, 2, 2)), None, stride=(4, 3)).forward(np.ones((1, 1, 6, 5)))
    covered, between = [[1, 1, 0, 1, 1]] * 2, [[0] * 5] * 2
    assert backward(np.ones((1, 1, 2, 2)))[0][0, 0].tolist() == covered + between + covered


def test_the_odd_place_of_padding_same_is_the_last() -> None:
    x, weight = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[10.0, 1.0]]])
    assert Conv1d(weight, None, padding="same").forward(x)[0].tolist() == [[[12, 23, 30]]]
    assert Conv1d(weight, None, padding="same", dilation=2).forward(x)[0].tolist() == [[[2, 13, 20]]]
    square = Conv2d(np.array([[[[1000.0, 100.0], [10.0, 1.0]]]]), None, padding="same")
    assert square.forward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))[0].tolist() == [[[[1234, 2040], [3400, 4000]]]]


@pytest.mark.parametrize("moved", ["weight", "bias", "input"])
def test_a_complex_step_of_any_part_shows_its_derivative(moved: str) -> None:
    layer, x, step = Conv2d.create(2, 3, 2), normal(2, 2, 4, 4), 2.0**-60
    parts = {"weight": normal(3, 2, 2, 2), "bias": normal(3), "input": x}
    moves = np.ones_like(parts[moved])

    def imaginary(by: complex) -> Array:
        given = {name: part + by if name == moved else part for name, part in parts.items()}
        y, _ = layer.replace_arrays(given).forward(given["input"])
        return np.asarray(y.imag)

    y, backward = layer.replace_arrays(parts).forward(x)
    dx, grads = backward(np.ones_like(y))
    along = float((({"input": dx} | grads)[moved] * moves).sum())
    assert imaginary(step * 1j).sum() / step == pytest.approx(along, rel=1e-12)


@pytest.mark.parametrize("padding", [0, "valid"])
def test_padding_valid_is_none(padding: Any) -> None:  # noqa: ANN401  a number or a word
    layer = Conv2d(normal(2, 3, 2, 2), None, (2, 1), padding)
    assert layer.forward(normal(1, 3, 5, 5))[0].shape == (1, 2, 2, 4)


def test_a_convolution_of_a_sequence_is_that_of_an_image_of_one_row() -> None:
    weight, bias, x, dy = normal(4, 3, 3), normal(4), normal(2, 6, 9), normal(2, 4, 5)
    y, backward = Conv1d(weight, bias, 2, 2, 2, 2).forward(x)
    flat, of_image = Conv2d(weight[:, :, None], bias, (1, 2), (0, 2), (1, 2), 2).forward(x[:, :, None])
    assert np.array_equal(y, flat[:, :, 0])
    (dx, grads), (dimage, dkernel) = backward(dy), of_image(dy[:, :, None])
    assert np.array_equal(dx, dimage[:, :, 0])
    assert np.array_equal(grads["weight"], dkernel["weight"][:, :, 0])
    assert np.array_equal(grads["bias"], dkernel["bias"])


def test_a_transposed_convolution_at_known_values() -> None:
    weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    layer = ConvTranspose2d(weight, np.array([0.5]), stride=2, padding=(1, 0), output_padding=(1, 1))
    y, backward = layer.forward(np.array([[[[1.0, 10.0], [2.0, 20.0]]]]))
    # Without padding the rows are 1 2 10 20 / 3 4 30 40 / 2 4 20 40 / 6 8 60 80: the first is cut off, and the last
    # would be, had not output_padding taken it back.
    assert (y - 0.5).tolist() == [[[[3, 4, 30, 40, 0], [2, 4, 20, 40, 0], [6, 8, 60, 80, 0]]]]
    dx, grads = backward(np.ones(y.shape))
    assert dx.tolist() == [[[[7, 7], [10, 10]]]]
    assert (grads["weight"].tolist(), grads["bias"].tolist()) == ([[[[22, 22], [33, 33]]]], [15])


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "output_padding"),
    [((2, 3), (1, 0), (1, 2), (0, 1)), ((1, 2), (0, 2), (3, 3), (2, 2)), (2, 2, 1, 1)],
)
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(
    stride: Pair, padding: Pair, dilation: Pair, output_padding: Pair
) -> None:
    weight = normal(4, 3, 2, 3)
    transposed = ConvTranspose2d(weight, None, stride, padding, output_padding, 2, dilation)
    x = normal(2, 4, 3, 3)
    y, _ = transposed.forward(x)
    image = normal(*y.shape)
    forth, _ = Conv2d(weight, None, stride, padding, dilation, 2).forward(image)
    # A convolution finds more windows where output_padding reaches a stride.
    assert np.vdot(x, forth[:, :, :3, :3]) == pytest.approx(np.vdot(y, image), rel=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        (Conv1d, torch.nn.Conv1d, (4, 6, 3, 2, 1, 2, 2)),
        (Conv1d, torch.nn.Conv1d, (4, 6, (3,), 1, "same", (2,), 2, False)),
        (Conv2d, torch.nn.Conv2d, (4, 6, (3, 2), 2, (1, 0), 1, 2)),
        (Conv2d, torch.nn.Conv2d, (4, 6, (3, 2), 1, "same", 1, 2, False)),
        (ConvTranspose2d, torch.nn.ConvTranspose2d, (4, 6, (3, 2), 2, (1, 0), 1, 2)),
        (ConvTranspose2d, torch.nn.ConvTranspose2d, (4, 6, (3, 2), 1, 0, (1, 0), 2, False, 2)),
    ],
)
def test_a_new_convolution_is_that_of_torch_with_zeros(ours: Any, theirs: Any, arguments: Any) -> None:  # noqa: ANN401
    layer, module = ours.create(*arguments), theirs(*arguments)
    assert {k: a.shape for k, a in layer.parameters().items()} == {k: p.shape for k, p in module.named_parameters()}
    assert not any(array.any() for array in layer.parameters().values())
    assert repr(layer.twin()) == repr(module)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv1d.create(64, 64, 3, padding="same", groups=64), (4, 64, 40)),
        (Conv1d.create(96, 48, 5, stride=2, groups=48), (2, 96, 33)),
        (Conv2d.create(64, 128, 3, padding=1, groups=64), (2, 64, 9, 7)),
        (Conv2d.create(128, 32, (1, 3), stride=2, groups=32), (2, 128, 7, 9)),
        (ConvTranspose2d.create(64, 64, 4, 2, 1, groups=64), (2, 64, 5, 4)),
        (ConvTranspose2d.create(32, 96, (3, 2), 2, 1, 1, groups=32), (2, 32, 5, 4)),
    ],
)
def test_many_groups_agree_with_torch_and_in_both_precisions(layer: Layer, shape: tuple[int, ...]) -> None:
    filled = layer.replace_arrays({name: normal(*array.shape) for name, array in layer.parameters().items()})
    claims = {"forward_agrees_with_twin", "gradients_agree_with_twin", "precisions_agree"}
    for claim in properties_of(filled):
        if claim.__name__ in claims:
            outcome = check_case(Case(filled, (normal(*shape),)), claim)
            assert outcome is not None
            assert outcome.verdict is Verdict.PASS, outcome


@pytest.mark.parametrize("layer", [Conv1d.create(2, 3, 2), Conv2d.create(2, 3, 2), ConvTranspose2d.create(2, 3, 2)])
def test_a_batch_may_be_empty(layer: Layer) -> None:
    x = np.ones((0, 2, *[4] * (layer.parameters()["weight"].ndim - 2)))
    y, backward = layer.forward(x)
    dx, grads = backward(y)
    assert (len(y), dx.shape) == (0, x.shape)
    assert not any(grad.any() for grad in grads.values())


ONE_PIXEL = "x of at least 1 x 1 pixels, and y likewise, got {}"


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d.create(2, 1, 3), (1, 3, 5, 5), "x of shape (batch, 2, height, width), got (1, 3, 5, 5)"),
        (Conv2d.create(4, 2, 3, groups=2), (1, 2, 5, 5), "x of shape (batch, 4, height, width), got (1, 2, 5, 5)"),
        (Conv2d.create(2, 1, 3), (2, 5, 5), "x of shape (batch, 2, height, width), got (2, 5, 5)"),
        (
            Conv2d.create(1, 1, 3, padding=(1, 0), dilation=2),
            (1, 1, 3, 4),
            "x of at least 5 x 5 pixels, padding included, got 5 x 4",
        ),
        (Conv1d.create(4, 2, 3, groups=2), (1, 2, 5), "x of shape (batch, 4, length), got (1, 2, 5)"),
        (Conv1d.create(2, 1, 3), (1, 2, 5, 5), "x of shape (batch, 2, length), got (1, 2, 5, 5)"),
        (
            Conv1d.create(1, 1, 3, padding=1, dilation=2),
            (1, 1, 2),
            "x of a length of at least 5, padding included, got 4",
        ),
        (ConvTranspose2d.create(4, 2, 3), (1, 2, 5, 5), "x of shape (batch, 4, height, width), got (1, 2, 5, 5)"),
        (ConvTranspose2d.create(1, 1, 1, 1, (2, 1)), (1, 1, 4, 5), ONE_PIXEL.format("4 x 5 and 0 x 3")),
        (ConvTranspose2d.create(1, 1, 4), (1, 1, 0, 5), ONE_PIXEL.format("0 x 5 and 3 x 8")),
    ],
)
def test_an_input_that_does_not_fit_is_refused(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    assert needs(ShapeError, layer.forward, np.ones(shape)) == message


WORD: Any = "full"
LIST: Any = (1, 2, 3)
OUTPUT_PADDING = "output_padding from 0 to below stride or dilation, got {}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Conv2d.create, 4, 6, 3, groups=3), "groups that divide its 4 input channels, got 3"),
        (partial(Conv2d.create, 3, 4, 3, groups=3), "groups that divide its 4 output channels, got 3"),
        (partial(Conv2d.create, 3, 4, 3, groups=0), "groups that divide its 3 input channels, got 0"),
        (partial(Conv2d.create, 1, 1, (0, 3)), "kernel_size of at least 1, got (0, 3)"),
        (partial(Conv2d.create, 1, 1, 3, stride=(1, 0)), "stride of at least 1, got (1, 0)"),
        (partial(Conv2d.create, 1, 1, 3, padding=-1), "padding of at least 0, got (-1, -1)"),
        (partial(Conv2d.create, 1, 1, 3, dilation=LIST), "dilation of one whole number or two, got (1, 2, 3)"),
        (partial(Conv2d.create, 1, 1, 3, padding=WORD), "padding of numbers, 'same' or 'valid', got 'full'"),
        (partial(Conv2d.create, 1, 1, 3, stride=(1, 2), padding="same"), "a stride of 1 for padding 'same', got 2"),
        (partial(Conv1d.create, 4, 6, 3, groups=3), "groups that divide its 4 input channels, got 3"),
        (partial(Conv1d.create, 3, 4, 3, groups=3), "groups that divide its 4 output channels, got 3"),
        (partial(Conv1d.create, 1, 1, 0), "kernel_size of at least 1, got 0"),
        (partial(Conv1d.create, 1, 1, 3, padding=(-1,)), "padding of at least 0, got -1"),
        (partial(Conv1d.create, 1, 1, 3, stride=LIST), "stride of one whole number, got (1, 2, 3)"),
        (partial(Conv1d.create, 1, 1, 3, padding=WORD), "padding of numbers, 'same' or 'valid', got 'full'"),
        (partial(Conv1d.create, 1, 1, 3, stride=2, padding="same"), "a stride of 1 for padding 'same', got 2"),
        (partial(ConvTranspose2d.create, 4, 6, 3, groups=3), "groups that divide its 4 input channels, got 3"),
        (partial(ConvTranspose2d.create, 3, 4, 3, groups=3), "groups that divide its 4 output channels, got 3"),
        (partial(ConvTranspose2d.create, 1, 1, 3, dilation=0), "dilation of at least 1, got (0, 0)"),
        (partial(ConvTranspose2d.create, 1, 1, 3, padding=WORD), "padding of one whole number or two, got 'full'"),
        (partial(ConvTranspose2d.create, 1, 1, 3, (2, 1), output_padding=1), OUTPUT_PADDING.format((1, 1))),
        (partial(ConvTranspose2d.create, 1, 1, 3, output_padding=(0, -1)), OUTPUT_PADDING.format((0, -1))),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make: Callable[[], Layer], message: str) -> None:
    assert needs(ValueError, make) == message


@pytest.mark.parametrize("layer", [Conv1d, Conv2d, ConvTranspose2d])
def test_another_padding_than_zeros_is_refused(layer: Any) -> None:  # noqa: ANN401  a class of several constructors
    told = refusal(UnsupportedArgumentError, layer.create, 1, 1, 3, padding_mode="reflect")
    assert told == f"{layer.__name__} does not support padding_mode: the padding is zeros"


@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_of_any_size_is_its_images_however_they_lie_in_memory(groups: int) -> None:
    rng = np.random.default_rng(4)
    layer = Conv2d(rng.standard_normal((4, 8 // groups, 3, 3)), rng.standard_normal(4), padding=1, groups=groups)
    x, dy = rng.standard_normal((16, 8, 14, 14)), rng.standard_normal((16, 4, 14, 14))
    y, backward = layer.forward(x)
    dx, grads = backward(dy)
    apart = [layer.forward(x[i : i + 1])[1](dy[i : i + 1]) for i in range(len(x))]
    np.testing.assert_allclose(y, np.concatenate([layer.forward(x[i : i + 1])[0] for i in range(len(x))]), atol=1e-12)
    np.testing.assert_allclose(dx, np.concatenate([one[0] for one in apart]), atol=1e-12)
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, sum(one[1][name] for one in apart), atol=1e-11)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    again, pullback = layer.forward(last)
    assert (again.tobytes(), pullback(dy)[0].tobytes()) == (y.tobytes(), dx.tobytes())
