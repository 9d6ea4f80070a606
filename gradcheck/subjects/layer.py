"""Anybody's layer, as a function of named arrays. It is never modified: every call is made on a copy of its own."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import (
    Arrays,
    Function,
    GradientNamesError,
    Pullback,
    like,
    require_names,
    values_of_arguments,
)
from gradcheck.subjects.attributes import (
    TRAINING_FLAGS,
    AdapterError,
    arguments_of,
    assign,
    input_names,
    items_of,
    require_method,
    require_numbers,
    resolve,
    set_mode,
    variables_of,
)
from gradcheck.subjects.copies import copier, fresh
from gradcheck.subjects.randomness import same_randomness


@dataclass(frozen=True, eq=False)
class ForeignLayer:
    """A layer with ``forward(*inputs)`` and ``backward(dy)``, which returns the inputs' gradients.

    ``params`` and ``grads`` say where parameters and their gradients are: paths of attributes, keys and numbers such as
    ``W``, ``params.W`` or ``W.T``, by name. By default they are the items of attributes ``params`` and ``grads``.
    Those of the names that are ``untrained`` are buffers.
    """

    layer: object
    params: Mapping[str, str] = field(default_factory=dict)
    grads: Mapping[str, str] = field(default_factory=dict)
    forward: str = "forward"
    backward: str = "backward"
    untrained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for method in (self.forward, self.backward):
            require_method(self.layer, method)
        try:
            fresh(self.layer)
        except Exception as error:  # which is of the object's own making
            raise AdapterError(
                f"{self.name} cannot be copied, and checks work on copies: copy.deepcopy raises "
                f"{type(error).__name__}: {error}"
            ) from error
        object.__setattr__(self, "params", dict(self.params) or items_of(self.layer, "params"))
        object.__setattr__(self, "grads", dict(self.grads) or items_of(self.layer, "grads"))
        for name, path in self.trained().items():
            require_numbers(self.name, name, path, resolve(self.layer, path))

    @property
    def name(self) -> str:
        """Return the name of the object's class."""
        return type(self.layer).__name__

    @property
    def has_modes(self) -> bool:
        """Return whether the layer can be told to train or to evaluate."""
        methods = callable(getattr(self.layer, "train", None)) and callable(getattr(self.layer, "eval", None))
        return methods or hasattr(self.layer, "training") or self._flag is not None

    @cached_property
    def _flag(self) -> str | None:
        try:
            names = inspect.signature(getattr(self.layer, self.forward)).parameters
        except (TypeError, ValueError):
            return None
        return next((flag for flag in TRAINING_FLAGS if flag in names), None)

    def buffers(self) -> dict[str, Array]:
        """Return the named arrays that are state, but not trained."""
        return {name: np.array(resolve(self.layer, self.params[name])) for name in self.untrained}

    def trained(self) -> dict[str, str]:
        """Return the paths of the parameters."""
        return {name: path for name, path in self.params.items() if name not in self.untrained}

    def parameters(self) -> dict[str, Array]:
        """Return copies of the parameters by name."""
        return {name: np.array(resolve(self.layer, path)) for name, path in self.trained().items()}

    def replace_arrays(self, arrays: Mapping[str, Array]) -> ForeignLayer:
        """Return this layer with some parameters replaced."""
        layer = fresh(self.layer)
        for name, array in arrays.items():
            assign(layer, self.params[name], array)
        return replace(self, layer=layer)

    def unnamed_arrays(self) -> list[str]:
        """Return the attributes that hold floating-point arrays which nobody named as parameters."""
        known = {id(resolve(self.layer, path)) for path in self.params.values()}
        found = []
        for name, value in getattr(self.layer, "__dict__", {}).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and id(value) not in known:
                found.append(name)
        return found

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the layer as a function of its parameters and of those inputs that are floating-point."""
        names, arguments = input_names(len(inputs)), arguments_of(inputs)
        paths = self.trained()
        parameters = self.parameters()
        if unknown := sorted(names & parameters.keys()):
            raise AdapterError(f"{self.name} has a parameter named {', '.join(unknown)}, as its input is: rename it")
        variables = variables_of(inputs) | parameters
        kinds = {dtype: copier(fresh(self.layer, dtype)) for dtype in (np.float64, np.float32)}

        quiet: dict[bool, bool] = {}  # by mode: whether no call so far has drawn a random number

        @contextmanager
        def randomness(seed: int, training: bool) -> Iterator[None]:
            if quiet.get(training):
                yield
                return
            with same_randomness(seed) as drawn:
                yield
            quiet[training] = quiet.get(training, True) and not drawn()

        def begin(given: Arrays, context: Context) -> tuple[Any, Array]:
            floating = [array.dtype for array in given.values() if array.dtype.kind == "f"]
            layer = kinds[np.float32 if floating and all(d == np.float32 for d in floating) else np.float64]()
            for name, path in paths.items():
                assign(layer, path, given[name])
            first = next(iter(given.values()), np.empty(0))
            pairs = zip(arguments, values_of_arguments(arguments, given), strict=True)
            values = [value if isinstance(argument, str) else like(value, first) for argument, value in pairs]
            with randomness(context.key.seed + context.key.step, context.training):
                y = np.asarray(self._output(layer, values, training=context.training))
            self._show_changes(layer, paths, given)
            if context.updates is not None:
                for name in self.untrained:
                    context.update(name, np.array(resolve(layer, self.params[name])))
            return layer, y

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            layer, y = begin(given, context)
            waiting = [layer]  # forward and backward make a pair: each further pullback has a forward of its own

            def pullback(dy: Array) -> dict[str, Array]:
                current = waiting.pop() if waiting else begin(given, context)[0]
                with randomness(context.key.seed + context.key.step + 1, context.training):
                    result = getattr(current, self.backward)(dy)
                self._show_changes(current, paths, given)
                gradients = self._input_gradients(result, arguments)
                return gradients | self._parameter_gradients(current, parameters)

            return y, pullback

        return Function(variables, arguments, call, foreign=True)

    @staticmethod
    def _show_changes(layer: object, paths: Mapping[str, str], given: Arrays) -> None:
        """Write into the arrays given for parameters what a pass has made of these: a layer holds copies of them."""
        for name, path in paths.items():
            array = given[name]
            if not array.flags.writeable:
                continue
            now = np.asarray(resolve(layer, path))  # in the precision that the layer holds
            if now.shape == array.shape and not np.array_equal(now, array.astype(now.dtype), equal_nan=True):
                array[...] = now

    def _output(self, layer: object, inputs: Sequence[Array], *, training: bool) -> object:
        """Return what ``forward`` of this layer, or of a copy of it, returns in a mode."""
        set_mode(layer, training=training)
        keywords = {} if self._flag is None else {self._flag: training}
        return getattr(layer, self.forward)(*inputs, **keywords)

    def _input_gradients(self, result: object, arguments: tuple[str | Array, ...]) -> dict[str, Array]:
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        if len(results) != len(arguments):
            raise GradientNamesError(
                f"{self.backward} returns {len(results)} gradients for {len(arguments)} inputs; "
                "those of parameters belong into attributes that are named in grads="
            )
        gradients = {}
        for argument, value in zip(arguments, results, strict=True):
            if isinstance(argument, str):
                if value is None:
                    raise GradientNamesError(f"{self.backward} returns no gradient of {argument}: it returns None")
                gradients[argument] = np.asarray(value)
        return gradients

    def _parameter_gradients(self, layer: object, parameters: Arrays) -> dict[str, Array]:
        paths = self.grads or items_of(layer, "grads")  # which backward may have made
        grads = {}
        for name, path in paths.items():
            try:
                value = resolve(layer, path)
            except AdapterError:
                continue
            if value is not None and (name in parameters or not self.grads):
                grads[name] = np.array(value)
        require_names(parameters, {k: g for k, g in grads.items() if k in parameters or k not in self.params})
        return {name: grad for name, grad in grads.items() if name in parameters}

    def draws_from_its_own_generator(self) -> bool:
        """Return whether the object holds a generator, which moves on from call to call."""
        values = getattr(self.layer, "__dict__", {}).values()
        return any(isinstance(v, (np.random.Generator, np.random.RandomState, random.Random)) for v in values)

    def outputs_in_turn(self, inputs: tuple[Array, ...], count: int, *, training: bool = True) -> Iterator[Array]:
        """Yield the outputs of ``count`` calls of one copy in one mode, its random numbers running on."""
        layer = fresh(self.layer)
        with same_randomness(0):
            results = [np.array(self._output(layer, _copies(inputs), training=training)) for _ in range(count)]
        yield from results

    def used(self, inputs: tuple[Array, ...]) -> ForeignLayer:
        """Return this layer after a step in training mode on ``inputs``, with whatever that has left in it."""
        layer = fresh(self.layer)
        with same_randomness(1):
            y = np.asarray(self._output(layer, _copies(inputs), training=True))
            getattr(layer, self.backward)(np.ones_like(y))
        return replace(self, layer=layer)

    def pairs(self, inputs: tuple[Array, ...], dy: Array, *, training: bool) -> Iterator[dict[str, Array]]:
        """Yield output and gradients of two forward-backward pairs of one copy, with the same random numbers."""
        layer = fresh(self.layer)
        for _ in range(2):
            zero = getattr(layer, "zero_grad", None)
            if callable(zero):
                zero()
            with same_randomness(0):
                y = np.array(self._output(layer, _copies(inputs), training=training))
                result = getattr(layer, self.backward)(dy.copy())
            results = result if isinstance(result, (tuple, list)) else [result]
            pairs = zip(input_names(len(inputs)), results, strict=False)
            named = {name: np.array(r) for name, r in pairs if r is not None}
            yield {"output": y, **named, **self._parameter_gradients(layer, self.parameters())}

    def outputs_by_mode(self, inputs: tuple[Array, ...], modes: Sequence[bool]) -> list[Array]:
        """Return the outputs of one copy that is told to train (True) or evaluate, in turn; the same random numbers."""
        layer, outputs = fresh(self.layer), []
        for training in modes:
            with same_randomness(0):
                outputs.append(np.array(self._output(layer, _copies(inputs), training=training)))
        return outputs


def _copies(inputs: Sequence[Array]) -> list[Array]:
    """Return inputs of one call's own, which it may change."""
    return [x.copy() for x in inputs]
