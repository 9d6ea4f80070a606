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

    The first of ``index`` is the sample, the others are the unit. ``ours`` and ``theirs`` are how far beyond the kink
    their inputs are, ``gap`` is how far apart, and ``noise`` how far rounding alone moves an input of this layer; the
    crossing is ``explained`` if the gap is no more than ``factor`` times that. ``units`` counts those of the layer that
    were crossed, of which this is the widest.
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
    """Return an engine's choices at ``x``, none where ``taps`` lack what they are made of."""
    try:
        return engine.kinks(x, taps)
    except KeyError:  # a reference need not show its taps
        return {}


def distance(a: Kinks, b: Kinks) -> Array:
    """Return how far apart two inputs are, unit by unit, seen from the kink: 0 where both have none."""
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
