"""Mistakes in Adam and AdamW."""

from __future__ import annotations

import math

import numpy as np

from gradcheck.contract import Array, Gradients
from nets.optimizers import Adam, AdamW
from tests.nets.faults.fault import UPDATES, caught_by

Kept = dict[str, Array]


@caught_by(UPDATES, name="OPT-01")
class WithoutThePower(Adam):
    """Corrects the bias of the moments without the power t: right in the first step, and in no other."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name in grads:
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"][...] = 0
        super().step(params, grads, lr)


@caught_by("missing_gradients_are_skipped", name="OPT-26")
class OneCountForAll(Adam):
    """Counts steps for all tensors together, even for those without a gradient."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, grads, lr)
        for name in params.keys() - grads.keys():
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"] += 1


@caught_by(UPDATES, name="OPT-04")
class EpsilonHat(Adam):
    """Adds eps to the root of the uncorrected moment: the form of the paper's section 2, with another eps."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        root, eps = math.sqrt(1 - self.betas[1] ** t), self.eps
        self.eps = eps / root
        super().move(param, grad, kept, lr, t)
        self.eps = eps


@caught_by(UPDATES, name="OPT-09")
class MomentsForgotten(Adam):
    """Keeps its moments in local variables: they start from zero in every step, and only the count is kept."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, {slot: np.zeros_like(array) for slot, array in kept.items()}, lr, t)


@caught_by(UPDATES)
class DecayCoupled(AdamW):
    """Adds the decay to the gradient, as Adam does."""

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        grad += self.weight_decay * param


@caught_by(UPDATES)
class DecayWithoutRate(AdamW):
    """Shrinks the parameter by the decay alone, without the learning rate."""

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        param *= 1 - 0.1 * self.weight_decay  # right at the rate of the first steps


@caught_by(UPDATES)
class DecayAfterTheMove(AdamW):
    """Applies the decay after the update, not before."""

    def decay(self, param: Array, grad: Array, lr: float) -> None:
        pass

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, kept, lr, t)
        param *= 1 - lr * self.weight_decay


@caught_by(UPDATES)
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


@caught_by(UPDATES)
class AmsgradIgnored(Adam):
    """Accepts ``amsgrad`` and ignores it."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        if self.amsgrad:
            kept["max_exp_avg_sq"][...] = 0
        super().move(param, grad, kept, lr, t)


@caught_by(UPDATES)
class ZerosAreLazy(Adam):
    """Does not move elements with a zero gradient, as if they were unused rows of an embedding."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        still, before = grad == 0, param.copy()
        super().move(param, grad, kept, lr, t)
        param[still] = before[still]


@caught_by(UPDATES)
class MaximizeIgnored(Adam):
    """Ignores ``maximize`` and always descends."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        asked, self.maximize = self.maximize, False
        super().step(params, grads, lr)
        self.maximize = asked


@caught_by("state_is_all_that_is_kept")
class CountsOnItself(Adam):
    """Keeps the step count outside its state, so it restarts after a checkpoint."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        counts = self.__dict__.setdefault("counts", {})
        for name in grads:
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"][...] = counts.get(name, 0)
            counts[name] = counts.get(name, 0) + 1
        super().step(params, grads, lr)


@caught_by("state_agrees_with_twin")
class OtherNames(Adam):
    """Names its moments m and v, as the paper does; torch's checkpoints have other names."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        self.state = {key.replace("m/", "exp_avg/").replace("v/", "exp_avg_sq/"): a for key, a in self.state.items()}
        super().step(params, grads, lr)
        self.state = {key.replace("exp_avg/", "m/").replace("exp_avg_sq/", "v/"): a for key, a in self.state.items()}


@caught_by(UPDATES, "parameters_are_moved_in_place")
class NumbersAreCopied(Adam):
    """Updates a copy of a parameter without axes."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        super().step({name: array if array.ndim else array.copy() for name, array in params.items()}, grads, lr)
