"""Every step of two loops from the same state, judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.forcing import states_of_theirs
from gradcheck.loops.judging import eps, is_exact, judged, may_be_noise, of_a_mean, start_of
from gradcheck.loops.linking import is_in, linked
from gradcheck.loops.names import Link
from gradcheck.loops.noise import Spreads
from gradcheck.loops.runs import Run
from gradcheck.loops.seen import Seen
from gradcheck.numerics.rounding import largest_difference, largest_magnitude
from gradcheck.trajectory.engine import State
from gradcheck.trajectory.judgement import Judgement

Pairs = dict[str, tuple[Array, Array]]  # ours and theirs, by the name of theirs


@dataclass(frozen=True)
class Forced:
    """Two loops whose steps begin alike: ``theirs``, and ``ours``, which goes on from the states of theirs.

    ``states`` links their states, and ``links`` all that each step shows. Ours scales its loss by ``scale``. A tensor
    may differ by ``factor`` times the spread of nudged runs.
    """

    ours: Run
    theirs: Run
    states: list[Link]
    links: list[list[Link]]
    scale: float
    factor: float

    @property
    def count(self) -> int:
        """The number of steps that both took."""
        return len(self.links)

    def pairs(self, step: int) -> Pairs:
        """Return all that is compared in a step: the rates, the parameters before it, then what both show."""
        ours, theirs = self.ours.steps[step], self.theirs.steps[step]
        found: Pairs = {}
        if not math.isnan(ours.lr) and not math.isnan(theirs.lr):
            found["data/lr"] = np.asarray(ours.lr), np.asarray(theirs.lr)
        if step and (ours.start or theirs.start):
            found |= self._starts(step)
        return found | {link.theirs[0]: linked(link, ours.tensors, theirs.tensors) for link in self.links[step]}

    def _starts(self, step: int) -> Pairs:
        """Return the parameters before a step, which a loop may have changed after the update before."""
        given = states_of_theirs(self.theirs, self.states)(step - 1, self.ours.steps[step - 1].state())
        mine, other = {**given, **self.ours.steps[step].start}, self.theirs.before(step)
        params = [link for link in self.states if link.theirs[0].startswith("param/") and is_in(link, mine, other)]
        return {f"{BEFORE}{link.theirs[0]}": linked(link, mine, other) for link in params}


BEFORE = "update/before/"  # what a loop has changed since the last update


@dataclass(frozen=True)
class Trial:
    """One step of both from the same state: ``judgements`` by the name of theirs, without what could not be measured.

    ``sizes`` has how large each parameter's gradient is, and how far each parameter moved; ``exact`` is what must be
    equal. In a step that ``crossed`` a kink on one side alone, gradients and updates are not judged; nor is anything
    where rounding decides how often the two call the model. A step is ``sure`` to be another if no more shadows could
    explain it.
    """

    judgements: dict[str, Judgement]
    sizes: dict[str, float]
    exact: frozenset[str]
    unmeasured: tuple[str, ...]
    crossed: bool
    sure: bool

    def failing(self) -> list[str]:
        """Return what exceeds its allowance."""
        return _failing(self.judgements)


def trial(forced: Forced, spreads: tuple[Spreads, Spreads], step: int, *, varied: bool) -> Trial:
    """Judge one step; ``spreads`` are those of both sides' nudged runs, which may have ``varied`` in their passes."""
    alike = forced.ours.steps[step].passes() == forced.theirs.steps[step].passes()
    if varied and not alike:
        return Trial({}, {}, frozenset(), (), crossed=True, sure=False)
    before, pairs = forced.theirs.before(step), forced.pairs(step)
    links = {link.theirs[0]: link for link in forced.links[step]}
    judgements: dict[str, Judgement] = {}
    unmeasured = []
    for name, (ours, theirs) in pairs.items():
        if name == "data/lr":
            allowed = forced.factor * float(np.finfo(float).eps) * abs(float(theirs))
            judgements[name] = Judgement(abs(float(ours - theirs)), allowed)
            continue
        if name.startswith(BEFORE):
            judgements[name] = _judged_before(forced, step, name, ours, theirs)
            continue
        found = _judged(forced, spreads, step, links[name], (ours, theirs), before)
        if is_exact(theirs) or _is_measured(spreads, step, links[name]) or not may_be_noise(found, theirs):
            judgements[name] = found
        else:
            unmeasured.append(name)
    if crossed := _crosses(judgements, pairs):
        judgements = {n: found for n, found in judgements.items() if not n.startswith(("backward/", "update/"))}
    return Trial(
        judgements,
        dict(_sizes(judgements, pairs, before)),
        frozenset(name for name in judgements if is_exact(pairs[name][1])),
        tuple(unmeasured),
        crossed,
        alike and not all(may_be_noise(judgements[name], pairs[name][1]) for name in _failing(judgements)),
    )


