"""Mistakes in the clipping of gradients."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array, Gradients
from nets.optimizers import SGD, ClippedByNorm, ClippedByValue
from tests.nets.faults.fault import UPDATES, caught_by

Kept = dict[str, Array]


@caught_by(UPDATES, name="OPT-24")
class SquaredNorm(ClippedByNorm):
    """Divides by the square of the norm."""

    def clipped(self, grads: Gradients) -> Gradients:
        square = float(np.linalg.norm([np.linalg.norm(grad.ravel(), self.norm_type) for grad in grads.values()])) ** 2
        factor = min(1.0, self.max_norm / (square + 1e-6))
        return {name: grad * factor for name, grad in grads.items()}


@caught_by(UPDATES)
class NormOfEachTensor(ClippedByNorm):
    """Clips every tensor by a norm of its own."""

    def clipped(self, grads: Gradients) -> Gradients:
        return {name: super(NormOfEachTensor, self).clipped({name: grad})[name] for name, grad in grads.items()}


@caught_by(UPDATES)
class AlwaysEuclidean(ClippedByNorm):
    """Accepts a norm type, but uses the Euclidean norm."""

    def clipped(self, grads: Gradients) -> Gradients:
        return ClippedByNorm(SGD(), self.max_norm).clipped(grads)


@caught_by(UPDATES)
class ScaledUp(ClippedByNorm):
    """Also scales smaller gradients up to the norm."""

    def clipped(self, grads: Gradients) -> Gradients:
        unit = ClippedByNorm(SGD(), 1e-12, self.norm_type).clipped(grads)
        return {name: grad * (self.max_norm * 1e12) for name, grad in unit.items()}


@caught_by(UPDATES, name="OPT-25")
class ClippedAfterTheStep(ClippedByNorm):
    """Clips after the step, which is too late."""

    def step(self, params: Kept, grads: Gradients, lr: float) -> None:
        self.optimizer.step(params, grads, lr)
        for name, grad in self.clipped(grads).items():
            grads[name] = grad


@caught_by("gradients_are_left_untouched")
class ClippedInPlace(ClippedByNorm):
    """Scales the gradients of the caller in place."""

    def clipped(self, grads: Gradients) -> Gradients:
        for name, grad in super().clipped(grads).items():
            grads[name][...] = grad
        return grads


@caught_by(UPDATES)
class ZeroIsOff(ClippedByNorm):
    """Treats a bound of 0 as no bound."""

    def clipped(self, grads: Gradients) -> Gradients:
        return super().clipped(grads) if self.max_norm else grads


@caught_by("non_finite_gradients_act_as_in_twin")
class InfinityIsOff(ClippedByNorm):
    """Treats an infinite bound as no bound; torch returns NaN if the norm is infinite, too."""

    def clipped(self, grads: Gradients) -> Gradients:
        return super().clipped(grads) if self.max_norm < np.inf else grads


@caught_by(UPDATES)
class ZeroValueIsOff(ClippedByValue):
    """Treats a bound of 0 as no bound."""

    def clipped(self, grads: Gradients) -> Gradients:
        return super().clipped(grads) if self.clip_value else grads


@caught_by(UPDATES)
class ClippedFromAbove(ClippedByValue):
    """Clips elements from above only."""

    def clipped(self, grads: Gradients) -> Gradients:
        return {name: np.minimum(grad, self.clip_value) for name, grad in grads.items()}
