# mypy: ignore-errors
"""Axes of one element that a gradient lacks end no comparison of numbers."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.long import later

X = np.random.default_rng(0).standard_normal((4, 5))
NAMES = {"params": {"g": "g", "b": "b"}, "grads": {"g": "dg", "b": "db"}}
SHAPES, DIFFERENCES = "gradients_match_their_tensors", "gradients_agree_with_differences"


class Affine:
    """g x + b, with gradients that are summed in the shapes ``g`` and ``b``."""

    def __init__(self, shape, of_gradient, times=1.0):
        self.g, self.b = np.full(shape, 1.5), np.full(shape, 0.5)
        self.of_gradient, self.times = of_gradient, times

    def forward(self, x):
        self.x = x
        return self.g * x + self.b

    def backward(self, dy):
        self.dg = self.times * (dy * self.x).sum(axis=0).reshape(self.of_gradient)
        self.db = dy.sum(axis=0).reshape(self.of_gradient)
        return dy * self.g


def found(report):
    return {finding.property: finding for finding in report.findings}


def test_right_numbers_pass_and_the_shape_is_noted_once():
    report = gradcheck.check_layer(Affine((1, 5), (5,)), X, **NAMES)
    assert report.verdict is Verdict.PASS
    sentences = (f"{name} has shape (1, 5), its gradient (5,): axes of one element are missing" for name in "gb")
    assert found(report)[SHAPES].remarks == ("; ".join(sentences),)


def test_wrong_numbers_fail_in_a_shape_that_lacks_an_axis():
    report = gradcheck.check_layer(Affine((1, 5), (5,), 1.5), X, **NAMES)
    assert found(report)[DIFFERENCES].diagnosis == "g's gradient is exactly 3/2 times the numerical one"
    assert found(report)[SHAPES].verdict is Verdict.PASS


@pytest.mark.parametrize(("shape", "of_gradient"), later([((5,), (1, 5)), ((1, 5), (5, 1))], 1))
def test_a_gradient_that_a_step_cannot_take_is_of_a_wrong_shape_and_its_numbers_are_judged(shape, of_gradient):
    right, wrong = (gradcheck.check_layer(Affine(shape, of_gradient, times), X, **NAMES) for times in (1.0, 1.5))
    message = f"g has shape {shape}, its gradient {of_gradient}"
    for report in (right, wrong):
        assert found(report)[SHAPES].verdict is Verdict.FAIL
        assert found(report)[SHAPES].message == message
    assert found(right)[DIFFERENCES].verdict is Verdict.PASS
    assert found(wrong)[DIFFERENCES].diagnosis == "g's gradient is exactly 3/2 times the numerical one"


def test_other_shapes_fail_as_before():
    class Wider(Affine):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dg = np.zeros((5, 2))
            return dx

    report = gradcheck.check_layer(Wider((5,), (5,)), X, **NAMES)
    assert found(report)[DIFFERENCES].message == "g has shape (5,), its gradient (5, 2)"
