"""Faults to plant into an engine, which a checker must catch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Context, Gradients, Optimizer

if TYPE_CHECKING:
    from gradcheck.trajectory.engine import Batch


@dataclass(frozen=True)
class Fault:
    """What an engine does wrong from step ``begin`` on. Its methods are called in every step; here they change nothing.

    ``inside`` marks a fault of the update, which only an engine that calls `update` can make. ``recalls`` says whether
    `gradients` needs the gradients of the step before.
    """

    begin: int = field(default=0, kw_only=True)
    inside: ClassVar[bool] = False
    recalls: ClassVar[bool] = False

    def batch(self, step: int, batch: Batch) -> Batch:
        """Return the batch of a step in place of ``batch``."""
        return batch

    def tap(self, context: Context, name: str, array: Array) -> Array:
        """Return the array that is used and shown in place of the one tapped as ``name``, in any mode."""
        return array

    def gradients(self, step: int, grads: Gradients, previous: Gradients, size: int) -> Gradients:
        """Return the gradients of a step on ``size`` samples; ``previous`` are those of the step before."""
        return grads

    def update(self, step: int, optimizer: Optimizer, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        """Move the parameters."""
        optimizer.step(params, grads, lr)


@dataclass(frozen=True)
class GradientFault(Fault):
    """One parameter's gradient, replaced by ``wrong`` of it."""

    tensor: str

    def gradients(self, step: int, grads: Gradients, previous: Gradients, size: int) -> Gradients:
        if step < self.begin:
            return grads
        return grads | {self.tensor: self.wrong(grads[self.tensor], previous.get(self.tensor), size)}

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        """Return the replacement of ``grad``, that of ``size`` samples; ``previous`` is that of the step before."""
        return grad


@dataclass(frozen=True)
class GradientScale(GradientFault):
    """One parameter's gradient, multiplied by ``scale``."""

    scale: float

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        return np.asarray(grad * grad.dtype.type(self.scale))


@dataclass(frozen=True)
class GradientTranspose(GradientFault):
    """One parameter's gradient with its first two axes exchanged, which must be equally long."""

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        return np.swapaxes(grad, 0, 1).copy()


@dataclass(frozen=True)
class GradientZero(GradientFault):
    """One element of one parameter's gradient, set to zero."""

    index: tuple[int, ...]

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        faulty = grad.copy()
        faulty[self.index] = 0
        return faulty


@dataclass(frozen=True)
class GradientMean(GradientFault):
    """One parameter's gradient, divided by the number of samples: a mean over the batch where a sum belongs."""

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        return np.asarray(grad / grad.dtype.type(size))


@dataclass(frozen=True)
class GradientStale(GradientFault):
    """One parameter's gradient, that of the step before; right in the first step of the engine."""

    recalls: ClassVar[bool] = True

    def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
        return grad if previous is None else previous


@dataclass(frozen=True)
class LabelShift(Fault):
    """Every label, shifted by one class, cyclically: indices (batch, ...) or rows (batch, classes)."""

    classes: int

    def batch(self, step: int, batch: Batch) -> Batch:
        if step < self.begin:
            return batch
        indices = np.issubdtype(batch.y.dtype, np.integer)
        return batch._replace(y=(batch.y + 1) % self.classes if indices else np.roll(batch.y, 1, axis=-1))


@dataclass(frozen=True)
class OutputCast(Fault):
    """The output of one layer, in another precision."""

    layer: str
    dtype: DTypeLike

    def tap(self, context: Context, name: str, array: Array) -> Array:
        if context.key.step < self.begin or name != f"forward/{self.layer}.output":
            return array
        return array.astype(self.dtype)


class Planted:
    """A fault in one engine, with the gradients of the last two steps, by the step's number.

    So a step that is taken twice, as by shadows, has the same gradients before it.
    """

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.past: dict[int, Gradients] = {}

    def context(self, context: Context) -> Context:
        """Return the context with the fault in its tap, before the tap that is there already."""
        if type(self.fault).tap is Fault.tap:  # untapped stays untapped, which is fast
            return context
        return replace(context, tap=lambda name, array: context.tap(name, self.fault.tap(context, name, array)))

    def gradients(self, step: int, grads: Gradients, size: int) -> Gradients:
        """Return the gradients of a step on ``size`` samples."""
        previous = self.past.get(step - 1, {})
        if self.fault.recalls:
            self.past = {step - 1: previous, step: {name: grad.copy() for name, grad in grads.items()}}
        return self.fault.gradients(step, grads, previous, size)
