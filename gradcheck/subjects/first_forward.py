"""Weights that are made by the first forward pass: an object that makes them is read after that pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import parent_of, resolve
from gradcheck.subjects.caller import Caller, equal, other_values
from gradcheck.subjects.calls import packed
from gradcheck.subjects.parameters import arrays_of

NOT_THERE = object()
MOST = 50  # arrays that are taken away one by one


def after_first_forward(caller: Caller, depends: Any) -> Any:
    """Return a copy of the object as its first forward pass leaves it, if that makes weights; None if it does not.

    Weights are what such a pass adds that is the same for other inputs and for more of them, that later passes keep,
    and that the output depends on: ``depends(arrays, owner)`` returns the paths of those. What else it adds is taken
    away again, as far as later passes do without.
    """
    had = arrays_of(caller.base)
    begun, _ = caller.go(training=True)
    added = {path: array.copy() for path, array in arrays_of(begun).items() if path not in had}
    if not added:
        return None
    others = list(_other_inputs(caller))
    kept = _as_they_were(added, _passes(caller, others[:1], begun))
    if not kept:
        return None
    if _as_they_were(kept, _passes(caller, [caller.inputs])):  # the same for the same inputs, and so, for others
        kept = _as_they_were(kept, _passes(caller, others[:1]))
    shapes = [{path: a.shape for path, a in arrays.items()} for arrays in _passes(caller, others[1:])]
    kept = {p: a for p, a in kept.items() if not shapes or any(each.get(p) == a.shape for each in shapes)}
    weights = depends(kept, begun) if kept else []
    if not weights:
        return None
    return _without(caller, begun, [path for path in added if path not in kept])


def _other_inputs(caller: Caller) -> Iterator[Sequence[Any]]:
    """Yield other inputs of the same shapes, then some that are longer along one axis each."""
    rng = stream("other inputs of a reading")
    yield [other_values(value, rng) for value in caller.inputs]
    first = next((v for v in caller.inputs if isinstance(v, np.ndarray)), np.zeros(()))
    for axis, extent in enumerate(first.shape):
        yield [
            np.concatenate([v, v.take([0], axis)], axis) if np.ndim(v) > axis and v.shape[axis] == extent else v
            for v in caller.inputs
        ]


def _passes(caller: Caller, inputs: Iterable[Sequence[Any]], begun: Any = None) -> list[dict[str, Array]]:
    """Return the arrays in the object after a forward pass on each of these; of those that it takes."""
    found = []
    for each in inputs:
        with suppress(Exception):  # it does not take these
            found.append(arrays_of(caller.go(training=True, inputs=each, layer=copy.deepcopy(begun))[0]))
    return found


def _as_they_were(arrays: Mapping[str, Array], later: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {p: a for p, a in arrays.items() if later and all(equal(each.get(p), a) for each in later)}


def _without(caller: Caller, begun: Any, paths: Sequence[str]) -> Any:
    """Return the object without the arrays at these paths: all of them, or those that it does not need."""
    outputs = _outputs(caller, begun)
    for some in (paths, *([path] for path in paths[:MOST])):
        without = copy.deepcopy(begun)
        _take_away(without, caller.base, some)
        now = _outputs(caller, without)
        if all(equal(y, now.get(mode)) for mode, y in outputs.items()):
            begun = without
            if some is paths:
                break
    return begun


def _outputs(caller: Caller, layer: Any) -> dict[bool, Array]:
    outputs = {}
    for training in (True, False) if caller.calls.switch else (True,):
        with suppress(Exception):  # a mode that it does not have
            outputs[training] = packed(
                caller.calls.values(*caller.go(training=training, layer=copy.deepcopy(layer)))
            ).copy()
    return outputs


def _take_away(begun: Any, base: Any, paths: Iterable[str]) -> None:
    """Put back what was in these places before; where there was nothing, there is nothing again."""
    for each in paths:
        path = each
        with suppress(Exception):  # it stays
            parent, last = parent_of(begun, path)
            while isinstance(parent, tuple):
                path = path.rpartition(".")[0]
                parent, last = parent_of(begun, path)
            try:
                earlier = copy.deepcopy(resolve(base, path))
            except Exception:  # noqa: BLE001  there is no such place
                earlier = NOT_THERE
            if isinstance(parent, dict):
                parent.pop(last) if earlier is NOT_THERE else parent.update({last: earlier})
            elif not isinstance(parent, (list, tuple)):
                delattr(parent, last) if earlier is NOT_THERE else setattr(parent, last, earlier)
