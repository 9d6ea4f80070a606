"""Faults of optimizers and of gradient clipping, and what is none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Gradients
from nets.optimizers import SGD, Adagrad, Adam, AdamW, ClippedByNorm, ClippedByValue, RMSprop

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

UPDATES = "updates_agree_with_twin"
MISSING = "missing_gradients_are_skipped"
UNTOUCHED = "gradients_are_left_untouched"

Kept = dict[str, Array]


class EpsilonHat(Adam):
    """Adds eps to the root of the uncorrected moment, the form of the paper's section 2, in which eps is another."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        root, eps = math.sqrt(1 - self.betas[1] ** t), self.eps
        self.eps = eps / root
        super().move(param, grad, kept, lr, t)
        self.eps = eps


class EpsInTheRoot(RMSprop):
    """Adds eps to the mean square, inside the root."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        eps, self.eps = self.eps, 0.0
        kept["square_avg"] += eps / self.alpha
        super().move(param, grad, kept, lr, t)
        kept["square_avg"] -= eps
        self.eps = eps


class EpsInTheRootOfTheSum(Adagrad):
    """Adds eps to the sum of squares, inside the root."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        grad += self.weight_decay * param
        total = kept["sum"]
        total += grad * grad
        param -= lr / (1 + (t - 1) * self.lr_decay) * grad / np.sqrt(total + self.eps)


class MomentsForgotten(Adam):
    """Keeps its moments in locals: every step is from zeros, and only the count goes on."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, {slot: np.zeros_like(array) for slot, array in kept.items()}, lr, t)


class VelocityForgotten(SGD):
    """Makes a new velocity in every step: right in the first, and gradient descent ever after."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        self.state = {}
        super().step(params, grads, lr)


class SumForgotten(Adagrad):
    """Begins its sum anew in every step."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        kept["sum"][...] = self.initial_accumulator_value
        super().move(param, grad, kept, lr, t)


class _Nesterov(SGD):
    """What the variants of Nesterov's momentum have in common: decay, and the rule without it."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        raise NotImplementedError

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if not self.nesterov:
            super().move(param, grad, kept, lr, t)
            return
        grad += self.weight_decay * param
        self.look_ahead(param, grad, kept["momentum_buffer"], lr, t)


class NesterovOfTheNew(_Nesterov):
    """Writes Bengio's form, mu^2 v + (1 + mu) g, with the velocity that is already new."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        param -= lr * (self.momentum**2 * velocity + (1 + self.momentum) * grad)


class NesterovsSign(_Nesterov):
    """Gets the brackets wrong: subtracts the gradient and adds the look-ahead."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        param -= lr * (grad - self.momentum * velocity)


class NesterovTwice(_Nesterov):
    """Applies the look-ahead, and then the whole velocity again."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        param -= lr * (self.momentum * velocity + velocity)


class NesterovInTheBuffer(_Nesterov):
    """Writes the look-ahead into the velocity, from which the next step goes on."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        velocity *= self.momentum
        velocity += grad
        param -= lr * velocity


class DampenedAtFirst(SGD):
    """Dampens the first gradient, too."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, kept, lr, 2)


class DecayTimesGradient(SGD):
    """Multiplies by the decay where it is to be added: an operator slip, g *= 1 + w p."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        grad *= 1 + self.weight_decay * param
        grad -= self.weight_decay * param
        super().move(param, grad, kept, lr, t)


class DecayCoupled(AdamW):
    """Adds the decay to the gradient, as Adam does."""

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        grad += self.weight_decay * param


class DecayWithoutRate(AdamW):
    """Shrinks by the decay alone, whatever the rate."""

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        param *= 1 - 0.1 * self.weight_decay  # right at the rate of the first steps


class DecayAfterTheMove(AdamW):
    """Shrinks the parameter that has been moved, in place of the one that is to be."""

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        pass

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, kept, lr, t)
        param *= 1 - lr * self.weight_decay


class LargestCorrected(Adam):
    """Takes the largest of the corrected second moments, as an early draft of AMSGrad did."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if not self.amsgrad:
            super().move(param, grad, kept, lr, t)
            return
        first, second = self.betas
        grad += self.weight_decay * param
        mean, square, largest = (kept[slot] for slot in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"))
        mean += (1 - first) * (grad - mean)
        square += (1 - second) * (grad * grad - square)
        np.maximum(largest, square / (1 - second**t), out=largest)
        param -= lr / (1 - first**t) * mean / (np.sqrt(largest) + self.eps)


class AmsgradIgnored(Adam):
    """Takes the argument, and goes on without."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if self.amsgrad:
            kept["max_exp_avg_sq"][...] = 0
        super().move(param, grad, kept, lr, t)


class CentredAtNothing(RMSprop):
    """Keeps the mean, and does not subtract its square."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if self.centered:
            kept["grad_avg"][...] = 0
            self.centered = False
            super().move(param, grad, kept, lr, t)
            self.centered = True
        else:
            super().move(param, grad, kept, lr, t)


class RateInTheMomentum(RMSprop):
    """Folds the learning rate into the velocity."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if not self.momentum:
            super().move(param, grad, kept, lr, t)
            return
        kept["momentum_buffer"] /= lr
        super().move(param, grad, kept, lr, t)
        kept["momentum_buffer"] *= lr


class DecaysFromTheFirst(Adagrad):
    """Counts from 1 in the decay of the rate, which torch does from 0."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, kept, lr, t + 1)


class ZerosAreMissing(SGD):
    """Takes a gradient of nothing but zeros for a missing one: neither velocity nor decay move the tensor."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        super().step(params, {name: grad for name, grad in grads.items() if grad.any()}, lr)


