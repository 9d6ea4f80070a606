"""An eps beside the deviation of one of a layer and its twin is a guard; what else parts them is a fault."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.contract import Array
from tests.long import later

CLAIMS = ("forward_agrees_with_twin", "gradients_agree_with_twin")
NAMES = {"gamma": "weight", "beta": "bias"}


@dataclass
class Normalised:
    """``gamma (x - mean) / sqrt(var + eps) + beta`` along an axis, with faults of the value and of the gradients."""

    axis: int = -1
    eps: float = 0.0
    factor: float = 1.0
    more: float = 0.0
    slope: float = 1.0
    slope_of_gamma: float = 1.0
    gamma: Array = field(default_factory=lambda: np.linspace(0.5, 1.5, 4))
    beta: Array = field(default_factory=lambda: np.linspace(-1.0, 2.0, 4))

    def forward(self, x: Array) -> Array:
        self.deviation = np.sqrt(x.var(axis=self.axis, keepdims=True) + self.eps)
        self.normed = (x - x.mean(axis=self.axis, keepdims=True)) / self.deviation
        return np.asarray(self.factor * self.gamma * self.normed + self.beta + self.more)

    def backward(self, dy: Array) -> Array:
        self.dgamma, self.dbeta = self.slope_of_gamma * self.factor * (dy * self.normed).sum(axis=0), dy.sum(axis=0)
        g = self.factor * dy * self.gamma
        mean, along = (each.mean(axis=self.axis, keepdims=True) for each in (g, g * self.normed))
        return np.asarray(self.slope * (g - mean - self.normed * along) / self.deviation)


def checked(layer: Normalised, eps: float, *, width: int = 4, seed: int = 0) -> gradcheck.Report:
    """Compare with torch's normalisation along the same axis."""
    layer.gamma, layer.beta = layer.gamma[:width], layer.beta[:width]
    twin = torch.nn.LayerNorm(width, eps=eps) if layer.axis else torch.nn.BatchNorm1d(width, eps=eps)
    x = np.random.default_rng(seed).standard_normal((5, width))
    training = None if layer.axis else True
    return gradcheck.check_layer(
        layer, x, twin=twin, twin_params=NAMES, claims=CLAIMS, variations=False, training=training
    )


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(("own", "twins"), later([(0.0, 1e-5), (1e-7, 1e-30), (0.0, 1e-8), (0.0, 1e-12)], after=1))
@pytest.mark.parametrize("width", later([4, 2], after=1))
@pytest.mark.parametrize("seed", later([0, 1], after=1))
def test_an_eps_beside_the_deviation_of_one_side_passes_with_a_remark(
    axis: int, own: float, twins: float, width: int, seed: int
) -> None:
    report = checked(Normalised(axis, own), twins, width=width, seed=seed)
    assert report.verdict == "pass", str(report)
    assert f"as eps = {max(own, twins):.2g} beside a norm of one of both explains" in str(report)


@pytest.mark.short(2)
@pytest.mark.parametrize(
    ("layer", "eps"),
    [
        (Normalised(), 1e-3),
        (Normalised(factor=1 + 1e-6), 1e-5),
        (Normalised(more=1e-6), 1e-5),
        (Normalised(slope=1 + 1e-6), 1e-5),
        (Normalised(slope_of_gamma=-1.0), 1e-5),
        (Normalised(factor=1 + 1e-6), 0.0),
    ],
    ids=["a large eps", "a factor", "a constant", "a gradient", "a scale", "a factor alone"],
)
def test_what_is_wrong_beside_such_an_eps_is_caught(layer: Normalised, eps: float) -> None:
    assert checked(layer, eps).verdict == "fail"
