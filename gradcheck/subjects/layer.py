"""Anybody's layer, as a function of named arrays. It is never modified: every call is made on a copy of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import (
    Arrays,
    Function,
    GradientNamesError,
    Pullback,
    Values,
    like,
    names_of_arguments,
    values_of_arguments,
)
from gradcheck.numerics.memory import copied, read_only
from gradcheck.numerics.precision import Precision
from gradcheck.subjects.attributes import AdapterError, assign, input_names, resolve
from gradcheck.subjects.caller import Given
from gradcheck.subjects.calls import found, packed, unpacked
from gradcheck.subjects.copies import copier, fresh
from gradcheck.subjects.growth import begin_anew
from gradcheck.subjects.one_copy import OneCopy
from gradcheck.subjects.randomness import is_generator, same_randomness, watched_randomness
from gradcheck.subjects.reader import read
from gradcheck.subjects.reading import Reading


@dataclass(frozen=True, eq=False)
class ForeignLayer:
    """An object, or a pair of functions, that is called as its `Reading` says.

    ``untrained`` are paths by name of arrays that a twin has as buffers.
    """

    layer: Any
    reading: Reading
    untrained: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: object, *inputs: Array, given: Given = Given()) -> ForeignLayer:
        """Return a layer after reading it; the inputs are called ``input``, or ``input0``, ``input1``, ..."""
        return cls.as_read(layer, read(layer, inputs, input_names(len(inputs)), given))

    @classmethod
    def as_read(cls, layer: object, reading: Reading) -> ForeignLayer:
        """Return a layer that was read, with the weights that its first forward pass has made."""
        return cls(layer if reading.begun is None else reading.begun, reading)

    @property
    def name(self) -> str:
        """Return the name of the object's class, or of the function."""
        return self.reading.subject

    @property
    def has_modes(self) -> bool:
        """Return whether the layer can be switched between training and evaluation."""
        return bool(self.reading.calls.switch)

    @property
    def params(self) -> Mapping[str, str]:
        """Return the paths of parameters and buffers by name."""
        return {**self.reading.params, **self.untrained}

    def buffers(self) -> dict[str, Array]:
        """Return the named arrays that are state, but not trained."""
        return {name: np.array(resolve(self.layer, path)) for name, path in self.untrained.items()}

    def parameters(self) -> dict[str, Array]:
        """Return copies of the parameters by name."""
        return {name: np.array(resolve(self.layer, path)) for name, path in self.reading.params.items()}

    def replace_arrays(self, arrays: Mapping[str, Array]) -> ForeignLayer:
        """Return this layer with some parameters replaced."""
        layer = fresh(self.layer)
        for name, array in arrays.items():
            assign(layer, self.params[name], array)
        return replace(self, layer=layer)

    def in_precision(self, precision: Precision) -> ForeignLayer:
        """Return this layer with its arrays in a precision."""
        return replace(self, layer=fresh(self.layer, precision))

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the layer as a function of its parameters and of those inputs that have a gradient."""
        calls, paths = self.reading.calls, self.reading.params
        variable = {i: self.reading.inputs[i] for i in calls.gradients if inputs[i].dtype.kind == "f"}
        arguments = tuple(variable.get(i, array) for i, array in enumerate(inputs))
        parameters = self.parameters()
        variables = {name: inputs[i] for i, name in variable.items()} | parameters
        kinds = {dtype: copier(self._prepared(dtype), None, paths) for dtype in (np.float64, np.float32)}
        quiet: dict[bool, bool] = {}  # by mode: whether no call so far has drawn a random number

        @contextmanager
        def randomness(seed: int, training: bool) -> Iterator[None]:
            if quiet.get(training):
                yield
                return
            with watched_randomness(seed, self.reading.generators) as drawn:
                yield
            quiet[training] = quiet.get(training, True) and not drawn()

        def precision(given: Arrays) -> Precision:
            floating = {array.dtype.char for array in given.values() if array.dtype.kind == "f"}
            return np.float32 if floating == {"f"} else np.float64

        def values_in(given: Arrays) -> list[Any]:
            if len(variable) == len(arguments):
                return values_of_arguments(arguments, given)
            first = next(iter(given.values()), np.empty(0))
            pairs = zip(arguments, values_of_arguments(arguments, given), strict=True)
            return [value if isinstance(argument, str) else like(value, first) for argument, value in pairs]

        def outputs_of(layer: Any, result: Any, given: Arrays) -> list[Array]:
            outputs = calls.values(layer, result)
            if type(result) is float:  # which has no precision of its own
                floating = [array.dtype for array in given.values() if array.dtype.kind == "f"]
                return [y.astype(np.result_type(*floating)) for y in outputs] if floating else outputs
            return outputs

        def begin(given: Arrays, context: Context) -> tuple[Any, Any, list[Any], list[Array]]:
            layer, values = kinds[precision(given)](given), values_in(given)
            with randomness(context.key.seed + context.key.step, context.training):
                result = calls.go_forward(layer, values, training=context.training)
            self._show_changes(layer, given, paths)
            if context.updates is not None:
                for name, path in self.untrained.items():
                    context.update(name, np.array(resolve(layer, path)))
            return layer, result, values, outputs_of(layer, result, given)

        def once(given: Arrays, context: Context) -> Array:
            own = {name: read_only(array) if name in paths else copied(array) for name, array in given.items()}
            return np.array(packed(begin(own, context)[3]))

        def forward(layer: Any, given: Arrays, context: Context) -> Array:
            if self.reading.grows:  # without end, where one copy is called again and again
                begin_anew(layer, self.reading)
            result = calls.go_forward(layer, values_in(given), training=context.training)
            return np.array(packed(outputs_of(layer, result, given)))

        again = {kind: OneCopy(make, paths, forward, once) for kind, make in kinds.items()}
        places = zip(names_of_arguments(arguments), arguments, strict=True)
        constants = {name: array for name, array in places if not isinstance(array, str)}

        def values(given: Arrays, context: Context) -> Values:
            at = None
            if quiet.get(context.training):  # else it draws random numbers, or has not been called
                at = again[precision(given)].at({**given, **constants}, context)
            return at or (lambda moved: once({**given, **constants, **moved}, context))

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            first = begin(given, context)
            waiting = [first]  # forward and backward make a pair: each further pullback has a forward of its own

            def pullback(dy: Array) -> dict[str, Array]:
                layer, result, values, outputs = waiting.pop() if waiting else begin(given, context)
                dys = unpacked(dy, [y.shape for y in outputs])
                before = {name: np.array(resolve(layer, paths[name])) for name in self.reading.moved}
                with randomness(context.key.seed + context.key.step + 1, context.training):
                    back = calls.go_backward(layer, result, values, dys)
                self._show_changes(layer, given, {n: p for n, p in paths.items() if n not in self.reading.moves})
                return self._gradients(layer, back, dys, variable, before)

            return packed(first[3]), pullback

        return Function(variables, arguments, call, foreign=True, values=values)

    @staticmethod
    def _show_changes(layer: Any, given: Arrays, paths: Mapping[str, str]) -> None:
        """Write into the arrays given for parameters what a pass has made of these: a layer holds copies of them."""
        for name, path in paths.items():
            array = given[name]
            if not array.flags.writeable:
                continue
            now = np.asarray(resolve(layer, path))  # in the precision that the layer holds
            if now.shape == array.shape and not np.array_equal(now, array.astype(now.dtype), equal_nan=True):
                array[...] = now

    def _prepared(self, dtype: Any) -> Any:
        """Return a copy in a precision, with nothing in what calls add to."""
        layer = fresh(self.layer, dtype)
        begin_anew(layer, self.reading)
        return layer

    def _gradients(
        self,
        layer: Any,
        back: Any,
        dys: Sequence[Array],
        variable: Mapping[int, str],
        before: Arrays,
    ) -> dict[str, Array]:
        reading, calls = self.reading, self.reading.calls
        gradients = {}
        for i, name in variable.items():
            value = _found(calls.gradients[i], layer, back)
            if value is None:
                raise GradientNamesError(f"{calls.backward} returns no gradient of {name}: it returns None")
            gradients[name] = calls.times(value, dys)
        for name in reading.params:
            if name in before:
                gradients[name] = (before[name] - resolve(layer, reading.params[name])) / reading.rate
                continue
            value = _found(reading.grads[name], layer, back) if name in reading.grads else None
            if value is None:
                raise GradientNamesError(f"there is no gradient of {name}")
            gradients[name] = np.array(calls.times(value, dys))
        return gradients

    def _forward(self, layer: Any, inputs: Sequence[Array], *, training: bool) -> Array:
        calls = self.reading.calls
        result = calls.go_forward(layer, [x.copy() for x in inputs], training=training)
        return np.array(packed(calls.values(layer, result)))

    def outputs_in_turn(self, inputs: tuple[Array, ...], count: int, *, training: bool = True) -> Iterator[Array]:
        """Yield the outputs of ``count`` calls of one copy in one mode, its random numbers running on."""
        layer = fresh(self.layer)
        with same_randomness(0, self.reading.generators):
            results = [self._forward(layer, inputs, training=training) for _ in range(count)]
        yield from results

    def used(self, inputs: tuple[Array, ...], *, training: bool = True) -> ForeignLayer:
        """Return this layer after a forward and a backward pass on ``inputs``, with whatever these have left in it."""
        layer, calls = self._prepared(None), self.reading.calls
        with same_randomness(1, self.reading.generators):
            result = calls.go_forward(layer, [x.copy() for x in inputs], training=training)
            outputs = calls.values(layer, result)
            calls.go_backward(layer, result, inputs, [np.ones_like(y) for y in outputs])
        for path in self.reading.moves.values():
            assign(layer, path, np.asarray(resolve(self.layer, path)))
        return replace(self, layer=layer)

    def pairs(self, inputs: tuple[Array, ...], dy: Array, *, training: bool) -> Iterator[dict[str, Array]]:
        """Yield output and gradients of two forward-backward pairs of one copy, with the same random numbers."""
        layer, calls = fresh(self.layer), self.reading.calls
        own = {name: copy.deepcopy(v) for name, v in getattr(layer, "__dict__", {}).items() if is_generator(v)}
        variable = {i: self.reading.inputs[i] for i in calls.gradients}
        for _ in range(2):
            begin_anew(layer, self.reading)
            for name, generator in own.items():
                setattr(layer, name, copy.deepcopy(generator))
            for path in self.reading.moves.values():
                assign(layer, path, np.asarray(resolve(self.layer, path)))
            with same_randomness(0, self.reading.generators):
                values = [x.copy() for x in inputs]
                result = calls.go_forward(layer, values, training=training)
                outputs = calls.values(layer, result)
                y, dys = np.array(packed(outputs)), unpacked(dy.copy(), [each.shape for each in outputs])
                before = {name: np.array(resolve(layer, self.reading.params[name])) for name in self.reading.moved}
                back = calls.go_backward(layer, result, values, dys)
            gradients = self._gradients(layer, back, dys, variable, before)
            yield {"output": y, **{name: np.array(grad) for name, grad in gradients.items()}}

    def outputs_by_mode(
        self, inputs: tuple[Array, ...], modes: Sequence[bool], later: tuple[Array, ...] | None = None
    ) -> list[Array]:
        """Return the outputs of one copy that is told to train (True) or evaluate, in turn; the same random numbers.

        From the second call on it is given the inputs ``later``, if there are any.
        """
        layer = fresh(self.layer)
        outputs: list[Array] = []
        for training in modes:
            given = later if outputs and later is not None else inputs
            with same_randomness(0, self.reading.generators):
                outputs.append(self._forward(layer, given, training=training))
        return outputs


def _found(path: str, layer: Any, back: Any) -> Any:
    try:
        return found(path, layer, back)
    except AdapterError:
        return None
