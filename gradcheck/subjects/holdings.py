"""Which arrays of a foreign object are parameters, where their gradients are, and what has none."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, assign, items_of, member, require_numbers, resolve
from gradcheck.subjects.caller import NUDGE, changed, equal, other_values, suggestion
from gradcheck.subjects.calls import (
    FILLED,
    OBJECT,
    RATE,
    RESULT,
    Pair,
    Together,
    found_or_none,
    packed,
)
from gradcheck.subjects.guesses import SUBTRACTED, GuessReader
from gradcheck.subjects.parameters import (
    GRADIENT_CONTAINERS,
    arrays_of,
    beside_alone,
    by_exclusion,
    gradient_path,
    leaves,
    name_of,
    objects_below,
    says_little,
    squeezed,
)
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import (
    RATES,
    plain,
    positional,
)

MOST_PARAMETERS = 300  # arrays of an object that are nudged one by one
RATE_ATTRIBUTES = ("lr", "learning_rate", "learn_rate", "eta", "alpha", "rate", "step_size")


class HoldingsReader(GuessReader):
    """Finds what the output depends on besides the inputs, and the gradients of that."""

    begun: Any = None  # a copy after its first forward pass, where that makes weights
    numbers: Mapping[str, str] = MappingProxyType({})  # of parameters in a list, by name

    def _named_params(self, before: Mapping[str, Array]) -> dict[str, str]:
        """Return the paths of the parameters that the user, or a dict or list ``params`` of the object, names."""
        named = dict(self.given.params) or items_of(self.base, "params")
        for name, path in named.items():
            try:
                value = resolve(self.base, path)
            except AdapterError as error:
                raise AdapterError(
                    f"{error}{suggestion(path, [*before, *getattr(self.base, '__dict__', {})])}"
                ) from None
            if (
                not self.given.params
                and not isinstance(value, np.ndarray)
                and not isinstance(value, (float, np.floating))
            ):
                if isinstance(value, (int, str, bytes)):
                    require_numbers(self.who, name, path, value)
                return {}  # objects, or lists of them: looked into as everything else is
            require_numbers(self.who, name, path, value)
        return named if self.given.params else self._held_by_name(named)

    def _held_by_name(self, listed: Mapping[str, str]) -> dict[str, str]:
        """Return for what a list of parameters numbers the attributes that hold the same arrays, if all have one."""
        if not all(name.isdigit() for name in listed):
            return dict(listed)
        holders = {id(array): path for path, array in arrays_of(self.base).items()}
        paths = [holders.get(id(resolve(self.base, path)), path) for path in listed.values()]
        names = [name_of(path) for path in paths]
        if len(set(names)) < len(names):
            return dict(listed)
        self.numbers = dict(zip(names, listed, strict=True))
        return dict(zip(names, paths, strict=True))

    def _parameters(self, before: Mapping[str, Array], named: Mapping[str, str]) -> Reading:
        """Find the parameters, their gradients, and what the output depends on that has none."""
        layer, _, back, dys = self.both(training=True)
        after = arrays_of(layer)
        returned = arrays_of({RESULT: list(back) if isinstance(back, (list, tuple)) else back})
        used = set(self.calls.gradients.values())
        free = {path: a for path, a in returned.items() if path not in used}
        free |= {f"{OBJECT}.{path}": a for path, a in after.items() if path.partition(".")[0] == FILLED}
        depends = self._dependent(before)
        forward_writes = self._written(before, layer=None, backward=False)
        backward_writes = self._written(before, layer=layer, backward=True)
        self.weights = tuple(path for path in depends if path not in forward_writes)
        held = {path: a for path, a in after.items() if path not in self._own_paths(used)}
        params: dict[str, str] = {}
        grads: dict[str, str] = {}
        candidates = dict(named) or self._likely(before, depends, held, forward_writes)
        for name in self.given.grads:
            if name not in candidates and name not in self.numbers.values():
                raise AdapterError(f"grads= names {name!r}, which is no parameter{suggestion(name, [*candidates])}")
        for name, path in candidates.items():
            shape = np.asarray(resolve(self.base, path)).shape
            source = self._named_gradient(name, layer) or self._source(path, shape, free, held)
            if source is not None and not self.given.grads and says_little(source):
                source = self._confirmed({name: (path, source)}).get(name)
            if source is not None:
                params[name], grads[name] = path, source
            elif self.given.params:
                params[name] = path
        missing = {n: np.asarray(resolve(self.base, p)).shape for n, p in candidates.items() if n not in grads}
        self._in_order_of_definition(candidates, missing, back, params, grads)
        missing = {n: s for n, s in missing.items() if n not in grads}
        grads_in_lists = self._in_a_list({n: candidates[n] for n in missing}, layer)
        params |= {name: candidates[name] for name in grads_in_lists}
        grads |= grads_in_lists
        moves = {n: path for n, path in candidates.items() if path in backward_writes and path not in forward_writes}
        handed = self._handed_on({n: path for n, path in moves.items() if n not in grads} if moves else {})
        params |= {name: candidates[name] for name in handed}
        grads |= handed
        missing = {n: s for n, s in missing.items() if n not in grads}
        new = changed(before, held)
        fresh_arrays = {
            f"{OBJECT}.{p}": a for p, a in held.items()
            if p not in candidates.values() and f"{OBJECT}.{p}" not in grads.values() and p not in forward_writes
            and p in new
        }  # fmt: skip
        known = [*self.inputs, *dys, *(found_or_none(path, layer, back) for path in used)]
        written = {k: a for k, a in fresh_arrays.items() if not any(equal(a, v) for v in known)}
        written = {k: a for k, a in written.items() if k.partition(".")[2] not in self._cached_by_forward()}
        shapes = {candidates[n]: s for n, s in missing.items() if candidates[n] in depends}
        beside = beside_alone({f"{OBJECT}.{path}": s for path, s in shapes.items()}, written)
        alone = by_exclusion(shapes, written) | {p.partition(".")[2]: source for p, source in beside.items()}
        guessed = self._confirmed({n: (p, alone[p]) for n, p in candidates.items() if n in missing and p in alone})
        params |= {name: candidates[name] for name in guessed}
        grads |= guessed
        unread = {name: (path, SUBTRACTED) for name, path in moves.items() if name not in grads}
        rate = self._rate() if unread else None
        moved = tuple(self._confirmed(unread, rate)) if rate is not None else ()
        params |= {name: candidates[name] for name in moved}
        if (
            named
            and not self.given.grads
            and (lost := [n for n in named if n not in grads and n not in moved])
            and self.given.params
        ):
            wrote = ", ".join(sorted(p for p in held if p not in before or p in backward_writes)[:8]) or "none"
            example = ", ".join(f"{n!r}: 'd{self.given.params[n]}'" for n in lost)
            raise AdapterError(
                f"there is no gradient of {', '.join(lost)} after {self.calls.backward}, under any usual name: add "
                f"grads={{{example}}}; arrays that it wrote: {wrote}"
            )
        if any(_is_named(grads[name]) for name in named if name in grads):  # and those that have none were forgotten
            for name, path in named.items():
                if name not in grads and self._same_memory([path]) & set(depends):
                    params[name] = path
        judged = set(params.values()) | self._same_memory(params.values())
        buffers = tuple(p for p in depends if p in forward_writes and p not in judged)
        unchecked = tuple(p for p in depends if p not in judged and p not in buffers)
        places = self.floating()
        return Reading(
            subject=self.who,
            begun=self.begun,
            calls=replace(self.calls, spoken=self._functions()),
            inputs=self.names,
            silent=tuple(self.names[i] for i in places if i not in self.calls.gradients),
            params=params,
            grads=grads,
            moved=moved,
            moves=moves,
            perhaps=self._perhaps([path for path in unchecked if path not in moves.values()], layer, grads),
            rate=RATE if rate is None else rate,
            unchecked=unchecked,
            buffers=buffers,
            extents=frozenset(self._extents(before, dys[0])),
            argument_names=tuple(self.own_names()),
            generators=self.generators,
        )

    def _perhaps(self, unchecked: Iterable[str], layer: Any, grads: Mapping[str, str]) -> dict[str, str]:
        """Return for each array without a gradient one of its shape that backward wrote, in a place of its own.

        Of several of one shape, the one that agrees with differences.
        """
        taken = {*unchecked, *(source.partition(".")[2] for source in grads.values())}
        written = {place: array for place, array in self._new(layer) if place not in taken}
        perhaps: dict[str, str] = {}
        for path in unchecked:
            shape = np.asarray(resolve(self.base, path)).shape
            places = [p for p, array in written.items() if array.shape == shape and p not in perhaps.values()]
            agreeing = [place for place in places if len(places) > 1 and self._agrees(path, f"{OBJECT}.{place}")]
            if agreeing:
                perhaps[path] = agreeing[0]
        left = {path: np.asarray(resolve(self.base, path)).shape for path in unchecked if path not in perhaps}
        return perhaps | by_exclusion(left, {p: a for p, a in written.items() if p not in perhaps.values()})

    def _new(self, layer: Any) -> Iterator[tuple[str, Array]]:
        """Yield the arrays, with their paths, that a backward pass has left and a forward pass does not."""
        after = arrays_of(layer)
        new = changed(arrays_of(self.base), after) - self._cached_by_forward()
        yield from ((path, array) for path, array in after.items() if path in new)

    def _functions(self) -> tuple[str, ...]:
        """Return the names of functions that are called in place of methods: of two, or of one for both passes."""
        if isinstance(self.subject, Pair):
            return self.spoken(0), self.spoken(1)
        if not isinstance(self.subject, Together):
            return ()
        name = self.subject.method or self.who
        return (name, "pullback") if self.pulls else (name,)

    def _same_memory(self, paths: Iterable[str]) -> set[str]:
        """Return the paths to what is in the memory of the arrays at ``paths``."""
        own = [array for array in (resolve(self.base, path) for path in paths) if isinstance(array, np.ndarray)]
        return {
            path for path, array in arrays_of(self.base).items() if any(np.shares_memory(array, one) for one in own)
        }

    def _likely(
        self, before: Mapping[str, Array], depends: Sequence[str], held: Mapping[str, Array], writes: set[str]
    ) -> dict[str, str]:
        """Return the paths by name of what the output depends on, and of what has a gradient by its name."""
        paths = list(depends)
        for path, array in before.items():
            if path not in paths and path not in writes and gradient_path(path, array.shape, held) is not None:
                paths.append(path)
        order = {path: i for i, path in enumerate(before)}
        named: dict[str, str] = {}
        for path in sorted(paths, key=lambda p: order[p]):
            name = name_of(path)
            named[path if name in named or name in self.names else name] = path
        return {f"{name}_" if name in self.names else name: path for name, path in named.items()}

    def _named_gradient(self, name: str, layer: Any) -> str | None:
        """Return the path to the gradient that the user names, or that a dict or list ``grads`` has under this name."""
        listed = self.numbers.get(name, name)
        path = self.given.grads.get(name, self.given.grads.get(listed))
        if path is None and not self.given.grads:
            try:
                path = items_of(layer, "grads").get(listed)
            except AdapterError:
                path = None
            if path is not None and resolve(layer, path) is None:
                path = None
        return f"{OBJECT}.{path}" if path else None

    def _source(
        self, path: str, shape: tuple[int, ...], free: Mapping[str, Array], held: Mapping[str, Array]
    ) -> str | None:
        for place, array in free.items():
            if place.endswith(f".{path}") and squeezed(array.shape) == squeezed(shape):
                return place
        parent, _, last = path.rpartition(".")
        beside = {p.rpartition(".")[2]: p for p in free if parent and p.rpartition(".")[0].endswith(f".{parent}")}
        key = gradient_path(last, shape, {tail: free[p] for tail, p in beside.items()})
        if key is not None:
            return beside[key]
        tails = [p.rpartition(".")[2] for p in free]
        ends = {tail: p for tail, p in zip(tails, free, strict=True) if tails.count(tail) == 1}  # keys of dicts
        keys = {key: free[p] for key, p in ends.items() if not key.isdigit()}
        own = name_of(path).rpartition(".")[2]
        key = own if own in keys and squeezed(keys[own].shape) == squeezed(shape) else gradient_path(own, shape, keys)
        if key is not None:
            return ends[key]
        kept = gradient_path(path, shape, held)
        return None if kept is None else f"{OBJECT}.{kept}"

    def _in_order_of_definition(
        self, candidates: Mapping[str, str], missing: Mapping[str, tuple[int, ...]], back: Any,
        params: dict[str, str], grads: dict[str, str],
    ) -> None:  # fmt: skip
        """Take what is returned behind the inputs' gradients for those of the parameters.

        Of several of one shape, each is taken for that of the parameter that differences agree with, unless the object
        lists its parameters; what is left, in the order of definition.
        """
        if not isinstance(back, (tuple, list)):
            return
        used = {*self.calls.gradients.values(), *grads.values()}
        rest = [(path, np.shape(a)) for path, a in leaves(RESULT, back) if path not in used]
        for sure in (False,) if self.numbers else (True, False):
            for name, shape in missing.items():
                fitting = [path for path, extent in rest if squeezed(extent) == squeezed(shape) and name not in grads]
                if sure:
                    fitting = [path for path in fitting if len(fitting) > 1 and self._agrees(candidates[name], path)]
                if fitting:
                    params[name], grads[name] = candidates[name], fitting[0]
                    rest = [(path, extent) for path, extent in rest if path != fitting[0]]

    def _own_paths(self, used: set[str]) -> set[str]:
        return {path.partition(".")[2] for path in used if path.startswith(OBJECT)}

    def _dependent(self, before: Mapping[str, Array], start: Any = None) -> list[str]:
        """Return the paths of the arrays that the output depends on, in either mode."""
        start = self.base if start is None else start
        rng = stream("nudges of a reading")
        bases = {}
        for training in (True, False) if self.calls.switch else (True,):
            try:
                layer, result = self.go(training=training, layer=copy.deepcopy(start))
                bases[training] = packed(self.calls.values(layer, result))
            except Exception:  # noqa: BLE001, S112  a mode that it does not have shows no dependence
                continue
        found_ = []
        for path, array in list(before.items())[:MOST_PARAMETERS]:
            size = float(np.sqrt(np.mean(np.square(array)))) or 1.0
            moved = array + NUDGE * (size if np.isfinite(size) else 1.0) * rng.standard_normal(array.shape)
            for training, base in bases.items():
                try:
                    layer = copy.deepcopy(start)
                    assign(layer, path, moved)
                    layer, result = self.go(training=training, layer=layer)
                    y = packed(self.calls.values(layer, result))
                except Exception:  # noqa: BLE001, S112  it is not defined there: no dependence is seen
                    continue
                if not equal(y, base):
                    found_.append(path)
                    break
        return found_

    def _written(self, before: Mapping[str, Array], *, layer: Any, backward: bool) -> set[str]:
        """Return the paths of arrays that were there before and that forward, or forward and backward, has changed."""
        if not backward:
            rng = stream("other inputs of a reading")
            others = [other_values(v, rng) for v in self.inputs]
            layer, _ = self.try_forward(others)
        after = arrays_of(layer)
        return {path for path, array in before.items() if path not in after or not equal(after[path], array)}

    def _cached_by_forward(self) -> set[str]:
        """Return the paths of arrays that forward alone makes or writes."""
        layer, _ = self.try_forward(self.inputs)
        return changed(arrays_of(self.base), arrays_of(layer))

    def _rate(self) -> float | None:
        """Return the rate by which backward has moved the weights.

        The one it was given, its default, or the object's own.
        """
        if "rate" in self.calls.given:
            return RATE
        target = getattr(self.base, self.calls.backward)
        for each in positional(target):
            if plain(each.name) in RATES and isinstance(each.default, float):
                return each.default
        for name in RATE_ATTRIBUTES:
            value = member(self.base, name)
            if isinstance(value, (float, np.floating)) and value:
                return float(value)
        return None

    def _extents(self, before: Mapping[str, Array], y: Array) -> Iterator[int]:
        """Yield the sizes that the object was told when it was made, or that its arrays have.

        Where it was told the shape of its output, those of its inputs as well.
        """
        outputs = [shape for shape in (y.shape, y.shape[1:]) if len(shape) > 2]  # two alone may be those of a kernel
        for array in before.values():
            yield from array.shape
        for one in [self.base, *objects_below(self.base).values()]:
            for value in getattr(one, "__dict__", {}).values():
                numbers = value if isinstance(value, (tuple, list)) else [value]
                told = [int(n) for n in numbers if isinstance(n, (int, np.integer)) and not isinstance(n, bool)]
                if len(told) == len(numbers) and tuple(told) in outputs:
                    yield from (extent for x in self.inputs for extent in x.shape[1:])
                yield from told


def _is_named(source: str) -> bool:
    """Return whether a gradient has a key, in a dict of gradients or in one that is returned."""
    start, *steps = source.split(".")
    keys = [step for step in steps if not step.isdigit()]
    return bool(keys) if start == RESULT else len(steps) > 1 and keys[0] in GRADIENT_CONTAINERS
