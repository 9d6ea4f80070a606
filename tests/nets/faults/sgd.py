"""Mistakes in gradient descent, its momentum and its decay."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array, Gradients
from nets.optimizers import SGD
from tests.nets.faults.fault import UPDATES, caught_by

Kept = dict[str, Array]


@caught_by(UPDATES)
class StaleRate(SGD):
    """Keeps the first learning rate it was given."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        self.state.setdefault("lr", np.asarray(lr))
        super().step(params, grads, float(self.state["lr"]))


@caught_by("missing_gradients_are_skipped")
class MovesWithoutGradient(SGD):
    """Shrinks a parameter that has no gradient in this step."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, grads, lr)
        for name in params.keys() - grads.keys():
            params[name] *= 1 - lr


@caught_by(UPDATES, name="OPT-12")
class RateInTheVelocity(SGD):
    """Folds the learning rate into the velocity: right only at a constant rate."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, {name: lr * grad for name, grad in grads.items()}, 1.0)


@caught_by(UPDATES, name="OPT-19")
class DecayWithMomentumOnly(SGD):
    """Forgets weight decay on the path without momentum."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        decay = self.weight_decay
        self.weight_decay = decay if self.momentum else 0.0
        super().step(params, grads, lr)
        self.weight_decay = decay


@caught_by("gradients_are_left_untouched")
class DecaysItsGradients(SGD):
    """Adds weight decay to the gradients in place."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            grad += 0.1 * params[name]
        super().step(params, grads, lr)


@caught_by("gradients_are_left_untouched")
class RemembersItsGradients(SGD):
    """Keeps the first gradient itself, not a copy, as its velocity."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            velocity = self.state.setdefault(f"momentum_buffer/{name}", grad)
            params[name] -= lr * (grad + 0.5 * velocity)


@caught_by("parameters_are_moved_in_place", name="LIN-10")
class Rebinds(SGD):
    """Puts new arrays into the dict, and does not change those that the layers hold."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name, grad in grads.items():
            params[name] = params[name] - lr * grad


@caught_by(UPDATES, name="OPT-09")
class VelocityForgotten(SGD):
    """Makes a new velocity in every step, which is plain gradient descent."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        self.state = {}
        super().step(params, grads, lr)


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


@caught_by(UPDATES, name="OPT-13")
class NesterovOfTheNew(_Nesterov):
    """Uses Bengio's form, mu^2 v + (1 + mu) g, with the velocity that is already updated."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        param -= lr * (self.momentum**2 * velocity + (1 + self.momentum) * grad)


@caught_by(UPDATES, name="OPT-14")
class NesterovsSign(_Nesterov):
    """Gets the brackets wrong: subtracts the gradient and adds the look-ahead."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        param -= lr * (grad - self.momentum * velocity)


@caught_by(UPDATES, name="OPT-14")
class NesterovTwice(_Nesterov):
    """Applies the look-ahead, and then the whole velocity again."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        param -= lr * (self.momentum * velocity + velocity)


@caught_by(UPDATES, name="OPT-15")
class NesterovInTheBuffer(_Nesterov):
    """Stores the look-ahead as the velocity for the next step."""

    def look_ahead(self, param: Array, grad: Array, velocity: Array, lr: float, t: int) -> None:
        velocity *= self.momentum
        velocity += grad
        velocity *= self.momentum
        velocity += grad
        param -= lr * velocity


@caught_by(UPDATES)
class DampenedAtFirst(SGD):
    """Dampens the first gradient, too."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        super().move(param, grad, kept, lr, 2)


@caught_by(UPDATES, name="OPT-21")
class DecayTimesGradient(SGD):
    """Multiplies by the decay where it must add: g *= 1 + w p."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        grad *= 1 + self.weight_decay * param
        grad -= self.weight_decay * param
        super().move(param, grad, kept, lr, t)


@caught_by("non_finite_gradients_act_as_in_twin")
class OnlyFinite(SGD):
    """Silently skips a gradient that is not finite."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        super().step(params, {name: grad for name, grad in grads.items() if np.isfinite(grad).all()}, lr)


@caught_by(UPDATES)
class ZerosAreMissing(SGD):
    """Treats a gradient of zeros as a missing one: neither velocity nor decay moves the tensor."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        super().step(params, {name: grad for name, grad in grads.items() if grad.any()}, lr)


@caught_by(UPDATES, name="LIN-09")
class BiasNotDecayed(SGD):
    """Applies no weight decay to vectors, such as a bias."""

    def move(self, param: Array, grad: Array, kept: Kept, lr: float, t: int) -> None:
        decay = self.weight_decay
        self.weight_decay = 0.0 if param.ndim < 2 else decay
        super().move(param, grad, kept, lr, t)
        self.weight_decay = decay
