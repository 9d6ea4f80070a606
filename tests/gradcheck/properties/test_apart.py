"""What sets a layer or loss apart from its twin is explained as a wrong gradient is: value and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.contract import Array
from gradcheck.properties.twins import forward_agrees_with_twin, gradients_agree_with_twin

RNG = np.random.default_rng(0)
CLAIMS = [forward_agrees_with_twin, gradients_agree_with_twin]
NAMES = {"params": {"weight": "w.T", "bias": "b"}, "grads": {"weight": "dw.T", "bias": "db"}}
OTHER_FUNCTION = "; differences agree with the pullback: the forward pass computes another function than torch"
WRONG_BACKWARD = "; differences and torch agree with each other: the backward pass is wrong"


class Squares:
    """The mean of squares, where torch has their sum over each sample: consistently."""

    def forward(self, p: Array, t: Array) -> float:
        self.error = p - t
        return float(np.mean(self.error**2))

    def backward(self) -> Array:
        return 2 * self.error / self.error.size


class SquaresInTorch(torch.nn.Module):
    """The mean over the batch of what each sample sums to."""

    def forward(self, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return ((p - t) ** 2).sum(dim=1).mean()


@pytest.mark.long
def test_a_mean_over_more_than_torchs_is_named_in_value_and_gradient() -> None:
    p, t = RNG.standard_normal((2, 4, 5))
    report = gradcheck.check_loss(Squares(), p, t, twin=SquaresInTorch(), claims=CLAIMS, variations=False)
    assert [one.diagnosis for one in report.failures] == [
        "the output is exactly 1/5 of torch's; 5 is the number of outputs",
        f"prediction's gradient is exactly 1/5 of torch's; 5 is the number of outputs{OTHER_FUNCTION}",
    ]


class Dense:
    """``y = x w + b``, with one fault or none."""

    def __init__(self, fault: str = "") -> None:
        self.fault, self.w, self.b = fault, RNG.standard_normal((3, 4)), RNG.standard_normal(4)

    def forward(self, x: Array) -> Array:
        self.x = x
        y = x @ self.w + self.b
        return y[::-1] if self.fault == "reversed" else -y if self.fault == "negated" else y

    def backward(self, dy: Array) -> Array:
        dy = dy[::-1] if self.fault == "reversed" else -dy if self.fault == "negated" else dy
        self.dw, self.db = self.x.T @ dy, dy.sum(axis=0)
        if self.fault == "mean":
            self.dw /= len(dy)
        if self.fault == "row":
            self.dw[1] *= 3
        return dy @ self.w.T


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("fault", "said", "message"),
    [
        (
            "mean",
            f"weight's gradient is exactly 1/5 of torch's; 5 is the batch size{WRONG_BACKWARD}",
            "weight: all 12 elements wrong; right: input, bias",
        ),
        (
            "row",
            "column 1 of weight's gradient is exactly 3 times what it should be; "
            f"the other 8 elements agree{WRONG_BACKWARD}",
            "weight: 4 of 12 elements wrong; right: input, bias",
        ),
        ("reversed", "the output is torch's reversed along axis 0", "output: 16 of 20 elements wrong"),
        pytest.param(
            "negated",
            "the output is exactly -1 times torch's, the sign is wrong",
            "output: all 20 elements wrong",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_is_right(fault: str, said: str, message: str) -> None:
    x = RNG.standard_normal((5, 3))
    twin = torch.nn.Linear(3, 4)
    report = gradcheck.check_layer(Dense(fault), x, twin=twin, claims=CLAIMS, variations=False, **NAMES)  # type: ignore[arg-type]
    failure = report.failures[0]
    assert failure.diagnosis == said
    assert failure.message == message


def test_what_agrees_needs_no_cause() -> None:
    x = RNG.standard_normal((5, 3))
    assert gradcheck.check_layer(Dense(), x, twin=torch.nn.Linear(3, 4), claims=CLAIMS, **NAMES)  # type: ignore[arg-type]
