"""What is known about a wrong gradient, and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import PRECISION, Comparison
from gradcheck.streams import stream

# Other cotangents must tell the same: dy backwards and larger (a power of two, so without rounding; |dy| or a clipped
# gradient show), and two that are random, from this seed.
BACKWARDS = -4.0


class Cause(StrEnum):
    """What can be wrong with a gradient; the comment says which details come with it."""

    NOT_FINITE = "not finite"  # index, count, value
    WRONG_SHAPE = "wrong shape"  # shape, needed
    NOT_REDUCED = "not reduced"  # axes, batch, shape, needed
    ZERO = "zero"
    IGNORES_DY = "ignores dy"  # ones
    FACTOR = "factor"  # factor, quantities; of a loss also descents
    OTHER_LOSS = "other loss"  # descents
    TRANSPOSED = "transposed"  # axes
    REVERSED = "reversed"  # axes
    SHIFTED = "shifted"  # axis, by, cyclic
    EXCHANGED = "exchanged"  # other, mutual
    REDUCED_TOO_FAR = "reduced too far"  # axes, everything, kind
    PART_WRONG = "part wrong"  # place (axis and index, or all of the index), what, agreeing
    BORDER_WRONG = "border wrong"  # sides, agreeing
    REGION_WRONG = "region wrong"  # region, at (a number or None), what, agreeing
    WHOLE_NUMBERS = "whole numbers"  # how (rounded, or cut off)
    CLIPPED = "clipped"  # low, high, norm: numbers or None
    ARGUMENTS_EXCHANGED = "arguments exchanged"  # of (the first argument, or the target), negated
    ONLY_PART_OF_DY = "only part of dy"  # axis, end, batch
    PART_OF_DY_LEFT_OUT = "part of dy left out"  # axis, end, batch
    DERIVATIVE_MISSING = "derivative missing"  # multiple, elementwise
    DERIVATIVE_TWICE = "derivative twice"
    DERIVATIVE_OF_WRONG_ARRAY = "derivative of wrong array"  # function, given
    DIAGONAL_ONLY = "diagonal only"
    SLICES_APART = "slices apart"  # axis
    TERM_IN_VALUE = "term in value"  # multiple
    TERM_IN_DY = "term in dy"  # multiple
    CONSTANT_TERM = "constant term"  # axes, everything
    AFFINE_TERM = "affine term"  # axes, everything
    TIED_IN_FULL = "tied in full"  # seen where kinks are judged, not by a hypothesis
    GUARD = "guard"  # eps, place, off; likewise


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a wrong gradient, with what its sentence needs."""

    cause: Cause
    details: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What is known about one tensor whose gradient is wrong.

    ``analytic`` is judged, and may have another shape than the tensor; ``numeric``, ``allowed`` (inf where not judged)
    and ``value`` have the tensor's. ``inputs`` names those of the ``variables`` that are inputs; ``batch_axis`` is the
    batch's in the first of them. ``gradients`` are the analytic gradients of all variables. The functions take another
    cotangent, or the name of another variable; numeric ones return gradient and allowance. ``target`` is what a loss
    compares the tensor with; ``of_exchanged`` returns numeric gradients of the loss with the two exchanged.
    """

    tensor: str
    analytic: Array
    numeric: Array
    allowed: Array
    value: Array
    inputs: tuple[str, ...]
    variables: dict[str, Array]
    gradients: dict[str, Array]
    y: Array
    dy: Array
    analytic_of: Callable[[Array], Array]
    numeric_of: Callable[[Array], tuple[Array, Array]]
    other_numeric: Callable[[str], tuple[Array, Array]]
    levels: tuple[float, ...] = (PRECISION,)
    target: Array | None = None
    batch_axis: int | None = 0
    of_exchanged: Callable[[], dict[str, tuple[Array, Array]]] | None = None

    @property
    def comparison(self) -> Comparison:
        """The two gradients, the analytic one broadcast to the tensor's shape, which must be possible."""
        arrays = (self.analytic, self.numeric, self.allowed)
        analytic, numeric, allowed = (
            np.broadcast_to(np.asarray(a, dtype=np.float64), self.numeric.shape) for a in arrays
        )
        return Comparison(analytic, numeric, allowed, self.levels)

    @property
    def batch(self) -> int | None:
        """The batch size, or None if the first input has no batch."""
        x = self.variables[self.inputs[0]] if self.inputs else self.y
        return x.shape[self.batch_axis] if x.ndim >= 2 and self.batch_axis is not None else None

    @property
    def elementwise_shapes(self) -> bool:
        """Whether the tensor is an input that the output has the shape of, and dy too."""
        return self.tensor in self.inputs and self.y.shape == self.value.shape == self.dy.shape == self.numeric.shape

    def of_arrays(self) -> Evidence:
        """Return the evidence with an array for a gradient that is a plain number."""
        analytic_of = self.analytic_of
        return replace(self, analytic=np.asarray(self.analytic), analytic_of=lambda dy: np.asarray(analytic_of(dy)))

    def for_cotangent(self, dy: Array) -> Evidence:
        """Return the evidence for another cotangent. ``gradients`` and ``other_numeric`` stay those of the first."""
        numeric, allowed = self.numeric_of(dy)
        return replace(self, dy=dy, analytic=self.analytic_of(dy), numeric=numeric, allowed=allowed)

    def scaled(self, factor: float) -> Evidence:
        """Return the evidence for a multiple of dy: all but the gradient that is judged are known to be linear."""

        def other_numeric(name: str) -> tuple[Array, Array]:
            numeric, allowed = self.other_numeric(name)
            return factor * numeric, abs(factor) * allowed

        dy = np.asarray(factor * self.dy)
        return replace(
            self,
            dy=dy,
            analytic=self.analytic_of(dy),
            numeric=factor * self.numeric,
            allowed=abs(factor) * self.allowed,
            gradients={name: factor * gradient for name, gradient in self.gradients.items()},
            other_numeric=other_numeric,
        )

    def allows(self, gradient: Array) -> bool:
        """Say whether a gradient of the tensor's shape is right, at some element measurably so."""
        comparison = replace(self, analytic=gradient).comparison
        return not np.any(comparison.failing) and bool(np.any(comparison.agreeing))


Hypothesis = Callable[[Evidence], Diagnosis | None]


def other_cotangents(dy: Array) -> list[Array]:
    """Return two random cotangents, always the same."""
    rng = stream("other cotangents")
    return [np.asarray(rng.standard_normal(dy.shape)) for _ in range(2)]


def along(cause: Cause, axes: tuple[int, ...], shape: tuple[int, ...], **details: str) -> Diagnosis:
    """Return a diagnosis about axes, with whether they are all that have more than one element."""
    everything = prod(shape[axis] for axis in axes) == prod(shape)
    return Diagnosis(cause, {"axes": axes, "everything": everything, **details})
