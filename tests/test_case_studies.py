"""The faults of the published comparisons: each is caught and its cause named; its right variant passes."""

from __future__ import annotations

import pytest

import gradcheck
from examples.case_studies import layers
from gradcheck.agreement import Verdict

FAULTS = {
    layers.DividedTwice: "W's gradient is exactly 1/4 of the numerical one; 4 is the batch size",
    layers.BiasWithoutAnAxis: (
        "every element of b's gradient is the same: the sum over all elements, where each needs its own: "
        "an axis is missing from the sum"
    ),
    layers.DescendsAnother: (
        "prediction's gradient is exactly 5 times the numerical one; 5 is half the number of elements (batch x outputs)"
    ),
    layers.NeverOff: "it is random in evaluation, as a dropout that is left on",
}


def report_of(kind: type) -> gradcheck.Report:
    ((subject, *inputs),) = kind.cases()  # type: ignore[attr-defined]  # each of them has some
    check = gradcheck.check_loss if len(inputs) == 2 else gradcheck.check_layer
    return check(subject, *inputs)


@pytest.mark.parametrize("kind", [layers.Dense, layers.MeanSquares, layers.Dropout])
def test_the_right_variant_passes(kind: type) -> None:
    report = report_of(kind)
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("kind", FAULTS)
def test_the_fault_is_caught_and_named(kind: type) -> None:
    report = report_of(kind)
    assert report.verdict is Verdict.FAIL
    assert FAULTS[kind] in str(report)
