# mypy: ignore-errors
"""A value that is flat below a guard of at most 1e-5, however few numbers there are; a rectifier is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.long import later

BOUND = 1e-7
ROW, ONE = np.array([[1e-9, 0.3, 0.7]]), np.array([1e-9])
SAID = "the value is clipped, and flat"


def log(p):
    return -np.log(np.maximum(p, BOUND))


def of_log(p):
    return -1 / p


def of_bounded(p):
    return -1 / np.maximum(p, BOUND)


def root(p):
    return np.sqrt(np.maximum(p, BOUND))


def of_root(p):
    return 0.5 / np.sqrt(np.maximum(p, BOUND))


PAIRS = [(log, of_log), (log, of_bounded), (root, of_root)]


@pytest.mark.short(1)
@pytest.mark.parametrize(("f", "slope"), PAIRS)
def test_what_is_flat_below_a_guard_is_left_out_and_said(f, slope):
    report = gradcheck.check_gradients(f, (ROW,), lambda inputs, dy: dy * slope(inputs[0]))
    assert report.verdict is Verdict.PASS, str(report)
    assert SAID in str(report)


@pytest.mark.parametrize(("f", "slope"), PAIRS)
def test_of_one_number_that_is_flat_nothing_is_said(f, slope):
    report = gradcheck.check_gradients(f, (ONE,), lambda inputs, dy: dy * slope(inputs[0]))
    assert report.verdict is Verdict.INCONCLUSIVE, str(report)
    assert "nothing was compared" in str(report)


@pytest.mark.short(2)
@pytest.mark.parametrize("x", [ROW, ONE])
@pytest.mark.parametrize(("f", "slope"), PAIRS)
def test_a_wrong_gradient_beside_a_guard_fails(f, slope, x):
    def vjp(inputs, dy):
        return 1.2 * dy * slope(inputs[0])

    report = gradcheck.check_gradients(f, (x,), vjp, variations=False)
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize(("f", "slope"), later(PAIRS, 1))
@pytest.mark.parametrize("wrong", [-1.0, 1e-6])
def test_a_gradient_that_turns_or_vanishes_beyond_a_guard_fails(f, slope, wrong):
    def pullback(inputs, dy):
        return dy * np.where(inputs[0] < BOUND, wrong, 1.0) * slope(inputs[0])

    assert gradcheck.check_gradients(f, (ROW,), pullback, variations=False).verdict is Verdict.FAIL


def test_a_loss_of_one_sample_whose_only_share_is_below_the_guard_passes_by_its_other_samples():
    def loss(p, t):
        return (t * log(p)).sum() / len(p)

    def pullback(inputs, dy):
        p, t = inputs
        return dy * t * of_bounded(p) / len(p), dy * log(p) / len(p)

    report = gradcheck.check_gradients(loss, (ROW, np.array([[1.0, 0.0, 0.0]])), pullback)
    assert not report.failures, str(report)
    assert SAID in str(report)


@pytest.mark.parametrize("x", [np.array([[-1e-9, 0.3, -0.7]]), np.array([-1e-9, -0.5])])
def test_a_rectifier_without_its_mask_still_fails(x):
    report = gradcheck.check_gradients(lambda x: np.maximum(x, 0), (x,), lambda _, dy: dy, variations=False)
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda p: np.maximum(p - 5e-3, 0) ** 2, lambda p: 2 * (p - 5e-3)),
        (lambda p: np.where(np.abs(p) > 1e-3, p, 0.0), np.ones_like),
    ],
    ids=["square", "shrinkage"],
)
def test_what_is_flat_below_a_larger_bound_is_no_guard(f, slope):
    p = np.array([1e-6, 0.3, 0.5])
    report = gradcheck.check_gradients(f, (p,), lambda inputs, dy: (dy * slope(inputs[0]),), variations=False)
    assert report.verdict is Verdict.FAIL


class Clipped:
    """Binary cross-entropy of clipped probabilities, whose gradient knows of no clip."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, p, t):
        self.p, self.t = np.clip(p, 1e-7, 1 - 1e-7), t
        return -np.mean(t * np.log(self.p) + (1 - t) * np.log(1 - self.p))

    def backward(self):
        return self.factor * (-self.t / self.p + (1 - self.t) / (1 - self.p)) / self.p.size


