"""Optimizers that call a closure as often as they want: L-BFGS, and one that rounding decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import gradcheck
from gradcheck.loops.results import Doubt
from gradcheck.numerics.agreement import Verdict

STEPS = 4


def lbfgs(params: Any, history: int = 10) -> torch.optim.Optimizer:  # noqa: ANN401  as torch's
    return torch.optim.LBFGS(params, lr=0.5, max_iter=3, history_size=history)


class Again(torch.optim.Optimizer):
    """Takes steps of gradient descent, one more where ``again`` says so of the loss."""

    def __init__(self, params: Any, again: Callable[[torch.Tensor], bool]) -> None:  # noqa: ANN401  as torch's
        super().__init__(params, {"lr": 0.1})
        self.again = again

    def step(self, closure: Any) -> None:  # type: ignore[override]  # noqa: ANN401  as torch's
        for _ in range(1 + self.again(closure())):
            closure()
            with torch.no_grad():
                for param in self.param_groups[0]["params"]:
                    param.sub_(0.1 * param.grad)


def is_odd(loss: torch.Tensor) -> bool:
    return bool(loss.detach().view(torch.int64) & 1)


@dataclass
class Closures:
    """A loop with a loss that is written by hand or torch's, and a gradient that is wrong from some step on."""

    by_hand: bool = False
    wrong_from: int = STEPS
    optimizer: Callable[..., torch.optim.Optimizer] = lbfgs

    def __call__(self, watch: Any) -> None:  # noqa: ANN401  what check_loops gives
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
        optimizer: Any = self.optimizer(model.parameters())
        with watch(model, optimizer):
            for step in range(STEPS):
                rng = np.random.default_rng(step)
                x, y = (torch.from_numpy(rng.standard_normal((8, n))) for n in (3, 1))

                def closure(x: torch.Tensor = x, y: torch.Tensor = y, step: int = step) -> torch.Tensor:
                    optimizer.zero_grad()
                    outputs = model(x)
                    loss = ((outputs - y) ** 2).sum() / 8 if self.by_hand else nn.functional.mse_loss(outputs, y)
                    torch.autograd.backward(loss)
                    gradient = next(model.parameters()).grad
                    if step >= self.wrong_from and gradient is not None:
                        gradient.mul_(1.01)
                    return loss

                optimizer.step(closure)


def test_the_same_loop_by_lbfgs_passes() -> None:
    report = gradcheck.check_loops(Closures(by_hand=True), Closures(), steps=STEPS)
    assert report.verdict is Verdict.PASS, str(report)


def test_a_gradient_that_is_wrong_later_is_found_in_its_step() -> None:
    report = gradcheck.check_loops(Closures(by_hand=True, wrong_from=2), Closures(), steps=STEPS)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergence is not None
    assert report.first_divergence.step == 2


def test_a_history_of_another_length_is_found() -> None:
    report = gradcheck.check_loops(Closures(optimizer=lambda params: lbfgs(params, 2)), Closures(), steps=STEPS)
    assert report.verdict is Verdict.FAIL


def test_how_often_rounding_calls_the_model_is_not_blamed() -> None:
    ours = Closures(optimizer=lambda params: Again(params, is_odd))
    theirs = Closures(optimizer=lambda params: Again(params, lambda loss: not is_odd(loss)))
    report = gradcheck.check_loops(ours, theirs, steps=2)
    assert report.verdict is Verdict.INCONCLUSIVE, str(report)
    assert report.doubt is Doubt.KINKS


def test_how_often_the_program_calls_the_model_is() -> None:
    ours, theirs = (
        Closures(optimizer=lambda params, more=more: Again(params, lambda _: more)) for more in (True, False)
    )
    assert gradcheck.check_loops(ours, theirs, steps=2).verdict is Verdict.FAIL
