"""Kinks that one side crossed and the other did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array, Kinks
from gradcheck.trajectory.engine import Engine


@dataclass(frozen=True)
class Crossing:
    """A unit at which the two sides chose differently.

    The first number of ``index`` is the sample, the others are the unit. ``ours`` and ``theirs`` are the distances of
    the two inputs from the kink, ``gap`` is their distance from each other, and ``noise`` is how far rounding alone
    moves an input of this layer. The crossing is ``explained`` if the gap is at most ``factor`` times the noise.
    ``units`` counts the crossed units of the layer; this is the one with the widest gap.
    """

    step: int
    layer: str
    index: tuple[int, ...]
    ours: float
    theirs: float
    gap: float
    noise: float
    explained: bool
    units: int = 1


def kinks_of(engine: Engine, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:
    """Return an engine's choices at ``x``, none where ``taps`` lack an array that they are made from."""
    try:
        return engine.kinks(x, taps)
    except KeyError:  # a reference need not show its taps
        return {}


def distance(a: Kinks, b: Kinks) -> Array:
    """Return how far apart two inputs are, unit by unit: their margins add up where a kink lies between them."""
    along = np.subtract(a.margin, b.margin, out=np.zeros_like(a.margin), where=a.margin != b.margin)
    return np.where(a.choice == b.choice, np.abs(along), a.margin + b.margin)


def crossings(
    step: int,
    ours: Mapping[str, Kinks],
    theirs: Mapping[str, Kinks],
    shadows: list[dict[str, Kinks]],
    factor: float,
) -> list[Crossing]:
    """Return, for each layer where the choices differ, the widest crossing."""
    found = []
    for layer, kinks in ours.items():
        if layer not in theirs:
            continue
        crossed = kinks.choice != theirs[layer].choice
        if not crossed.any():
            continue
        gaps = np.where(crossed, distance(kinks, theirs[layer]), 0)
        index = tuple(int(i) for i in np.unravel_index(np.argmax(gaps), gaps.shape))
        floor = (
            float(np.finfo(kinks.margin.dtype).eps * kinks.margin.max(initial=0, where=np.isfinite(kinks.margin)))
            / factor
        )
        noise = max([floor, *(float(distance(kinks, shadow[layer]).max()) for shadow in shadows)])
        gap = float(gaps[index])
        margins = float(kinks.margin[index]), float(theirs[layer].margin[index])
        found.append(Crossing(step, layer, index, *margins, gap, noise, gap <= factor * noise, int(crossed.sum())))
    return found
