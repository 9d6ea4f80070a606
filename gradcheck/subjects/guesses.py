"""Which of the arrays that a backward pass leaves are gradients, where their names do not say it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import assign, resolve
from gradcheck.subjects.calls import OBJECT, RATE, found_or_none
from gradcheck.subjects.handed import HANDED, beside, recording, sites_of
from gradcheck.subjects.parameters import GRADIENT_CONTAINERS, squeezed
from gradcheck.subjects.pullbacks import AGREES, STEPS, PullbackReader

ROUNDINGS = 8  # times the root of eps, relative: within this a gradient is another one
SUBTRACTED = ""  # where a gradient is: in what backward subtracts from the weight, over the rate
MOST_ORDERS = 5  # gradients of one shape whose orders are tried


class GuessReader(PullbackReader):
    """Finds gradients by what they do: what is twice as large for twice dy, and nothing for none."""

    weights: tuple[str, ...] = ()  # the paths of what the output depends on, which backward may move

    def _confirmed(self, guesses: Mapping[str, tuple[str, str]], rate: float = RATE) -> dict[str, str]:
        """Return the sources, by name, of those guesses (a parameter's path and a source) that behave as gradients do.

        They are linear in dy, and do not depend on what was before, unless they are added to it: a step of Adam, a
        velocity or a copy of old weights is no gradient. And they keep the parameter's shape where a batch is larger.
        """
        if not any(what.startswith("dy") for what in self.calls.given):
            return {name: source for name, (_, source) in guesses.items()}
        try:
            first, dys = self._values(guesses, rate)
            double, _ = self._values(guesses, rate, dys=[2 * dy for dy in dys])
            none, _ = self._values(guesses, rate, dys=[0 * dy for dy in dys])
        except Exception:  # noqa: BLE001  it does not take these: nothing is known
            return {}
        others = [1.5 * dy[::-1] if dy.ndim else 1.5 * dy for dy in dys]
        before: dict[str, Array | None] = {}
        again: dict[str, Array | None] = {}
        with suppress(Exception):  # no second pass without a reset: nothing to be seen
            layer, result = self.go(training=True)
            before, _ = self._values(guesses, rate, layer=layer, result=result, dys=others)
            for path in {*self.weights, *(path for path, _ in guesses.values())}:
                assign(layer, path, np.asarray(resolve(self.base, path)))
            self.put_generators_back(layer)
            again, _ = self._values(guesses, rate, layer=layer, dys=dys)
        larger = [shapes for axis in range(3) if (shapes := self._shapes_of_more(guesses, rate, axis))]

        def confirmed(name: str, path: str, source: str) -> bool:
            one, two, nothing = first[name], double[name], none[name]
            if one is None or two is None or nothing is None:
                return False
            weight = np.asarray(resolve(self.base, path))
            eps = float(np.finfo(self.precision).eps)
            allowed = ROUNDINGS * np.sqrt(eps) * float(np.abs(one).max(initial=0.0))
            if source == SUBTRACTED:
                allowed += ROUNDINGS * eps * float(np.abs(weight).max(initial=0.0)) / abs(rate)
            if not (_near(two, 2 * one, allowed) and _near(nothing, 0 * one, allowed)):
                return False
            earlier, now = before.get(name), again.get(name)
            if now is not None and not _near(now, one, allowed) and (
                earlier is None or earlier.shape != one.shape or not _near(now, one + earlier, allowed)
            ):  # fmt: skip
                return False
            return all(shapes[name] is None or squeezed(shapes[name]) == squeezed(weight.shape) for shapes in larger)

        return {name: source for name, (path, source) in guesses.items() if confirmed(name, path, source)}

    def _values(
        self,
        guesses: Mapping[str, tuple[str, str]],
        rate: float,
        *,
        layer: Any = None,
        result: Any = None,
        dys: Sequence[Array] | None = None,
        inputs: Sequence[Any] | None = None,
    ) -> tuple[dict[str, Array | None], list[Array]]:
        """Return what is where each gradient is thought to be after a pass, and the cotangents."""
        if result is None:
            layer, result = self.go(training=True, layer=layer, inputs=inputs)
        before = {path: np.array(resolve(layer, path)) for path, _ in guesses.values()}
        back, cotangents = self.back(layer, result, dys=dys, inputs=inputs)
        found: dict[str, Array | None] = {}
        for name, (path, source) in guesses.items():
            if source == SUBTRACTED:
                found[name] = np.asarray((before[path] - np.asarray(resolve(layer, path))) / rate)
            else:
                value = found_or_none(source, layer, back)
                found[name] = None if value is None else np.array(value)
        return found, cotangents

    def _shapes_of_more(self, guesses: Mapping[str, tuple[str, str]], rate: float, axis: int) -> dict[str, Any]:
        """Return the shapes of the gradients where the inputs are longer along an axis; none if that is refused."""
        places = self.floating()
        if not places or self.inputs[places[0]].ndim <= axis:
            return {}
        extent = self.inputs[places[0]].shape[axis]
        longer = [
            np.concatenate([v, v[(slice(None),) * axis + (slice(0, 1),)]], axis)
            if isinstance(v, np.ndarray) and v.ndim > axis and v.shape[axis] == extent
            else v
            for v in self.inputs
        ]
        try:
            found, _ = self._values(guesses, rate, inputs=longer)
        except Exception:  # noqa: BLE001  it does not take these: nothing is known
            return {}
        return {name: None if value is None else value.shape for name, value in found.items()}

    def _handed_on(self, moved: Mapping[str, str]) -> dict[str, str]:
        """Return, by name, where to find the gradients of weights that backward hands to an optimizer beside them."""
        self.base = self._copied(self.subject)  # which no property has been asked of, that may make what it returns
        calls, sites = self.calls, sites_of(self.base, (self.calls.forward, self.calls.backward))
        found: dict[str, str] = {}
        for last in (False, True):  # the second time, of those alone that are needed
            self.calls = calls
            try:
                layer, result = self.go(training=True)
                weights = {name: np.asarray(resolve(layer, path)) for name, path in moved.items()}
                with recording(layer, sites) as handed:
                    self.back(layer, result)
            except Exception:  # noqa: BLE001  it does not take a recorder
                return {}
            values = {name: np.asarray(resolve(self.base, path)) for name, path in moved.items()}
            likely = {name: beside(handed, weights[name], value) for name, value in values.items()}
            likely = {name: some for name, some in likely.items() if some}
            if not last:
                used = {each.key.partition(":")[0] for some in likely.values() for each in some}
                sites = tuple(site for site in sites if str(site) in used)
                continue
            self.calls = replace(calls, recorded=sites)
            for name, some in likely.items():
                if len(some) > 1:
                    some = [each for each in some if each.copy.any()]
                guesses = {each.key: (moved[name], f"{OBJECT}.{HANDED}.{each.key}") for each in some}
                confirmed = list(self._confirmed(guesses).values())
                if len(confirmed) == 1:
                    found[name] = confirmed[0]
        if not found:
            self.calls = calls
        return found

    def _in_a_list(self, missing: Mapping[str, str], layer: Any) -> dict[str, str]:
        """Return, by name, gradients that are in a list beside the parameters (by their paths) in the same order.

        As many as the parameters, of the same shapes. Of gradients of one shape the order is that by which they agree
        with differences, if there is one, or that in which the parameters are defined.
        """
        found: dict[str, str] = {}
        for above in dict.fromkeys(path.rpartition(".")[0] for path in missing.values()):
            names = [name for name, path in missing.items() if path.rpartition(".")[0] == above]
            owner = found_or_none(f"{OBJECT}.{above}" if above else OBJECT, layer, None)
            for box, held in getattr(owner, "__dict__", {}).items():
                if box.lower() not in GRADIENT_CONTAINERS or not isinstance(held, (list, tuple)):
                    continue
                weights = [np.asarray(resolve(self.base, missing[name])) for name in names]
                if len(held) == len(names) and all(
                    isinstance(g, np.ndarray) and squeezed(g.shape) == squeezed(w.shape)
                    for g, w in zip(held, weights, strict=True)
                ):
                    prefix = ".".join([OBJECT, *([above] if above else []), box])
                    order = self._order(names, missing, [f"{prefix}.{i}" for i in range(len(held))])
                    found.update(zip(names, order, strict=True))
        return found

    def _order(self, names: Sequence[str], paths: Mapping[str, str], sources: Sequence[str]) -> Sequence[str]:
        if len(names) > MOST_ORDERS:
            return sources
        agree = {(name, source): self._agrees(paths[name], source) for name in names for source in sources}
        for order in permutations(sources):
            if all(agree[pair] for pair in zip(names, order, strict=True)):
                return order
        return sources

    def _agrees(self, path: str, source: str) -> bool:
        """Return whether an array is the derivative by the parameter at a path, along a direction."""
        step = STEPS[self.precision]
        try:
            weight = np.asarray(resolve(self.base, path))
            direction = stream("directions of a reading").standard_normal(weight.shape)
            layer, result = self.go(training=True)
            back, dys = self.back(layer, result)
            analytic = float(np.sum(np.asarray(found_or_none(source, layer, back)).reshape(weight.shape) * direction))
            ends = []
            for sign in (1, -1):
                layer = copy.deepcopy(self.base)
                assign(layer, path, (weight + sign * step * direction).astype(weight.dtype))
                layer, result = self.go(training=True, layer=layer)
                ends.append(
                    sum(float(np.sum(d * y)) for d, y in zip(dys, self.calls.values(layer, result), strict=True))
                )
        except Exception:  # noqa: BLE001  not defined there, or of another shape
            return False
        numeric = (ends[0] - ends[1]) / (2 * step)
        return abs(analytic - numeric) <= AGREES * max(abs(analytic), abs(numeric))


def _near(one: Array, other: Array, allowed: float) -> bool:
    return one.shape == other.shape and bool(np.all(np.abs(one - other) <= allowed))