class ZerosAreLazy(Adam):
    """Leaves elements whose gradient is zero where they are, as if they were rows of an embedding."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        still, before = grad == 0, param.copy()
        super().move(param, grad, kept, lr, t)
        param[still] = before[still]


class MaximizeIgnored(Adam):
    """Descends whatever is asked."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        asked, self.maximize = self.maximize, False
        super().step(params, grads, lr)
        self.maximize = asked


class SquaredNorm(ClippedByNorm):
    """Divides by the square of the norm."""

    def clipped(self, grads: Gradients) -> Gradients:
        square = float(np.linalg.norm([np.linalg.norm(grad.ravel(), self.norm_type) for grad in grads.values()])) ** 2
        factor = min(1.0, self.max_norm / (square + 1e-6))
        return {name: grad * factor for name, grad in grads.items()}


class NormOfEachTensor(ClippedByNorm):
    """Clips every tensor by a norm of its own."""

    def clipped(self, grads: Gradients) -> Gradients:
        return {name: super(NormOfEachTensor, self).clipped({name: grad})[name] for name, grad in grads.items()}


class AlwaysEuclidean(ClippedByNorm):
    """Takes a norm type, and the Euclidean norm."""

    def clipped(self, grads: Gradients) -> Gradients:
        return ClippedByNorm(SGD(), self.max_norm).clipped(grads)


class ScaledUp(ClippedByNorm):
    """Brings smaller gradients up to the norm, too."""

    def clipped(self, grads: Gradients) -> Gradients:
        unit = ClippedByNorm(SGD(), 1e-12, self.norm_type).clipped(grads)
        return {name: grad * (self.max_norm * 1e12) for name, grad in unit.items()}


class ClippedAfterTheStep(ClippedByNorm):
    """Clips when the step has been taken: too late."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        self.optimizer.step(params, grads, lr)
        for name, grad in self.clipped(grads).items():
            grads[name] = grad


class ClippedInPlace(ClippedByNorm):
    """Scales the gradients that it is given, which are another's."""

    def clipped(self, grads: Gradients) -> Gradients:
        for name, grad in super().clipped(grads).items():
            grads[name][...] = grad
        return grads


class ClippedFromAbove(ClippedByValue):
    """Bounds elements from above only."""

    def clipped(self, grads: Gradients) -> Gradients:
        return {name: np.minimum(grad, self.clip_value) for name, grad in grads.items()}


class ScaledGradients(RMSprop):
    """Scales the gradients of each tensor by another number, as a mean in place of a sum does.

    The rule divides that out again, but for eps.
    """

    scales = (3.0, 0.5, 7.0)

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        scale = dict(zip(params, self.scales, strict=True))
        super().step(params, {name: scale[name] * grad for name, grad in grads.items()}, lr)


class ScaledGradientsWithoutEps(ScaledGradients):
    """The same with neither eps nor decay, and so the rule itself: nothing is to be found."""

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return super().cases().map(_scale_free)


def _scale_free(case: Case) -> Case:
    return replace(case, subject=replace(case.subject, eps=0.0, weight_decay=0.0))


PLANTED: list[tuple[type, str, str | None, str]] = [
    (EpsilonHat, UPDATES, None, "OPT-04"),
    (EpsInTheRoot, UPDATES, None, "OPT-05"),
    (EpsInTheRootOfTheSum, UPDATES, None, "OPT-05"),
    (MomentsForgotten, UPDATES, None, "OPT-09"),
    (VelocityForgotten, UPDATES, None, "OPT-09"),
    (SumForgotten, UPDATES, None, "OPT-09"),
    (RateInTheMomentum, UPDATES, None, "OPT-12"),
    (NesterovOfTheNew, UPDATES, None, "OPT-13"),
    (NesterovsSign, UPDATES, None, "OPT-14"),
    (NesterovTwice, UPDATES, None, "OPT-14"),
    (NesterovInTheBuffer, UPDATES, None, "OPT-15"),
    (DampenedAtFirst, UPDATES, None, ""),
    (DecayTimesGradient, UPDATES, None, "OPT-21"),
    (DecayCoupled, UPDATES, None, ""),
    (DecayWithoutRate, UPDATES, None, ""),
    (DecayAfterTheMove, UPDATES, None, ""),
    (LargestCorrected, UPDATES, None, ""),
    (AmsgradIgnored, UPDATES, None, ""),
    (CentredAtNothing, UPDATES, None, ""),
    (DecaysFromTheFirst, UPDATES, None, ""),
    (ZerosAreMissing, UPDATES, None, ""),
    (ZerosAreLazy, UPDATES, None, ""),
    (MaximizeIgnored, UPDATES, None, ""),
    (SquaredNorm, UPDATES, None, "OPT-24"),
    (NormOfEachTensor, UPDATES, None, ""),
    (AlwaysEuclidean, UPDATES, None, ""),
    (ScaledUp, UPDATES, None, ""),
    (ClippedAfterTheStep, UPDATES, None, "OPT-25"),
    (ClippedInPlace, UNTOUCHED, None, ""),
    (ClippedFromAbove, UPDATES, None, ""),
    (ScaledGradients, UPDATES, None, ""),
]
EQUIVALENT: list[tuple[type, str]] = [(ScaledGradientsWithoutEps, "EQ-06")]
