"""Explanations are believed only if they could have been refuted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison, axes_of_fit, axis_sets, distinct, factor_of, multiple_of

NUMERIC = np.array([1.0, -2.0, 0.5, 3.0, 0.0])


def comparison(analytic: Array, allowed: float = 1e-12) -> Comparison:
    return Comparison(analytic, NUMERIC, np.full(NUMERIC.shape, allowed))


def test_every_judged_element_must_be_explained() -> None:
    doubled = comparison(2 * NUMERIC)
    assert doubled.explained_by(2 * NUMERIC, 0.0, 4)
    assert not doubled.explained_by(2 * NUMERIC, 0.0, 5)  # zero is doubled by any factor
    assert not doubled.explained_by(2 * NUMERIC + np.array([0, 0, 0, 0, 1e-9]), 0.0, 1)
    assert not doubled.explained_by(2 * NUMERIC, math.inf, 1)
    assert not doubled.explained_by(2 * NUMERIC, math.nan, 1)


def test_what_agrees_needs_no_explanation() -> None:
    assert not comparison(NUMERIC).explained_by(NUMERIC, 0.0, 0)


def test_a_wide_allowance_tells_nothing() -> None:
    assert comparison(2 * NUMERIC, 1e-7).explained_by(2 * NUMERIC, 0.0, 1)
    assert not comparison(2 * NUMERIC, 1e-5).explained_by(2 * NUMERIC, 0.0, 1)


def test_agreement_in_zero_is_none() -> None:
    assert comparison(NUMERIC).agreeing.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("values", "count"), [([], 0), ([0.0, 0.0], 1), ([1.0, 1.0 + 1e-9, 2.0], 2), ([-1.0, 0.0, 1.0], 3)]
)
def test_values_within_rounding_are_one(values: list[float], count: int) -> None:
    assert distinct(np.array(values)) == count


def test_a_factor_without_a_name_needs_three_elements() -> None:
    assert factor_of(comparison(0.7312 * NUMERIC), ()) == {"factor": 0.7312, "quantities": ()}
    assert factor_of(comparison(0.7312 * NUMERIC).at(slice(2)), ()) is None
    assert factor_of(comparison(-NUMERIC).at(slice(1)), ()) == {"factor": (-1, 1), "quantities": ()}


def test_a_multiple_of_an_array_is_measured() -> None:
    array = np.array([1.0, 2.0, -1.0, 0.0, 4.0])
    assert multiple_of(comparison(NUMERIC + 0.25 * array), array) == 0.25
    assert multiple_of(comparison(NUMERIC + 0.25 * array**2), array) is None
    assert multiple_of(comparison(NUMERIC + 1), np.zeros(5)) is None


def test_a_fit_needs_elements_to_spare() -> None:
    x = np.array([0.0, 1.0, 2.0, 4.0, 9.0])
    assert axes_of_fit(comparison(NUMERIC + 1), None) == (0,)
    assert axes_of_fit(comparison(NUMERIC + 1 + x), None) is None
    assert axes_of_fit(comparison(NUMERIC + 1 + x), x) == (0,)
    assert axes_of_fit(comparison(NUMERIC + 1 + x), x > 0) is None
    assert axes_of_fit(comparison(NUMERIC + 1 + x).at(slice(4)), x[:4]) is None


def test_the_largest_sets_of_axes_come_first() -> None:
    assert axis_sets((2, 1, 3)) == [(0, 2), (0,), (2,)]
    assert axis_sets((2,) * 5) == []
