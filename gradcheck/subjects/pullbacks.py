"""How a foreign backward pass is called, and where the gradients of the inputs are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, member, raised
from gradcheck.subjects.caller import changed, described, equal, is_floating, same_shape
from gradcheck.subjects.calls import (
    FILLED,
    OBJECT,
    RESULT,
    Bundle,
    Calls,
    Constant,
    Held,
    Together,
    found,
)
from gradcheck.subjects.derivatives import INPUTS as INPUTS_OF_FORWARD
from gradcheck.subjects.derivatives import OUTPUTS, DerivativeReader
from gradcheck.subjects.parameters import (
    arrays_of,
    leaves,
    names_gradient,
    squeezed,
)
from gradcheck.subjects.signatures import (
    CACHES,
    COTANGENTS,
    PREDICTIONS,
    RATES,
    TARGETS,
    plain,
    positional,
    required,
    takes_any_number,
)

# Of central differences that only choose between two ways of calling: about the third root of eps.
STEPS = {np.float64: 2.0**-17, np.float32: 2.0**-8}
AGREES = 1e-3  # relative disagreement along a direction, below which a way of calling is taken for the right one
PARAMETERS = {"params", "parameters", "param", "weights", "theta", "model", "network", "net", "w"}  # in one dict
DICTS = {"grads", "gradients", "outgrads", "outgradients", "gradsdict", "graddict", "gradientsdict", "gradientdict"}
INPUTS = ("input", "inputs", "x", "in", "X", "data", "prev", "A_prev", "a_prev")  # whose gradient an attribute may be


class PullbackReader(DerivativeReader):
    """Finds a way to call backward, and the gradients of the inputs."""

    cache = "cache"  # which of what forward returns is that: the last, unless another is

    def _backward(self, parameters: Mapping[str, Any]) -> Calls:
        """Return the calls with what backward is given and where the gradients of the inputs are."""
        raising: list[str] = []
        returned: list[str] = []
        taken: list[Calls] = []
        known = self.calls
        for candidate in self._candidates():
            self.calls = candidate
            try:
                layer, result, back, _ = self.both(training=True)
                if FILLED in candidate.given and not getattr(layer, FILLED):
                    continue
            except Exception as error:  # a candidate that does not fit; if none does, it is told
                if isinstance(error, AdapterError) and isinstance(self.subject, Together):
                    raise  # of a generator, which says what it lacks
                raising.append(raised(error))
                continue
            paths = self._located(layer, back, parameters)
            if paths is None:
                returned.append(described(back))
            elif any(what.startswith("dy") for what in candidate.given):
                taken.append(replace(candidate, gradients=paths))
            else:
                taken += self._without_cotangent(replace(candidate, gradients=paths, local=True), layer, result, back)
        self.calls = known
        taken += self._derivatives(len(self._needed()))
        if not taken:
            self.calls = known
            self._refuse_backward(raising, returned)
        if len(taken) == 1:
            return taken[0]
        for each in taken:
            if self.disagreement(each) < AGREES:
                return self._agreed(each)
        return self._likeliest(taken)

    def _without_cotangent(self, calls: Calls, layer: Any, result: Any, back: Any) -> list[Calls]:
        """Return how gradients are read that backward returns without being given one of the output: as derivatives.

        Of one number; of each element by the input's own, or as a Jacobian; of one number a sample, or of the mean of
        these.
        """
        (y,) = calls.values(layer, result)
        if calls.given == ("one",) and y.size != 1:
            return []
        shapes = [self.inputs[i].shape for i in calls.gradients]
        if jacobians := self._jacobians(calls, y, layer, back):
            return jacobians
        if y.size == 1 or all(shape == y.shape for shape in shapes):
            return [calls]
        if all(shape[: y.ndim] == y.shape for shape in shapes):
            return [calls, replace(calls, mean=True)]
        return []

    def _candidates(self) -> Iterator[Calls]:
        """Yield ways of calling backward, the likeliest first; last, with what forward is given and it need not be."""
        needed = self._needed()
        yield from self._given(needed)
        more = list(needed)
        for each in positional(self.target(1) or getattr(self.base, self.calls.backward))[len(needed) :]:
            if each.name not in self.own_names():
                break
            more.append(each.name)
        if needed and more != needed:
            yield from self._given(more)

    def _given(self, needed: Sequence[str]) -> Iterator[Calls]:
        """Yield ways of giving backward those of its arguments that are needed."""
        method = getattr(self.base, self.calls.backward)
        target = self.target(1) or method
        own = self.own_names()
        outputs = self.calls.outputs
        last = tuple(name for each in positional(target)[:1] if plain(name := each.name) in COTANGENTS)
        y_is_target = not self._is_called_a_derivative()
        if len(needed) == 1 and plain(needed[0]) in (TARGETS | {"y"} if y_is_target else TARGETS):
            raise AdapterError(
                f"{self.spoken(1)} takes {needed[0]}, a target: let forward return the loss, or "
                "backward take the gradient of what forward returns"
            )
        fixed: dict[int, str] = {}
        free: list[int] = []
        has_cache = self.calls.returns_outputs > 1
        for place, name in enumerate(needed):
            word = plain(name)
            if word in CACHES and has_cache:
                fixed[place] = self.cache
            elif name in own and own.index(name) < len(self.inputs) and len(needed) > 1:
                fixed[place] = f"input{own.index(name)}"
            elif len(needed) > 1 and (role := self._role(name)):
                fixed[place] = role
            elif len(needed) > 1 and (behind := self._given_to_forward(name)):
                fixed[place] = behind
            elif word in RATES and len(needed) > 1:
                fixed[place] = "rate"
            else:
                free.append(place)
        for place in [place for place in free if len(free) > 1 and plain(needed[place]) in DICTS]:
            others = [each for each in free if each != place]
            yield from self._filled(needed, fixed | {place: FILLED}, others, outputs, cache=has_cache)
        yield from self._filled(needed, fixed, free, outputs, cache=has_cache)
        if free and len(needed) == 1 and len(outputs) == 1 and last:
            # The last of a chain, such as a loss, may disregard what it is given: the gradient is then for dy = 1.
            yield replace(self.calls, given=("one",), names=last)

    def _role(self, name: str) -> str:
        """Return which input of a loss an argument of its gradient is called as, where forward has other names."""
        word = plain(name)
        role = "target" if word in TARGETS else "prediction" if word in PREDICTIONS - TARGETS else ""
        return f"input{self.names.index(role)}" if role in self.names else ""

    def _given_to_forward(self, name: str) -> str:
        """Return which argument of forward, that is no input, backward takes by this name; empty if there is none."""
        arguments = dict(enumerate(self.arguments))
        names = [each.name for each in positional(self.forward_target())]
        for place, own in enumerate(names[: len(arguments)]):
            if own == name and isinstance(arguments[place], (Constant, Held)):
                return f"argument{place}"
        held = [place for place, argument in arguments.items() if isinstance(argument, Held)]
        return f"argument{held[0]}" if len(held) == 1 and plain(name) in PARAMETERS else ""

    def _needed(self) -> list[str]:
        """Return the names of the arguments that backward is given."""
        target = self.target(1) or getattr(self.base, self.calls.backward)
        needed = [each.name for each in required(target)]
        if not needed:
            first = next((each for each in positional(target) if plain(each.name) in COTANGENTS), None)
            needed = [first.name] if first is not None else []
            if takes_any_number(target):
                needed = ["dy"]
        return needed

    def _filled(
        self,
        needed: Sequence[str],
        fixed: Mapping[int, str],
        free: Sequence[int],
        outputs: tuple[str, ...],
        *,
        cache: bool,
    ) -> Iterator[Calls]:
        count = len(needed)

        def calls(used: tuple[str, ...], names: Sequence[str]) -> Calls:
            filled = dict(fixed) | dict(zip(free, names, strict=True))
            given = tuple(filled[place] for place in range(count))
            return replace(self.calls, outputs=used, given=given, names=tuple(needed))

        inputs = [f"input{a}" for a in self.arguments if isinstance(a, int)]
        if not free:
            for output in outputs if self.of_loss else outputs[:1]:
                yield calls((output,), ())
        if takes_any_number(target := self.target(1) or getattr(self.base, self.calls.backward)) and len(inputs) > 1:
            names = [each.name for each in required(target)] or inputs
            yield replace(self.calls, outputs=outputs[:1], given=tuple(inputs), names=tuple(names))
        if free and len(free) == count == len(self.inputs) > 1 and len(outputs) == 1:
            yield calls(outputs, inputs)
        elif len(free) == len(outputs):
            yield calls(outputs, ["dy"] if len(outputs) == 1 else [f"dy{i}" for i in range(len(outputs))])
        if len(free) == 1 and len(outputs) > 1:
            for output in outputs if self.of_loss else outputs[:1]:
                yield calls((output,), ["dy"])
            yield calls(outputs, ["dys"])
        inputs = [f"input{i}" for i in range(len(self.inputs))]
        extra = ([self.cache] if cache else []) + inputs
        if len(free) == 2 and len(outputs) == 1:
            called = [plain(needed[place]) for place in free]
            others = [*extra[:1], *([] if any(map(_of_forward, called)) else ["y"])]
            if any(name in OUTPUTS for name in called):
                others.reverse()
            for other in others:
                yield from (calls(outputs, names) for names in (["dy", other], [other, "dy"]))
        cotangents = [plain(needed[place]) in COTANGENTS or needed[place].startswith("d") for place in free]
        if len(free) == self.calls.returns_outputs > 2 and sum(cotangents) == 1:
            yield calls(outputs[:1], ["dy", *(f"output{i}" for i in range(1, len(free)))])
        if len(free) == 1 + len(inputs) > 2 and len(outputs) == 1:
            for names in (["dy", *inputs], [*inputs, "dy"]):
                yield calls(outputs, names)
        if len(free) == 2 and len(outputs) > 2:
            yield from (calls(pair, ["dy0", "dy1"]) for pair in permutations(outputs, 2) if pair == tuple(sorted(pair)))

    def _refuse_backward(self, raising: Sequence[str], returned: Sequence[str]) -> None:
        """Raise `AdapterError`: with advice where something else is to be returned, not where its own code raises."""
        target = self.target(1) or getattr(self.base, self.calls.backward)
        call = f"{self.spoken(1)}({', '.join(each.name for each in positional(target))})"
        outputs = len(self.calls.outputs)
        several = f"{self.spoken(0)} returns {outputs} outputs, and " if outputs > 1 else ""
        if returned:
            raise AdapterError(
                f"{several}{call} returns {returned[0]}: let it return one gradient for each of "
                f"{', '.join(self.own_names()[i] for i in self.floating())}, or name with constant= what has none"
            )
        if raising:
            raise AdapterError(f"{several}{call} raises {raising[0]}")
        raise AdapterError(
            f"{several}{call} takes what the check cannot give: let backward take the gradient of each output, and "
            "return the gradient of each input"
        )

    def _located(self, layer: Any, back: Any, parameters: Mapping[str, Any]) -> dict[int, str] | None:
        """Return the paths to the gradients of the inputs, by number; None where what was returned cannot be read."""
        places = self.floating()
        if back is None:
            return self._in_attributes(layer, places)
        if isinstance(back, Mapping):
            return self._by_key(back, places)
        if isinstance(back, (tuple, list)) and len(back) == len(places) == 1 and np.ndim(self.inputs[places[0]]):
            ((place, only),) = zip(places, back, strict=True)  # one for each call that was kept
            if is_floating(only) and np.shape(only) == self.inputs[place].shape:
                return {place: f"{RESULT}.0"}
        if isinstance(back, (tuple, list)) and not (
            len(places) == 1 and is_floating(back) and same_shape(back, self.inputs[places[0]])
        ):
            return self._in_order(list(back), places, parameters)
        shapes = {self.inputs[i].shape for i in places}
        if len(places) > 1 and is_floating(back) and {np.shape(back)} == {(len(places), *shape) for shape in shapes}:
            return {i: f"{RESULT}.{j}" for j, i in enumerate(places)}  # one behind the other in an array
        if len(places) >= 1 and is_floating(back):
            return {places[0]: RESULT} if len(places) == 1 or same_shape(back, self.inputs[places[0]]) else None
        return {} if not places else None

    def _in_order(self, back: list[Any], places: list[int], parameters: Mapping[str, Any]) -> dict[int, str] | None:
        arrays = list(range(len(self.inputs)))
        bundled = {i for argument in self.arguments if isinstance(argument, Bundle) for i in argument.numbers}
        for order in (arrays, places, [i for i in places if i not in bundled]):
            if len(back) >= len(order) and all(
                back[j] is None or i not in places or same_shape(back[j], self.inputs[i]) for j, i in enumerate(order)
            ):
                if len(back) > len(order) and not self._rest_are_parameters(back[len(order) :], parameters):
                    continue
                return {i: f"{RESULT}.{j}" for j, i in enumerate(order) if i in places and back[j] is not None}
        if self.calls.given == () and parameters and self._rest_are_parameters(back, parameters):
            return {}  # the gradients of the parameters alone
        # In another order: by the shapes, where these tell.
        paths: dict[int, str] = {}
        for i in places:
            fitting = [j for j, value in enumerate(back) if value is not None and same_shape(value, self.inputs[i])]
            if len(fitting) != 1 or f"{RESULT}.{fitting[0]}" in paths.values():
                return None
            paths[i] = f"{RESULT}.{fitting[0]}"
        return paths

    def _rest_are_parameters(self, rest: list[Any], parameters: Mapping[str, Any]) -> bool:
        shapes = [squeezed(np.shape(value)) for value in parameters.values()]
        return all(squeezed(np.shape(value)) in shapes for one in rest for _, value in leaves(RESULT, one))

    def _by_key(self, back: Mapping[Any, Any], places: list[int]) -> dict[int, str] | None:
        own = self.own_names()
        paths = {}
        for i in places:
            name = own[i]
            words = (name, self.names[i], *(INPUTS if len(places) == 1 else ()))
            keys = [k for k in back if isinstance(k, str)]
            key = next((k for k in keys if k in words or _of_input(words, k)), None)
            if key is not None:
                paths[i] = f"{RESULT}.{key}"
        return paths

    def _in_attributes(self, layer: Any, places: list[int]) -> dict[int, str]:
        before, after = arrays_of(self.base), arrays_of(layer)
        written = changed(before, after)
        own_arrays = {path: array for path, array in after.items() if path in written and "." not in path}
        own = self.own_names()
        paths = {}
        for i in places:
            words = (own[i], *(INPUTS if len(places) == 1 else ()))
            for path, array in own_arrays.items():
                if array.shape == self.inputs[i].shape and _of_input(words, path):
                    paths[i] = f"{OBJECT}.{path}"
                    break
            else:
                if wrong := self._of_another_shape(layer, words, before):
                    paths[i] = f"{OBJECT}.{wrong}"
        return paths

    def _of_another_shape(self, layer: Any, words: Sequence[str], held: Mapping[str, Array]) -> str:
        """Return the attribute named as an input's gradient that backward alone has written, in a wrong shape."""
        forwarded, _ = self.go(training=True)
        attributes: dict[str, Any] = getattr(layer, "__dict__", {})
        for name, value in attributes.items():
            if not (
                isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim and _of_input(words, name)
            ):
                continue
            of_another = any(names_gradient(path, name) and same_shape(value, array) for path, array in held.items())
            if not of_another and not any(equal(member(one, name), value) for one in (self.base, forwarded)):
                return name
        return ""

    def disagreement(self, calls: Calls) -> float:
        """Return by how much the gradients of the inputs, read in one way, are off along a direction.

        Inf where unknown.
        """
        self.calls = calls
        rng, step = stream("directions of a reading"), STEPS[self.precision]
        try:
            layer, _, back, dys = self.both(training=True)
            directions = {i: rng.standard_normal(self.inputs[i].shape) for i in calls.gradients}
            analytic = sum(
                float(np.sum(calls.times(found(path, layer, back), dys) * directions[i]))
                for i, path in calls.gradients.items()
            )
            ends = []
            for sign in (1, -1):
                moved = [
                    (v + sign * step * directions[i]).astype(v.dtype) if i in directions else v
                    for i, v in enumerate(self.inputs)
                ]
                one, value = self.go(training=True, inputs=moved)
                ends.append(sum(float(np.sum(dy * y)) for dy, y in zip(dys, calls.values(one, value), strict=True)))
        except Exception:  # noqa: BLE001  not defined there: unknown
            return float("inf")
        numeric = (ends[0] - ends[1]) / (2 * step)
        off = abs(analytic - numeric) / max(abs(numeric), abs(analytic), 1e-300)
        return off if np.isfinite(off) else float("inf")


def _of_forward(name: str) -> bool:
    """Return whether an argument is called as what goes in, and not as what comes out."""
    return name in INPUTS_OF_FORWARD or name.endswith(("x", "input", "inp", "logits"))


def _of_input(words: Iterable[str], name: str) -> bool:
    """Return whether something is called as the gradient of an input of one of these names, and not as a weight's."""
    return name.lower() != "dw" and any(names_gradient(word, name) for word in words)
