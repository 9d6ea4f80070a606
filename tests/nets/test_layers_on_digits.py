"""Layers on real handwriting, whose flat background ties most pooling windows, which random arrays never do."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array, Layer
from gradcheck.numerics.agreement import Verdict
from nets.datasets.digits import load_digits
from nets.layers import BatchNorm2d, Conv2d, Flatten, LeakyReLU, MaxPool2d, ReLU, Sequential
from tests.long import later

pytestmark = pytest.mark.rounding


def patches(count: int, height: int, width: int) -> Array:
    """Return corners of digits, (count, 1, height, width), flat but for a stroke."""
    images = load_digits().train.images[:count] / 16
    return np.asarray(images, np.float64).reshape(count, 1, 28, 28)[:, :, 4 : 4 + height, 6 : 6 + width]


OVERLAPPING = [MaxPool2d(3, stride=2, padding=1), MaxPool2d(3, stride=1)]
LAYERS: list[Layer] = [
    MaxPool2d(2),
    ReLU(),
    LeakyReLU(0.1),
    Flatten(),
    Conv2d.create(1, 3, 3, stride=2, padding=1),
    BatchNorm2d.create(1),
    Sequential((Conv2d.create(1, 2, 3, padding=1), ReLU(), MaxPool2d(2))),
]


@pytest.mark.short(2)
@pytest.mark.parametrize(
    "size", [pytest.param((1, 4, 5), id="small"), pytest.param((2, 7, 7), id="large", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("layer", later([*LAYERS, *OVERLAPPING], len(LAYERS)), ids=lambda layer: type(layer).__name__)
def test_every_property_holds_on_digits(layer: Layer, size: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    layer = layer.replace_arrays({name: rng.standard_normal(a.shape) for name, a in layer.parameters().items()})
    x = patches(*size)
    assert (x == 0).mean() > 0.25
    report = gradcheck.check_layer(layer, x)
    assert report.verdict is Verdict.PASS, str(report)
