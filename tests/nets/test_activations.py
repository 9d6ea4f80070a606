"""Activations at values known in closed form, in both tails, and at their kinks; what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Layer, ShapeError
from nets.layers import (
    ELU,
    GELU,
    SELU,
    Flatten,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from nets.layers.masking import masked
from tests.nets.refused import needs

ELEMENTWISE = [
    Sigmoid(),
    Tanh(),
    ReLU(),
    LeakyReLU(),
    PReLU.create(),
    ELU(),
    ELU(-0.5),
    SELU(),
    GELU(),
    GELU("tanh"),
    SiLU(),
    Softplus(),
    Softplus(-3.0),
    Softmax(0),
    LogSoftmax(-1),
]


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_tails_are_torchs_and_nothing_overflows(layer: Layer, dtype: Any) -> None:  # noqa: ANN401
    x = np.array([-1000.0, -100.0, -20.0, -1e-30, 0.0, 1e-30, 20.0, 100.0, 1000.0], dtype)
    leaf = torch.tensor(x, requires_grad=True)
    module = layer.twin().to(leaf.dtype)
    y, backward = layer.astype(dtype).forward(x)
    theirs = module(leaf)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)  # below it torch has 0, NumPy fewer digits
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=4 * eps, atol=tiny)
    (dx,) = torch.autograd.grad(theirs, leaf, torch.ones_like(leaf))
    # An absolute rounding, too: that of 1 - s, and of a softmax's sum.
    np.testing.assert_allclose(backward(np.ones_like(x))[0], dx.numpy(), rtol=4 * eps, atol=8 * eps)


def test_sigmoid_keeps_its_tails_and_never_overflows() -> None:
    x = np.array([-1000.0, -40.0, 0.0, 40.0, 1000.0])
    y, backward = Sigmoid().forward(x)
    assert y.tolist() == [0.0, math.exp(-40) / (1 + math.exp(-40)), 0.5, 1.0, 1.0]
    assert backward(np.ones(5))[0].tolist() == [0.0, y[1] * (1 - y[1]), 0.25, 0.0, 0.0]


def test_relu_has_slope_zero_at_zero() -> None:
    _, backward = ReLU().forward(np.array([-1.0, 0.0, 2.0]))
    assert backward(np.full(3, 5.0))[0].tolist() == [0.0, 0.0, 5.0]


def test_relu_blocks_even_an_infinite_gradient() -> None:
    _, backward = ReLU().forward(np.array([-1.0, 1.0]))
    assert backward(np.array([np.inf, 2.0]))[0].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("layer", [ReLU(), ELU(), ELU(0.5), SELU(), LeakyReLU(), PReLU.create(), Tanh()])
def test_what_comes_back_to_nan_is_torchs(layer: Layer) -> None:
    x = np.array([np.nan, -1.0, 2.0])
    y, backward = layer.forward(x)
    given = torch.tensor(x, requires_grad=True)
    theirs = layer.twin().double()(given)
    theirs.sum().backward()
    assert given.grad is not None
    np.testing.assert_allclose(y, theirs.detach(), rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(3))[0], given.grad, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_a_mask_chooses_bit_for_bit(dtype: type) -> None:
    array: Array = np.array([[-0.0, 0.0, np.inf, -np.inf, np.nan], [1, -1, -0.0, 5e-8, np.nan]], dtype)
    for given in (array, array.T, array[:, ::2], array[0, 4]):
        for mask in (given == given, given != given, np.signbit(given)):
            chosen = masked(np.asarray(given), np.asarray(mask))
            assert chosen.dtype == dtype
            np.testing.assert_array_equal(chosen, np.where(mask, given, 0))
            np.testing.assert_array_equal(np.signbit(chosen), np.signbit(np.where(mask, given, dtype(0))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_blocks_signs_and_what_is_not_finite(dtype: type) -> None:
    x: Array = np.array([-0.0, 0.0, -1.0, 2.0, np.nan, np.inf, -np.inf], dtype)
    for value in (-3.0, -0.0, np.inf, -np.inf, np.nan):
        dx, _ = ReLU().forward(x)[1](np.full_like(x, value))
        np.testing.assert_array_equal(dx, np.array([0, 0, 0, value, value, value, 0], dtype))
        assert not np.signbit(dx[[0, 1, 2, 6]]).any()


def test_relu_knows_its_kink() -> None:
    kinks = ReLU().kinks(np.array([-2.0, 0.5]))
    assert (kinks.choice.tolist(), kinks.margin.tolist()) == ([False, True], [2.0, 0.5])


def test_a_negative_slope_is_gated_by_the_input() -> None:
    y, backward = PReLU(np.array([-2.0])).forward(np.array([-3.0, 0.0, 3.0]))
    dx, grads = backward(np.array([1.0, 10.0, 100.0]))
    assert (y.tolist(), dx.tolist()) == ([6.0, 0.0, 3.0], [-2.0, -20.0, 100.0])
    assert grads["weight"].tolist() == [-3.0]


def test_every_channel_has_its_own_slope() -> None:
    x = -np.ones((2, 3, 4))
    y, backward = PReLU(np.array([1.0, 0.0, -1.0])).forward(x)
    assert y[:, :, 0].tolist() == [[-1, 0, 1]] * 2
    dx, grads = backward(np.arange(24.0).reshape(x.shape))
    assert dx[1, :, 3].tolist() == [15, 0, -23]
    assert grads["weight"].tolist() == [-60.0, -92.0, -124.0]


def test_a_new_prelu_has_torchs_slope_or_the_one_given() -> None:
    assert PReLU.create().weight.tolist() == torch.nn.PReLU().weight.tolist() == [0.25]
    assert PReLU.create(3, -0.5).weight.tolist() == torch.nn.PReLU(3, -0.5).weight.tolist() == [-0.5] * 3


@pytest.mark.parametrize(("layer", "slope"), [(ELU(), 1.0), (ELU(2.0), 2.0), (SELU(), 1.7580993408473766)])
def test_exponential_units_keep_small_numbers(layer: Layer, slope: float) -> None:
    y, backward = layer.forward(np.array([-1e-20, -1000.0]))
    np.testing.assert_allclose(y, [-1e-20 * slope, -slope], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(2))[0], [slope, 0], rtol=1e-15)


def test_selu_keeps_mean_zero_and_variance_one() -> None:
    x, step = np.linspace(-12, 12, 400_001, retstep=True)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * step
    y, _ = SELU().forward(x)
    # The trapezoidal rule errs by step^2 / 12 times the jump of the slope, 0.7 times a density of 0.4.
    assert abs((y * density).sum()) < 1e-10
    assert abs((y * y * density).sum() - 1) < 1e-10


def test_elu_has_a_kink_unless_alpha_is_one() -> None:
    x = np.array([-2.0, 0.5])
    assert ELU().kinks(x) is None
    for layer in (ELU(0.5), SELU(), PReLU.create(), LeakyReLU()):
        kinks = layer.kinks(x)
        assert kinks is not None
        assert (kinks.choice.tolist(), kinks.margin.tolist()) == ([False, True], [2.0, 0.5])


@pytest.mark.parametrize(("approximate", "error"), [("none", 1e-15), ("tanh", 5e-4)])
def test_gelu_is_x_times_the_normal_distribution(approximate: Any, error: float) -> None:  # noqa: ANN401
    x, normal = np.linspace(-5, 5, 41), NormalDist()
    y, backward = GELU(approximate).forward(x)
    dx, _ = backward(np.ones_like(x))
    assert np.abs(y - [v * normal.cdf(v) for v in x]).max() < error
    assert np.abs(dx - [normal.cdf(v) + v * normal.pdf(v) for v in x]).max() < 2 * error
    if approximate == "tanh":
        assert np.abs(y - GELU().forward(x)[0]).max() > error / 2  # it is another function


def test_silu_at_known_values() -> None:
    y, backward = SiLU().forward(np.array([0.0, math.log(3)]))
    np.testing.assert_allclose(y, [0, 0.75 * math.log(3)], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(2))[0], [0.5, 0.75 + 0.1875 * math.log(3)], rtol=1e-15)


def test_softplus_is_straight_above_its_threshold() -> None:
    x = np.array([0.0, 2.0, 2.25])
    y, backward = Softplus(0.5, 1.0).forward(x)
    np.testing.assert_allclose(y, [2 * math.log(2), 2 * math.log(1 + math.e), 2.25], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(3))[0], [0.5, math.e / (1 + math.e), 1], rtol=1e-15)


def test_softplus_never_overflows_where_its_threshold_lets_torchs() -> None:
    y, backward = Softplus(threshold=1e6).forward(np.array([1000.0, -1000.0]))
    assert (y.tolist(), backward(np.ones(2))[0].tolist()) == ([1000.0, 0.0], [1.0, 0.0])


def test_softplus_knows_its_jump() -> None:
    kinks = Softplus(-2.0, 4.0).kinks(np.array([-3.0, -2.0, 1.0]))
    assert (kinks.choice.tolist(), kinks.margin.tolist()) == ([True, False, False], [1.0, 0.0, 3.0])


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
@pytest.mark.parametrize("logit", [0.0, -1000.0, 1e300])
def test_equal_logits_share_alike(dim: int, logit: float) -> None:
    x = np.full((2, 5), logit)
    share = 1 / x.shape[dim]
    assert (Softmax(dim).forward(x)[0] == share).all()
    np.testing.assert_allclose(LogSoftmax(dim).forward(x)[0], math.log(share), rtol=1e-15)


def test_masked_logits_have_no_share_and_no_gradient() -> None:
    x, dy = np.array([[0.0, -np.inf, 0.0]]), np.array([[1.0, 5.0, -3.0]])
    y, backward = Softmax(1).forward(x)
    assert (y.tolist(), backward(dy)[0].tolist()) == ([[0.5, 0.0, 0.5]], [[1.0, 0.0, -1.0]])
    assert LogSoftmax(1).forward(x)[0].tolist() == [[-math.log(2), -np.inf, -math.log(2)]]


def test_a_single_number_has_one_axis_as_in_torch() -> None:
    for layer in (Softmax(0), Softmax(-1), LogSoftmax(0), Flatten(0), Flatten(-1, 0), PReLU.create()):
        y, backward = layer.forward(np.array(2.0))
        assert y.shape == tuple(layer.twin()(torch.tensor(2.0)).shape)
        assert backward(np.ones_like(y))[0].shape == ()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Flatten(), (2, 60)),
        (Flatten(0), (120,)),
        (Flatten(0, 1), (6, 4, 5)),
        (Flatten(-3, 2), (2, 12, 5)),
        (Flatten(3), (2, 3, 4, 5)),
    ],
    ids=repr,
)
def test_a_run_of_axes_is_joined(layer: Flatten, shape: tuple[int, ...]) -> None:
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    y, backward = layer.forward(x)
    assert y.shape == shape
    assert np.array_equal(backward(y)[0], x)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (PReLU.create(3), (3,), "x of shape (batch, 3, ...), got (3,)"),
        (PReLU.create(3), (3, 2, 4, 4), "x of shape (batch, 3, ...), got (3, 2, 4, 4)"),
        (Softmax(2), (3, 4), "x of at least 3 axes for dim=2, got (3, 4)"),
        (LogSoftmax(-2), (3,), "x of at least 2 axes for dim=-2, got (3,)"),
        (Softmax(1), (), "x of at least 2 axes for dim=1, got ()"),
        (Flatten(), (3,), "x of at least 2 axes for start_dim=1, got (3,)"),
        (Softmax(1), (3, 0), "x of at least one element along dim=1, got (3, 0)"),
        (Flatten(0, -3), (3, 4), "x of at least 3 axes for end_dim=-3, got (3, 4)"),
        (Flatten(2, -2), (3, 4, 5), "x in which start_dim=2 is not after end_dim=-2, got (3, 4, 5)"),
    ],
    ids=str,
)
def test_an_input_that_does_not_fit_is_refused(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    assert needs(ShapeError, layer.forward, np.ones(shape)) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(PReLU.create, 0), "num_parameters of at least 1, got 0"),
        (partial(GELU, "erf"), "approximate of none or tanh, got 'erf'"),  # type: ignore[arg-type]
        (partial(Softplus, 0.0), "a beta other than 0, got 0.0"),
        (Softmax, "dim, the axis that it normalises, got None"),
        (LogSoftmax, "dim, the axis that it normalises, got None"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make: Callable[[], Layer], message: str) -> None:
    assert needs(ValueError, make) == message
