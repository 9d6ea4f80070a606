"""Every step of ours from the state of theirs before it, judged."""

from __future__ import annotations

from dataclasses import dataclass

from gradcheck.loops.beginnings import beginnings
from gradcheck.loops.divergences import first_of
from gradcheck.loops.linking import links_of_steps, scale_of_loss
from gradcheck.loops.noise import Nudged, nudged_runs, widest
from gradcheck.loops.pairs import Pair
from gradcheck.loops.repeats import not_repeated
from gradcheck.loops.results import Doubt, Doubts
from gradcheck.loops.trials import Forced, Trial, drops_others, is_doubtful, trial
from gradcheck.trajectory.divergence import Divergence

SHADOWS_OF_A_SECOND_LOOK = 9


@dataclass(frozen=True)
class Lockstep:
    """Two loops step by step: ``first`` is where they part, if they do, and ``doubts`` say why that may be wrong.

    They begin ``alike`` if both have shown that they do.
    """

    pair: Pair
    forced: Forced
    trials: list[Trial]
    alike: bool
    first: Divergence | None
    doubts: Doubts

    def is_clean(self) -> bool:
        """Return whether nothing was found, so that the two should stay together by themselves, too."""
        return self.alike and self.first is None and not self.doubts


def in_lockstep(pair: Pair, start: str, factor: float, shadows: int) -> Lockstep:
    """Run ours from the states of theirs, and judge every step."""
    begin = beginnings(pair, start, factor)
    doubts = begin.doubts
    run, theirs = pair.ours.again(pair.count), pair.theirs.run
    if begin.alike and not begin.overwritten and not doubts:
        doubts |= not_repeated("ours", pair.ours.run.steps[:1], run.steps[:1])
    scale = scale_of_loss(pair.links, run.steps, theirs.steps)
    links = links_of_steps(pair.links, run.steps, theirs.steps, scale)
    forced = Forced(run, theirs, pair.links, links, scale, factor)
    trials, noted = _judged(pair, forced, shadows)
    first = first_of(forced, trials)
    doubts = noted | doubts
    if first is not None and first.phase != "update":
        doubts = _repeated(pair, forced, first.step) | doubts
    if first is not None and _drops_others(forced, trials, first):
        doubts = {Doubt.OTHER_RANDOMNESS: (f"{first.phase}/{first.tensor}",)} | doubts
        first = None
    return Lockstep(pair, forced, trials, begin.alike, first, doubts)


def _judged(pair: Pair, forced: Forced, shadows: int) -> tuple[list[Trial], Doubts]:
    """Judge every step by the spread of nudged runs: of more of them if something exceeds its allowance."""
    ours = [nudged_runs(pair.ours, 0, forced.ours, "first", shadows)]
    theirs = [Nudged([{} for _ in range(forced.count)], {})]
    if len(set(pair.precisions())) > 1:
        theirs.append(nudged_runs(pair.theirs, 1, forced.theirs, "first", shadows))
    trials = _trials(forced, ours, theirs)
    if is_doubtful(trials):
        ours.append(nudged_runs(pair.ours, 0, forced.ours, "second", SHADOWS_OF_A_SECOND_LOOK))
        theirs.append(nudged_runs(pair.theirs, 1, forced.theirs, "second", SHADOWS_OF_A_SECOND_LOOK))
        trials = _trials(forced, ours, theirs)
    doubts: Doubts = {}
    for runs in (*ours, *theirs):
        doubts = runs.doubts | doubts
    return trials, doubts


def _trials(forced: Forced, ours: list[Nudged], theirs: list[Nudged]) -> list[Trial]:
    spreads = widest([runs.spreads for runs in ours]), widest([runs.spreads for runs in theirs])
    varied = frozenset[int]().union(*(runs.varied for runs in (*ours, *theirs)))
    return [trial(forced, spreads, step, varied=step in varied) for step in range(forced.count)]


def _repeated(pair: Pair, forced: Forced, step: int) -> Doubts:
    """Return the doubt that both repeat themselves in their data and results, up to a step."""
    doubts: Doubts = {}
    for side, run in ((pair.theirs, forced.theirs), (pair.ours, forced.ours)):
        again = side.again(step + 1)
        doubts = not_repeated(side.name, run.steps, again.steps, ("data/", "forward/")) | doubts
    return doubts


def _drops_others(forced: Forced, trials: list[Trial], first: Divergence) -> bool:
    name = f"{first.phase}/{first.tensor}"
    return drops_others(name, *forced.pairs(first.step)[name], trials[first.step].judgements[name].allowed)
