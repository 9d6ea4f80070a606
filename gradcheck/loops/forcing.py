"""From which state a loop goes on after each of its steps: that of theirs, which is put in the place of its own."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck.contract import Array
from gradcheck.loops.judging import same
from gradcheck.loops.linking import is_in
from gradcheck.loops.names import Link
from gradcheck.loops.runs import Loop, Run, States, take
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.engine import State


def states_of_theirs(theirs: Run, links: list[Link]) -> States:
    """Return what puts the state of theirs in the place of ours, at the start and after every step."""
    first = theirs.before(0)

    def states(step: int, ours: Mapping[str, Array]) -> State:
        state = theirs.steps[step].state() if step >= 0 else first
        forced: State = {}
        for link in links:
            if is_in(link, ours, state):
                forced |= link.to_ours(state, ours)
            elif link.is_plain and link.theirs[0] in state:  # of a list that has become longer in theirs
                forced[link.ours[0]] = state[link.theirs[0]]
        return forced

    return states


def own_states(run: Run) -> States:
    """Return what puts the states of a run in their places again, so that a nudge lasts for one step."""
    return lambda step, _: run.steps[step].state() if step >= 0 else {}


def start_alone(states: States) -> States:
    """Return what changes the state at the start, and none after it."""
    return lambda step, ours: states(step, ours) if step < 0 else {}


def require_hold(loop: Loop, plain: Run) -> None:
    """Raise AdapterError if a loop does not go on from the parameters that it is given by ``watch.step``.

    ``plain`` is a run of it in which it was given none.
    """
    if plain.by_hooks or len(plain.steps) < 2:
        return

    def shifted(step: int, ours: Mapping[str, Array]) -> State:
        del step
        return {key: array + array.dtype.type(0.5) for key, array in ours.items() if key.startswith("param/")}

    probe = take(loop, Run(2, plain.seed, shifted), "ours", quiet=True).steps
    if len(probe) < 2:
        return
    first = plain.steps[1].tensors
    params = [name for name in first if name.startswith("update/param/") and first[name].dtype.kind == "f"]
    if params and all(same(first[name], probe[1].tensors.get(name)) for name in params):
        raise AdapterError(
            "ours does not go on from the parameters that watch.step gives it: pass the loop's own arrays, not"
            " copies, or go on with what is returned: params, state = watch.step(params=params, ...)"
        )
