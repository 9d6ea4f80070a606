"""Where and why two loops part."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.loops.forcing import states_of_theirs
from gradcheck.loops.names import Link
from gradcheck.loops.rates import cause_of_rates
from gradcheck.loops.trials import BEFORE, Forced, Trial
from gradcheck.trajectory.causes import explained
from gradcheck.trajectory.divergence import Divergence, Moment, Own, locate, unlike, unlike_arrays
from gradcheck.trajectory.engine import Batch, State, below
from gradcheck.trajectory.slots import by_parameter, kinds


def worst_of(forced: Forced, trials: list[Trial]) -> Divergence | None:
    """Return the comparison that took the largest part of its allowance, data aside."""
    places = (
        (one.judgements[name].ratio, step, name)
        for step, one in enumerate(trials)
        for name in one.judgements
        if not name.startswith("data/")
    )
    found = max(places, key=lambda place: place[0], default=None)
    return None if found is None else placed(forced, trials[found[1]], found[1], found[2])


def placed(forced: Forced, trial: Trial, step: int, name: str) -> Divergence:
    """Return one comparison, at the element where the two differ most."""
    judgement, pair = trial.judgements[name], forced.pairs(step)[name]
    if pair[0].shape != pair[1].shape:
        return unlike(step, name, unlike_arrays(name, *pair))
    ours, theirs = (np.asarray(side, dtype=np.float64) for side in pair)
    return locate(step, name, ours, theirs, judgement.allowed / forced.factor, judgement.allowed, judgement.ratio)


def first_of(forced: Forced, trials: list[Trial]) -> Divergence | None:
    """Return the first divergence, in the order of theirs, with its cause; None if there is none."""
    step = next((step for step, one in enumerate(trials) if one.failing()), None)
    if step is None:
        return None
    name = trials[step].failing()[0]
    found = placed(forced, trials[step], step, name)
    if name.startswith(BEFORE):
        why: str | None = "the two differ before the step: one of the loops changes it after optimizer.step()"
    elif name.startswith("data/lr"):
        why = _cause_of_rates(forced, name)
    else:
        why = explained(found, _moment(forced, trials[step], step))
    return replace(found, diagnosis=why)


def _moment(forced: Forced, trial: Trial, step: int) -> Moment:
    """Return what is known of a step, for those who look for its cause."""
    pairs, seen = forced.pairs(step), forced.theirs.steps[step]
    data = {name: theirs for name, (_, theirs) in pairs.items() if name.startswith("data/")}
    x = next((array for name, array in data.items() if name.startswith("data/x")), np.zeros((1, 1)))
    y = data.get("data/y", np.zeros(len(x) if x.ndim else 1))
    earlier = forced.pairs(step - 1) if step else {}
    return Moment(
        before=forced.theirs.before(step),
        batch=Batch(x, y, seen.lr),
        context=Context(training=True, key=Key(forced.theirs.seed, step)),
        ours={name: ours for name, (ours, _) in pairs.items() if name in trial.judgements},
        theirs={name: theirs for name, (_, theirs) in pairs.items() if name in trial.judgements},
        allowed={name: judgement.allowed for name, judgement in trial.judgements.items()},
        previous=below("backward/", {name: theirs for name, (_, theirs) in earlier.items()}),
        own=(_own(forced, step, ours=True), _own(forced, step, ours=False)),
    )


def _own(forced: Forced, step: int, *, ours: bool) -> Own:
    """Return what one side has, also that for which the other side has nothing."""
    run = forced.ours if ours else forced.theirs
    before, after, theirs = run.before(step), run.steps[step].state(), forced.theirs.steps[step].state()
    if ours:
        before = before | states_of_theirs(forced.theirs, forced.states)(step - 1, before)
    links = [link for link in forced.states if link.theirs[0].startswith("param/")]
    params = {(link.ours if ours else link.theirs)[0].removeprefix("param/"): link for link in links}

    def kept(state: State) -> dict[str, dict[str, Array]]:
        found: dict[str, dict[str, Array]] = {}
        arrays = below("optim/", state)
        slots = by_parameter(arrays, params)
        for param, named in slots.items():
            link = params.get(param)
            if link is None or len(link.ours) > 1 or len(link.theirs) > 1:
                continue
            own = {slot: arrays[name] for name, slot in named}
            if ours:
                layout, shape = replace(link, ours=("",)), theirs[link.theirs[0]].shape
                own = {slot: layout.of_ours({"": array}, shape) for slot, array in own.items()}
            counts = {slot: arrays[name] for name, slot in slots.get("", []) if kinds(slot) == {"step"}}
            found[link.theirs[0].removeprefix("param/")] = counts | own
        return found

    shown = run.steps[step].tensors
    known = {name for link in forced.links[step] for name in (link.ours if ours else link.theirs)}
    alone = {name: shown[name] for name in shown if name.startswith("backward/") and name not in known}
    return Own(kept(before), kept(after), alone)


def _cause_of_rates(forced: Forced, name: str) -> str | None:
    """Return why a learning rate is another, or that of one of several groups: ``data/lr1``."""
    pairs = [forced.pairs(step).get(name) for step in range(forced.count)]
    known = [pair for pair in pairs if pair is not None]
    ours, theirs = ([float(pair[side]) for pair in known] for side in (0, 1))
    return cause_of_rates(ours, theirs) if len(known) == forced.count else None


def untied(links: Iterable[Link], only: tuple[Collection[str], Collection[str]], tensor: str) -> str | None:
    """Return that the wrong parameter is several of the other side, each with a gradient, if that is so.

    ``only`` are the names that ours, and theirs, alone shows.
    """
    for link in links:
        if _bare(link.theirs[0]) != tensor.removeprefix("param/"):
            continue
        for one, other, place, whose, others in (
            (link.theirs, link.ours, 0, "theirs", "ours"),
            (link.ours, link.theirs, 1, "ours", "theirs"),
        ):
            trained = [name for name in link.twins[place] if f"backward/{name}" in only[place]]
            if trained:
                several = " and ".join([_bare(other[0]), *trained])
                return (
                    f"{_bare(one[0])} of {whose} is {several} of {others}, which begin with the same values: as "
                    f"weights that are tied in {whose} alone"
                )
    return None


def _bare(name: str) -> str:
    """Return the name of a parameter, without the phase of the tensor that is shown of it."""
    return name.removeprefix("update/").removeprefix("backward/").removeprefix("param/")