@pytest.mark.short(1)
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.01, "fail")])
def test_probabilities_of_exactly_0_and_1_lie_beyond_a_bound(factor, verdict):
    rng = np.random.default_rng(0)
    p, t = rng.uniform(0.1, 0.9, (3, 2)), (rng.uniform(size=(3, 2)) > 0.5) * 1.0
    p[0, 0], p[1, 1] = 0.0, 1.0
    report = gradcheck.check_loss(Clipped(factor), p, t, variations=factor == 1)
    assert report.verdict == verdict, str(report)
    assert factor != 1 or "there the value is clipped, and flat" in str(report)


@pytest.mark.short(1)
@pytest.mark.parametrize("wrong", [-1.0, 0.5])
def test_a_wrong_gradient_at_exactly_0_and_1_is_caught(wrong):
    class Sure(Clipped):
        def forward(self, p, t):
            self.factors = np.where((p == 0) | (p == 1), wrong, 1.0)
            return super().forward(p, t)

        def backward(self):
            return self.factors * super().backward()

    p, t = np.array([[0.0, 0.3, 0.6], [0.4, 1.0, 0.7]]), np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert verdict_of(Sure(), p, t) == "fail"
    assert verdict_of(Clipped(), p, t) == "pass"


def clip(p, eps):
    return np.clip(p, eps, 1 - eps)


def add(p, eps):
    return p + eps


@dataclass
class Binary:
    """Binary cross-entropy with an eps in its value and in its gradient, and factors of both."""

    value: object
    gradient: object
    eps: float = 3e-8
    factor: float = 1.0
    beyond: float = 1.0

    def forward(self, p, t):
        self.p, self.t, eps = p, t, self.eps
        return -np.mean(t * np.log(self.value(p, eps)) + (1 - t) * np.log(self.value(1 - p, eps)))

    def backward(self):
        p, t, eps = self.p, self.t, self.eps
        slope = (1 - t) / self.gradient(1 - p, eps) - t / self.gradient(p, eps)
        return self.factor * np.where((p < eps) | (p > 1 - eps), self.beyond, 1.0) * slope / p.size


BOTH = later([(add, clip), (np.maximum, np.maximum), (clip, add)], 2)
SURE = np.array([[0.0, 0.3, 0.6], [0.4, 1.0, 0.75], [0.08, 0.95, 0.17]]), np.array([[1.0, 0, 1], [0, 1, 1], [1, 1, 0]])


@pytest.mark.short(2)
@pytest.mark.parametrize(("value", "gradient"), BOTH)
@pytest.mark.parametrize("wrong", [{}, {"factor": 1.01}, {"beyond": 1.5}, {"beyond": -1.0}])
def test_an_unusual_eps_at_exactly_0_and_1_is_a_guard_and_a_factor_is_none(value, gradient, wrong):
    loss = Binary(value, gradient, **wrong)
    claims = ("gradients_agree_with_differences",)
    assert gradcheck.check_loss(loss, *SURE, variations=False, claims=claims).verdict == ("fail" if wrong else "pass")


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_answers_that_are_all_exactly_right_are_not_said_to_be_of_float32(factor):
    answers = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    report = gradcheck.check_loss(Binary(clip, clip, factor=factor), answers, answers, variations=False)
    assert "float32" not in str(report)
    assert report.verdict == "inconclusive"


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_zeros_beside_what_is_clipped_tell_nothing(factor):
    class Likelihood(Binary):
        def forward(self, p, t):
            self.p, self.t = p, t
            return -np.mean(t * np.log(clip(p, self.eps)))

        def backward(self):
            return -self.factor * self.t / clip(self.p, self.eps) / self.p.size

    answers = np.eye(3)
    report = gradcheck.check_loss(Likelihood(clip, clip, factor=factor), answers, answers, variations=False)
    assert report.verdict == "inconclusive"


