# mypy: ignore-errors
"""What torch rounds to zero is no fault of the other side, and excuses none."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.long import later

torch = pytest.importorskip("torch")


class Sigmoid:
    """By exp(x) below zero, so that numbers below the normal ones come out."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, x):
        small = np.exp(-np.abs(x))
        self.y = np.where(x >= 0, 1, small) / (1 + small)
        return self.y

    def backward(self, dy):
        return self.times * dy * self.y * (1 - self.y)


@pytest.mark.short(1)
@pytest.mark.parametrize("low", later([-745.0, -88.0, -710.0, -100.0], 1))
@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (2.0, Verdict.FAIL)])
def test_sigmoids_whose_values_are_below_the_normal_numbers(low, times, verdict):
    report = gradcheck.check_layer(Sigmoid(times), np.array([[low, 0.5], [-1.0, low]]), twin=torch.nn.Sigmoid())
    assert report.verdict is verdict, str(report)


class Cancelling:
    """The sine, with the rounding of a million, which no nudge shows: it computes with arrays of its own."""

    def forward(self, x):
        self.x = np.array(x)
        return (1e6 + np.sin(self.x)) - 1e6

    def backward(self, dy):
        return dy * np.cos(self.x)


class Sine(torch.nn.Module):
    def forward(self, x):
        return torch.sin(x)


def test_rounding_that_no_nudge_shows_sets_values_apart_and_accuses_nobody():
    x = np.random.default_rng(0).standard_normal((3, 4))
    options = {"claims": ["forward_agrees_with_twin"], "dtypes": ("float64",)}
    report = gradcheck.check_layer(Cancelling(), x, twin=Sine(), **options)
    assert report.verdict is Verdict.PASS, str(report)


class Exponential:
    """exp, of which one sample may be infinite as given."""

    def forward(self, x):
        self.y = np.exp(x)
        return self.y

    def backward(self, dy):
        return dy * self.y


def test_only_a_sample_that_was_finite_has_to_stay_so():
    report = gradcheck.check_layer(Exponential(), np.array([[1.0, 2.0], [800.0, 1.0], [0.5, 0.25]]))
    assert "not finite for" not in str(report)


class Normalise:
    """Batch normalisation that has no modes: by the batch's statistics, or by kept ones, in every call."""

    def __init__(self, kept=False, times=1.0):
        self.gamma, self.beta = np.array([0.5, 1.5, -1.0]), np.array([0.1, 0.2, 0.3])
        self.kept, self.times = kept, times

    def forward(self, x):
        mean, var = (np.zeros(3), np.ones(3)) if self.kept else (x.mean(axis=0), x.var(axis=0))
        self.std = np.sqrt(var + 1e-5)
        self.normal = (x - mean) / self.std
        return self.gamma * self.normal + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = self.times * (dy * self.normal).sum(axis=0), dy.sum(axis=0)
        g = dy * self.gamma
        if not self.kept:
            g = g - g.mean(axis=0) - self.normal * (g * self.normal).mean(axis=0)
        return g / self.std


@pytest.mark.parametrize("kept", [False, True])
def test_a_layer_without_modes_is_compared_in_the_mode_that_it_computes(kept):
    x = np.random.default_rng(2).standard_normal((6, 3))
    options = {
        "twin": torch.nn.BatchNorm1d(3),
        "params": {"weight": "gamma", "bias": "beta"},
        "grads": {"weight": "dgamma", "bias": "dbeta"},
        "claims": ["forward_agrees_with_twin", "gradients_agree_with_twin"],
        "variations": False,
    }
    report = gradcheck.check_layer(Normalise(kept), x, **options)
    assert report.verdict is Verdict.PASS, str(report)
    assert ("no modes: its twin is in training mode" in str(report)) == (not kept)
    report = gradcheck.check_layer(Normalise(kept, times=1.001), x, **options)
    assert report.verdict is Verdict.FAIL
    assert report.worst.tensor == "weight"
    options["twin"].eval()  # which somebody has asked for
    assert gradcheck.check_layer(Normalise(kept), x, **options).verdict is (Verdict.PASS if kept else Verdict.FAIL)
