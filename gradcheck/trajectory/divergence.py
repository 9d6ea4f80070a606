"""Where two steps part: step, phase, layer, tensor and index."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradcheck.agreement import disagreement
from gradcheck.contract import PHASES, Array, Phase
from gradcheck.trajectory.engine import layer_of


@dataclass(frozen=True)
class Divergence:
    """One comparison of a tensor of both engines, at its worst element.

    ``ours`` is the engine's value and ``theirs`` the reference's, ``noise`` what rounding alone does to the tensor,
    ``allowed`` what is accepted, and ``ratio`` disagreement over allowance: above 1 fails. Where there are no two
    values to compare, ``message`` says why, the values are NaN and the ratio is inf.
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


def locate(step: int, name: str, ours: Array, theirs: Array, noise: float, allowed: float, ratio: float) -> Divergence:
    """Return the comparison of the tensor ``phase/tensor`` at the element where the two differ most."""
    if ours.shape != theirs.shape:
        return unlike(step, name, f"has shape {ours.shape}, the reference's {theirs.shape}")
    difference = disagreement(ours, theirs)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    phase, tensor = split(name)
    return Divergence(
        step, phase, layer_of(tensor), tensor, index, float(ours[index]), float(theirs[index]), noise, allowed, ratio
    )


def unlike(step: int, name: str, message: str) -> Divergence:
    """Return a failure of the tensor ``phase/tensor`` that is not one of its elements."""
    phase, tensor = split(name)
    nan = math.nan
    return Divergence(step, phase, layer_of(tensor), tensor, (), nan, nan, 0.0, 0.0, math.inf, message)


def split(name: str) -> tuple[Phase, str]:
    """Return the phase and the tensor of the name ``phase/tensor``."""
    head, _, tensor = name.partition("/")
    return next(phase for phase in PHASES if phase == head), tensor
