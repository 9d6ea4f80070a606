"""Where and why two loops part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck.contract import Context, Key
from gradcheck.loops.results import steps_in_words
from gradcheck.loops.trials import BEFORE, Forced, Trial
from gradcheck.trajectory.causes import explained
from gradcheck.trajectory.divergence import Divergence, Moment, locate, unlike, unlike_arrays
from gradcheck.trajectory.engine import Batch, below


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
    elif name == "data/lr":
        why = _shift_of_rates(forced)
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
    )


def _shift_of_rates(forced: Forced) -> str | None:
    """Return by how many steps ours' learning rate is late or early, if that explains all of them."""
    ours, theirs = ([seen.lr for seen in run.steps[: forced.count]] for run in (forced.ours, forced.theirs))
    for by in range(1, forced.count // 2):
        shift = steps_in_words(by)
        if ours[by:] == theirs[:-by]:
            return f"the learning rate of ours is that of theirs {shift} before: the schedule is late"
        if ours[:-by] == theirs[by:]:
            return f"the learning rate of ours is that of theirs {shift} later: the schedule is early"
    return None
