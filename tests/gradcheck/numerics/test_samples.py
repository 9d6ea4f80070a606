"""The batch is the axis along which a subject takes its input apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcheck.contract import Array, Case
from gradcheck.numerics.samples import batch_axis
from gradcheck.subjects.function import PlainFunction
from gradcheck.subjects.loss import ForeignLoss
from nets.layers import BatchNorm1d, LayerNorm, Linear

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((3, 3))


def of(f: Callable[[Array], Array], x: Array) -> int | None:
    return batch_axis(Case(PlainFunction(f, lambda _, dy: (dy,)), (x,)))


@pytest.mark.parametrize(
    ("f", "shape", "axis"),
    [
        (lambda x: x @ MATRIX, (4, 3), 0),
        (lambda x: MATRIX @ x, (3, 4), 1),
        (np.tanh, (4, 3), 0),
        (np.tanh, (1, 3), None),
        (lambda x: x - x.mean(axis=0), (4, 3), 1),
        (lambda x: np.cumsum(x, axis=0), (5, 2, 3), 1),
        (lambda x: x / np.linalg.norm(x), (4, 3), 0),
        (np.tanh, (4,), 0),
    ],
)
def test_the_axis_is_seen(f: Callable[[Array], Array], shape: tuple[int, ...], axis: int | None) -> None:
    assert of(f, RNG.standard_normal(shape)) == axis


def test_layers_have_theirs_first() -> None:
    x = RNG.standard_normal((4, 3))
    for layer in (Linear.create(3, 2), LayerNorm.create(3), BatchNorm1d.create(3)):
        assert batch_axis(Case(layer, (x,), training=True)) == 0


class Entropy:
    """Cross-entropy after a softmax over the classes, a mean or a sum over the samples."""

    def __init__(self, axis: int, of: Callable[[Array], Array] = np.mean) -> None:
        self.axis, self.of = axis, of

    def forward(self, x: Array, t: Array) -> float:
        self.shape = x.shape
        z = np.moveaxis(x, self.axis, 1)
        return float(self.of(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), t]))

    def backward(self) -> Array:
        return np.zeros(self.shape)  # which nobody asks for here


@pytest.mark.parametrize("reduction", [np.mean, np.sum])
@pytest.mark.parametrize("classes", [0, 1])
def test_a_loss_is_a_mean_or_a_sum_of_its_halves(classes: int, reduction: Callable[[Array], Array]) -> None:
    x, t = RNG.standard_normal((4, 3)), np.array([1, 0, 2, 1])
    inputs = (x, t) if classes == 1 else (x.T, t)
    assert batch_axis(Case(ForeignLoss.of(Entropy(classes, reduction), *inputs), inputs)) == 1 - classes
