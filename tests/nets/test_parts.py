"""Layers and losses at values known in closed form, extremes included; initialisers by their statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nets.initializers import Normal, XavierNormal, XavierUniform, Zeros, fans, initialize
from nets.layers import Linear, ReLU, Sequential, Sigmoid
from nets.layers.linear import linear
from nets.losses import BCELoss, CrossEntropyLoss, MSELoss, QuadraticCost
from nets.optimizers import SGD
from nets.schedules import Constant, MultiStep


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


def test_relu_knows_its_kink() -> None:
    kinks = ReLU().kinks(np.array([-2.0, 0.5]))
    assert (kinks.choice.tolist(), kinks.margin.tolist()) == ([False, True], [2.0, 0.5])


def test_linear_sums_the_bias_gradient_over_every_leading_axis() -> None:
    _, backward = Linear(np.ones((2, 3)), np.zeros(2)).forward(np.ones((4, 5, 3)))
    assert backward(np.ones((4, 5, 2)))[1]["bias"].tolist() == [20.0, 20.0]


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e300])
def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes(scale: float) -> None:
    value, backward = CrossEntropyLoss().forward(np.full((2, 4), scale), np.array([0, 3]))
    assert value == pytest.approx(math.log(4), rel=1e-15)
    np.testing.assert_allclose(backward(np.ones(()))[0], np.array([-0.75, 0.25, 0.25, 0.25]) / 2, rtol=1e-15)


def test_cross_entropy_takes_the_maximum_of_each_row() -> None:
    value, backward = CrossEntropyLoss().forward(np.array([[0.0, 0.0], [2000.0, 0.0]]), np.array([0, 0]))
    assert value == pytest.approx(math.log(2) / 2, rel=1e-15)
    assert np.isfinite(backward(np.ones(()))).all()


def test_losses_differ_by_their_reductions() -> None:
    p, t = np.array([[0.5, 0.25], [0.0, 1.0]]), np.array([[0.0, 0.25], [1.0, 1.0]])
    assert MSELoss().forward(p, t)[0] == 1.25 / 4
    assert QuadraticCost().forward(p, t)[0] == 1.25 / 4  # over 2 outputs, half a sum is their mean
    wide_p, wide_t = np.hstack([p, p])[:, :3], np.hstack([t, t])[:, :3]
    assert QuadraticCost().forward(wide_p, wide_t)[1](np.ones(())) == pytest.approx(
        1.5 * MSELoss().forward(wide_p, wide_t)[1](np.ones(()))
    )


def test_binary_cross_entropy_at_known_values() -> None:
    value, backward = BCELoss().forward(np.array([[0.5, 0.25]]), np.array([[1.0, 0.0]]))
    assert value == pytest.approx((math.log(2) - math.log(0.75)) / 2, rel=1e-15)
    assert backward(np.ones(()))[0].tolist() == pytest.approx([-1.0, 2 / 3])


def test_sgd_moves_in_place_and_skips_what_has_no_gradient() -> None:
    params = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    held = params["a"]
    SGD().step(params, {"a": np.array([1.0, -1.0])}, 0.5)
    assert params["a"] is held
    assert (held.tolist(), params["b"].tolist()) == ([0.5, 2.5], [3.0])


def test_schedules_at_their_milestones() -> None:
    assert [Constant(0.3)(epoch) for epoch in (0, 7)] == [0.3, 0.3]
    steps = MultiStep(1.0, (2, 4), 0.5)
    assert [steps(epoch) for epoch in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


# Deviations of a statistic of n draws: a right initialiser is beyond five once in 10^6 seeds, and the seed is fixed.
SIGMAS = 5
SHAPE = (300, 200)
COUNT = 300 * 200


@pytest.mark.parametrize(
    ("rule", "variance", "kurtosis"),
    [
        (Normal(0.01), 1e-4, 3.0),
        (XavierNormal(), 2 / 500, 3.0),
        (XavierNormal(gain=2.0), 8 / 500, 3.0),
        (XavierUniform(), 2 / 500, 1.8),
    ],
)
def test_initial_weights_have_their_distribution(rule: Normal, variance: float, kurtosis: float) -> None:
    w = rule.draw(SHAPE, np.random.default_rng(0))
    assert w.shape == SHAPE
    assert w.dtype == np.float64
    assert abs(w.mean()) < SIGMAS * math.sqrt(variance / COUNT)
    assert abs(w.var() / variance - 1) < SIGMAS * math.sqrt((kurtosis - 1) / COUNT)
    fourth = ((w / math.sqrt(variance)) ** 4).mean()
    assert abs(fourth - kurtosis) < SIGMAS * math.sqrt(96 / COUNT)  # 96: the variance of a normal's fourth power


def test_uniform_weights_are_bounded() -> None:
    w = XavierUniform().draw(SHAPE, np.random.default_rng(0))
    bound = math.sqrt(6 / 500)
    assert 0.999 * bound < np.abs(w).max() <= bound


def test_fans_count_the_kernel() -> None:
    assert fans((8, 3, 5, 5)) == (75, 200)
    with pytest.raises(ValueError, match=r"fan-in and fan-out need a weight of shape \(out, in, ...\), got \(3,\)"):
        fans((3,))


def test_initialisation_fills_weights_and_biases_by_their_own_rules() -> None:
    model = Sequential((linear(4, 3), Sigmoid(), linear(3, 2)))
    initialize(model, Normal(), Zeros(), np.random.default_rng(0))
    arrays = model.parameters()
    assert all(arrays[name].all() for name in ("0.weight", "2.weight"))
    assert not any(arrays[name].any() for name in ("0.bias", "2.bias"))
