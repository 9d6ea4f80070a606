"""The gradient of a scale that lacks the eps beside a deviation is off by a guard; by a factor it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array


@dataclass
class LayerNorm:
    """``gamma (x - mean) / (deviation + eps) + beta``, whose gradients know of no eps."""

    eps: float = 1e-5
    factor: float = 1.0
    gamma: Array = field(default_factory=lambda: np.linspace(0.5, 1.5, 4))
    beta: Array = field(default_factory=lambda: np.zeros(4))

    def forward(self, x: Array) -> Array:
        self.deviation = x.std(axis=-1, keepdims=True)
        self.normed = (x - x.mean(axis=-1, keepdims=True)) / self.deviation
        return self.gamma * self.normed * (self.deviation / (self.deviation + self.eps)) + self.beta

    def backward(self, dy: Array) -> Array:
        self.dgamma, self.dbeta = self.factor * (dy * self.normed).sum(axis=0), dy.sum(axis=0)
        g = dy * self.gamma
        mean, along = g.mean(axis=-1, keepdims=True), (g * self.normed).mean(axis=-1, keepdims=True)
        return np.asarray((g - mean - self.normed * along) / self.deviation)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("layer", "verdict"),
    [(LayerNorm(), "pass"), (LayerNorm(factor=1 + 1e-5), "fail"), (LayerNorm(eps=1e-3), "fail")],
)
def test_a_scales_gradient_may_lack_an_eps_and_nothing_else(layer: LayerNorm, verdict: str, samples: int) -> None:
    x = np.random.default_rng(1).standard_normal((samples, 4))
    report = gradcheck.check_layer(layer, x)
    assert report.verdict == verdict, str(report)