class Product(Binary):
    """Binary cross-entropy whose gradient is ``(p - t) / (p (1 - p) + eps)``: 0 at sure right answers."""

    def backward(self):
        p, t = self.p, self.t
        near = np.where(np.abs(p - t) < 1e-6, self.beyond, 1.0)
        return self.factor * near * (p - t) / (p * (1 - p) + self.eps) / p.size


EXACT = np.array([[0.0, 0.3, 0.6], [0.4, 1.0, 0.75]]), np.array([[0.0, 0, 1], [0, 1, 1]])
NEARLY = np.where(EXACT[0] == 0, 1e-9, np.where(EXACT[0] == 1, 1 - 1e-9, EXACT[0])), EXACT[1]


def verdict_of(loss, p, t):
    claims = ("gradients_agree_with_differences",)
    return gradcheck.check_loss(loss, p, t, variations=False, claims=claims).verdict


@pytest.mark.short(1)
@pytest.mark.parametrize("value", [add, np.maximum, clip])
@pytest.mark.parametrize(("given", "eps"), later([(EXACT, 1e-7), (NEARLY, 1e-7), (NEARLY, 1e-5)], 2))
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_gradient_that_an_eps_makes_0_at_sure_right_answers_is_judged_elsewhere(value, given, eps, factor):
    found = verdict_of(Product(value, None, eps, factor), *given)
    assert found == ("pass" if factor == 1 else "fail")


@pytest.mark.short(1)
@pytest.mark.parametrize("value", later([add, clip, np.maximum], 2))
@pytest.mark.parametrize("beyond", later([-1.0, 0.5], 1))
def test_such_a_gradient_that_is_wrong_near_sure_answers_alone_fails(value, beyond):
    assert verdict_of(Product(value, None, 1e-7, beyond=beyond), *NEARLY) == "fail"


class Zeroed(Binary):
    """Binary cross-entropy of clipped probabilities, whose gradient is 0 where they are clipped."""

    def backward(self):
        return np.where((self.p < self.eps) | (self.p > 1 - self.eps), 0.0, super().backward())


class Unguarded(Binary):
    """Binary cross-entropy of clipped probabilities, whose gradient is that without a clip."""

    def backward(self):
        self.eps, eps = 0.0, self.eps
        slope = super().backward()
        self.eps = eps
        return np.where((self.p < eps) | (self.p > 1 - eps), self.beyond, 1.0) * slope


WRONG_ANSWER = np.array([[1e-9, 0.3, 0.6], [0.4, 0.2, 0.75]]), np.array([[1.0, 0, 1], [0, 1, 1]])
RIGHT_ANSWER = np.where(WRONG_ANSWER[0] < 1e-6, 1 - 1e-9, WRONG_ANSWER[0]), WRONG_ANSWER[1]
AT_0 = np.where(WRONG_ANSWER[0] < 1e-6, 0.0, WRONG_ANSWER[0]), WRONG_ANSWER[1]


KINDS = [
    (Unguarded, WRONG_ANSWER),
    (Binary, AT_0),
    (Unguarded, RIGHT_ANSWER),
    (Binary, WRONG_ANSWER),
    (Binary, RIGHT_ANSWER),
]


@pytest.mark.short(2)
@pytest.mark.parametrize(("kind", "given"), [*KINDS, (Zeroed, WRONG_ANSWER), (Zeroed, AT_0)])
def test_where_a_probability_is_clipped_each_usual_gradient_passes(kind, given):
    assert verdict_of(kind(clip, clip, 1e-7), *given) == "pass"


@pytest.mark.short(2)
@pytest.mark.parametrize(("kind", "given"), KINDS)
@pytest.mark.parametrize("beyond", [1.2, -1.0])
def test_where_a_probability_is_clipped_another_factor_fails(kind, given, beyond):
    assert verdict_of(kind(clip, clip, 1e-7, beyond=beyond), *given) == "fail"


def test_a_divisor_that_is_clipped_and_has_an_eps_besides_passes():
    def both(p, eps):
        return np.clip(p, eps, 1 - eps) + eps

    assert verdict_of(Binary(clip, both, 1e-7), *WRONG_ANSWER) == "pass"
