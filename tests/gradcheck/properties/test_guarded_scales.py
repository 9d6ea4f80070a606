"""The gradient of a scale that lacks the eps beside a deviation is off by a guard; by a factor it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from tests.long import later


@dataclass
class LayerNorm:
    """``gamma (x - mean) / (deviation + eps) + beta``, whose gradients know no eps, or gamma's an ``other``."""

    eps: float = 1e-5
    factor: float = 1.0
    other: float = 0.0
    gamma: Array = field(default_factory=lambda: np.linspace(0.5, 1.5, 4))
    beta: Array = field(default_factory=lambda: np.zeros(4))

    def forward(self, x: Array) -> Array:
        self.deviation = x.std(axis=-1, keepdims=True)
        self.normed = (x - x.mean(axis=-1, keepdims=True)) / self.deviation
        return self.gamma * self.normed * (self.deviation / (self.deviation + self.eps)) + self.beta

    def backward(self, dy: Array) -> Array:
        scaled = self.normed * (self.deviation / (self.deviation + self.other))
        self.dgamma, self.dbeta = self.factor * (dy * scaled).sum(axis=0), dy.sum(axis=0)
        g = dy * self.gamma
        mean, along = g.mean(axis=-1, keepdims=True), (g * self.normed).mean(axis=-1, keepdims=True)
        return np.asarray((g - mean - self.normed * along) / self.deviation)


@pytest.mark.long
@pytest.mark.parametrize("samples", later([1, 3], after=1))
@pytest.mark.parametrize(
    ("layer", "verdict"),
    [(LayerNorm(), "pass"), (LayerNorm(factor=1 + 1e-5), "fail"), (LayerNorm(eps=1e-3), "fail")],
)
def test_a_scales_gradient_may_lack_an_eps_and_nothing_else(layer: LayerNorm, verdict: str, samples: int) -> None:
    x = np.random.default_rng(1).standard_normal((samples, 4))
    report = gradcheck.check_layer(layer, x, variations=verdict == "pass")
    assert report.verdict == verdict, str(report)


@pytest.mark.parametrize("other", later([1e-4, 1e-3], after=1))
def test_a_scales_gradient_with_another_eps_than_the_outputs_show_is_wrong(other: float) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    assert gradcheck.check_layer(LayerNorm(other=other), x, variations=False).verdict == "fail"


@dataclass
class Dense:
    """``x W``, whose gradient of W is that of another input."""

    more: float
    W: Array = field(default_factory=lambda: np.random.default_rng(1).standard_normal((4, 2)))

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.W)

    def backward(self, dy: Array) -> Array:
        self.dW = (self.x + self.more).T @ dy
        return np.asarray(dy @ self.W.T)


@pytest.mark.parametrize(("more", "close"), [(0.0, False), (1e-5, False), (0.0, True), (1e-3, True)])
def test_where_the_input_has_no_eps_beside_a_norm_a_weight_has_none(more: float, *, close: bool) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    if close:
        x[:, 0] = x[0, 0] + np.array([0.0, 3e-3, -2e-3])
    report = gradcheck.check_layer(Dense(more), x, variations=False)
    assert report.verdict == ("fail" if more else "pass"), str(report)
