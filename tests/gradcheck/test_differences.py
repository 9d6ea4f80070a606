"""Estimates lie within their bounds of derivatives that are known in closed form, and kinks have none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.differences import central_differences, elementwise_noise

ONE = np.ones(())
SMOOTH: list[tuple[str, Callable[[Array], Array], Callable[[Array], Array]]] = [
    ("square", lambda x: x * x, lambda x: 2 * x),
    ("cube", lambda x: x**3, lambda x: 3 * x**2),
    ("sin", np.sin, np.cos),
    ("exp", np.exp, np.exp),
    ("logistic", lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    ("log1p(x^2)", lambda x: np.log1p(x * x), lambda x: 2 * x / (1 + x * x)),
    ("1e6 + sin", lambda x: 1e6 + np.sin(x), np.cos),
]


@pytest.mark.parametrize(("f", "slope"), [(f, slope) for _, f, slope in SMOOTH], ids=[name for name, _, _ in SMOOTH])
def test_estimates_are_within_their_bounds(f: Callable[[Array], Array], slope: Callable[[Array], Array]) -> None:
    x = np.random.default_rng(0).uniform(-4, 4, 500)
    dy = np.random.default_rng(1).standard_normal(500)
    shadows = [f(x * (1 + 2e-16 * np.random.default_rng(k).uniform(-2, 2, 500))) for k in range(16)]
    estimate = central_differences(f, x, dy, elementwise_noise(f(x), shadows))
    assert np.isfinite(estimate.error).mean() > 0.99
    told = np.isfinite(estimate.error)
    error = np.abs(estimate.value - dy * slope(x))[told]
    assert (error <= estimate.error[told]).all()
    scale = np.abs(dy * np.abs(f(x)))[told].max()
    assert np.median(estimate.error[told]) < 1e-8 * scale  # and the bounds are of use


def test_the_bound_holds_where_the_usual_estimate_of_truncation_does_not() -> None:
    def logistic(x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    # Steps are in units of the largest element; near some of these centres the h^4 and h^6 terms nearly cancel.
    for centre in np.linspace(0.5, 4, 1000):
        x = np.array([centre, 7.5])
        estimate = central_differences(logistic, x, np.array([1.0, 0.0]), np.full(2, 1e-16))
        slope = logistic(-x[0]) * logistic(x[0])
        assert abs(estimate.value[0] - slope) <= estimate.error[0]


@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-3, 0.004, 0.01, -0.003])
def test_at_and_near_a_kink_a_step_is_found_that_misses_it_or_none(distance: float) -> None:
    x = np.array([distance, 2.0])
    estimate = central_differences(lambda x: np.maximum(x, 0), x, np.ones(2), np.full(2, 1e-16))
    if np.isfinite(estimate.error[0]):
        assert abs(estimate.value[0] - float(distance > 0)) <= estimate.error[0]
    else:
        assert abs(distance) < 1e-3
    assert abs(estimate.value[1] - 1) <= estimate.error[1]


def test_the_kink_itself_has_no_estimate() -> None:
    estimate = central_differences(np.abs, np.array([0.0]), np.ones(1), np.full(1, 1e-16))
    assert np.isinf(estimate.error).all()


def test_a_kink_that_the_cotangent_would_hide_is_seen() -> None:
    def both(x: Array) -> Array:
        return np.stack([np.maximum(x[0], 0), np.maximum(-x[0], 0)])

    # Under dy = (1, -1), <dy, f> is x and as smooth as can be, though both outputs have a kink.
    estimate = central_differences(both, np.array([0.0]), np.array([1.0, -1.0]), np.full(2, 1e-16))
    assert np.isinf(estimate.error).all()


def test_the_input_is_not_changed() -> None:
    x = np.array([1.0, 2.0])
    central_differences(np.sin, x, np.ones(2), np.full(2, 1e-16))
    assert x.tolist() == [1.0, 2.0]


def test_empty_arrays_have_empty_estimates() -> None:
    estimate = central_differences(np.sin, np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3)))
    assert estimate.value.shape == estimate.error.shape == (0, 3)
