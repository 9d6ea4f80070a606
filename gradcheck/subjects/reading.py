"""How a foreign object is called, what it returns and what moves: found by calling copies of it, before anything is judged."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, assign, items_of, require_numbers, resolve
from gradcheck.subjects.calls import (
    OBJECT,
    RATE,
    RESULT,
    Argument,
    Calls,
    Pair,
    Together,
    arranged,
    found,
    found_or_none,
    packed,
)
from gradcheck.subjects.copies import fresh
from gradcheck.subjects.parameters import (
    arrays_of,
    by_exclusion,
    gradient_path,
    name_of,
    names_gradient,
    nearest,
    objects_below,
    squeezed,
)
from gradcheck.subjects.randomness import generators_around, is_generator, same_randomness
from gradcheck.subjects.signatures import (
    BACKWARDS,
    CACHES,
    COTANGENTS,
    FORWARDS,
    RATES,
    TARGETS,
    Flag,
    Switch,
    plain,
    positional,
    required,
    switch_of,
    takes_any_number,
)

NUDGE = 2.0**-6  # of an array's size, by which it is moved to see what depends on it
STEP = 1e-5  # of central differences that only choose between two ways of calling
TWICE = 1e-6  # relative: within this of twice the first gradient, a second one was added to it
MOST_PARAMETERS = 300  # arrays of an object that are nudged one by one

OUTPUTS = ("output", "out", "outputs", "y", "result", "activation", "activations", "value", "a", "h", "z", "loss")
INPUTS = ("input", "inputs", "x", "in", "X", "data", "prev", "A_prev", "a_prev")  # whose gradient an attribute may be
RATE_ATTRIBUTES = ("lr", "learning_rate", "learn_rate", "eta", "alpha", "rate", "step_size")
RESETS = ("reset", "reset_state", "reset_states", "zero_state", "clear", "clear_state", "init_state", "reset_hidden")


@dataclass(frozen=True)
class Given:
    """What the user says of an object, in place of what would be found."""

    params: Mapping[str, str] = field(default_factory=dict)
    grads: Mapping[str, str] = field(default_factory=dict)
    forward: str = ""
    backward: str = ""
    constant: tuple[str | int, ...] = ()
    flag: str = ""
    order: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What was seen of an object by calling copies of it.

    ``inputs`` are the names of the arrays given, and ``silent`` those of them that no gradient was returned of. ``params``
    and ``grads`` are paths by name: of parameters below the object, of gradients from ``result`` or ``object``; of those
    in ``moved``, the gradient is what backward subtracted over the rate. ``unchecked`` are paths of arrays that the output
    depends on and no gradient is kept of; ``buffers`` those that forward moves. ``evaluates``: why backward after a forward
    pass in evaluation mode is not judged, empty if it is. ``draws``: from which generators; ``unseeded``: two calls from
    the same state differ. ``adds_up``: parameters whose gradients are added to those of the last call. ``keeps``:
    attributes by which one output depends on the call before. ``batch``: the axes of the samples, of input and output.
    """

    subject: str
    calls: Calls
    inputs: tuple[str, ...]
    silent: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    grads: Mapping[str, str] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    rate: float = RATE
    unchecked: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    evaluates: str = ""
    differs: bool = False
    draws: tuple[str, ...] = ()
    generators: Mapping[str, Any] = field(default_factory=dict, repr=False)
    unseeded: bool = False
    adds_up: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    resets: str = ""
    batch: tuple[int, int] | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    extents: frozenset[int] = frozenset()
    argument_names: tuple[str, ...] = ()
    fixed: bool = False  # the pullback of a function does not depend on its inputs


