"""Whether two engines begin alike: the names, shapes and values of their states, and the names of their gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.agreement import disagreement
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.border import Terms
from gradcheck.trajectory.engine import Batch, Engine, State
from gradcheck.trajectory.probing import Note, Trait, Tried, tried, tried_in_evaluation

LISTED = 6  # names that a message lists, of any number


def both_tried(engine: Engine, reference: Engine, batches: Sequence[Batch], seed: int) -> tuple[Tried, Tried]:
    """Return both sides of a run as they can be compared; raises `AdapterError` where they cannot."""
    one_object = engine is reference
    if one_object:
        engine = copy.deepcopy(reference)
    ours, theirs = (tried(one, side, batches, seed) for side, one in (("ours", engine), ("theirs", reference)))
    if one_object:
        ours = ours.on(Terms(), Note("ours", Trait.ONE_OBJECT))
    ours, theirs = counted(ours, theirs)
    require_alike(ours.engine.state(), theirs.engine.state())
    require_gradients(ours, theirs)
    return ours, theirs


def both_tried_in_evaluation(engine: Engine, reference: Engine, x: Array, seed: int) -> tuple[Tried, Tried]:
    """Return both sides as they can be compared where the engine evaluates ``x`` in the state of the reference.

    What an optimizer keeps has no part in it. Raises `AdapterError` where they cannot be compared.
    """
    sides = counted(tried_in_evaluation(engine, "ours", x, seed), tried_in_evaluation(reference, "theirs", x, seed))
    ours, theirs = (
        {key: array for key, array in side.engine.state().items() if key.startswith(("param/", "buffer/"))}
        for side in sides
    )
    require_same_names(ours, theirs)
    return sides


def counted(ours: Tried, theirs: Tried) -> tuple[Tried, Tried]:
    """Return both with a number of steps in their states, if one of them has it."""
    sides = {"ours": ours, "theirs": theirs}
    lacking = [side for side, one in sides.items() if "step" not in one.engine.state()]
    for side in lacking if len(lacking) == 1 else ():
        sides[side] = sides[side].on(Terms(counted=True), Note(side, Trait.COUNTED))
    return sides["ours"], sides["theirs"]


def require_alike(ours: State, theirs: State) -> None:
    """Raise `AdapterError` where two states differ, which says in what: names, then shapes, then values."""
    require_same_names(ours, theirs)
    lines = [line for key in theirs for line in _values(key, ours[key], theirs[key])]
    if lines:
        raise AdapterError(
            "\n".join(
                [
                    "both engines need the same initial state; call engine.load(reference.state()) first:",
                    *(f"  {line}" for line in _few(lines)),
                ]
            )
        )


def require_same_names(ours: State, theirs: State) -> None:
    """Raise `AdapterError` where two states have other names or shapes."""
    lines = [*unlike_names(ours, theirs), *_shapes(ours, theirs)]
    if lines:
        raise AdapterError("\n".join(["both states need the same names and shapes:", *(f"  {line}" for line in lines)]))


def require_gradients(ours: Tried, theirs: Tried) -> None:
    """Raise `AdapterError` where one side moves a parameter and does not show its gradient, as the other does."""
    if not ours.grads and not theirs.grads:
        return
    for who, here, there in (("ours", ours, theirs), ("the reference", theirs, ours)):
        # One that moves no parameter that the other moves may lack the gradient itself: that is for the run to tell.
        lacking = [
            name for name in there.grads if name not in here.grads and (name in here.moving or name not in there.moving)
        ]
        if lacking:
            others = [name for name in here.grads if name not in there.grads]
            named = f", but one called {', '.join(_few(others))}" if others else ""
            raise AdapterError(
                f"{who} shows no gradient called {', '.join(_few(lacking))}{named}; name gradients as parameters: "
                f"Step(loss, outputs, {{{lacking[0]!r}: ...}}, self.state())"
            )


def unlike_names(ours: State, theirs: State) -> list[str]:
    """Return lines that say which names one state alone has, and which of them may be the same."""
    lines = []
    only = [key for key in ours if key not in theirs], [key for key in theirs if key not in ours]
    for who, keys, state in zip(("ours", "the reference"), only, (ours, theirs), strict=True):
        if keys:
            lines.append(f"only {who} has {', '.join(_few([_shaped(key, state[key]) for key in keys]))}")
    for key in only[0]:
        alike = [other for other in only[1] if ours[key].shape == theirs[other].shape and _part(key) == _part(other)]
        if len(alike) == 1 and len(lines) < 2 + LISTED:
            lines.append(f"write {key} as {alike[0]}, if it is the same")
    return lines


def _shapes(ours: State, theirs: State) -> list[str]:
    lines = []
    for key in theirs:
        if key in ours and ours[key].shape != theirs[key].shape:
            turned = ours[key].shape == theirs[key].shape[::-1]
            advice = "; transpose it in state(), in load() and in the gradients" if turned else "; reshape it likewise"
            lines.append(f"{_shaped(key, ours[key])} in ours has shape {theirs[key].shape} in the reference{advice}")
    return _few(lines)


def _values(key: str, ours: Array, theirs: Array) -> list[str]:
    if ours.dtype != theirs.dtype and "f" in (ours.dtype.kind, theirs.dtype.kind):
        return [f"{key} is {ours.dtype} in ours and is {theirs.dtype} in the reference; compare both in one precision"]
    if np.array_equal(ours, theirs, equal_nan=theirs.dtype.kind == "f"):
        return []
    apart = disagreement(np.asarray(ours, np.float64), np.asarray(theirs, np.float64))
    index = np.unravel_index(np.argmax(apart), apart.shape)
    where = f"[{', '.join(map(str, index))}]" if index else ""
    return [f"{key}{where} is {float(ours[index])!r} in ours, {float(theirs[index])!r} in the reference"]


def _shaped(key: str, array: Array) -> str:
    return f"{key} {array.shape}"


def _part(key: str) -> str:
    return key.rpartition("/")[0]


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"and {len(lines) - LISTED} more"]
