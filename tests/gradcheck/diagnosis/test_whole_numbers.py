"""A gradient that is rounded to whole numbers is wrong, and the report says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from tests.long import later


class Square:
    """``x^2``, whose gradient is made of whole numbers."""

    def __init__(self, whole: Callable[[Array], Array]) -> None:
        self.whole = whole

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x**2)

    def backward(self, dy: Array) -> Array:
        return self.whole(2 * dy * self.x)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("whole", "how"),
    later([(np.round, "rounded to"), (np.trunc, "cut off at the point, to"), (np.floor, "rounded down to")], after=2),
)
@pytest.mark.parametrize("size", later([1.0, 100.0], after=1))
def test_a_gradient_of_whole_numbers_is_called_so(whole: Callable[[Array], Array], how: str, size: float) -> None:
    x = size * np.random.default_rng(0).standard_normal((4, 3))
    report = gradcheck.check_layer(Square(whole), x, variations=False)
    assert report.verdict == "fail"
    assert f"input's gradient is the numerical one, {how} whole numbers" in str(report)
