"""Both loops, each trained by itself from the same start, and how long they stay together."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from gradcheck.loops.forcing import start_alone
from gradcheck.loops.judging import eps, floor, norm, start_of
from gradcheck.loops.linking import is_in, linked
from gradcheck.loops.names import Link
from gradcheck.loops.pairs import Pair
from gradcheck.loops.results import FreeLoops
from gradcheck.loops.seen import Seen
from gradcheck.loops.trials import Forced
from gradcheck.streams import stream
from gradcheck.trajectory.divergence import Divergence, locate
from gradcheck.trajectory.freerun import HORIZON


def compare_free(pair: Pair, forced: Forced, shadows: int, kinks: Collection[int]) -> FreeLoops:
    """Run ours by itself, from the start of theirs, and compare its parameters with those of theirs after every step.

    The 2-norm of the distance of each tensor may be ``factor`` times the largest one of ``shadows`` nudged runs of ours
    from ours, or the sum of what each update so far can round to. Where it is more, and a result had another sign in a
    step before, in which the parameters still agreed, one side alone may have crossed a kink: the horizon is there. So
    it is where rounding decides how often the model is called. ``kinks`` are the steps where lock-step found this.
    """
    begin, count, seed = start_alone(pair.ours.states), pair.count, pair.ours.run.seed
    own = pair.ours.run
    is_same = all(np.array_equal(array, own.begin[key]) for key, array in begin(-1, own.begin).items())
    plain = own if is_same else pair.ours.again(count, begin)
    rngs = [stream("shadows of loops, free", seed, shadow) for shadow in range(shadows)]
    around = [pair.ours.again(count, begin, rng) for rng in rngs]
    theirs, factor = pair.theirs.run, forced.factor
    crossed: int | None = None
    links = [link.moved("update/") for link in pair.links if link.theirs[0].startswith("param/")]
    distances: list[float] = []
    envelope: list[float] = []
    rounded = [0.0] * len(links)
    for step in range(min(len(run.steps) for run in (plain, theirs, *around))):
        apart, spreads, sizes = [], [], []
        failing: Divergence | None = None
        for place, link in enumerate(links):
            other = link.of_theirs(theirs.steps[step].tensors)
            mine, *nudged = (link.of_ours(run.steps[step].tensors, other.shape) for run in (plain, *around))
            unit = max(eps(mine, plain.steps[step], link.ours), eps(other, theirs.steps[step], link.theirs))
            rounded[place] += floor(other, unit, start_of(theirs.before(step), link)) * math.sqrt(other.size)
            apart.append(norm(mine - other))
            spreads.append(max(norm(one - mine) for one in nudged))
            sizes.append(norm(other))
            allowed = max(factor * spreads[-1], rounded[place])
            if failing is None and not apart[-1] <= allowed:
                ratio = apart[-1] / (allowed or 1e-300)
                failing = locate(step, link.theirs[0], mine, other, allowed / factor, allowed, ratio)
        varied = any(run.steps[step].passes() != forced.ours.steps[step].passes() for run in (plain, *around))
        if crossed is None and (
            varied or step in kinks or _signs_differ(forced.links[step], plain.steps[step], theirs.steps[step])
        ):
            crossed = step
        size = math.hypot(*sizes) or 1.0
        distances.append(math.hypot(*apart) / size)
        if not factor * math.hypot(*spreads) / size <= HORIZON:
            return FreeLoops(np.array(distances), np.array(envelope), step, None)
        envelope.append(math.hypot(*spreads) / size)
        if failing is not None:
            found = None if crossed is not None else failing
            return FreeLoops(np.array(distances), np.array(envelope), crossed, found)
    return FreeLoops(np.array(distances), np.array(envelope), None, None)


def _signs_differ(links: list[Link], ours: Seen, theirs: Seen) -> bool:
    """Return whether some result of a step has another sign in one of the two."""
    results = [link for link in links if link.theirs[0].startswith("forward/")]
    pairs = [
        linked(link, ours.tensors, theirs.tensors) for link in results if is_in(link, ours.tensors, theirs.tensors)
    ]
    return any(mine.shape == other.shape and bool(np.any(np.sign(mine) != np.sign(other))) for mine, other in pairs)
