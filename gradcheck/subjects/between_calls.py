"""What of one call is left for the next: gradients that add up, a state, lists that grow, and what empties them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import assign, resolve
from gradcheck.subjects.caller import alike, equal, other_values, value_at
from gradcheck.subjects.calls import OBJECT, packed
from gradcheck.subjects.growth import begin_anew, empty, grown, resets_of, sizes_of
from gradcheck.subjects.holdings import HoldingsReader
from gradcheck.subjects.reading import Reading

ROUNDINGS = 8  # of four sums, two each: what they may be apart, in units of the last place
TWICE = 1e-6  # relative: within this of twice the first gradient, a second one was added to it


class BetweenCallsReader(HoldingsReader):
    """Calls one copy twice, and sees what the first call has left for the second."""

    grows: tuple[str, ...] = ()  # lists and dicts that each forward pass makes longer

    def _memory(self, reading: Reading) -> Reading:
        """See whether gradients add up, and whether one call changes the output of the next."""
        if reading.unseeded:
            return reading
        try:
            layer, result, back, dys = self.both(training=True)
            first = {n: np.array(value_at(s, layer, back)) for n, s in reading.grads.items() if s.startswith(OBJECT)}
            y = packed(self.calls.values(layer, result)).copy()
            for path in reading.params.values():
                assign(layer, path, np.asarray(resolve(self.base, path)))
            self.put_generators_back(layer)
            begin_anew(layer, reading)
            layer, result, back, _ = self.both(training=True, layer=layer, dys=dys)
            second = {n: np.array(value_at(s, layer, back)) for n, s in reading.grads.items() if s.startswith(OBJECT)}
            again = packed(self.calls.values(layer, result))
        except Exception:  # noqa: BLE001  no second pass without a reset: nothing to be seen
            return reading
        adds_up = tuple(n for n, g in first.items() if self._added_to(reading.grads[n], g, second[n]))
        keeps: tuple[str, ...] = ()
        resets = ""
        if y.shape == again.shape and not equal(y, again) and not reading.moves:
            keeps = self._state_names(y)
            resets = next((name for name in resets_of(layer) if self._puts_back(name, layer, y)), "")
        return replace(reading, adds_up=adds_up, keeps=keeps, resets=resets)

    def _grown(self) -> tuple[str, ...]:
        """Return the paths of the lists and dicts that each forward pass makes longer."""
        sizes, layer = [sizes_of(self.base)], None
        try:
            for _ in range(2):
                layer, _ = self.go(training=True, layer=layer)
                sizes.append(sizes_of(layer))
        except Exception:  # noqa: BLE001  it takes no second pass: nothing to be seen
            return ()
        return grown(*sizes)

    def _empty_base(self, paths: tuple[str, ...], layer: Any, result: Any) -> None:
        """Begin with nothing in what grows, where the calls of its user have left something there."""
        if not any(sizes_of(self.base).get(path) for path in paths):
            return
        y = packed(self.calls.values(layer, result))
        for reset in (*resets_of(self.base), ""):
            base = copy.deepcopy(self.base)
            try:
                if reset:
                    getattr(base, reset)()
                else:
                    empty(base, paths)
                again = packed(self.calls.values(*self.go(training=True, layer=copy.deepcopy(base))))
            except Exception:  # noqa: BLE001, S112  no reset of what calls leave
                continue
            if not any(sizes_of(base).get(path) for path in paths) and equal(y, again):
                self.base, self.subject = base, copy.deepcopy(base)
                return

    def _growth(self, reading: Reading) -> Reading:
        """See whether what every call adds to is what makes one pass differ from the next, and what empties it."""
        if not self.grows or reading.unseeded:
            return reading
        first, second = self._pass(reading, after=False), self._pass(reading, after=True)
        if first is None or (second is not None and _all_equal(first, second)):
            return reading
        for reset in (*resets_of(self.base), ""):
            tried = replace(reading, grows=self.grows, resets=reset, adds_up=(), keeps=())
            if reset and self._resets_parameters(reset, reading):
                continue
            try:
                tried = replace(self._memory(tried), resets=reset, keeps=reading.keeps)
            except Exception:  # noqa: BLE001, S112  it resets too much
                continue
            begun = self._pass(tried, after=True)
            if begun is not None and _all_equal(first, begun):
                return tried
        emptied = self._pass(replace(reading, grows=self.grows, resets=""), after=True)
        if second is None or emptied is None or not _all_equal(second, emptied):
            return replace(reading, goes_on=self.grows)
        return reading  # it is something else that an earlier call leaves

    def _pass(self, reading: Reading, *, after: bool) -> list[Array] | None:
        """Return outputs and gradients of a pass, of one after a pass on other inputs perhaps; None if that raises.

        Before it, what is to be emptied is emptied.
        """
        layer = copy.deepcopy(self.base)
        try:
            if after:
                rng = stream("other inputs of a reading")
                others = [other_values(v, rng) for v in self.inputs]
                layer, result = self.go(training=True, inputs=others, layer=layer)
                self.back(layer, result, inputs=others)
                for path in (*reading.params.values(), *reading.buffers):
                    assign(layer, path, np.asarray(resolve(self.base, path)))
                self.put_generators_back(layer)
            begin_anew(layer, reading)
            layer, result, back, _ = self.both(training=True, layer=layer)
            paths = [*self.calls.gradients.values(), *reading.grads.values()]
            values = [*self.calls.values(layer, result), *(value_at(path, layer, back) for path in paths)]
            return [np.array(value) for value in values]
        except Exception:  # noqa: BLE001  what the last pass has left is in the way
            return None

    def _resets_parameters(self, reset: str, reading: Reading) -> bool:
        """Return whether a method puts other values into parameters, which it must not between two passes."""
        layer, rng = copy.deepcopy(self.base), stream("nudges of a reading")
        moved = {p: other_values(np.asarray(resolve(layer, p)), rng) for p in reading.params.values()}
        try:
            for path, array in moved.items():
                assign(layer, path, array)
            getattr(layer, reset)()
            return not all(equal(np.asarray(resolve(layer, path)), array) for path, array in moved.items())
        except Exception:  # noqa: BLE001  it cannot be called so
            return True

    def _added_to(self, source: str, first: Array, second: Array) -> bool:
        """Return whether a second backward pass adds to a gradient what the first has added to what was there."""
        before = np.asarray(value_at(source, self.base, None))
        if first.shape != second.shape or (before.shape != first.shape and before.any()):
            return False
        rounding = ROUNDINGS * np.finfo(self.precision).eps * np.abs(before).max(initial=0.0)
        one, two = first - before, second - before
        return bool((np.abs(one) > rounding).any() and np.allclose(two, 2 * one, rtol=TWICE, atol=rounding))

    def _puts_back(self, reset: str, used: Any, first: Array) -> bool:
        """Return whether a method makes the next call give what the first gave."""
        layer = copy.deepcopy(used)
        try:
            getattr(layer, reset)()
            self.put_generators_back(layer)
            return equal(packed(self.calls.values(*self.go(training=True, layer=layer))), first)
        except Exception:  # noqa: BLE001  it cannot be called so
            return False

    def _state_names(self, first: Array) -> tuple[str, ...]:
        """Return the attributes by which a second call gives another output than the first: put back, it does not."""
        used, _ = self.go(training=True)
        before = getattr(self.base, "__dict__", {})
        changed = [n for n, v in vars(used).items() if n not in before or not alike(before[n], v)] if before else []
        found_ = []
        for name in changed:
            layer = copy.deepcopy(used)
            self.put_generators_back(layer)
            if name in before:
                setattr(layer, name, copy.deepcopy(before[name]))
            else:
                delattr(layer, name)
            try:
                layer, result = self.go(training=True, layer=layer)
            except Exception:  # noqa: BLE001, S112  it needs this attribute as it was left
                continue
            if equal(packed(self.calls.values(layer, result)), first):
                found_.append(name)
        return tuple(found_) or tuple(changed)


def _all_equal(ones: Sequence[Array], others: Sequence[Array]) -> bool:
    return all(map(equal, ones, others))
