"""An eps in the logarithm of one of a loss and its twin is a guard; what else parts them is a fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.contract import Array
from tests.long import later

EPS = 1e-7
RNG = np.random.default_rng(0)
P, T = RNG.uniform(0.05, 0.95, (5, 3)), (RNG.uniform(size=(5, 3)) > 0.5) * 1.0


@dataclass
class Binary:
    """Binary cross-entropy of probabilities, with an eps in its value, in its gradient, and faults."""

    value: float = 0.0
    gradient: float = 0.0
    more: float = 0.0
    factor: float = 1.0

    def forward(self, p: Array, t: Array) -> Any:
        self.p, self.t = p, t
        return self.more - np.mean(t * np.log(p + self.value) + (1 - t) * np.log(1 - p + self.value))

    def backward(self) -> Array:
        p, t = self.p, self.t
        return self.factor * (-t / (p + self.gradient) + (1 - t) / (1 - p + self.gradient)) / p.size


class OfTorch(torch.nn.Module):
    """The same with an eps."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, p: Any, t: Any) -> Any:
        return -(t * torch.log(p + self.eps) + (1 - t) * torch.log(1 - p + self.eps)).mean()


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("loss", "twin"),
    [
        (Binary(EPS, 0.0), torch.nn.BCELoss()),
        (Binary(EPS, EPS), torch.nn.BCELoss()),
        (Binary(0.0, EPS), OfTorch(0.0)),
        (Binary(0.0, 0.0), OfTorch(EPS)),
        (Binary(1e-12, 1e-12), OfTorch(0.0)),
    ],
)
@pytest.mark.parametrize("t", later([T, RNG.uniform(size=P.shape)], after=1))
def test_a_guard_on_one_side_passes_with_a_remark(loss: Binary, twin: torch.nn.Module, t: Array) -> None:
    report = gradcheck.check_loss(loss, P, t, twin=twin)
    assert report.verdict == "pass", str(report)
    assert "differs from the twin's as eps = " in str(report)


@pytest.mark.short(2)
@pytest.mark.parametrize(
    "loss",
    [Binary(EPS, EPS, more=1e-6), Binary(EPS, EPS, factor=1 + 1e-6), Binary(1e-3, 1e-3), Binary(more=1e-6)],
)
def test_what_is_wrong_beside_a_guard_is_caught(loss: Binary) -> None:
    claims = ("forward_agrees_with_twin", "gradients_agree_with_twin")
    report = gradcheck.check_loss(loss, P, T, twin=torch.nn.BCELoss(), claims=claims, variations=False)
    assert report.verdict == "fail"
