"""Estimates lie within their bounds of derivatives that are known in closed form, and kinks have none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcheck.contract import Array, Case, Context
from gradcheck.numerics.differences import Estimate, derivatives, elementwise_noise, hidden, one_sided
from gradcheck.numerics.directions import (
    Point,
    along,
    complex_step,
    coordinates,
    samples_are_independent,
    stacked_coordinates,
)
from gradcheck.numerics.functions import Arrays, Function, Pullback

SMOOTH: list[tuple[str, Callable[[Array], Array], Callable[[Array], Array]]] = [
    ("square", lambda x: x * x, lambda x: 2 * x),
    ("cube", lambda x: x**3, lambda x: 3 * x**2),
    ("sin", np.sin, np.cos),
    ("exp", np.exp, np.exp),
    ("logistic", lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    ("log1p(x^2)", lambda x: np.log1p(x * x), lambda x: 2 * x / (1 + x * x)),
    ("1e6 + sin", lambda x: 1e6 + np.sin(x), np.cos),
]


def point_of(f: Callable[[Array], Array], x: Array, dy: Array | None = None) -> Point:
    """Return f at x, with the rounding that 16 nudged evaluations show."""

    def call(variables: Arrays, _: Context) -> tuple[Array, Pullback]:
        return np.asarray(f(variables["input"])), lambda dy: {"input": dy}

    rng = np.random.default_rng(2)
    y = np.asarray(f(x))
    outputs = [np.asarray(f(x * (1 + 2.2e-16 * rng.uniform(-2, 2, x.shape)))) for _ in range(16)]
    function = Function({"input": x}, ("input",), call)
    return Point(function, {"input": x}, Case(None).context, y, np.ones_like(y) if dy is None else dy, outputs)


def estimate_of(f: Callable[[Array], Array], x: Array, dy: Array | None = None) -> Estimate:
    return derivatives(coordinates(point_of(f, x, dy), "input"))


@pytest.mark.parametrize(("f", "slope"), [(f, slope) for _, f, slope in SMOOTH], ids=[name for name, _, _ in SMOOTH])
def test_estimates_are_within_their_bounds(f: Callable[[Array], Array], slope: Callable[[Array], Array]) -> None:
    x = np.random.default_rng(0).uniform(-4, 4, 300)
    dy = np.random.default_rng(1).standard_normal(300)
    # One line an element, each with its own output: as for a batch of scalars.
    point = point_of(lambda x: f(x), x.reshape(-1, 1), dy.reshape(-1, 1))
    estimate = derivatives(stacked_coordinates(point, "input"))
    assert np.isfinite(estimate.error).all()
    error = np.abs(estimate.value - dy * slope(x))
    assert (error <= estimate.error).all()
    scale = np.abs(dy * np.abs(f(x))).max()
    assert np.median(estimate.error) < 1e-10 * scale  # and the bounds are of use


def test_the_bound_holds_where_the_usual_estimate_of_truncation_does_not() -> None:
    def logistic(x: Array) -> Array:
        return 1 / (1 + np.exp(-x))

    # Steps are in units of the largest element; near some of these centres the h^4 and h^6 terms nearly cancel.
    for centre in np.linspace(0.5, 4, 300):
        x = np.array([centre, 7.5])
        estimate = estimate_of(logistic, x, np.array([1.0, 0.0]))
        slope = logistic(-x[0]) * logistic(x[0])
        assert abs(estimate.value[0] - slope) <= estimate.error[0]


@pytest.mark.parametrize("x", [1e8, 1e8 + 1, -3e7, *10 ** np.random.default_rng(8).uniform(4, 9, 200)])
def test_where_the_size_of_x_is_not_the_scale_of_f_a_step_is_found_that_is(x: float) -> None:
    estimate = estimate_of(np.sin, np.array([x]))
    assert abs(estimate.value[0] - np.cos(x)) <= estimate.error[0] < 1e-3


@pytest.mark.parametrize("distance", [1e-7, 1e-6, 1e-3, 0.004, 0.01, -0.003])
def test_near_a_kink_a_step_is_found_that_misses_it_or_the_slopes_agree(distance: float) -> None:
    x = np.array([distance, 2.0])
    point = point_of(lambda x: np.maximum(x, 0), x)
    lines = coordinates(point, "input")
    estimate = derivatives(lines)
    if estimate.kinked[0]:
        slopes = one_sided(lines, np.array([0]))
        assert abs(slopes.right[0, 0] - float(distance > 0)) <= slopes.error[0, 0]
        assert abs(slopes.left[0, 0] - float(distance > 0)) <= slopes.error[0, 0]
    else:
        assert abs(estimate.value[0] - float(distance > 0)) <= estimate.error[0] < 1e-6
    assert abs(estimate.value[1] - 1) <= estimate.error[1]


def test_the_kink_itself_has_no_estimate_but_two_slopes() -> None:
    lines = coordinates(point_of(np.abs, np.array([0.0])), "input")
    estimate, slopes = derivatives(lines), one_sided(lines, np.array([0]))
    assert estimate.kinked.all()
    assert np.isinf(estimate.error).all()
    assert (slopes.left[0, 0], slopes.right[0, 0]) == (-1, 1)


def test_a_jump_is_neither_smooth_nor_a_kink() -> None:
    estimate = estimate_of(np.sign, np.array([0.0, 1.0]))
    assert np.isinf(estimate.error[0])
    assert not estimate.kinked[0]


def test_a_kink_that_the_cotangent_would_hide_is_seen() -> None:
    def both(x: Array) -> Array:
        return np.stack([np.maximum(x[0], 0), np.maximum(-x[0], 0)])

    # Under dy = (1, -1), <dy, f> is x and as smooth as can be, though both outputs have a kink.
    assert estimate_of(both, np.array([0.0]), np.array([1.0, -1.0])).kinked.all()


def test_the_input_is_not_changed() -> None:
    x = np.array([1.0, 2.0])
    estimate_of(np.sin, x)
    assert x.tolist() == [1.0, 2.0]


def test_empty_arrays_have_empty_estimates() -> None:
    estimate = estimate_of(np.sin, np.empty((0, 3)))
    assert estimate.value.shape == estimate.error.shape == (0,)


def test_directional_derivatives_are_within_their_bounds() -> None:
    rng = np.random.default_rng(3)
    x, directions = rng.standard_normal((4, 5)), rng.standard_normal((6, 4, 5))
    point = point_of(lambda x: np.sin(x).sum(axis=1), x, rng.standard_normal(4))
    estimate = derivatives(along(point, "input", directions))
    exact = (directions * np.cos(x) * point.dy[:, None]).sum(axis=(1, 2))
    assert (np.abs(estimate.value - exact) <= estimate.error).all()
    assert (estimate.error < 1e-9).all()


def test_stacked_samples_give_the_differences_of_single_ones() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 4))
    point = point_of(lambda x: np.tanh(x @ np.ones((4, 2))), x, rng.standard_normal((3, 2)))
    one, many = (derivatives(lines(point, "input")) for lines in (coordinates, stacked_coordinates))
    assert (np.abs(one.value - many.value) <= one.error + many.error).all()


def test_samples_that_share_a_mean_are_not_independent() -> None:
    x = np.random.default_rng(5).standard_normal((4, 3))
    assert samples_are_independent(point_of(np.sin, x), "input")
    assert not samples_are_independent(point_of(lambda x: x - x.mean(axis=0), x), "input")
    assert not samples_are_independent(point_of(lambda x: x / len(x), x), "input")
    # A single sample of a batch that is normalised has no other to show it but its own copy, a little moved.
    assert not samples_are_independent(point_of(lambda x: x - x.mean(axis=0), x[:1]), "input")


def test_a_complex_step_is_exact_where_f_is_analytic_and_refused_where_it_loses_the_imaginary_part() -> None:
    x = np.random.default_rng(6).standard_normal(5)
    gradient = complex_step(point_of(np.exp, x), "input")
    assert gradient is not None
    assert np.allclose(gradient, np.exp(x), rtol=1e-15, atol=0)
    assert complex_step(point_of(np.abs, x), "input") is None


def test_the_noise_is_at_least_half_a_unit_in_the_last_place_and_the_smallest_number() -> None:
    base = np.array([1.0, -4.0, 0.0])
    assert elementwise_noise(base, []).tolist() == [2**-53, 2**-51, 2.0**-1074]
    assert elementwise_noise(base.astype(np.float32), []).tolist() == [2**-24, 2**-22, 2.0**-149]


def test_an_output_that_does_not_move_may_hide_what_is_below_its_last_place() -> None:
    # Of 1 / (1 + exp(x)) at -40, which is 1 and does not move, and exp(x), which does: the slopes cancel.
    def both(x: Array) -> Array:
        return np.stack([1 / (1 + np.exp(x[0])), np.exp(x[0])])

    lines = coordinates(point_of(both, np.array([-40.0]), np.array([1.0, 1.0])), "input")
    estimate, exact = derivatives(lines), 2 * np.exp(-80)
    assert estimate.error[0] < abs(estimate.value[0] - exact) <= hidden(lines, estimate.step)[0] < 1e-12
    # Nothing of another output, however large, that does not depend on the element.
    apart = coordinates(point_of(np.exp, np.array([0.5, 40.0]), np.array([1.0, 1.0])), "input")
    assert hidden(apart, derivatives(apart).step).tolist() == [0.0, 0.0]
