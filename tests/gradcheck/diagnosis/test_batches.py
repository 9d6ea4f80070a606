"""A factor that is the batch size is told from whatever else is as large, by another batch; on any axis."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.properties.gradients import gradients_agree_with_differences
from tests.long import later

RNG = np.random.default_rng(0)
W = {"params": {"w": "w"}, "grads": {"w": "dw"}}


class Rows:
    """``y = x w``, samples in rows; the gradient of w is divided by a share of the output's shape."""

    def __init__(self, axis: int, inputs: int = 4, outputs: int = 3) -> None:
        self.axis, self.w = axis, RNG.standard_normal((inputs, outputs))

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.w

    def backward(self, dy: Array) -> Array:
        self.dw = self.x.T @ dy / dy.shape[self.axis]
        return dy @ self.w.T


class Columns(Rows):
    """``y = w x``, samples in columns."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.w.T @ x

    def backward(self, dy: Array) -> Array:
        self.dw = self.x @ dy.T / dy.shape[self.axis]
        return self.w @ dy


def said_of(layer: object, x: Array) -> str:
    report = gradcheck.check_layer(layer, x, claims=[gradients_agree_with_differences], **W)  # type: ignore[arg-type]
    return report.failures[0].diagnosis


def test_another_batch_size_tells_it_from_as_many_outputs() -> None:
    x = RNG.standard_normal((3, 4))
    assert said_of(Rows(0), x) == "w's gradient is exactly 1/3 of the numerical one; 3 is the batch size"
    assert said_of(Rows(1), x) == "w's gradient is exactly 1/3 of the numerical one; 3 is the number of outputs"


def test_samples_may_be_columns() -> None:
    found = said_of(Columns(1), RNG.standard_normal((4, 5)))
    assert (
        found == "w's gradient is exactly 1/5 of the numerical one; 5 is the extent of the output's axis 1, the batch"
    )


class Entropy:
    """Binary cross-entropy, a mean over one axis and a sum over the other; the gradient is that of a plain sum."""

    def __init__(self, axis: int | None) -> None:
        self.axis = axis

    def forward(self, p: Array, t: Array) -> float:
        self.p, self.t = p, t
        each = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        return float(each.mean() if self.axis is None else each.sum() / p.shape[self.axis])

    def backward(self) -> Array:
        return (self.p - self.t) / (self.p * (1 - self.p))


@pytest.mark.parametrize("shape", later([((2, 5),), ((1, 5),)], 1))
@pytest.mark.parametrize(
    ("axis", "said"),
    [(1, "5 times the numerical one; 5 is the extent of the input's axis 1, the batch"), (0, None), (None, None)],
)
def test_a_mean_that_is_forgotten_is_over_the_batch_wherever_that_is(
    shape: tuple[int, int], axis: int | None, said: str | None
) -> None:
    p, t = RNG.uniform(0.05, 0.95, shape), (RNG.random(shape) > 0.5) * 1.0
    failures = gradcheck.check_loss(Entropy(axis), p, t, claims=[gradients_agree_with_differences]).failures
    if said is not None:
        assert said in failures[0].diagnosis
    elif axis == 0:
        assert "2 times the numerical one; 2 is the batch size" in failures[0].diagnosis or shape[0] == 1
    else:
        elements = "10 is the number of elements" if shape[0] == 2 else "5 times the numerical one"
        assert elements in failures[0].diagnosis
        assert "the batch:" not in failures[0].diagnosis
