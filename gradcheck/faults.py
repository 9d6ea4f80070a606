"""Faults to plant, so that a checker can be seen to catch them."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.contract import Gradients


@dataclass(frozen=True)
class GradientScale:
    """One parameter's gradient, multiplied by ``scale`` from step ``begin`` on."""

    tensor: str
    scale: float
    begin: int = 0

    def __call__(self, step: int, grads: Gradients) -> Gradients:
        """Return the gradients of a step with the fault in them."""
        if step < self.begin:
            return grads
        faulty = grads[self.tensor]
        return grads | {self.tensor: faulty * faulty.dtype.type(self.scale)}
