"""Two sides timed in turn, in one process: how much of the other's processor time one takes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """Two sides that do the same work, ours and the one that it is measured against.

    Each returns the seconds that it took, or anything else, in which case its processor time is taken. ``units`` are
    what one call does, such as 200 steps. ``aim`` is the ratio that ours is to stay within, None where there is none.
    """

    name: str
    ours: Work
    theirs: Work
    units: int = 1
    aim: float | None = None


@dataclass(frozen=True)
class Row:
    """What a pair came to: the median over the repeats of ours / theirs, and its quartiles; milliseconds a unit."""

    name: str
    ratio: float
    low: float
    high: float
    ours_ms: float
    theirs_ms: float
    units: int
    repeats: int
    aim: float | None = None

    @property
    def spread(self) -> float:
        """The distance of the quartiles over the median."""
        return (self.high - self.low) / self.ratio

    def to_json(self) -> dict[str, Any]:
        """Return the row's fields, numbers to four digits."""
        return {
            key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in asdict(self).items()
        }


def measured(pair: Pair, repeats: int, limit: float) -> Row:
    """Run both sides in turn, and compare each call with the one beside it; the first turn warms up and is dropped.

    After ``limit`` seconds no turn is begun but the second; where the first takes most of that, it counts.
    """
    began = time.monotonic()
    times: list[tuple[float, float]] = []
    for turn in range(repeats + 1):
        times.append((seconds(pair.ours), seconds(pair.theirs)))
        long = time.monotonic() - began > limit / 2
        if turn == 0 and not long:
            times.clear()
        if turn and time.monotonic() - began > limit:
            break
    ours, theirs = np.array(times).T
    low, ratio, high = np.quantile(ours / theirs, [0.25, 0.5, 0.75])
    ours_ms, theirs_ms = (1e3 * float(np.median(side)) / pair.units for side in (ours, theirs))
    return Row(
        pair.name, float(ratio), float(low), float(high), ours_ms, theirs_ms, pair.units, len(times), pair.aim
    )  # fmt: skip


def seconds(work: Work) -> float:
    """Return the seconds that a side says it took, or its processor time; garbage of the side before is not its own."""
    gc.collect()
    began = time.process_time()
    told = work()
    taken = time.process_time() - began
    return told if isinstance(told, float) else taken
