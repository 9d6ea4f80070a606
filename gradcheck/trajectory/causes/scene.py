"""A tensor in which a step is wrong, with the step around it, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Diagnosis
from gradcheck.diagnosis.fits import PRECISION, Comparison
from gradcheck.diagnosis.updates import moved
from gradcheck.trajectory.divergence import Moment, split

# Allowances of steps are for whole tensors and may be wide beside an element, as in float32. But tensors are large, and
# three elements off by a hundred tolerances each, or as many more by thirty, are about as unlikely a coincidence as one
# off by a million.
LEVELS = (PRECISION, 100.0, 30.0)

FITTED_TO = 1e-4  # the precision of a multiple that was fitted


class StepCause(StrEnum):
    """What can be wrong with a step, besides its gradients; the comments list the details of each."""

    OTHER_ORDER = "other order"  # rolled (by how many, or None)
    LABELS_SHIFTED = "labels shifted"  # by, classes
    RESCALED = "rescaled"  # factor, offset
    OTHER_PRECISION = "other precision"  # precision, lower
    DROPOUT = "dropout"  # p, on, training
    STALE = "stale"
    ACCUMULATED = "accumulated"  # reference (whether it is the one that accumulates)
    MICRO_BATCHES = "micro-batches"  # parts, reference (whether it does not divide), loss (whether that is off, too)
    LOSS_FACTOR = "loss factor"  # factor, parts (or None), reference
    LOSS_SCALE = (
        "loss scale"  # scale, reference (whether ours' gradients are the smaller), late (whether after clipping)
    )
    SMOOTHING = "smoothing"  # ours, theirs
    UNEQUAL_PARTS = "unequal parts"  # sizes, reference (whether it is the one that has them)
    OTHER_LOSS = "other loss"  # ours, theirs: their names
    ACTIVATION = "activation"  # ours, theirs: their names
    NORMALISATION = "normalisation"  # ours, theirs: in words, what each computes by
    RUNNING_VARIANCE = "running variance"  # biased (whether ours is), momentum
    RUNNING_MOMENTUM = "running momentum"  # ours, theirs
    ATTENTION = "attention"  # ours, theirs: in words
    NOT_CARRIED = "not carried"  # reference (whether it does not carry it), inside (whether the layer itself keeps it)
    CUT_OFF = "cut off"  # layer, reference (whether it is the one that cuts its state off)
    CLIPPED = "clipped"  # ours, theirs: bounds or None, norms (or None), by (norm or value)
    ONE_BEFORE_CLIPPING = "one before clipping"  # odd, factor (of all others), zero, times (as `factor_of`, or None)
    CLIPPED_IN_PARTS = "clipped in parts"  # parts, how, bound
    NOT_UPDATED = "not updated"
    MOVED_BY_FACTOR = "moved by factor"  # factor, everything, lr (given and as if, or None)
    MOMENTUM = "momentum"  # lost, multiple
    CORRECTION = "correction"  # t, given
    WEIGHT_DECAY = "weight decay"  # decay, more, coupled (whether the other side takes it off the parameter)
    BETA = "beta"  # name, slot, ours, theirs
    EPS = "eps"  # place, ours, theirs
    DAMPENING = "dampening"  # share (of the gradient that enters the velocity)
    HIDDEN_VELOCITY = "hidden velocity"  # ours, theirs: the momenta
    NESTEROV = "nesterov"  # momentum, reference (whether it is the one that looks ahead)
    DECAY_IN_SQUARES = "decay in squares"  # decay, slot, more
    DECAY_AFTER = "decay after"  # decay, reference (whether it is the one that decays last), alone (the only one)
    AVERAGED = "averaged"  # ours, theirs: shares kept, None if not known; late (whether ours averages what was before)
    LOW_SLOT = "low slot"  # slot, ours, theirs: precisions
    OTHER_RULE = "other rule"  # ours, theirs: in words
    CARRIED_OVER = "carried over"  # multiple, reference (whether it carries), none (on the other side), engine


@dataclass(frozen=True)
class StepDiagnosis:
    """The cause of a wrong step, with the details for its sentence."""

    cause: StepCause
    details: dict[str, Any]


Found = Diagnosis | StepDiagnosis


@dataclass(frozen=True)
class Scene:
    """The tensor ``phase/tensor`` in which a step is wrong, and the step."""

    name: str
    moment: Moment

    @property
    def ours(self) -> Array:
        """The engine's tensor."""
        return self.moment.ours[self.name]

    @property
    def theirs(self) -> Array:
        """The reference's tensor."""
        return self.moment.theirs[self.name]

    @property
    def tensor(self) -> str:
        """The tensor's name, without the phase."""
        return split(self.name)[1]

    @property
    def parameter(self) -> str:
        """The name of the parameter of an update: ``0.weight`` for ``optim/exp_avg/0.weight``."""
        return self.tensor.rpartition("/")[2]

    @cached_property
    def comparison(self) -> Comparison:
        """Both tensors, and the allowance of each element."""
        return self.compared(self.name)

    @cached_property
    def before(self) -> Array | None:
        """An updated tensor before the step, if it existed."""
        return self.moment.before.get(self.tensor)

    def compared(self, name: str) -> Comparison:
        """Return both sides' tensor of some name, and the allowance of each element.

        If ours has another shape, it is NaN, which no hypothesis explains.
        """
        arrays = (self.moment.ours[name], self.moment.theirs[name])
        ours, theirs = (np.asarray(array, dtype=np.float64) for array in arrays)
        ours = ours if ours.shape == theirs.shape else np.full(theirs.shape, np.nan)
        return Comparison(ours, theirs, np.full(theirs.shape, self.moment.allowed[name]), LEVELS)

    def moved(self, name: str) -> Comparison | None:
        """Return how far both sides moved a tensor, or None if it was not there before."""
        before = self.moment.before.get(name.removeprefix("update/"))
        return None if before is None else moved(self.compared(name), before)

    def slot(self, slot: str, of: str = "theirs") -> Array | None:
        """Return the parameter's array in a slot of the optimizer, after the step on one side or ``before`` it."""
        key = f"optim/{slot}/{self.parameter}"
        array = self.moment.before.get(key) if of == "before" else getattr(self.moment, of).get(f"update/{key}")
        return None if array is None else np.asarray(array, dtype=np.float64)

    def elsewhere(self, off: Callable[[Scene], Array | None]) -> bool:
        """Return whether in every other parameter that is wrong ours is off by what is given, known to 4 digits."""
        for name in self.moment.theirs:
            one = self.compared(name) if name.startswith("update/param/") and name != self.name else None
            if one is None or not one.failing.any():
                continue
            by = off(Scene(name, self.moment))
            if by is None or not np.all(np.abs(one.error - by) <= 2 * one.allowed + FITTED_TO * np.abs(by)):
                return False
        return True


Hypothesis = Callable[[Scene], Found | None]


def is_floating(array: Array) -> bool:
    """Return whether an array holds floating-point numbers."""
    return bool(np.issubdtype(array.dtype, np.floating))


def is_within(array: Array, predicted: Array, allowed: Array) -> bool:
    """Return whether an array is as predicted, to within twice the allowance."""
    return bool(np.all(np.abs(array - predicted) <= 2 * allowed))


def joined(parts: list[Comparison]) -> Comparison:
    """Return several comparisons as one, without axes."""
    analytic, numeric, allowed = (
        np.concatenate([getattr(part, name).ravel() for part in parts]) for name in ("analytic", "numeric", "allowed")
    )
    return Comparison(analytic, numeric, allowed, LEVELS)
