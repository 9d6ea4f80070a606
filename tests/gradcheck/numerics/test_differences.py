"""Estimates lie within their bounds of derivatives that are known in closed form, and kinks have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.checks import check_gradients
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
from gradcheck.numerics.functions import Arrays, Function, Pullback, RefusedError
from gradcheck.numerics.rounding import nudged

SMOOTH: list[tuple[str, Callable[[Array], Array], Callable[[Array], Array]]] = [
    ("square", lambda x: x * x, lambda x: 2 * x),
    ("cube", lambda x: x**3, lambda x: 3 * x**2),
    ("sin", np.sin, np.cos),
    ("exp", np.exp, np.exp),
    ("logistic", lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    ("log1p(x^2)", lambda x: np.log1p(x * x), lambda x: 2 * x / (1 + x * x)),
    ("1e6 + sin", lambda x: 1e6 + np.sin(x), np.cos),
]


def point_of(f: Callable[[Array], Array], x: Array, dy: Array | None = None, shadows: int = 16) -> Point:
    """Return f at x, with the rounding that nudged evaluations show."""

    def call(variables: Arrays, _: Context) -> tuple[Array, Pullback]:
        return np.asarray(f(variables["input"])), lambda dy: {"input": dy}

    rng = np.random.default_rng(2)
    y = np.asarray(f(x))
    outputs = [np.asarray(f(x * (1 + 2.2e-16 * rng.uniform(-2, 2, x.shape)))) for _ in range(shadows)]
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


def test_waves_that_a_step_takes_for_slow_ones_are_not_taken_for_the_same_by_another() -> None:
    rng = np.random.default_rng(5)
    x, ones = rng.standard_normal((40, 1)), np.ones((40, 1))
    for k in 10 ** rng.uniform(3, 8, 60):
        for f, slope, curvature in (
            (lambda x, k=k: np.sin(k * x), k * np.cos(k * x), k**2),
            (lambda x, k=k: np.cos(k * x**2), -2 * k * x * np.sin(k * x**2), (2 * k * x) ** 2),
        ):
            estimate = derivatives(stacked_coordinates(point_of(f, x, ones), "input"))
            allowed = estimate.error + (8 * np.finfo(float).eps * np.abs(x) * curvature).reshape(-1)
            assert np.isfinite(estimate.error).mean() > 0.9
            assert (np.abs(estimate.value - slope.reshape(-1)) <= allowed).all()
            assert (np.abs(estimate.value + slope.reshape(-1)) > allowed)[np.isfinite(allowed)].mean() > 0.9


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


def test_what_moves_nothing_may_have_a_slope_below_the_last_place() -> None:
    """Of the logarithm of a share of 1e-40 and an eps no difference shows what it depends on."""

    def share(z: Array) -> Array:
        return np.log(1 / (1 + np.exp(z).sum()) + 1e-8)

    lines = coordinates(point_of(share, np.array([80.0, 88.0])), "input")
    estimate, slope = derivatives(lines), np.exp(80 - 2 * 88) / 1e-8
    assert not estimate.moved[0]
    assert 0 < slope < hidden(lines, estimate.step)[0] < 1e-16


def test_terms_of_truncation_that_cancel_at_the_first_step_are_seen_at_another() -> None:
    # At h = 2^-6 those of h^4 and h^6 cancel in the estimate of truncation, and the sixth alone is what is left.
    b = -1.3125 * 500 / 4096

    def f(x: Array) -> Array:
        return np.asarray(100 + x + b * x**5 + 500 * x**7)

    def vjp(given: tuple[Array, ...], dy: Array) -> tuple[Array]:
        return (dy * (1 + 5 * b * given[0] ** 4 + 3500 * given[0] ** 6),)

    for seed in range(4):
        assert check_gradients(f, [np.array([0.0, 1.0])], vjp, seed=seed, variations=False), seed


def refusing(f: Callable[[Array], Array], low: float, high: float) -> Callable[[Array], Array]:
    """Return f, defined between two ends alone."""

    def refuses(x: Array) -> Array:
        if (x < low).any() or (x > high).any():
            raise ValueError("outside")
        return f(x)

    return refuses


def outside_is_nan(f: Callable[[Array], Array], low: float, high: float) -> Callable[[Array], Array]:
    return lambda x: np.where((x < low) | (x > high), np.nan, f(np.clip(x, low, high)))


def unshadowed(f: Callable[[Array], Array], x: Array) -> Estimate:
    """Return estimates with the rounding of the last place alone: f does not take a nudge."""
    return derivatives(coordinates(point_of(f, x, shadows=0), "input"))


@pytest.mark.parametrize("defined", [refusing, outside_is_nan])
def test_steps_stay_within_the_domain_and_turn_to_one_side_at_its_ends(
    defined: Callable[[Callable[[Array], Array], float, float], Callable[[Array], Array]],
) -> None:
    x = np.array([0.0, 1e-7, 0.3, 1 - 1e-5, 1.0])
    estimate = unshadowed(defined(np.exp, 0.0, 1.0), x)
    assert (np.abs(estimate.value - np.exp(x)) <= estimate.error).all()
    assert (estimate.error < 1e-6).all()
    assert not estimate.outside.any()


def test_the_end_of_a_domain_where_slopes_converge_slowly_has_a_bound_that_holds() -> None:
    estimate = unshadowed(refusing(lambda x: x**1.5, 0.0, np.inf), np.array([0.0, 2.0]))
    assert abs(estimate.value[0]) <= estimate.error[0]


def test_a_point_beside_which_nothing_is_defined_has_no_estimate() -> None:
    estimate = unshadowed(refusing(np.exp, 0.5, 0.5), np.array([0.5]))
    assert estimate.outside.all()
    assert np.isinf(estimate.error).all()
    assert not estimate.kinked.any()


def test_only_the_sample_that_is_refused_is_left_out_of_stacked_ones() -> None:
    def f(x: Array) -> Array:
        if (x < 0).any():
            raise RefusedError("outside")
        return x**2

    x = np.array([[0.0, 1.0], [2.0, 3.0]])
    estimate = derivatives(stacked_coordinates(point_of(f, x), "input"))
    assert (np.abs(estimate.value - 2 * x.reshape(-1)) <= estimate.error).all()
    assert (estimate.error < 1e-6).all()


SINGLE = [(name, f, slope) for name, f, slope in SMOOTH if name != "1e6 + sin"]


@pytest.mark.parametrize(("f", "slope"), [(f, slope) for _, f, slope in SINGLE], ids=[name for name, _, _ in SINGLE])
def test_estimates_in_float32_are_within_their_bounds(
    f: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> None:
    x = np.random.default_rng(0).uniform(-4, 4, (300, 1)).astype(np.float32)
    estimate = derivatives(stacked_coordinates(single_point_of(f, x), "input"))
    exact = slope(x.astype(np.float64)).reshape(-1)
    assert np.isfinite(estimate.error).all()
    assert (np.abs(estimate.value - exact) <= estimate.error).all()
    assert np.median(estimate.error) < 1e-3 * np.abs(f(x)).max()


def single_point_of(f: Callable[[Array], Array], x: Array) -> Point:
    """Return f at x, with the rounding that 16 evaluations show whose input and output are nudged."""
    point, rng = point_of(f, x), np.random.default_rng(3)
    outputs = [nudged(f(nudged(x, rng)), rng) for _ in range(16)]
    assert point.precision is np.float32
    return replace(point, outputs=outputs)


def test_saturation_far_below_the_first_step_does_not_pass_for_smooth_in_float32() -> None:
    def steep(x: Array) -> Array:  # of slope 300 at 0, and of 0 wherever a first step leads
        return np.asarray(x / np.sqrt(x * x + np.float32(1e-5)), np.float32)

    point = single_point_of(lambda x: np.stack([steep(x[0]), steep(x[0])]), np.array([0.0, 500.0], np.float32))
    estimate = derivatives(coordinates(replace(point, dy=np.array([1.0, -0.999], np.float32)), "input"))
    assert not estimate.error[0] < abs(estimate.value[0] - 1e-3 * 1e5**0.5)


@pytest.mark.parametrize("x", [-745.0, -744.4, -740.0])
def test_below_the_normal_numbers_no_bound_is_narrower_than_the_last_place(x: float) -> None:
    estimate = estimate_of(np.exp, np.array([x]))
    assert np.isinf(estimate.error[0]) or estimate.error[0] >= 2.0**-1074
    assert abs(estimate.value[0] - np.exp(x)) <= estimate.error[0]
