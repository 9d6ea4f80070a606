# mypy: allow-untyped-defs, allow-untyped-calls
"""Layers whose backward moves their weights by an optimizer of their own, and gradients that no name tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck.checks import check_layer
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.results import Report
from tests.gradcheck.subjects.styles import normal

X = normal(4, 3)


class Descent:
    def __init__(self, rate=0.1):
        self.rate = rate

    def update(self, weights, gradients):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= self.rate * gradient

    def __call__(self, weight, gradient):
        return weight - self.rate * gradient


class Adam:
    """Keeps moments, which depend on what was before."""

    def __init__(self):
        self.steps, self.moments = 0, {}

    def moved(self, name, weight, gradient):
        m, v = self.moments.get(name, (0.0, 0.0))
        self.steps += 1
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        self.moments[name] = m, v
        return weight - 0.01 * (m / (1 - 0.9**self.steps)) / (np.sqrt(v / (1 - 0.999**self.steps)) + 1e-8)


class Moving:
    """``x W + b``; each kind of it moves W and b in its own way."""

    def __init__(self, factor=1.0, n_out=4):
        self.W, self.b, self.factor = normal(3, n_out, seed=1), normal(n_out, seed=2), factor
        self.begin()

    def begin(self):
        """Make what this kind keeps."""

    def move(self, dw, db):
        """Move W and b, given their gradients."""

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad):
        self.passed = grad @ self.W.T
        self.move(self.factor * self.x.T @ grad, grad.sum(axis=0))
        return self.passed


class InLists(Moving):  # as many samples as outputs: dx has the shape of W
    def begin(self):
        self.optimizer = Descent()

    def move(self, dw, db):
        self.optimizer.update([self.W, self.b], [dw, db])


class Called(Moving):
    def begin(self):
        self.rule = Descent()

    def move(self, dw, db):
        self.W, self.b = self.rule(self.W, dw), self.rule(self.b, db)


class ByAdam(Moving):
    def begin(self):
        self.rule = Adam()

    def move(self, dw, db):
        self.W, self.b = self.rule.moved("W", self.W, dw), self.rule.moved("b", self.b, db)


class ByItsOwnMethod(Moving):
    def begin(self):
        self.rates = {}

    def _adagrad(self, name, weight, gradient):
        self.rates[name] = self.rates.get(name, 0.0) + gradient**2
        weight -= 0.1 * gradient / np.sqrt(self.rates[name] + 1e-8)

    def move(self, dw, db):
        self._adagrad("W", self.W, dw)
        self._adagrad("b", self.b, db)


class KeepsTheLast(Moving):
    """W_last is a copy of old weights, delta a gradient of the output."""

    def begin(self):
        self.lr, self.W_last, self.delta = 0.01, self.W.copy(), None

    def move(self, dw, db):
        self.delta, self.W_last = self.factor * dw[:, :1] * 0 + self.x.sum(), self.W.copy()
        self.W, self.b = self.W - self.lr * dw, self.b - self.lr * db


class Heavy(Moving):
    """Momentum, written out: what is subtracted is no gradient, and nothing is handed on."""

    def begin(self):
        self.lr, self.speed, self.speed_of_b = 0.01, 0.1 * self.W, 0.1 * self.b

    def move(self, dw, db):
        self.speed, self.speed_of_b = 0.9 * self.speed + dw, 0.9 * self.speed_of_b + db
        self.W, self.b = self.W - self.lr * self.speed, self.b - self.lr * self.speed_of_b


class Signs(Moving):
    """What is subtracted depends on nothing earlier, and is as large however large the gradient is."""

    def begin(self):
        self.lr = 0.01

    def move(self, dw, db):
        self.W, self.b = self.W - self.lr * np.sign(dw), self.b - self.lr * np.sign(db)


READ = {
    InLists: "W (given to optimizer.update), b (given to optimizer.update)",
    Called: "W (given to rule), b (given to rule)",
    ByAdam: "W (given to rule.moved), b (given to rule.moved)",
    ByItsOwnMethod: "W (given to _adagrad), b (given to _adagrad)",
    KeepsTheLast: "W (what backward subtracts, over the rate)",
}
QUICK: dict[str, Any] = {"claims": ["gradients_agree_with_differences", "repeated_calls_agree"], "variations": False}


@pytest.mark.parametrize("kind", READ)
def test_weights_that_backward_moves_are_judged_by_the_gradient(kind: type[Moving]) -> None:
    right, wrong = (check_layer(kind(factor), X, **QUICK) for factor in (1.0, 1.5))
    assert right.verdict is Verdict.PASS, str(right)
    assert READ[kind] in str(right)
    assert "backward changes W, b, which is undone" in str(right)
    assert wrong.verdict is Verdict.FAIL
    assert "W's gradient is exactly 3/2 times" in str(wrong)


@pytest.mark.parametrize("kind", [Heavy, Signs])
def test_what_is_no_gradient_is_not_taken_for_one_and_that_is_said(kind: type[Moving]) -> None:
    report = check_layer(kind(), X, **QUICK)
    assert report.verdict is Verdict.PASS, str(report)
    assert "NOT CHECKED: W, b: " in str(report)
    assert "backward moves W, b, but not by a multiple of a gradient alone" in str(report)


class Lazy(Moving):
    """Makes its optimizer when that is asked for."""

    def begin(self):
        self.made = None

    @property
    def optimizer(self):
        self.made = self.made or Descent()
        return self.made

    def move(self, dw, db):
        self.optimizer.update([self.W, self.b], [dw, db])


def test_an_optimizer_that_is_not_there_yet_is_no_fault() -> None:
    report = check_layer(Lazy(), X, **QUICK)
    assert report.verdict is Verdict.PASS, str(report)
    assert "NOT CHECKED: W, b: " in str(report)


class Normalised:
    """Statistics that begin at None, and an optimizer for each of two parameters of one shape."""

    def __init__(self, factor=1.0):
        self.gamma, self.beta, self.factor = normal(3, seed=3), normal(3, seed=4), factor
        self.of_gamma, self.of_beta, self.mean = Adam(), Adam(), None

    def forward(self, x, training=True):
        if self.mean is None:
            self.mean = x.mean(axis=0)
        self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0) if training else self.mean
        self.centred = x - (x.mean(axis=0) if training else self.mean)
        return self.gamma * self.centred + self.beta

    def backward(self, grad):
        gamma = self.gamma
        self.gamma = self.of_gamma.moved("", gamma, self.factor * (grad * self.centred).sum(axis=0))
        self.beta = self.of_beta.moved("", self.beta, grad.sum(axis=0))
        return gamma * (grad - grad.mean(axis=0))


def test_parameters_of_one_shape_are_told_apart_by_what_they_are_handed_on_with() -> None:
    right, wrong = (check_layer(Normalised(factor), X, training=True, **QUICK) for factor in (1.0, -1.0))
    assert right.verdict is Verdict.PASS, str(right)
    assert "gamma (given to of_gamma.moved), beta (given to of_beta.moved)" in str(right)
    assert "samples along axis 1" not in str(right)
    assert "gamma's gradient is exactly -1 times" in str(wrong)


class Scaled:
    """Gradients in a list beside the parameters, in their order or the other way round."""

    def __init__(self, order=1, factor=1.0, more=()):
        self.gamma, self.beta = normal(3, seed=3), normal(3, seed=4)
        self.order, self.factor, self.more = order, factor, more

    def forward(self, x):
        self.x = x
        return self.gamma * x + self.beta

    def backward(self, grad):
        self.grads = [*[self.factor * (grad * self.x).sum(axis=0), grad.sum(axis=0)][:: self.order], *self.more]
        return grad * self.gamma


def of_lists(*arguments: Any) -> Report:
    return check_layer(Scaled(*arguments), X, **QUICK)


def test_gradients_in_a_list_are_those_of_the_parameters_in_order() -> None:
    assert "gamma (grads.0), beta (grads.1)" in str(of_lists())
    assert "gamma (grads.1), beta (grads.0)" in str(of_lists(-1))
    assert of_lists().verdict is of_lists(-1).verdict is Verdict.PASS
    wrong = of_lists(1, -1.0)
    assert wrong.verdict is Verdict.FAIL
    assert "gamma's gradient is exactly -1 times" in str(wrong)


def test_of_a_list_that_does_not_fit_the_report_says_what_to_write() -> None:
    longer = str(of_lists(1, 1.0, (np.zeros(2),)))
    assert 'if that is what backward left there: grads={"gamma": "grads.0", "beta": "grads.1"}' in longer
    said = check_layer(Scaled(1, -1.0, (np.zeros(2),)), X, grads={"gamma": "grads.0", "beta": "grads.1"}, **QUICK)
    assert said.verdict is Verdict.FAIL
