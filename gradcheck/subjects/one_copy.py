"""Forward passes on one copy of an object, used again, where a try has shown that nothing of a pass stays behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import Arrays
from gradcheck.subjects.attributes import assign, resolve

NEAR = (2.0**-20, 2.0**-10)  # shares of themselves by which arrays are moved: what is kept while they are near shows


def otherwise(array: Array, by: float = 0.25) -> Array:
    """Return other numbers of the same signs, smaller by about that share, in no proportion to these."""
    factors = 1 - by * (1 - np.cos(np.arange(1, array.size + 1)).reshape(array.shape) / 2)
    return (array * factors).astype(array.dtype) if array.dtype.kind == "f" else array


class OneCopy:
    """The values of forward passes alone: a copy for each takes longer than most of them.

    ``once(given, context)`` is a pass on a copy of its own, by which one copy is tried: it must give the same, bit for
    bit, before and after a pass on other arrays, and beside these. ``make(given)`` makes a copy;
    ``forward(layer, given, context)`` calls it. What a pass leaves behind later shows where
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
        # By mode: a copy and the arrays in it that are set before each pass; None where each takes its own copy.
        self._kept: dict[bool, tuple[Any, dict[str, Array]] | None] = {}

    def __call__(self, given: Arrays, context: Context) -> Array:
        """Return what a forward pass returns."""
        if context.training not in self._kept:
            self._kept[context.training] = self._tried(given, context)
        kept = self._kept[context.training]
        return self._once(given, context) if kept is None else self._again(kept, given, context)

    def _begun(self, given: Arrays) -> tuple[Any, dict[str, Array]]:
        layer = self._make(given)
        places = {name: resolve(layer, path) for name, path in self._paths.items()}
        return layer, {name: place for name, place in places.items() if isinstance(place, np.ndarray)}

    def _again(self, kept: tuple[Any, dict[str, Array]], given: Arrays, context: Context) -> Array:
        layer, places = kept
        for name, path in self._paths.items():
            if name in places:
                places[name][...] = given[name]
            else:
                assign(layer, path, given[name])
        try:
            return self._forward(layer, given, context)
        except BaseException:
            self._kept[context.training] = self._begun(given)  # a pass that was broken off may leave anything behind
            raise

    def _tried(self, given: Arrays, context: Context) -> tuple[Any, dict[str, Array]] | None:
        """Return a copy that can be used again, or None.

        A pass that puts another array into the place of a parameter is seen, too: its copy keeps the first one.
        """
        other = {name: otherwise(array) for name, array in given.items()}
        near = [{name: otherwise(array, by) for name, array in given.items()} for by in NEAR]
        try:
            kept = self._begun(given)
            for each in (given, other, given, *near):
                if not np.array_equal(self._once(each, context), self._again(kept, each, context), equal_nan=True):
                    return None
        except ImportError:
            raise
        except Exception:  # noqa: BLE001  each pass by itself tells what it raises
            return None
        return kept