class Reader:
    """Calls copies of an object to find out how it is called."""

    def __init__(self, subject: Any, inputs: Sequence[Any], names: Sequence[str], given: Given) -> None:  # noqa: ANN401
        self.subject, self.given, self.names = subject, given, tuple(names)
        arrays, self.arguments = arranged(inputs)
        if given.order:
            self.arguments = given.order
        self.inputs = [_wide(array) for array in arrays]
        owner = subject.owner if isinstance(subject, Together) else subject
        self.who = subject.name if isinstance(subject, Pair) else getattr(owner, "__name__", type(owner).__name__)
        self.generators = generators_around(subject)
        self.base = self._copied(subject)
        self.calls = Calls()

    # How it is called

    def read(self) -> Reading:
        """Return what is seen; raises `AdapterError` with what to write where the object cannot be called."""
        forward = self._method("forward", self.given.forward, FORWARDS)
        backward = self._method("backward", self.given.backward, tuple(b for b in BACKWARDS if b != forward))
        method = getattr(self.base, forward)
        target = self._target(0) or method
        self._require_room(target, forward)
        named = {self.given.flag: Flag(self.given.flag, True, False)} if self.given.flag else {}
        switch = switch_of(self.base, target, len(self.arguments), objects_below(self.base), named)
        self._require_known(target, forward, len(self.arguments), switch)
        self.calls = Calls(forward, backward, self.arguments, switch)
        layer, result = self._first_pass()
        self.calls = replace(self.calls, outputs=self._outputs(layer, result),
                             returns_outputs=len(result) if isinstance(result, tuple) else 0)  # fmt: skip
        before = arrays_of(self.base)
        named_params = self._named_params(before)
        self.calls = self._backward(named_params or before)
        reading = self._parameters(before, named_params)
        if not self.calls.gradients and not reading.params:
            raise AdapterError(
                f"{self.who}.{backward} returns no gradient, and leaves none: let it return that of the input, or leave it in "
                ".dinputs"
            )
        return self._behaviour(reading)

    def _copied(self, subject: Any) -> Any:  # noqa: ANN401  anybody's
        try:
            return fresh(subject, np.float64)
        except Exception as error:  # which is of the object's own making
            raise AdapterError(
                f"{self.who} cannot be copied, and checks work on copies: copy.deepcopy raises "
                f"{type(error).__name__}: {error}"
            ) from error

    def _method(self, role: str, wanted: str, usual: tuple[str, ...]) -> str:
        """Return the name of the method that goes forward or backward."""
        public = [
            name for name in dir(self.base) if not name.startswith("_") and callable(getattr(self.base, name, None))
        ]
        if wanted:
            if callable(getattr(self.base, wanted, None)):
                return wanted
            raise AdapterError(
                f"{self.who} has no method {wanted}{_suggestion(wanted, public)}: name its own with {role}="
            )
        for name in usual:
            if callable(getattr(self.base, name, None)):
                return name
        has = f"; it has {', '.join(public[:8])}" if public else ""
        raise AdapterError(f"{self.who} needs a method {role}{has}: name its own with {role}=")

    def _require_room(self, target: Callable[..., object], forward: str) -> None:
        """Raise `AdapterError` where forward does not take as many arguments as were given."""
        takes, count = [each.name for each in positional(target)], len(self.arguments)
        if len(takes) < count and not takes_any_number(target):
            raise AdapterError(f"{self.who}.{forward} takes {', '.join(takes) or 'nothing'}, got {count} inputs")

    def _own_names(self) -> list[str]:
        """Return what forward itself calls the arrays that it is given."""
        names = [each.name for each in positional(self._forward_target())]
        own = list(self.names)
        for name, argument in zip(names, self.arguments, strict=False):
            if isinstance(argument, int):
                own[argument] = name
        return own

    def _require_known(self, target: Callable[..., object], forward: str, taken: int, switch: Switch) -> None:
        flags = {flag.name for flag in switch.arguments}
        filled = {each.name for each in positional(target)[:taken]}
        missing = [each.name for each in required(target) if each.name not in filled | flags]
        if missing:
            call = ", ".join(["layer", *self.names, *(name.upper() for name in missing)])
            raise AdapterError(
                f"{self.who}.{forward} also needs {', '.join(missing)}: give every argument, as in check_layer({call})"
            )

    def go(
        self, *, training: bool, inputs: Sequence[Any] | None = None, layer: Any = None, seed: int = 0
    ) -> tuple[Any, Any]:  # noqa: ANN401
        """Return a copy after its forward pass, and what that returned."""
        layer = copy.deepcopy(self.base) if layer is None else layer
        given = [np.array(v) for v in (self.inputs if inputs is None else inputs)]
        with same_randomness(seed, self.generators), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return layer, self.calls.go_forward(layer, given, training=training)

    def _first_pass(self) -> tuple[Any, Any]:
        try:
            return self.go(training=True)
        except Exception as error:
            shapes = ", ".join(str(np.shape(value)) for value in self.inputs)
            try:
                return self.go(training=False)
            except Exception:  # noqa: BLE001, S110  the first error is the one to show
                pass
            call = f"{self.who}.{self.calls.forward}({', '.join(self.names)})"
            raise AdapterError(
                f"{call} raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} "
                f"for inputs of shape {shapes}: give inputs that it takes"
            ) from error

    def _outputs(self, layer: Any, result: Any) -> tuple[str, ...]:  # noqa: ANN401  anybody's
        """Return the paths to what forward computes."""
        if result is None:
            written = {path: array for path, array in arrays_of(layer).items() if "." not in path}
            same = self.inputs
            for name in OUTPUTS:
                if name in written and not any(_equal(written[name], value) for value in same):
                    return (f"{OBJECT}.{name}",)
            raise AdapterError(
                f"{self.who}.{self.calls.forward} returns None: let it return its output, or leave it in .output"
            )
        if isinstance(result, Mapping):
            paths = [f"{RESULT}.{key}" for key, value in result.items() if _is_floating(value)]
        elif isinstance(result, tuple) or (isinstance(result, list) and not _is_floating(result)):
            kept = list(result)[:-1] if isinstance(self.subject, Pair) and isinstance(result, tuple) else list(result)
            paths = [f"{RESULT}.{i}" for i, value in enumerate(kept) if _is_floating(value)]
        else:
            return (RESULT,)
        if not paths:
            raise AdapterError(
                f"{self.who}.{self.calls.forward} returns a {type(result).__name__} without a floating-point array"
            )
        return tuple(paths)

    # Backward

    def _backward(self, parameters: Mapping[str, Any]) -> Calls:
        """Return the calls with what backward is given and where the gradients of the inputs are."""
        errors: list[str] = []
        taken = []
        for candidate in self._candidates():
            self.calls = candidate
            try:
                layer, result, back, _ = self.both(training=True)
            except Exception as error:  # noqa: BLE001  the next way of calling may be taken
                errors.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
                continue
            paths = self._located(layer, back, parameters)
            if paths is None:
                errors.append(f"what it returns ({_described(back)}) is not one gradient an input")
            elif any(what.startswith("dy") for what in candidate.given):
                taken.append(replace(candidate, gradients=paths))
            else:
                taken += self._without_cotangent(replace(candidate, gradients=paths, local=True), layer, result)
        if not taken:
            self._refuse_backward(errors)
        if len(taken) == 1:
            return taken[0]
        return min(taken, key=self._disagreement)

    def _without_cotangent(self, calls: Calls, layer: Any, result: Any) -> list[Calls]:  # noqa: ANN401  anybody's
        """Return how gradients are read that backward returns without being given one of the output: as derivatives.

        Of one number; of each element by the input's own; of one number a sample, or of the mean of these.
        """
        (y,) = calls.values(layer, result)
        shapes = [self.inputs[i].shape for i in calls.gradients]
        if y.size == 1 or all(shape == y.shape for shape in shapes):
            return [calls]
        if all(shape[: y.ndim] == y.shape for shape in shapes):
            return [calls, replace(calls, mean=True)]
        return []

    def _candidates(self) -> Iterator[Calls]:
        """Yield ways of calling backward, the likeliest first."""
        method = getattr(self.base, self.calls.backward)
        target = self._target(1) or method
        own = self._own_names()
        outputs, needed = self.calls.outputs, [each.name for each in required(target)]
        if not needed:
            first = next((each for each in positional(target) if plain(each.name) in COTANGENTS), None)
            needed = [first.name] if first is not None else []
            if takes_any_number(target):
                needed = ["dy"]
        if len(needed) == 1 and plain(needed[0]) in TARGETS | {"y"}:
            raise AdapterError(
                f"{self.who}.{self.calls.backward} takes {needed[0]}, a target: let forward return the loss, or backward take "
                "the gradient of what forward returns"
            )
        fixed: dict[int, str] = {}
        free: list[int] = []
        has_cache = self.calls.returns_outputs > 1
        for place, name in enumerate(needed):
            word = plain(name)
            if word in CACHES and has_cache:
                fixed[place] = "cache"
            elif name in own and own.index(name) < len(self.inputs) and len(needed) > 1:
                fixed[place] = f"input{own.index(name)}"
            elif word in RATES and len(needed) > 1:
                fixed[place] = "rate"
            else:
                free.append(place)
        yield from self._filled(needed, fixed, free, outputs, cache=has_cache)

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

        if not free:
            yield calls(outputs[:1], ())
        if free and len(free) == count == len(self.inputs) > 1 and len(outputs) == 1:
            yield calls(outputs, [f"input{a}" for a in self.arguments if isinstance(a, int)])
        elif len(free) == len(outputs):
            yield calls(outputs, ["dy"] if len(outputs) == 1 else [f"dy{i}" for i in range(len(outputs))])
        if len(free) == 1 and len(outputs) > 1:
            yield calls(outputs[:1], ["dy"])
            yield calls(outputs, ["dys"])
        inputs = [f"input{i}" for i in range(len(self.inputs))]
        extra = (["cache"] if cache else []) + inputs
        if len(free) == 2 and len(outputs) == 1:
            for names in (["dy", extra[0]], [extra[0], "dy"]) if extra else ():
                yield calls(outputs, names)
        if len(free) == 1 + len(inputs) > 2 and len(outputs) == 1:
            for names in (["dy", *inputs], [*inputs, "dy"]):
                yield calls(outputs, names)
        if len(free) == 2 and len(outputs) > 2:
            yield from (calls(pair, ["dy0", "dy1"]) for pair in permutations(outputs, 2) if pair == tuple(sorted(pair)))

    def _refuse_backward(self, errors: Sequence[str]) -> None:
        method = getattr(self.base, self.calls.backward)
        target = self._target(1) or method
        takes = ", ".join(each.name for each in positional(target))
        call = f"{self.who}.{self.calls.backward}({takes})"
        outputs = len(self.calls.outputs)
        several = f"forward returns {outputs} outputs, and " if outputs > 1 else ""
        if errors:
            raise AdapterError(
                f"{several}{call} could not be called: {errors[0]}; let backward take the gradient of the output, "
                "dy of its shape, alone"
            )
        raise AdapterError(
            f"{several}{call} takes what the check cannot give: let backward take the gradient of each output, and "
            "return the gradient of each input"
        )

    def both(
        self, *, training: bool, seed: int = 0, layer: Any = None, dys: Sequence[Array] | None = None
    ) -> tuple[Any, Any, Any, list[Array]]:  # noqa: ANN401
        """Return a copy after a forward and a backward pass, what both returned, and the cotangents."""
        layer, result = self.go(training=training, layer=layer, seed=seed)
        outputs = self.calls.values(layer, result)
        cotangents = self.cotangents(outputs) if dys is None else list(dys)
        given = [np.array(dy) for dy in cotangents]
        inputs = [np.array(v) for v in self.inputs]
        with same_randomness(seed + 1, self.generators), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            back = self.calls.go_backward(layer, result, inputs, given)
        return layer, result, back, cotangents

    def cotangents(self, outputs: Sequence[Array]) -> list[Array]:
        """Return a cotangent of each output."""
        rng = stream("cotangents of a reading")
        return [np.asarray(rng.standard_normal(y.shape)) for y in outputs]

    def _located(self, layer: Any, back: Any, parameters: Mapping[str, Any]) -> dict[int, str] | None:  # noqa: ANN401
        """Return the paths to the gradients of the inputs, by number; None where what was returned cannot be read."""
        places = self.floating()
        if back is None:
            return self._in_attributes(layer, places)
        if isinstance(back, Mapping):
            return self._by_key(back, places)
        if isinstance(back, (tuple, list)) and not (
            len(places) == 1 and _is_floating(back) and _same_shape(back, self.inputs[places[0]])
        ):
            return self._in_order(list(back), places, parameters)
        if len(places) >= 1 and _is_floating(back):
            return {places[0]: RESULT} if len(places) == 1 or _same_shape(back, self.inputs[places[0]]) else None
        return {} if not places else None

    def floating(self) -> list[int]:
        """Return the numbers of the inputs that may have a gradient."""
        constant = {c if isinstance(c, int) else self.names.index(c) for c in self.given.constant}
        return [
            i
            for i, v in enumerate(self.inputs)
            if isinstance(v, np.ndarray) and v.dtype.kind == "f" and i not in constant
        ]

    def _in_order(self, back: list[Any], places: list[int], parameters: Mapping[str, Any]) -> dict[int, str] | None:
        arrays = list(range(len(self.inputs)))
        for order in (arrays, places):
            if len(back) >= len(order) and all(
                back[j] is None or i not in places or _same_shape(back[j], self.inputs[i]) for j, i in enumerate(order)
            ):
                if len(back) > len(order) and not self._rest_are_parameters(back[len(order) :], parameters):
                    continue
                return {i: f"{RESULT}.{j}" for j, i in enumerate(order) if i in places and back[j] is not None}
        # In another order: by the shapes, where these tell.
        paths = {}
        for i in places:
            fitting = [j for j, value in enumerate(back) if value is not None and _same_shape(value, self.inputs[i])]
            if len(fitting) != 1 or f"{RESULT}.{fitting[0]}" in paths.values():
                return None
            paths[i] = f"{RESULT}.{fitting[0]}"
        return paths

    def _rest_are_parameters(self, rest: list[Any], parameters: Mapping[str, Any]) -> bool:
        shapes = [np.shape(value) for value in parameters.values()]
        return all(value is None or any(squeezed(np.shape(value)) == squeezed(s) for s in shapes) for value in rest)

    def _by_key(self, back: Mapping[Any, Any], places: list[int]) -> dict[int, str] | None:
        own = self._own_names()
        paths = {}
        for i in places:
            name = own[i]
            words = (name, self.names[i], *(INPUTS if len(places) == 1 else ()))
            keys = [k for k in back if isinstance(k, str)]
            key = next((k for k in keys if k in words or any(names_gradient(word, k) for word in words)), None)
            if key is not None:
                paths[i] = f"{RESULT}.{key}"
        return paths

    def _in_attributes(self, layer: Any, places: list[int]) -> dict[int, str]:  # noqa: ANN401  anybody's
        before, after = arrays_of(self.base), arrays_of(layer)
        own = self._own_names()
        paths = {}
        for i in places:
            name = own[i]
            for path, array in after.items():
                written = path not in before or not _equal(before[path], array)
                words = (name, *(INPUTS if len(places) == 1 else ()))
                if (
                    "." not in path
                    and written
                    and array.shape == self.inputs[i].shape
                    and any(names_gradient(w, path) for w in words)
                ):
                    paths[i] = f"{OBJECT}.{path}"
                    break
        return paths

    def _disagreement(self, calls: Calls) -> float:
        """Return by how much the gradients of the inputs, read in one way, are off along a direction; inf where unknown."""
        self.calls = calls
        rng = stream("directions of a reading")
        try:
            layer, result, back, dys = self.both(training=True)
            directions = {i: rng.standard_normal(self.inputs[i].shape) for i in calls.gradients}
            analytic = sum(
                float(np.sum(np.asarray(found(path, layer if path.startswith(OBJECT) else None, back)) * directions[i]))
                for i, path in calls.gradients.items()
            )
            ends = []
            for sign in (1, -1):
                moved = [v + sign * STEP * directions[i] if i in directions else v for i, v in enumerate(self.inputs)]
                one, value = self.go(training=True, inputs=moved)
                ends.append(sum(float(np.sum(dy * y)) for dy, y in zip(dys, calls.values(one, value), strict=True)))
        except Exception:  # noqa: BLE001  a way that cannot be tried is the last to be taken
            return float("inf")
        numeric = (ends[0] - ends[1]) / (2 * STEP)
        return abs(analytic - numeric) / max(abs(numeric), abs(analytic), 1e-300)

    def _forward_target(self) -> Callable[..., object]:
        return self._target(0) or getattr(self.base, self.calls.forward)

    def _target(self, which: int) -> Any:  # noqa: ANN401  a function, or None
        """Return the function of a pair whose arguments are to be looked at; None for an object's own methods."""
        if isinstance(self.subject, Pair):
            return self.subject.functions[which]
        if isinstance(self.subject, Together) and which == 0:
            owner, name = self.subject.owner, self.subject.method
            return getattr(owner, name) if name else owner
        return None

    # Parameters

    def _named_params(self, before: Mapping[str, Array]) -> dict[str, str]:
        """Return the paths of the parameters that the user, or a dict or list ``params`` of the object, names."""
        named = dict(self.given.params) or items_of(self.base, "params")
        for name, path in named.items():
            try:
                value = resolve(self.base, path)
            except AdapterError as error:
                raise AdapterError(
                    f"{error}{_suggestion(path, [*before, *getattr(self.base, '__dict__', {})])}"
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
        return named

    def _parameters(self, before: Mapping[str, Array], named: Mapping[str, str]) -> Reading:
        """Find the parameters, their gradients, and what the output depends on that has none."""
        try:
            layer, result, back, dys = self.both(training=True)
        except Exception:  # noqa: BLE001  it has been called a moment ago: only what is random may raise now
            layer, result, back, dys = self.both(training=True, seed=1)
        after = arrays_of(layer)
        returned = arrays_of({RESULT: list(back) if isinstance(back, (list, tuple)) else back})
        used = set(self.calls.gradients.values())
        free = {path: a for path, a in returned.items() if path not in used}
        depends = self._dependent(before)
        forward_writes = self._written(before, layer=None, backward=False)
        backward_writes = self._written(before, layer=layer, backward=True)
        held = {path: a for path, a in after.items() if path not in self._own_paths(used)}
        params: dict[str, str] = {}
        grads: dict[str, str] = {}
        candidates = dict(named) or self._likely(before, depends, held, forward_writes)
        for name, path in candidates.items():
            shape = np.shape(resolve(self.base, path))
            source = self._named_gradient(name, layer) or self._source(path, shape, free, held)
            if source is not None:
                params[name], grads[name] = path, source
            elif named and (self.given.params or path not in forward_writes):
                params[name] = path
        missing = {n: np.shape(resolve(self.base, p)) for n, p in candidates.items() if n not in grads}
        self._in_order_of_definition(candidates, missing, back, params, grads)
        missing = {n: s for n, s in missing.items() if n not in grads}
        fresh_arrays = {
            f"{OBJECT}.{p}": a for p, a in held.items()
            if p not in candidates.values() and f"{OBJECT}.{p}" not in grads.values() and p not in forward_writes
            and (p not in before or not _equal(before[p], a))
        }  # fmt: skip
        written = {k: a for k, a in fresh_arrays.items() if not any(_equal(a, v) for v in self.inputs)}
        written = {k: a for k, a in written.items() if k.partition(".")[2] not in self._cached_by_forward()}
        for name, source in by_exclusion(
            {n: s for n, s in missing.items() if candidates[n] in depends}, written
        ).items():
            params[name], grads[name] = candidates[name], source
        moves = tuple(
            name for name, path in candidates.items() if path in backward_writes and path not in forward_writes
        )
        moved = tuple(name for name in moves if name not in grads)
        rate = self._rate() if moved else None
        if rate is not None:
            params |= {name: candidates[name] for name in moved}
        else:
            moved = ()
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
        judged = set(params.values()) | self._same_memory(before, params.values())
        buffers = tuple(p for p in depends if p in forward_writes and p not in judged)
        unchecked = tuple(p for p in depends if p not in judged and p not in buffers)
        places = self.floating()
        return Reading(
            subject=self.who,
            calls=self.calls,
            inputs=self.names,
            silent=tuple(self.names[i] for i in places if i not in self.calls.gradients),
            params=params,
            grads=grads,
            moved=moved,
            moves=moves,
            rate=RATE if rate is None else rate,
            unchecked=unchecked,
            buffers=buffers,
            shapes=tuple(y.shape for y in self.calls.values(layer, result)),
            extents=frozenset(self._extents(before)),
            argument_names=tuple(self._own_names()),
            generators=self.generators,
        )

    def _same_memory(self, before: Mapping[str, Array], paths: Iterable[str]) -> set[str]:
        """Return the paths to what is in the memory of the arrays at ``paths``."""
        own = [array for array in (resolve(self.base, path) for path in paths) if isinstance(array, np.ndarray)]
        return {path for path, array in before.items() if any(np.shares_memory(array, one) for one in own)}

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

    def _named_gradient(self, name: str, layer: Any) -> str | None:  # noqa: ANN401  anybody's
        """Return the path to the gradient that the user names, or that a dict or list ``grads`` has under this name."""
        path = self.given.grads.get(name)
        if path is None and not self.given.grads:
            try:
                path = items_of(layer, "grads").get(name)
            except AdapterError:
                path = None
            if path is not None and resolve(layer, path) is None:
                path = None
        return f"{OBJECT}.{path}" if path else None

    def _source(
        self, path: str, shape: tuple[int, ...], free: Mapping[str, Array], held: Mapping[str, Array]
    ) -> str | None:
        below = {p.partition(".")[2]: a for p, a in free.items() if not p.partition(".")[2].isdigit()}
        key = next((k for k, a in below.items() if k == name_of(path) and squeezed(a.shape) == squeezed(shape)), None)
        key = key or gradient_path(name_of(path).rpartition(".")[2], shape, below)
        if key is not None:
            return f"{RESULT}.{key}"
        kept = gradient_path(path, shape, held)
        return None if kept is None else f"{OBJECT}.{kept}"

    def _in_order_of_definition(
        self, candidates: Mapping[str, str], missing: Mapping[str, tuple[int, ...]], back: Any,  # noqa: ANN401  anybody's
        params: dict[str, str], grads: dict[str, str],
    ) -> None:  # fmt: skip
        """Take what is returned behind the inputs' gradients for those of the parameters, in the order of their definition."""
        if not isinstance(back, (tuple, list)):
            return
        used = {*self.calls.gradients.values(), *grads.values()}
        rest = [
            (f"{RESULT}.{i}", np.shape(a)) for i, a in enumerate(back) if f"{RESULT}.{i}" not in used and a is not None
        ]
        for name, shape in missing.items():
            fitting = next((path for path, extent in rest if squeezed(extent) == squeezed(shape)), None)
            if fitting is not None:
                params[name], grads[name] = candidates[name], fitting
                rest = [(path, extent) for path, extent in rest if path != fitting]

    def _own_paths(self, used: set[str]) -> set[str]:
        return {path.partition(".")[2] for path in used if path.startswith(OBJECT)}

    def _dependent(self, before: Mapping[str, Array]) -> list[str]:
        """Return the paths of the arrays that the output depends on, in either mode."""
        rng = stream("nudges of a reading")
        bases = {}
        for training in (True, False) if self.calls.switch else (True,):
            try:
                layer, result = self.go(training=training)
                bases[training] = packed(self.calls.values(layer, result))
            except Exception:  # noqa: BLE001, S112  a mode that cannot be called shows nothing
                continue
        found_ = []
        for path, array in list(before.items())[:MOST_PARAMETERS]:
            size = float(np.sqrt(np.mean(np.square(array)))) or 1.0
            moved = array + NUDGE * (size if np.isfinite(size) else 1.0) * rng.standard_normal(array.shape)
            for training, base in bases.items():
                try:
                    layer = copy.deepcopy(self.base)
                    assign(layer, path, moved)
                    layer, result = self.go(training=training, layer=layer)
                    y = packed(self.calls.values(layer, result))
                except Exception:  # noqa: BLE001, S112  what refuses another value is no parameter
                    continue
                if not _equal(y, base):
                    found_.append(path)
                    break
        return found_

    def _written(self, before: Mapping[str, Array], *, layer: Any, backward: bool) -> set[str]:  # noqa: ANN401
        """Return the paths of arrays that were there before and that forward, or forward and backward, has changed."""
        if not backward:
            rng = stream("other inputs of a reading")
            others = [_other(v, rng) for v in self.inputs]
            layer, _ = self._try_forward(others)
        after = arrays_of(layer)
        return {path for path, array in before.items() if path not in after or not _equal(after[path], array)}

    def _try_forward(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        try:
            return self.go(training=True, inputs=inputs)
        except Exception:  # noqa: BLE001  inputs of our own making
            return self.go(training=True)

    def _cached_by_forward(self) -> set[str]:
        """Return the paths of arrays that forward alone makes or writes."""
        before = arrays_of(self.base)
        layer, _ = self._try_forward(self.inputs)
        return {p for p, a in arrays_of(layer).items() if p not in before or not _equal(before[p], a)}

    def _rate(self) -> float | None:
        """Return the rate by which backward has moved the weights: the one it was given, its default, or the object's own."""
        if "rate" in self.calls.given:
            return RATE
        target = getattr(self.base, self.calls.backward)
        for each in positional(target):
            if plain(each.name) in RATES and isinstance(each.default, float):
                return each.default
        for name in RATE_ATTRIBUTES:
            value = getattr(self.base, name, None)
            if isinstance(value, (float, np.floating)) and value:
                return float(value)
        return None

    def _extents(self, before: Mapping[str, Array]) -> Iterator[int]:
        """Yield the sizes that the object was told when it was made, or that its arrays have."""
        for array in before.values():
            yield from array.shape
        for one in [self.base, *objects_below(self.base).values()]:
            for value in getattr(one, "__dict__", {}).values():
                numbers = value if isinstance(value, (tuple, list)) else [value]
                yield from (int(n) for n in numbers if isinstance(n, (int, np.integer)) and not isinstance(n, bool))

    # Behaviour

    def _behaviour(self, reading: Reading) -> Reading:
        """Add what moves, what is random, how the modes differ, and which axis the samples are along."""
        reading = self._randomness(reading)
        reading = self._memory(reading)
        reading = self._modes(reading)
        return replace(reading, batch=self._batch())

    def _randomness(self, reading: Reading) -> Reading:
        layer, result = self.go(training=True)
        first = packed(self.calls.values(layer, result))
        outputs = []
        for seed in (0, 1):
            one, value = self.go(training=True, seed=seed)
            outputs.append(packed(self.calls.values(one, value)))
        own = [name for name, value in getattr(self.base, "__dict__", {}).items() if is_generator(value)]
        if not _equal(outputs[0], first):
            return replace(reading, unseeded=True)
        draws = []
        kept = {name: value for name, value in self.generators.items()}
        with same_randomness(0, kept) as drawn, np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.calls.go_forward(copy.deepcopy(self.base), [np.array(v) for v in self.inputs],
                                  training=True)  # fmt: skip
        if drawn():
            draws = list(kept) or ["NumPy's or Python's global generator"]
        elif own and self._moves_generator(own):
            draws = [f"its own generator {name}" for name in own]
        return replace(reading, draws=tuple(draws))

    def _moves_generator(self, names: Sequence[str]) -> bool:
        from gradcheck.subjects.randomness import state_of

        before = [repr(state_of(getattr(self.base, name))) for name in names]
        layer, _ = self.go(training=True)
        return before != [repr(state_of(getattr(layer, name))) for name in names]

    def _memory(self, reading: Reading) -> Reading:
        """See whether gradients add up, and whether one call changes the output of the next."""
        if reading.unseeded:
            return reading
        try:
            layer, result, back, dys = self.both(training=True)
            first = {n: np.array(_value(s, layer, back)) for n, s in reading.grads.items() if s.startswith(OBJECT)}
            y = packed(self.calls.values(layer, result)).copy()
            for path in reading.params.values():
                assign(layer, path, np.asarray(resolve(self.base, path)))
            self._put_generators_back(layer)
            layer, result, back, _ = self.both(training=True, layer=layer, dys=dys)
            second = {n: np.array(_value(s, layer, back)) for n, s in reading.grads.items() if s.startswith(OBJECT)}
            again = packed(self.calls.values(layer, result))
        except Exception:  # noqa: BLE001  a second call that raises is for the properties to report
            return reading
        adds_up = tuple(
            n
            for n, g in first.items()
            if g.shape == second[n].shape and g.any() and np.allclose(second[n], 2 * g, rtol=TWICE, atol=0)
        )
        keeps: tuple[str, ...] = ()
        resets = ""
        if y.shape == again.shape and not _equal(y, again) and not reading.moves:
            keeps = self._state_names()
            resets = next((name for name in RESETS if callable(getattr(self.base, name, None))), "")
        return replace(reading, adds_up=adds_up, keeps=keeps, resets=resets)

    def _put_generators_back(self, layer: Any) -> None:  # noqa: ANN401  anybody's
        for name, value in getattr(self.base, "__dict__", {}).items():
            if is_generator(value):
                setattr(layer, name, copy.deepcopy(value))

    def _state_names(self) -> tuple[str, ...]:
        layer, _ = self.go(training=True)
        before, after = getattr(self.base, "__dict__", {}), getattr(layer, "__dict__", {})
        changed = [n for n, v in before.items() if v is not None and n in after and not _alike(v, after[n])]
        return tuple(changed)

    def _modes(self, reading: Reading) -> Reading:
        if not self.calls.switch or reading.unseeded:
            return reading
        try:
            layer, result = self.go(training=False)
            evaluated = packed(self.calls.values(layer, result))
            layer, result = self.go(training=True)
            trained = packed(self.calls.values(layer, result))
        except Exception:  # noqa: BLE001  a mode that raises is for the properties to report
            return reading
        try:
            layer, result, back, dys = self.both(training=False)
            first = self._input_gradients(layer, back)
        except Exception as error:  # noqa: BLE001  of the object's own making
            return replace(reading, differs=True, evaluates=f"raises {type(error).__name__}")
        differs = not _equal(evaluated, trained) or bool(reading.buffers)
        return replace(reading, differs=differs, evaluates=self._left_by_training(reading, first, dys))

    def _left_by_training(self, reading: Reading, first: list[Array], dys: Sequence[Array]) -> str:
        """Return that backward after evaluation uses what the last pass in training mode has left, if it does."""
        rng = stream("other inputs of a reading")
        others = [_other(v, rng) for v in self.inputs]
        try:
            layer, _ = self.go(training=True, inputs=others)
            for path in [*reading.params.values(), *reading.buffers, *reading.unchecked]:
                assign(layer, path, np.asarray(resolve(self.base, path)))
            layer, _, back, _ = self.both(training=False, layer=layer, dys=dys)
            second = self._input_gradients(layer, back)
        except Exception:  # noqa: BLE001  of the object's own making
            return ""
        if reading.keeps or all(_equal(a, b) for a, b in zip(first, second, strict=True)):
            return ""
        return "uses what the last pass in training mode has left"

    def _input_gradients(self, layer: Any, back: Any) -> list[Array]:  # noqa: ANN401  anybody's
        return [np.array(_value(path, layer, back)) for path in self.calls.gradients.values()]

    def _batch(self) -> tuple[int, int] | None:
        """Return the axes of input and output along which each slice of one moves the slice of the other alone."""
        places = self.floating()
        if not places:
            return None
        first = places[0]
        x = self.inputs[first]
        for training in (False, True):
            try:
                layer, result = self.go(training=training)
                y = self.calls.values(layer, result)[0]
            except Exception:  # noqa: BLE001, S112  a mode that cannot be called shows nothing
                continue
            if y.size == 1:
                return self._separable(first, training=training)
            for axis in range(x.ndim):
                for other in range(y.ndim):
                    if x.shape[axis] == y.shape[other] > 1 and self._alone(first, axis, other, y, training=training):
                        return axis, other
        return None

    def _separable(self, first: int, *, training: bool) -> tuple[int, int] | None:
        """Return the first axis along which a number is a sum over slices: no two of them move it together."""
        x = self.inputs[first]
        size = float(np.abs(x).max(initial=0.0)) or 1.0
        targets = [v for i, v in enumerate(self.inputs) if i != first]

        def value(*places: tuple[int, int]) -> float:
            moved = x.copy()
            for axis, place in places:
                where = (slice(None),) * axis + (place,)
                moved[where] = (
                    moved[where]
                    + NUDGE * size * (0.5 + np.arange(moved[where].size).reshape(moved[where].shape) % 3) / 4
                )
            layer, result = self.go(
                training=training, inputs=[moved if i == first else v for i, v in enumerate(self.inputs)]
            )
            return float(self.calls.values(layer, result)[0].reshape(()))

        for axis in range(x.ndim):
            last = x.shape[axis] - 1
            if last < 1 or not all(x.shape[axis] in target.shape for target in targets if target.ndim):
                continue
            try:
                base, one, two, both = value(), value((axis, 0)), value((axis, last)), value((axis, 0), (axis, last))
            except Exception:  # noqa: BLE001, S112  it takes no other values
                continue
            alone = max(abs(one - base), abs(two - base))
            if alone and abs(both - one - two + base) <= TWICE * alone:
                return axis, 0
        return None

    def _alone(self, first: int, axis: int, other: int, y: Array, *, training: bool) -> bool:
        x = self.inputs[first]
        for place in {0, x.shape[axis] - 1}:
            moved = x.copy()
            where = (slice(None),) * axis + (place,)
            moved[where] = moved[where] * (1 + NUDGE) + NUDGE * (float(np.abs(x).max(initial=0.0)) or 1.0)
            inputs = [moved if i == first else v for i, v in enumerate(self.inputs)]
            try:
                layer, result = self.go(training=training, inputs=inputs)
            except Exception:  # noqa: BLE001  it takes no other values
                return False
            there = self.calls.values(layer, result)[0]
            if there.shape != y.shape:
                return False
            changed = np.flatnonzero((there != y).any(axis=tuple(i for i in range(y.ndim) if i != other)))
            if list(changed) != [place]:
                return False
        return True


def read(subject: Any, inputs: Sequence[Any], names: Sequence[str], given: Given = Given()) -> Reading:  # noqa: ANN401
    """Return the `Reading` of an object, or of a `Pair` of functions, for inputs of these names.

    Raises `AdapterError`, in one line that says what to write, where it cannot be called.
    """
    return Reader(subject, inputs, names, given).read()


def _value(path: str, layer: Any, back: Any) -> Any:  # noqa: ANN401  what is there
    value = found_or_none(path, layer, back)
    return np.zeros(()) if value is None else value


def _wide(value: Any) -> Any:  # noqa: ANN401  an array, or anything else
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def _other(array: Array, rng: np.random.Generator) -> Array:
    """Return other values of the same kind: a permutation along the first axis, moved a little if floating-point."""
    if array.dtype.kind != "f":
        return np.array(array[::-1]) if array.ndim else array
    moved = array * (1 + NUDGE * rng.uniform(0.25, 1.0, array.shape))
    return np.array(moved[::-1]) if array.ndim else np.asarray(moved)


def _is_floating(value: object) -> bool:
    try:
        return np.asarray(value).dtype.kind == "f" and not isinstance(value, Mapping)
    except ValueError:  # ragged
        return False


def _same_shape(value: object, array: Array) -> bool:
    try:
        shape = np.shape(value)  # type: ignore[arg-type]  # anybody's
    except ValueError:
        return False
    return shape == array.shape or squeezed(shape) == squeezed(array.shape)


def _equal(a: object, b: object) -> bool:
    return (
        isinstance(a, np.ndarray)
        and isinstance(b, np.ndarray)
        and a.shape == b.shape
        and np.array_equal(a, b, equal_nan=True)
    )


def _alike(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return _equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(value, b[key]) for key, value in a.items())
    return bool(a == b) if isinstance(a, (int, float, str, bool)) else True


def _described(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} values"
    return f"shape {np.shape(value)}" if _is_floating(value) else f"a {type(value).__name__}"  # type: ignore[arg-type]


def _suggestion(word: str, words: Sequence[str]) -> str:
    close = nearest(word, words)
    return (
        f"; did you mean {' or '.join(close[:2])}?"
        if close
        else (f"; it has {', '.join(list(words)[:8])}" if words else "")
    )
