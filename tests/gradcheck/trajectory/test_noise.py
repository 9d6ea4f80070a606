"""Nudges are of one unit in the last place, and differences survive what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.trajectory.noise import Recorder, largest_difference, noise_of, nudged, spread


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_nudge_moves_by_one_unit_in_the_last_place_on_average(dtype: type) -> None:
    x: Array = np.random.default_rng(0).uniform(1, 2, 10_000).astype(dtype)
    units = (nudged(x, np.random.default_rng(1)) - x) / np.spacing(x)
    assert units.dtype == dtype
    assert np.abs(units).max() <= 4  # 2 eps of 1.99 are nearly 4 units
    assert abs(units.mean()) < 0.1
    assert 1 < np.abs(units).mean() < 2


def test_nudges_leave_zeros_and_integers_alone() -> None:
    rng = np.random.default_rng(0)
    assert not nudged(np.zeros(5), rng).any()
    labels = np.arange(5)
    assert nudged(labels, rng) is labels


def test_a_recorder_keeps_what_it_returns() -> None:
    recorder = Recorder(np.random.default_rng(0))
    x = np.ones(3)
    assert recorder("forward/0.output", x) is recorder.taps["forward/0.output"]
    assert np.array_equal(x, np.ones(3))


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ([1.0, 2.0], [1.0, 5.0], 3.0),
        ([], [], 0.0),
        (math.inf, math.inf, 0.0),
        (math.inf, -math.inf, math.inf),
        (math.nan, math.nan, 0.0),
        ([math.nan, 1.0], [0.0, 1.0], math.inf),
        ([math.inf, 1.0], [math.inf, 1.5], 0.5),
        (1e308, -1e308, math.inf),
    ],
)
def test_largest_difference(a: object, b: object, difference: float) -> None:
    assert largest_difference(np.asarray(a, dtype=float), np.asarray(b, dtype=float)) == difference


def test_the_spread_is_that_of_the_widest_shadow() -> None:
    base = {"y": np.array([1.0, 2.0])}
    assert spread(base, [{"y": np.array([1.0, 2.5])}, {"y": np.array([0.9, 2.0])}]) == {"y": 0.5}


def test_the_allowance_is_never_below_a_unit_of_the_largest_element() -> None:
    assert 8 * noise_of(np.array([-3.0, 1.0]), 0.0, 8) == 3 * np.finfo(float).eps
    assert noise_of(np.array([-3.0, 1.0]), 1e-3, 8) == 1e-3
    assert noise_of(np.array([math.inf]), 0.0, 8) == 0


def test_an_update_is_rounded_in_units_of_what_it_was() -> None:
    assert 8 * noise_of(np.array([2.0]), 0.0, 8, np.array([2.0])) == 2 * np.finfo(float).eps
    assert 8 * noise_of(np.array([0.0]), 0.0, 8, np.array([-2.0])) == (2 + 10 * 2) * np.finfo(float).eps
