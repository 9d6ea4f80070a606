# mypy: ignore-errors
"""Outputs that move by steps, of rounding inside or to some decimals: right code passes, and wrong code fails."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.long import later

SINGLE = np.float32
DIFFERENCES = "gradients_agree_with_differences"
SAID = "your code rounds its output to multiples of {}, below which nothing shows"
X = np.random.default_rng(0).standard_normal((4, 5))


class ExactGelu:
    """x (1 + erf(x / sqrt 2)) / 2 in float32; what nudges would show is dropped with the class of the array."""

    def __init__(self, slope=1.0, density=1.0):
        self.slope, self.density = SINGLE(slope), SINGLE(density)

    def cdf(self, x):
        return SINGLE(0.5) * (1 + np.vectorize(erf)(x / SINGLE(np.sqrt(2))).astype(SINGLE))

    def forward(self, x):
        self.x = x.astype(SINGLE)
        return self.x * self.cdf(self.x)

    def backward(self, dy):
        density = np.exp(-(self.x**2) / 2) / SINGLE(np.sqrt(2 * np.pi))
        return dy * self.slope * (self.cdf(self.x) + self.density * self.x * density)


class TanhGelu(ExactGelu):
    def cdf(self, x):
        x = np.array(x.tolist(), SINGLE)
        self.t = np.tanh(SINGLE(np.sqrt(2 / np.pi)) * (x + SINGLE(0.044715) * x**3))
        return SINGLE(0.5) * (1 + self.t)

    def backward(self, dy):
        inner = SINGLE(np.sqrt(2 / np.pi)) * (1 + SINGLE(3 * 0.044715) * self.x**2)
        return dy * self.slope * (self.cdf(self.x) + self.density * self.x * (1 - self.t**2) / 2 * inner)


def verdict_of(layer, x, **options):
    options = {"variations": False, "claims": [DIFFERENCES]} | options
    return gradcheck.check_layer(layer, x, **options).verdict


@pytest.mark.short(1)
@pytest.mark.parametrize(("low", "high"), later([(-10, -6), (-10, 2), (-5.5, -4.5)], 2))
@pytest.mark.parametrize("layer", [ExactGelu, TanhGelu])
def test_a_right_gelu_in_float32_is_not_accused_far_below_zero(layer, low, high):
    for seed in range(4):
        x = np.random.default_rng(seed).uniform(low, high, (3, 4)).astype(SINGLE)
        assert verdict_of(layer(), x, seed=seed) is not Verdict.FAIL
        assert verdict_of(layer(), x, seed=seed, mode="fast") is not Verdict.FAIL


@pytest.mark.parametrize("wrong", later([{"density": 0.0}, {"slope": 1.5}], 1))
@pytest.mark.parametrize("layer", later([ExactGelu, TanhGelu], 1))
def test_a_wrong_one_fails_where_it_moves_by_many_steps(layer, wrong):
    found = []
    for seed in range(6):
        x = np.random.default_rng(seed).uniform(-4.5, -3.0, (3, 4)).astype(SINGLE)
        found.append(verdict_of(layer(**wrong), x, mode="fast"))
    assert verdict_of(layer(**wrong), x) is Verdict.FAIL
    # A few directions may be too rough to tell.
    assert found.count(Verdict.FAIL) >= 3
    assert Verdict.PASS not in found


class Rounded:
    """A sigmoid of x W, rounded to some decimals; ``times`` the right gradient, to as many if ``back``."""

    def __init__(self, places, times=1.0, back=False):
        self.W = np.random.default_rng(1).standard_normal((5, 3))
        self.places, self.times, self.back = places, times, places if back else 15

    def forward(self, x):
        self.x, self.y = x, 1 / (1 + np.exp(-x @ self.W))
        return np.round(self.y, self.places)

    def backward(self, dy):
        dz = self.times * dy * self.y * (1 - self.y)
        self.dW = np.round(self.x.T @ dz, self.back)
        return np.round(dz @ self.W.T, self.back)


@pytest.mark.parametrize("back", later([True, False], 1))
@pytest.mark.parametrize(("places", "multiples"), later([(4, "1e-04"), (8, "1e-08"), (6, "1e-06")], 2))
def test_right_code_that_rounds_to_decimals_passes_and_that_is_said(places, multiples, back):
    report = gradcheck.check_layer(Rounded(places, back=back), X)
    assert not report.failures, str(report)
    assert SAID.format(multiples) in str(report)
    assert "float32" not in str(report)


@pytest.mark.parametrize("places", later([4, 8, 6], 2))
@pytest.mark.parametrize("times", later([0.9, -1.0], 1))
def test_wrong_code_that_rounds_to_decimals_fails(times, places):
    assert verdict_of(Rounded(places, times), X) is Verdict.FAIL
    assert verdict_of(Rounded(places, times), X, mode="fast") is Verdict.FAIL


@pytest.mark.long
def test_the_cause_is_named_of_what_is_rounded_to_decimals():
    report = gradcheck.check_layer(Rounded(8, 1.5), X, claims=[DIFFERENCES], variations=False)
    assert "exactly 3/2 times the numerical one" in str(report)


@pytest.mark.short(1)
@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (2.0, Verdict.FAIL)])
def test_a_loss_and_a_function_may_round_too(times, verdict):
    def loss(prediction, target):
        difference = prediction - target
        return np.round((difference**2).mean(), 6), times * 2 * difference / difference.size

    assert gradcheck.check_loss(loss, X, X[::-1].copy()).verdict is verdict
    report = gradcheck.check_gradients(lambda x: np.round(np.sin(x), 6), (X,), lambda i, dy: times * dy * np.cos(i[0]))
    assert report.verdict is verdict
    assert SAID.format("1e-06") in str(report)


@pytest.mark.parametrize("step", [1.0, 2.0])
def test_a_jump_alone_is_no_step_of_rounding(step):
    """Each element is judged beside a jump, as a hard threshold has one: the gradient there is that of the branch."""

    def f(x):
        return np.where(x > 0.01, 3 * x + step, x)

    x = np.linspace(-0.02, 0.04, 6)
    assert gradcheck.check_gradients(f, (x,), lambda i, dy: dy * np.where(i[0] > 0.01, 3, 1)).verdict is Verdict.PASS
    assert gradcheck.check_gradients(f, (x,), lambda i, dy: 1.1 * dy * np.where(i[0] > 0.01, 3, 1)).failures
