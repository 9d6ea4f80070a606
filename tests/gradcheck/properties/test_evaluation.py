# mypy: allow-untyped-defs, allow-untyped-calls
"""Evaluation mode: of layers that keep the last batch alone, and of a backward pass that leaves gradients alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.checks import check_layer
from gradcheck.numerics.agreement import Verdict

X = np.random.default_rng(5).standard_normal((4, 3))
QUICK: dict[str, Any] = {"claims": ["gradients_agree_with_differences", "modes_are_restored"], "variations": False}


class Centred:
    """``gamma (x - mean)``, by the mean of the last batch in evaluation mode."""

    def __init__(self, stays=False, idle=True, factor=1.0):
        self.gamma, self.dgamma, self.mean = np.array([1.0, 2.0, -1.0]), np.zeros(3), np.zeros(3)
        self.training, self.stays, self.idle, self.factor = True, stays, idle, factor
        self.trained = False

    def train(self):
        self.training = True

    def eval(self):
        self.training = self.stays and self.trained

    def forward(self, x):
        self.mean, self.trained = x.mean(axis=0) if self.training else self.mean, self.training
        self.centred = x - self.mean
        return self.gamma * self.centred

    def backward(self, grad):
        if self.training or not self.idle:
            self.dgamma = (self.factor if self.training else 2.0) * (grad * self.centred).sum(axis=0)
        through = grad * self.gamma
        return through - through.mean(axis=0) if self.training else through


def test_statistics_of_the_last_batch_alone_are_a_mode_of_their_own() -> None:
    right, wrong = (check_layer(Centred(stays), X, **QUICK) for stays in (False, True))
    assert right.verdict is Verdict.PASS, str(right)
    assert wrong.verdict is Verdict.FAIL
    assert "once trained, it does in evaluation mode what it does in training mode" in str(wrong)


def test_gradients_that_evaluation_leaves_as_they_were_are_not_judged_there() -> None:
    right = check_layer(Centred(), X, **QUICK)
    assert right.verdict is Verdict.PASS
    assert "in evaluation mode leaves the gradients of gamma as they were: not judged" in str(right)
    assert check_layer(Centred(factor=2.0), X, **QUICK).verdict is Verdict.FAIL
    assert "wrong in evaluation mode only" in str(check_layer(Centred(idle=False), X, **QUICK))
