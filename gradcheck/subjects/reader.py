"""Read, then judge: how a foreign object is called, what moves, what is random, which axis is the batch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, assign, member, raised, resolve
from gradcheck.subjects.between_calls import ROUNDINGS, TWICE, BetweenCallsReader
from gradcheck.subjects.caller import NUDGE, Given, changed, equal, is_floating, other_values, suggestion, value_at
from gradcheck.subjects.calls import (
    OBJECT,
    RESULT,
    Calls,
    Pair,
    Together,
    found_or_none,
    packed,
)
from gradcheck.subjects.first_forward import after_first_forward
from gradcheck.subjects.parameters import (
    arrays_of,
    objects_below,
)
from gradcheck.subjects.pullbacks import AGREES
from gradcheck.subjects.randomness import is_generator, watched_randomness
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import (
    keeps,
    parameters_of,
    positional,
    required,
    switch_of,
    takes_any_number,
    unwrapped,
)
from gradcheck.subjects.ways import computes_gradients, derivative_flag, way_back, way_forward

OUTPUTS = ("output", "out", "outputs", "y", "result", "activation", "activations", "value", "a", "h", "z", "loss")


class Reader(BetweenCallsReader):
    """Reads an object, and how it behaves from call to call and from mode to mode."""

    taken = False  # whether forward has taken the inputs

    def read(self) -> Reading:
        """Return what is seen; raises `AdapterError` with what to write where the object cannot be called."""
        forward, backward = self._methods()
        method = getattr(self.base, forward)
        target = self.target(0) or method
        back = self.target(1) or getattr(self.base, backward)
        derive = derivative_flag(target) if back in (target, method) else ""
        self.calls = Calls(forward, backward)
        self._require_room(target)
        switch = switch_of(self.base, target, len(self.arguments), objects_below(self.base))
        known = Calls(forward, backward, self.arguments, switch, derive=(derive,) if derive else ())
        refusals: list[AdapterError] = []
        for keep in self._flags(target, known):
            self.calls = replace(known, keep=keep)
            try:
                return self._behaviour(self._passes(target))
            except AdapterError as error:
                refusals.append(error)
        raise refusals[0]

    def _passes(self, target: Callable[..., object]) -> Reading:
        """Go forward and back as is known so far, and return what is held and what was returned."""
        self._require_known(target)
        layer, result = self._first_pass()
        self.taken, self.pulls = True, isinstance(layer, Together) and layer.pulls
        self.calls = replace(self.calls, outputs=self._outputs(layer, result),
                             returns_outputs=len(result) if isinstance(result, tuple) else 0)  # fmt: skip
        if isinstance(result, tuple) and is_floating(result[-1]):
            kept = [i for i, one in enumerate(result) if i and isinstance(one, (tuple, list, dict))]
            self.cache = f"output{kept[0]}" if len(kept) == 1 else self.cache
        self.begun = None if self._functions() else after_first_forward(self, self._dependent)
        if self.begun is not None:
            self.subject, self.base = self.begun, self._copied(self.begun)
        self.grows = self._grown()
        self._empty_base(self.grows, layer, result)
        before = arrays_of(self.base)
        named_params = self._named_params(before)
        self.calls = self._backward(named_params or before)
        self.calls = replace(self.calls, after=self._after_backward())
        reading = self._parameters(before, named_params)
        if not self.calls.gradients and not reading.params:
            raise AdapterError(
                f"{self.spoken(1)} returns no gradient, and leaves none: let it return that of the input, or "
                "leave it in .dinputs"
            )
        return reading

    def _after_backward(self) -> str:
        """Return the method that computes gradients after backward.

        Its name says so, and it writes what backward has not written, and no weights.
        """
        for name in computes_gradients(self.base):
            try:
                layer, *_ = self.both(training=True)
                before = {path: np.array(array) for path, array in arrays_of(layer).items()}
                getattr(layer, name)()
            except Exception:  # noqa: BLE001, S112  it is for something else
                continue
            start, written = arrays_of(self.base), changed(before, arrays_of(layer))
            if written and not written & (changed(start, before) | set(self._dependent(start))):
                return name
        return ""

    def _flags(self, target: Callable[..., object], known: Calls) -> Iterator[tuple[str, ...]]:
        """Yield the flags of forward to set: those that say to keep something, none, and what else is false by default.

        Without one of the first kind, backward may go back through what an earlier call has kept.
        """
        others = {*known.derive, *(flag.name for flag in known.switch.arguments)}
        behind = [each for each in parameters_of(target)[len(self.arguments) :] if each.name not in others]
        wanted = [each.name for each in behind if each in required(target) and keeps(each.name)]
        unset = [each.name for each in behind if each.default is False]
        if keeping := [name for name in unset if keeps(name)]:
            yield (*wanted, *keeping)
        yield tuple(wanted)
        for name in unset:
            yield (*wanted, name)
        if len(unset) > 1:
            yield (*wanted, *unset)

    def _methods(self) -> tuple[str, str]:
        """Return the names of the methods that go forward and back, which may be one that a flag makes a derivative."""
        forward = self._named("forward", self.given.forward)
        backward = self._named("backward", self.given.backward) or way_back(self.base, forward)
        forward = forward or way_forward(self.base, backward)
        if forward and not backward and derivative_flag(getattr(self.base, forward)):
            backward = forward
        for role, name in (("forward", forward), ("backward", backward)):
            if not name:
                has = f"; it has {', '.join(self._public()[:8])}" if self._public() else ""
                raise AdapterError(f"{self.who} needs a method {role}{has}: name its own with {role}=")
        return forward, backward

    def _named(self, role: str, name: str) -> str:
        if name and not callable(member(self.base, name)):
            raise AdapterError(
                f"{self.who} has no method {name}{suggestion(name, self._public())}: name its own with {role}="
            )
        return name

    def _public(self) -> list[str]:
        return [n for n in dir(self.base) if not n.startswith("_") and callable(member(self.base, n))]

    def _require_room(self, target: Callable[..., object]) -> None:
        """Raise `AdapterError` where forward does not take as many arguments as were given."""
        takes, count = [each.name for each in positional(target)], len(self.arguments)
        if unwrapped(target) is target and len(takes) < count and not takes_any_number(target):
            raise AdapterError(f"{self.spoken(0)} takes {', '.join(takes) or 'nothing'}, got {count} inputs")

    def _require_known(self, target: Callable[..., object]) -> None:
        flags = {flag.name for flag in self.calls.switch.arguments} | {*self.calls.keep}
        filled = {each.name for each in positional(target)[: len(self.arguments)]}
        missing = [each.name for each in required(target) if each.name not in filled | flags]
        if unwrapped(target) is not target:
            missing = []
        if missing:
            call = ", ".join(["layer", *self.names, *(name.upper() for name in missing)])
            raise AdapterError(
                f"{self.spoken(0)} also needs {', '.join(missing)}: give every argument, as in check_layer({call})"
            )

    def _first_pass(self) -> tuple[Any, Any]:
        try:
            return self.go(training=True)
        except AdapterError:
            raise
        except Exception as error:
            shapes = ", ".join(str(np.shape(value)) for value in self.inputs)
            try:
                return self.go(training=False)
            except Exception:  # noqa: BLE001, S110  told below, as it was in training mode
                pass
            call = f"{self.spoken(0)}({', '.join(self.names)})"
            mixed = any(array.dtype not in self.kinds_given for array in arrays_of(self.subject).values())
            advice = ": give inputs that it takes, or hold parameters in their precision" if mixed else ""
            raise AdapterError(
                f"{call} raises {raised(error)} for inputs of shape {shapes}, in float64 and in float32{advice}"
            ) from error

    def _outputs(self, layer: Any, result: Any) -> tuple[str, ...]:
        """Return the paths to what forward computes."""
        if result is None:
            written = {path: array for path, array in arrays_of(layer).items() if "." not in path}
            same = self.inputs
            computed = [name for name, array in written.items() if not any(equal(array, value) for value in same)]
            for name in OUTPUTS:
                if name in computed:
                    return (f"{OBJECT}.{name}",)
            moved = self._written(written, layer=None, backward=False)  # by other inputs
            for name in (each.upper() for each in OUTPUTS):
                if name in computed and name in moved:
                    return (f"{OBJECT}.{name}",)
            raise AdapterError(f"{self.spoken(0)} returns None: let it return its output, or leave it in .output")
        if isinstance(result, Mapping):
            paths = [f"{RESULT}.{key}" for key, value in result.items() if is_floating(value)]
        elif isinstance(result, tuple) or (isinstance(result, list) and not is_floating(result)):
            kept = list(result)[:-1] if isinstance(self.subject, Pair) and isinstance(result, tuple) else list(result)
            if self.of_loss and (numbers := [i for i, v in enumerate(result) if is_floating(v) and np.size(v) == 1]):
                return tuple(f"{RESULT}.{i}" for i in numbers)
            paths = [f"{RESULT}.{i}" for i, value in enumerate(kept) if is_floating(value)]
        else:
            return (RESULT,)
        if not paths:
            raise AdapterError(f"{self.spoken(0)} returns a {type(result).__name__} without a floating-point array")
        return tuple(paths)

    def _behaviour(self, reading: Reading) -> Reading:
        """Add what moves, what is random, how the modes differ, and which axis the samples are along."""
        reading = self._randomness(reading)
        reading = self._growth(self._memory(reading))
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
        if not equal(outputs[0], first):
            return replace(reading, unseeded=True)
        draws = []
        kept = dict(self.generators)
        with watched_randomness(0, kept) as drawn, np.errstate(all="ignore"), warnings.catch_warnings():
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

    def _modes(self, reading: Reading) -> Reading:
        if not self.calls.switch or reading.unseeded:
            return reading
        try:
            for training in (False, True):
                self.calls.values(*self.go(training=training))
        except Exception:  # noqa: BLE001  it has but one mode
            return reading
        try:
            layer, _, back, dys = self.both(training=False)
            first = self._input_gradients(layer, back)
            if idle := self._idle(reading, dys):
                return replace(reading, evaluates=f"leaves the gradients of {', '.join(idle)} as they were")
        except Exception as error:  # noqa: BLE001  it goes back after training alone; that is told
            return replace(reading, evaluates=f"raises {type(error).__name__}")
        return replace(reading, evaluates=self._left_by_training(reading, first, dys))

    def _idle(self, reading: Reading, dys: Sequence[Array]) -> list[str]:
        """Return the parameters of whose gradients backward after evaluation writes none."""
        layer = copy.deepcopy(self.base)
        marks, rng = {}, stream("marks of a reading")
        for name, source in reading.grads.items():
            mark = found_or_none(source, layer, None) if source.startswith(OBJECT) else None
            if isinstance(mark, np.ndarray) and mark.dtype.kind == "f":
                mark[...] = rng.standard_normal(mark.shape)
                marks[name] = mark.copy()
        layer, _, back, _ = self.both(training=False, layer=layer, dys=dys)
        return [
            name for name, source in reading.grads.items()
            if (now := found_or_none(source, layer, back)) is None or (name in marks and equal(now, marks[name]))
        ]  # fmt: skip

    def _left_by_training(self, reading: Reading, first: list[Array], dys: Sequence[Array]) -> str:
        """Return that backward after evaluation uses what the last pass in training mode has left, if it does."""
        rng = stream("other inputs of a reading")
        others = [other_values(v, rng) for v in self.inputs]
        try:
            layer, _ = self.go(training=True, inputs=others)
            for path in [*reading.params.values(), *reading.buffers, *reading.unchecked]:
                assign(layer, path, np.asarray(resolve(self.base, path)))
            self.put_generators_back(layer)
            layer, _, back, _ = self.both(training=False, layer=layer, dys=dys)
            second = self._input_gradients(layer, back)
        except Exception:  # noqa: BLE001  a second pass fails by itself
            return ""
        if reading.keeps or all(equal(a, b) for a, b in zip(first, second, strict=True)):
            return ""
        return "uses what the last pass in training mode has left"

    def _input_gradients(self, layer: Any, back: Any) -> list[Array]:
        return [np.array(value_at(path, layer, back)) for path in self.calls.gradients.values()]

    def _batch(self) -> tuple[int, int] | None:
        """Return the axes of input and output along which each slice of one moves the slice of the other alone."""
        places = self.floating()
        if not places:
            return None
        first = places[0]
        x = self.inputs[first]
        for training in (False, True):
            try:
                # What evaluation uses may be there after training alone, such as running statistics.
                warm = self.go(training=True)[0] if self.calls.switch and not training else self.base
                self.put_generators_back(warm)
                layer, result = self.go(training=training, layer=copy.deepcopy(warm))
                y = self.calls.values(layer, result)[0]
            except Exception:  # noqa: BLE001, S112  the other mode may tell
                continue
            if y.size == 1:
                return self._separable(first, training=training)
            for axis, other in product(range(x.ndim), range(y.ndim)):
                fits = x.shape[axis] == y.shape[other] > 1
                if fits and self._alone(first, axis, other, y, warm, training=training):
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
            if axis == 0 and last == 0:
                return None  # one sample, as it seems
            if last < 1 or not all(x.shape[axis] in target.shape for target in targets if target.ndim):
                continue
            try:
                base, one, two, both = value(), value((axis, 0)), value((axis, last)), value((axis, 0), (axis, last))
            except Exception:  # noqa: BLE001, S112  not defined there: this axis is not known to be
                continue
            alone = max(abs(one - base), abs(two - base))
            rounding = ROUNDINGS * float(np.finfo(self.precision).eps) * max(map(abs, (base, one, two, both)))
            if alone > rounding and abs(both - one - two + base) <= TWICE * alone + rounding:
                return axis, 0
        return None

    def _alone(self, first: int, axis: int, other: int, y: Array, warm: Any, *, training: bool) -> bool:
        x = self.inputs[first]
        for place in {0, x.shape[axis] - 1}:
            moved = x.copy()
            where = (slice(None),) * axis + (place,)
            moved[where] = moved[where] * (1 + NUDGE) + NUDGE * (float(np.abs(x).max(initial=0.0)) or 1.0)
            inputs = [moved if i == first else v for i, v in enumerate(self.inputs)]
            try:
                layer, result = self.go(training=training, inputs=inputs, layer=copy.deepcopy(warm))
            except Exception:  # noqa: BLE001  not defined there: not known to be alone
                return False
            there = self.calls.values(layer, result)[0]
            if there.shape != y.shape:
                return False
            changed = np.flatnonzero((there != y).any(axis=tuple(i for i in range(y.ndim) if i != other)))
            if list(changed) != [place]:
                return False
        return True


def read(subject: Any, inputs: Sequence[Any], names: Sequence[str], given: Given = Given()) -> Reading:
    """Return the `Reading` of an object, or of a `Pair` of functions, for inputs of these names.

    It is read in float64, or where it takes none, in float32. Raises `AdapterError`, in one line that says what to
    write, where it cannot be called.
    """
    wide = Reader(subject, inputs, names, given)
    try:
        return wide.read()
    except Exception as error:  # noqa: BLE001  whatever is raised, it may take float32
        refusal = error
    narrow = Reader(subject, inputs, names, given, np.float32)
    try:
        return narrow.read()
    except Exception:
        if narrow.taken and not wide.taken:
            raise  # it takes float32, and lacks something else
    raise refusal


def read_either(subject: Any, inputs: Sequence[Any], names: Sequence[str], one: Given, other: Given) -> Reading:
    """Return the reading, of two in which arguments have another order, that differences agree with best."""
    refusals: list[AdapterError] = []
    readings: list[tuple[float, Reading]] = []
    for given in (one, other):
        try:
            reading = replace(read(subject, inputs, names, given), chosen=True)
        except AdapterError as error:
            refusals.append(error)
            continue
        kinds = (np.float64, np.float32)
        off = min(Reader(subject, inputs, names, given, kind).disagreement(reading.calls) for kind in kinds)
        if off < AGREES:
            return reading
        readings.append((off, reading))
    if not readings:
        raise refusals[0]
    return min(readings, key=lambda each: each[0])[1]