def _judged(
    forced: Forced,
    spreads: tuple[Spreads, Spreads],
    step: int,
    link: Link,
    both: tuple[Array, Array],
    before: State,
) -> Judgement:
    name, (ours, theirs) = link.theirs[0], both
    unit = _unit(forced, step, link, both)
    if name == "loss/loss.value":
        unit *= of_a_mean(_terms(forced.theirs.steps[step]))
    if name.startswith("data/") and unit <= np.finfo(np.float32).eps:
        unit *= forced.factor  # scaled and shifted by the loop, where no hook sees it
    spread = _spread(forced, spreads, step, link, largest_magnitude(theirs))
    return judged(ours, theirs, spread, forced.factor, unit, start_of(before, link))


def _judged_before(forced: Forced, step: int, name: str, ours: Array, theirs: Array) -> Judgement:
    link = next(link for link in forced.states if link.theirs[0] == name.removeprefix(BEFORE)).moved("update/")
    unit = _unit(forced, step, link, (ours, theirs))
    return judged(ours, theirs, 0.0, forced.factor, forced.factor * unit, None)


def _unit(forced: Forced, step: int, link: Link, both: tuple[Array, Array]) -> float:
    """Return the unit of the lower precision of the two."""
    return max(
        eps(both[0], forced.ours.steps[step], link.ours),
        eps(both[1], forced.theirs.steps[step], link.theirs),
    )


def _spread(forced: Forced, spreads: tuple[Spreads, Spreads], step: int, link: Link, size: float) -> float:
    """Return how far nudged runs of either side move a tensor of theirs.

    A loop that does not show its start cannot be nudged before its first step is over. That step is judged by the next
    one, in proportion to the size of the tensor.
    """
    found = [0.0]
    for side, run, names in zip(spreads, (forced.ours, forced.theirs), (link.ours, link.theirs), strict=True):
        found += [side[step].get(key, 0.0) for key in names]
        if step or run.by_hooks or run.before(0) or forced.count < 2:
            continue
        for key in names:
            largest = largest_magnitude(run.steps[1].tensors[key]) if key in run.steps[1].tensors else 0.0
            found.append(side[1].get(key, 0.0) / largest * size if largest else 0.0)
    return max(found)


def _is_measured(spreads: tuple[Spreads, Spreads], step: int, link: Link) -> bool:
    """Return whether any nudged run shows a tensor: not a gradient of a result on which nothing depends there."""
    names = (link.ours, link.theirs)
    return any(key in side[step] for side, own in zip(spreads, names, strict=True) for key in own)


def _crosses(judgements: Mapping[str, Judgement], pairs: Pairs) -> bool:
    """Return whether all results agree, though some of their signs differ, and something after them does not."""
    failing = _failing(judgements)
    if not failing or any(not name.startswith(("backward/", "update/")) for name in failing):
        return False
    results = [pairs[name] for name in judgements if name.startswith("forward/")]
    return any(np.any(np.sign(ours) != np.sign(theirs)) for ours, theirs in results)


def _failing(judgements: Mapping[str, Judgement]) -> list[str]:
    return [name for name, judgement in judgements.items() if judgement.ratio > 1]


def _sizes(judgements: Iterable[str], pairs: Pairs, before: State) -> Iterator[tuple[str, float]]:
    """Yield how large each parameter's gradient is, and how far each parameter moved."""
    for name in judgements:
        theirs, start = pairs[name][1], before.get(name.removeprefix("update/"))
        if name.startswith("update/param/") and start is not None and start.shape == theirs.shape:
            yield name, largest_difference(theirs, start)
        elif name.startswith("backward/") and f"update/param/{name.removeprefix('backward/')}" in pairs:
            yield name, largest_magnitude(theirs)


def smallest_errors(trials: Iterable[Trial]) -> dict[str, float]:
    """Return the smallest allowance of each gradient, as a share of it, and of each update, as a share of the move."""
    found: dict[str, float] = {}
    for one in trials:
        for name, size in one.sizes.items():
            if 0 < size < math.inf:
                found[name] = min(found.get(name, math.inf), one.judgements[name].allowed / size)
    return found


def is_doubtful(trials: Iterable[Trial]) -> bool:
    """Return whether more shadows may change a verdict: before the first step that is sure to be another."""
    for one in trials:
        if one.sure:
            return False
        if one.crossed or one.failing():
            return True
    return False


def drops_others(name: str, ours: Array, theirs: Array, allowed: float) -> bool:
    """Return whether a result differs by zeros at other places alone, as by another mask of a dropout."""
    if not name.startswith("forward/") or ours.shape != theirs.shape:
        return False
    both = (ours != 0) & (theirs != 0)
    dropped = (ours == 0) & (theirs != 0), (theirs == 0) & (ours != 0)
    apart = np.abs(ours - theirs)[both]
    return bool(both.any() and all(some.any() for some in dropped) and np.all(apart <= allowed))


def _terms(seen: Seen) -> int:
    """Return of how many terms a loss is the mean: at most the numbers of the model's results, or of the targets."""
    shown = [seen.tensors[name].size for name in seen.tensors if name.startswith(("forward/outputs", "data/"))]
    return max(shown, default=1)
