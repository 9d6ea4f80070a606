"""What a backward pass hands to others, such as a weight and its gradient to an optimizer that the layer holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.attributes import member, resolve
from gradcheck.subjects.parameters import objects_below

HANDED = "_handed"  # the attribute of a copy that keeps what was handed on, by the name of who it was handed to


class Site(NamedTuple):
    """A method, or a function in an attribute, that backward may call: of the object at ``path``, "" for the layer."""

    path: str
    name: str

    def __str__(self) -> str:
        """Return what its author calls it: ``optimizer.update``, or ``optimizer`` of what is called itself."""
        own = [] if self.name == "__call__" else [self.name]
        return ".".join([*([self.path] if self.path else []), *own])


class Handed(NamedTuple):
    """An array among the arguments of one call: where it was, what it was, and a copy of it as it was then."""

    call: int
    where: tuple[object, ...]
    array: Array
    copy: Array
    key: str


def sites_of(owner: object, without: Sequence[str]) -> tuple[Site, ...]:
    """Return all that an object's backward pass may hand something to, but for its own methods of these names."""
    found = []
    for path, one in {"": owner, **objects_below(owner)}.items():
        names = [name for name in dir(type(one)) if inspect.isroutine(inspect.getattr_static(type(one), name, None))]
        held = [name for name, value in getattr(one, "__dict__", {}).items() if inspect.isroutine(value)]
        found += [
            Site(path, name) for name in dict.fromkeys([*names, *held])
            if not name.startswith("__") and not (path == "" and name in without)
        ]  # fmt: skip
        if path and callable(one):
            found.append(Site(path, "__call__"))
    return tuple(found)


class _Recorder:
    """Is called, and otherwise used, as its target, and shows the arguments first."""

    def __init__(self, target: Callable[..., Any], show: Callable[[Any], None]) -> None:
        self._target, self._show = target, show

    def __call__(self, *given: Any, **named: Any) -> Any:
        self._show((*given, *named.values()))
        return self._target(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


@contextmanager
def recording(layer: Any, sites: Sequence[Site]) -> Iterator[list[Handed]]:
    """Keep the arrays that are handed to these, in the order of the calls; afterwards nothing else is left of it."""
    handed: list[Handed] = []
    calls = [0]
    undo: list[Callable[[], None]] = []

    def shower(site: Site) -> Callable[[Any], None]:
        def show(arguments: Any) -> None:
            calls[0] += 1
            for where, array in _leaves(arguments, ()):
                handed.append(Handed(calls[0], where, array, np.array(array), f"{site}:{len(handed)}"))

        return show

    for site in sites:
        above, name = (site.path, site.name) if site.name != "__call__" else _above(site.path)
        owner: Any = resolve(layer, above) if above else layer
        place = owner if isinstance(owner, (dict, list)) else getattr(owner, "__dict__", None)
        if place is None:
            continue
        key: Any = int(name) if isinstance(place, list) else name
        there = isinstance(place, list) or key in place
        target = place[key] if there else member(owner, name)
        if callable(target):
            place[key] = _Recorder(target, shower(site))
            undo.append(_putting_back(place, key, target) if there else _taking_away(place, key))
    try:
        yield handed
    finally:
        for step in reversed(undo):
            step()


def _above(path: str) -> tuple[str, str]:
    above, _, name = path.rpartition(".")
    return above, name


def _putting_back(place: Any, key: Any, target: Any) -> Callable[[], None]:
    return lambda: place.__setitem__(key, target)


def _taking_away(place: Any, key: Any) -> Callable[[], None]:
    return lambda: place.pop(key, None)


def _leaves(value: Any, where: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], Array]]:
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield where, value
    elif isinstance(value, Mapping):
        for place, each in enumerate(value.values()):
            yield from _leaves(each, (*where, place))
    elif isinstance(value, (list, tuple)):
        for place, each in enumerate(value):
            yield from _leaves(each, (*where, place))


def beside(handed: Sequence[Handed], weight: Array, value: Array) -> list[Handed]:
    """Return what was handed on beside a weight, in the first call that was given it, and may be its gradient.

    That has its shape, and its place is the weight's but for one step: ``update(w, dw)``, ``update([w, b], [dw, db])``,
    ``update([(w, dw), (b, db)])``. The weight is known by its memory, or by the ``value`` that it had.
    """
    same = [each for each in handed if np.shares_memory(each.array, weight)]
    same = same or [each for each in handed if np.array_equal(each.copy, value)]
    for own in same:
        found = [
            each for each in handed
            if each.call == own.call and each.copy.shape == weight.shape and len(each.where) == len(own.where)
            and sum(a != b for a, b in zip(each.where, own.where, strict=True)) == 1
            and not np.shares_memory(each.array, weight)
        ]  # fmt: skip
        if len(own.where) > 1 and len(found) > 1:  # of lists of several weights, the others of one shape lie beside it
            found = [each for each in found if each.where[-1] == own.where[-1]] or found
        if found:
            return found
    return []
