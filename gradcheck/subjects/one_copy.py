"""Forward passes on one copy of an object, used again, where a try has shown that nothing of a pass stays behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import Arrays, Values
from gradcheck.numerics.memory import copied
from gradcheck.subjects.attributes import assign, resolve

NEAR = (2.0**-20, 2.0**-10)  # shares of themselves by which arrays are moved: what is kept while they are near shows


def otherwise(array: Array, by: float = 0.25) -> Array:
    """Return other numbers of the same signs, smaller by about that share, in no proportion to these."""
    factors = 1 - by * (1 - np.cos(np.arange(1, array.size + 1)).reshape(array.shape) / 2)
    return (array * factors).astype(array.dtype) if array.dtype.kind == "f" else array


class OneCopy:
    """The values of forward passes alone: a copy for each takes longer than most of them.

    ``once(given, context)`` is a pass on a copy of its own, by which one copy is tried: it must give the same, bit for
    bit, before and after a pass on other arrays, and beside these, and must change none of them. ``make(given)`` makes
    a copy; ``forward(layer, given, context)`` calls it. What a pass leaves behind later shows where
    `gradcheck.properties.judge` looks again at what disagrees.
    """

    def __init__(
        self,
        make: Callable[[Arrays], Any],
        paths: Mapping[str, str],
        forward: Callable[[Any, Arrays, Context], Array],
        once: Callable[[Arrays, Context], Array],
    ) -> None:
        self._make, self._paths, self._forward, self._once = make, paths, forward, once
        self._kept: dict[bool, _Copy | None] = {}  # by mode; None where each pass takes its own copy

    def at(self, given: Arrays, context: Context) -> Values | None:
        """Return a function that gives what a forward pass returns where some arrays are replaced; None for no copy."""
        given = {name: array if name in self._paths else copied(array) for name, array in given.items()}
        if context.training not in self._kept:
            self._kept[context.training] = self._tried(given, context)
        if self._kept[context.training] is None:
            return None
        return lambda moved: self._again(given, moved, context)

    def _again(self, given: Arrays, moved: Arrays, context: Context) -> Array:
        kept = self._kept[context.training]
        if kept is None:
            return self._once({**given, **moved}, context)
        try:
            return kept.pass_of(given, moved, context)
        except BaseException:
            self._kept[context.training] = self._begun(given)  # a pass that was broken off may leave anything behind
            raise

    def _begun(self, given: Arrays) -> _Copy:
        layer = self._make(given)
        return _Copy(
            layer, self._forward, self._paths, {name: resolve(layer, path) for name, path in self._paths.items()}
        )

    def _tried(self, given: Arrays, context: Context) -> _Copy | None:
        """Return a copy that can be used again, or None.

        A pass that puts another array into the place of a parameter is seen, too: its copy keeps the first one.
        """
        other = {name: otherwise(array) for name, array in given.items()}
        near = [{name: otherwise(array, by) for name, array in given.items()} for by in NEAR]
        try:
            kept = self._begun(given)
            for each in (given, other, given, *near):
                own = {name: copied(array) for name, array in each.items()}
                if not np.array_equal(self._once(each, context), kept.pass_of(own, {}, context), equal_nan=True):
                    return None
                held = own | {name: np.asarray(resolve(kept.layer, path)) for name, path in self._paths.items()}
                if not all(np.array_equal(held[name], array, equal_nan=True) for name, array in each.items()):
                    return None  # what it is given, or holds, is changed
        except ImportError:
            raise
        except Exception:  # noqa: BLE001  each pass by itself tells what it raises
            return None
        return kept


class _Copy:
    """A copy of an object, and which parameters it holds: of these, a pass sets those alone that are others."""

    def __init__(
        self,
        layer: Any,
        forward: Callable[[Any, Arrays, Context], Array],
        paths: Mapping[str, str],
        places: Mapping[str, object],
    ) -> None:
        self.layer, self._forward, self._paths, self._places = layer, forward, paths, places
        self._holds: Arrays | None = None

    def pass_of(self, given: Arrays, moved: Arrays, context: Context) -> Array:
        """Return what a pass returns with the arrays given, some of them replaced."""
        all_of = {**given, **moved}
        others = self._paths.keys() & moved.keys() if self._holds is given else self._paths.keys()
        for name in others:
            self._put(name, all_of[name])
        y = self._forward(self.layer, all_of, context)
        for name in self._paths.keys() & moved.keys():
            self._put(name, given[name])
        self._holds = given
        return y

    def _put(self, name: str, array: Array) -> None:
        place = self._places[name]
        if isinstance(place, np.ndarray):
            place[...] = array
        else:
            assign(self.layer, self._paths[name], array)
