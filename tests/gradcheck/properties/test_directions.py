"""Variations are judged along random directions, and the case as given by one step an element: what that must see."""

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.results import Report


def test_a_fault_in_the_smallest_gradients_of_a_variation_is_seen() -> None:
    # Of the inputs eight times as large, exp has gradients from 4e-14 to 1e11: along one line those of -10 and below
    # would be lost in what the large ones round by.
    x = np.linspace(-3.5, 3.5, 15)

    def gradient(x: Array, dy: Array, lost: float) -> Array:
        return np.asarray(dy * np.where(x < lost, 0.0, np.exp(x)))

    right, wrong = (
        gradcheck.check_gradients(np.exp, (x,), lambda x, dy, lost=lost: gradient(x, dy, lost))
        for lost in (-np.inf, -10.0)
    )
    assert right.verdict is Verdict.PASS
    assert wrong.verdict is Verdict.FAIL
    assert not any("as given" in str(one) for one in wrong.findings)


def test_a_fault_in_what_is_far_below_the_smallest_of_most_gradients_is_seen() -> None:
    # Of the inputs eight times as large, a sigmoid has gradients down to 1e-31: those of 1e-9 to 1e-13 hide no others.
    def gradient(x: Array, dy: Array, clip: float) -> Array:
        return np.asarray(dy * np.where(x < clip, 0.0, 1 / (1 + np.exp(-x)) / (1 + np.exp(x))))

    right, wrong = (
        gradcheck.check_gradients(
            lambda x: 1 / (1 + np.exp(-x)), (np.linspace(-9, 9, 30),), lambda x, dy, clip=clip: gradient(x, dy, clip)
        )
        for clip in (-np.inf, -30.0)
    )
    assert right.verdict is Verdict.PASS
    assert wrong.verdict is Verdict.FAIL


def test_a_fault_in_one_variable_of_a_variation_is_seen_in_that_variable() -> None:
    x, w = np.linspace(-1.0, 1.0, 12), np.linspace(0.5, 1.5, 12)

    def gradients(x: Array, w: Array, dy: Array, share: float = 0.0) -> tuple[Array, Array]:
        return dy * w * np.cos(x), dy * np.sin(x) + share * (np.abs(x) > 4)

    right = gradcheck.check_gradients(lambda x, w: w * np.sin(x), (x, w), gradients)
    assert right.verdict is Verdict.PASS
    report = gradcheck.check_gradients(lambda x, w: w * np.sin(x), (x, w), lambda x, w, dy: gradients(x, w, dy, 1e-7))
    assert report.verdict is Verdict.FAIL
    assert report.worst is not None
    assert report.worst.tensor == "w"


@pytest.mark.parametrize("fast", [1e4, 1e8])
def test_one_element_that_varies_faster_than_all_others_is_judged_by_its_own_step(fast: float) -> None:
    rate = np.ones(64)
    rate[17] = fast
    x = np.random.default_rng(3).uniform(-1, 1, 64)

    def check(factor: float) -> Report:
        scale = np.ones(64)
        scale[17] = factor
        return gradcheck.check_gradients(
            lambda x: np.sin(rate * x), (x,), lambda x, dy: dy * scale * rate * np.cos(rate * x),
            variations=False,
        )  # fmt: skip

    assert check(1.0).verdict is Verdict.PASS
    report = check(1 + 1e-3)
    assert report.verdict is Verdict.FAIL
    assert report.worst is not None
    assert report.worst.index == (17,)
