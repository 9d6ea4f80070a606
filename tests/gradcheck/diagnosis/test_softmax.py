"""An eps beside the sum of a softmax moves the gradient where the input is largest alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcheck import check_layer
from gradcheck.contract import Array

X = np.random.default_rng(4).normal(size=(5, 4))


class Softmax:
    """Has the gradient of a softmax without an eps, or a mistaken one."""

    def __init__(self, eps: float, axis: int = -1, mistake: Callable[[Array], Array] = lambda dx: dx) -> None:
        self.eps, self.axis, self.mistake = eps, axis, mistake

    def forward(self, x: Array) -> Array:
        e = np.exp(x - x.max(self.axis, keepdims=True))
        self.y = e / (e.sum(self.axis, keepdims=True) + self.eps)
        return self.y

    def backward(self, dy: Array) -> Array:
        return self.mistake(self.y * (dy - (dy * self.y).sum(self.axis, keepdims=True)))


def _one_off(dx: Array) -> Array:
    dx[1, 1] *= 1 + 1e-6
    return dx


TIED = np.where(np.arange(4) < 2, 1.5, X)  # two of each sample, which are the largest of some


@pytest.mark.parametrize(("eps", "axis", "x"), [(1e-10, -1, X), (1e-8, 0, X), (1e-8, 0, -X), (1e-6, -1, TIED)])
def test_a_small_eps_passes_with_a_remark(eps: float, axis: int, x: Array) -> None:
    report = check_layer(Softmax(eps, axis), x, claims=["gradients_agree_with_differences"], variations=False)
    report.raise_if_failed()
    assert f"as eps = {eps:.2g} beside the sum of a softmax explains" in str(report)


def _one_off_by_less_than_eps(dx: Array) -> Array:
    dx[np.arange(5), X.argmin(axis=1)] += 5e-10
    return dx


MISTAKES = [_one_off, _one_off_by_less_than_eps, lambda dx: dx * (1 + 1e-6), lambda dx: -dx]


def test_a_mistake_beside_an_eps_below_rounding_is_told_without_it() -> None:
    report = check_layer(
        Softmax(1e-15, mistake=_one_off), X, claims=["gradients_agree_with_differences"], variations=False
    )
    assert report.verdict == "fail"
    assert "eps" not in str(report)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_beside_it_fails(mistake: Callable[[Array], Array]) -> None:
    softmax = Softmax(1e-8, mistake=mistake)
    report = check_layer(softmax, X, claims=["gradients_agree_with_differences"], variations=False)
    assert report.verdict == "fail"


def test_a_large_one_fails_by_name() -> None:
    report = check_layer(Softmax(1e-3), X, claims=["gradients_agree_with_differences"], variations=False)
    assert report.verdict == "fail"
    assert "as eps = 0.001 beside the sum of a softmax explains: no mere guard" in str(report)
