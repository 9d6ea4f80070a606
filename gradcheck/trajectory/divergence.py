"""Where two steps differ: step, phase, layer, tensor and index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gradcheck.contract import PHASES, Array, Context, Gradients, Phase
from gradcheck.numerics.agreement import disagreement
from gradcheck.trajectory.engine import Batch, State, layer_of


@dataclass(frozen=True)
class Divergence:
    """One comparison of a tensor of both engines, at its worst element.

    ``ours`` is the engine's value and ``theirs`` the reference's. ``noise`` is how far rounding alone moves the tensor,
    ``allowed`` the allowance, and ``ratio`` disagreement over allowance: above 1 fails. Where there are no two values
    to compare, ``message`` says why, the values are NaN and the ratio is inf. Without ``training``, the two sides were
    evaluated at the state before the step. ``diagnosis`` is the likeliest cause, as a sentence, if one is known.
    """

    step: int
    phase: Phase
    layer: str
    tensor: str
    index: tuple[int, ...]
    ours: float
    theirs: float
    noise: float
    allowed: float
    ratio: float
    message: str = ""
    training: bool = True
    diagnosis: str | None = None


class Own(NamedTuple):
    """What one side has, whatever the other has.

    ``before`` a step and ``after`` it this is what its optimizer keeps, by parameter and then by slot. ``alone`` are
    the gradients that the other side does not show.
    """

    before: Mapping[str, Mapping[str, Array]]
    after: Mapping[str, Mapping[str, Array]]
    alone: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of both sides from the state ``before``, or one evaluation, with the allowance of every tensor.

    ``ours`` and ``theirs`` hold every tensor as ``phase/tensor``, in the order of execution. ``context`` has no tap.
    ``earlier`` is the state, batch and context of the step before, and ``previous`` are the reference's gradients in
    it, if it was compared too. ``own`` is what ours and theirs have.
    """

    before: State
    batch: Batch
    context: Context
    ours: dict[str, Array]
    theirs: dict[str, Array]
    allowed: dict[str, float]
    previous: Gradients = field(default_factory=dict)
    earlier: tuple[State, Batch, Context] | None = None
    own: tuple[Own, Own] | None = None

    def outputs(self) -> Array | None:
        """Return the outputs of the reference's network, or their gradient where a trace has only that, or None."""
        names = ("forward/outputs", "backward/loss.prediction")
        return next((self.theirs[name] for name in names if name in self.theirs), None)


def locate(step: int, name: str, ours: Array, theirs: Array, noise: float, allowed: float, ratio: float) -> Divergence:
    """Return the comparison of the tensor ``phase/tensor`` at the element where the two differ most."""
    if why := unlike_arrays(name, ours, theirs):
        return unlike(step, name, why)
    difference = disagreement(ours, theirs)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    phase, tensor = split(name)
    return Divergence(
        step, phase, layer_of(tensor), tensor, index, float(ours[index]), float(theirs[index]), noise, allowed, ratio
    )


def unlike_arrays(name: str, ours: Array, theirs: Array) -> str:
    """Return why two arrays cannot be compared, or "": shapes differ, or precisions other than of a loss."""
    if ours.shape != theirs.shape:
        return f"has shape {ours.shape}, the reference's {theirs.shape}"
    floating = ours.dtype.kind == theirs.dtype.kind == "f"
    if floating and ours.dtype != theirs.dtype and not name.startswith("loss/"):
        return f"is {ours.dtype}, the reference's {theirs.dtype}"
    return ""


def unlike(step: int, name: str, message: str) -> Divergence:
    """Return a failure of the tensor ``phase/tensor`` that is not one of its elements."""
    phase, tensor = split(name)
    nan = math.nan
    return Divergence(step, phase, layer_of(tensor), tensor, (), nan, nan, 0.0, 0.0, math.inf, message)


def split(name: str) -> tuple[Phase, str]:
    """Return the phase and the tensor of the name ``phase/tensor``."""
    head, _, tensor = name.partition("/")
    return next(phase for phase in PHASES if phase == head), tensor
