"""Mistakes in RMSprop and Adagrad, and a change that is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Gradients
from nets.optimizers import Adagrad, RMSprop
from tests.nets.faults.fault import UPDATES, caught_by, equivalent

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Kept = dict[str, Array]


@caught_by(UPDATES, name="OPT-05")
class EpsInTheRoot(RMSprop):
    """Adds eps to the mean square, inside the root."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        eps, self.eps = self.eps, 0.0
        kept["square_avg"] += eps / (self.alpha or 1.0)
        super().move(param, grad, kept, lr, t)
        kept["square_avg"] -= eps
        self.eps = eps


@caught_by(UPDATES, name="OPT-05")
class EpsInTheRootOfTheSum(Adagrad):
    """Adds eps to the sum of squares, inside the root."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        grad += self.weight_decay * param
        total = kept["sum"]
        total += grad * grad
        param -= lr / (1 + (t - 1) * self.lr_decay) * grad / np.sqrt(total + self.eps)


@caught_by(UPDATES, name="OPT-09")
class SumForgotten(Adagrad):
    """Restarts its sum in every step."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        kept["sum"][...] = self.initial_accumulator_value
        super().move(param, grad, kept, lr, t)


@caught_by(UPDATES)
class CentredAtNothing(RMSprop):
    """Keeps the mean gradient, but does not subtract its square."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if self.centered:
            kept["grad_avg"][...] = 0
            self.centered = False
            super().move(param, grad, kept, lr, t)
            self.centered = True
        else:
            super().move(param, grad, kept, lr, t)


@caught_by(UPDATES, name="OPT-12")
class RateInTheMomentum(RMSprop):
    """Folds the learning rate into the velocity."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if not self.momentum:
            super().move(param, grad, kept, lr, t)
            return
        kept["momentum_buffer"] /= lr
        super().move(param, grad, kept, lr, t)
        kept["momentum_buffer"] *= lr


@caught_by(UPDATES)
class DecaysFromTheFirst(Adagrad):
    """Counts from 1 in the decay of the rate; torch counts from 0."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, kept, lr, t + 1)


@caught_by(UPDATES)
class ScaledGradients(RMSprop):
    """Scales the gradient of each tensor by a different number, as a mean in place of a sum does.

    The rule divides that out again, but for eps.
    """

    scales = (4.0, 0.5, 8.0, 0.25)

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        scale = dict(zip(params, self.scales, strict=True))
        super().step(params, {name: scale[name] * grad for name, grad in grads.items()}, lr)


@equivalent("EQ-06")
class ScaledGradientsWithoutEps(ScaledGradients):
    """Scales the gradient of each tensor by a different number, without eps or decay: the factor cancels.

    What is kept of them is scaled back.
    """

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        self._scale(params, 1)
        super().step(params, grads, lr)
        self._scale(params, -1)

    def _scale(self, params: Kept, sign: int) -> None:
        for name, scale in zip(params, self.scales, strict=True):
            for slot, power in (("grad_avg", 1), ("square_avg", 2)):
                if f"{slot}/{name}" in self.state:
                    self.state[f"{slot}/{name}"] *= scale ** (sign * power)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return super().cases().map(_scale_free)


@caught_by(UPDATES)
class ZeroIsTheDefault(RMSprop):
    """Treats an alpha of 0 as not given."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        alpha, self.alpha = self.alpha, self.alpha or 0.99
        super().move(param, grad, kept, lr, t)
        self.alpha = alpha


def _scale_free(case: Case) -> Case:
    optimizer = case.subject
    return replace(case, subject=replace(optimizer, alpha=optimizer.alpha or 0.9, eps=0.0, weight_decay=0.0))
