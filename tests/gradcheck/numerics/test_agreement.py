"""Comparisons find the worst element, and nothing that is not finite slips through."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradcheck.contract import ShapeError
from gradcheck.numerics.agreement import Verdict, compare, judge, largest, severity, worst


def test_the_worst_element_is_measured_in_allowances() -> None:
    worst = compare("weight", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.1], [3.0, 4.2]]), 0.05)
    assert worst is not None
    assert (worst.tensor, worst.index, worst.analytic, worst.numeric, worst.allowed) == (
        "weight",
        (1, 1),
        4.0,
        4.2,
        0.05,
    )
    assert worst.ratio == pytest.approx(4.0)


def test_allowances_can_differ_by_element() -> None:
    worst = compare("b", np.array([1.0, 1.0]), np.array([1.1, 1.2]), np.array([0.01, math.inf]))
    assert worst is not None
    assert worst.index == (0,)


@pytest.mark.parametrize(
    ("analytic", "numeric", "ratio"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 2.0, math.inf),
        (math.nan, 1.0, math.inf),
        (math.inf, 1.0, math.inf),
        (math.nan, math.nan, 0.0),
    ],
)
def test_no_allowance_and_no_number(analytic: float, numeric: float, ratio: float) -> None:
    worst = compare("x", np.array(analytic), np.array(numeric), 0.0)
    assert worst is not None
    assert (worst.ratio, worst.index) == (ratio, ())


def test_different_shapes_are_no_agreement() -> None:
    with pytest.raises(ShapeError, match=r"bias has shape \(3,\), its reference \(1, 3\)"):
        compare("bias", np.ones(3), np.ones((1, 3)), 1.0)


def test_nothing_has_no_worst_element() -> None:
    assert compare("x", np.empty(0), np.empty(0), 1.0) is None
    assert largest(None, None) is None


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([], Verdict.INCONCLUSIVE),
        ([Verdict.INCONCLUSIVE], Verdict.INCONCLUSIVE),
        ([Verdict.INCONCLUSIVE, Verdict.PASS], Verdict.PASS),
        ([Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE], Verdict.FAIL),
    ],
)
def test_one_failure_fails_and_nothing_does_not_pass(verdicts: list[Verdict], verdict: Verdict) -> None:
    assert judge(verdicts) is verdict


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([], None),
        (["pass", "pass"], Verdict.PASS),
        (["pass", "inconclusive", "pass"], Verdict.INCONCLUSIVE),
        (["inconclusive", "fail", "pass"], Verdict.FAIL),
    ],
)
def test_what_must_pass_everywhere_is_as_bad_as_its_worst(verdicts: list[str], verdict: Verdict | None) -> None:
    assert worst(verdicts) is verdict


def test_findings_are_ordered_by_verdict_then_by_amount() -> None:
    ordered = [
        (Verdict.PASS, 1.0), (Verdict.PASS, 2.0), (Verdict.PASS, math.nan), (Verdict.INCONCLUSIVE, 0.5),
        (Verdict.FAIL, 0.1), (Verdict.FAIL, math.nan),
    ]  # fmt: skip
    mixed = [ordered[place] for place in (2, 5, 0, 4, 3, 1)]
    assert sorted(mixed, key=lambda one: severity(*one)) == ordered
