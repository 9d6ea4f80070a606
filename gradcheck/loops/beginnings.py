"""Whether two loops begin with the same parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck.loops.judging import judged
from gradcheck.loops.linking import is_in, linked
from gradcheck.loops.names import Link
from gradcheck.loops.pairs import Pair
from gradcheck.loops.results import Doubt, Doubts
from gradcheck.loops.runs import Run


@dataclass(frozen=True)
class Beginnings:
    """How two loops begin: whether ``alike``, or ``overwritten`` so that they do, or neither can be told."""

    alike: bool
    overwritten: bool
    doubts: Doubts


def beginnings(pair: Pair, start: str, factor: float) -> Beginnings:
    """Return whether two loops begin with the same parameters, and all that are trained have a link."""
    ours, theirs, links = pair.ours.run, pair.theirs.run, pair.links
    doubts: Doubts = {}
    known = {name for link in links for name in link.ours}, {name for link in links for name in link.theirs}
    left, right = (
        [f"{side} {name.removeprefix('param/')}" for name in run.moved() if name not in names]
        for side, run, names in (("ours", ours, known[0]), ("theirs", theirs, known[1]))
    )
    if left or right:
        doubts[Doubt.NO_NAMES] = (*left, *right)
    if not ours.before(0) or not theirs.before(0):
        return Beginnings(False, False, doubts)  # not shown
    differ = _starts_that_differ(ours, theirs, links, factor)
    if differ and start == "own":
        doubts[Doubt.OTHER_START] = differ
    return Beginnings(not differ or start == "theirs", bool(differ) and start == "theirs", doubts)


def _starts_that_differ(ours: Run, theirs: Run, links: list[Link], factor: float) -> tuple[str, ...]:
    mine, other = ours.first(), theirs.first()
    differ = []
    for link in links:
        if link.theirs[0].startswith("optim/") or not is_in(link, mine, other):
            continue
        coarse = [
            run.steps[0].coarse.get(f"update/{name}", 0.0)
            for run, names in ((ours, link.ours), (theirs, link.theirs))
            for name in names
        ]
        both = linked(link, mine, other)
        unit = max(*coarse, *(float(np.finfo(one.dtype).eps) for one in both if one.dtype.kind == "f"), 0.0)
        if judged(*both, 0.0, factor, factor * unit, None).ratio > 1:  # they may be drawn and scaled otherwise
            differ.append(link.theirs[0].partition("/")[2])
    return tuple(differ)
