"""How far nudged runs of a loop move every tensor of every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradcheck.loops.judging import same
from gradcheck.loops.pairs import Side
from gradcheck.loops.results import Doubt, Doubts
from gradcheck.loops.runs import Run
from gradcheck.loops.seen import Seen
from gradcheck.numerics.rounding import largest_difference
from gradcheck.streams import stream

Spreads = Sequence[dict[str, float]]  # of each step, by tensor


@dataclass(frozen=True)
class Nudged:
    """``spreads`` of nudged runs around one that is not nudged, and whether their data were others.

    In the steps that ``varied`` some called the model more or less often than that: rounding decides when an optimizer
    that takes a closure has enough.
    """

    spreads: Spreads
    doubts: Doubts
    varied: frozenset[int] = frozenset()


def nudged_runs(side: Side, place: int, run: Run, purpose: str, shadows: int) -> Nudged:
    """Take so many nudged runs of one side around ``run``; ``place`` is 0 for ours and 1 for theirs.

    Of a trace there are none.
    """
    spreads: list[dict[str, float]] = [{} for _ in range(len(run.steps))]
    doubts: Doubts = {}
    varied = set()

    def widen(seen: Seen) -> None:
        spread, base = spreads[seen.step], run.steps[seen.step].tensors
        if seen.passes() != run.steps[seen.step].passes():
            varied.add(seen.step)
        for key, array in seen.tensors.items():
            plain = base.get(key)
            if array.dtype.kind == "f" and plain is not None and plain.shape == array.shape:
                apart = largest_difference(array, plain)
                spread[key] = max(spread.get(key, 0.0), apart if math.isfinite(apart) else 0.0)
            elif key.startswith("data/") and not same(array, plain) and (plain is not None or seen.step not in varied):
                doubts.setdefault(Doubt.NOT_REPEATED, (side.name, key))

    for shadow in range(shadows if side.loop is not None else 0):
        side.again(len(run.steps), rng=stream(f"shadows of loops, {purpose}", run.seed, place, shadow), shown=widen)
    return Nudged(spreads, doubts, frozenset(varied))


def widest(several: Sequence[Spreads]) -> Spreads:
    """Return the largest spread of each tensor."""
    found: list[dict[str, float]] = [{} for _ in several[0]]
    for spreads in several:
        for widest_so_far, spread in zip(found, spreads, strict=False):
            for key, apart in spread.items():
                widest_so_far[key] = max(widest_so_far.get(key, 0.0), apart)
    return found
