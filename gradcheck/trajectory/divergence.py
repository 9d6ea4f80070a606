"""Where two steps part: step, phase, layer, tensor and index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck.contract import PHASES, Array, Phase
from gradcheck.trajectory.engine import layer_of


@dataclass(frozen=True)
class Divergence:
    """One comparison of a tensor of both engines, at its worst element.

    ``ours`` is the engine's value and ``theirs`` the reference's, ``noise`` what rounding alone does to the tensor,
    ``allowed`` what is accepted, and ``ratio`` disagreement over allowance: above 1 fails.
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


def locate(step: int, name: str, ours: Array, theirs: Array, noise: float, allowed: float, ratio: float) -> Divergence:
    """Return the comparison of the tensor ``phase/tensor`` at the element where the two differ most."""
    phase, tensor = split(name)
    with np.errstate(invalid="ignore"):
        difference = np.abs(ours - theirs)
    difference = np.where((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)), 0, difference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    index = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
    return Divergence(
        step,
        phase,
        layer_of(tensor),
        tensor,
        index,
        float(ours[index]),
        float(theirs[index]),
        noise,
        allowed,
        ratio,
    )


def split(name: str) -> tuple[Phase, str]:
    """Return the phase and the tensor of the name ``phase/tensor``."""
    head, _, tensor = name.partition("/")
    return next(phase for phase in PHASES if phase == head), tensor
