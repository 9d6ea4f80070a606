"""How a foreign object is called: what goes into forward and backward, and where their results are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError, resolve
from gradcheck.subjects.handed import HANDED, Site, recording
from gradcheck.subjects.signatures import Switch, name_of, positional

RESULT, OBJECT = "result", "object"  # where the path to a result begins
CONTEXTS = ("ctx", "context")  # what the first argument of a static method may be called
FILLED = "_filled"  # the attribute of a copy that keeps the dict which backward was given to put gradients into
RATE = 1.0  # given to a backward pass that asks for a rate: what it subtracts from the weights is then their gradient


class Together:
    """A function that returns a value and its gradient, or a function of dy that returns it, as an object.

    A generator yields the value, is sent dy, and yields the gradient: ``dy = yield y``, then ``yield dx``. What it
    yields after that are the gradients of the next arguments. Raises `AdapterError` where it yields less or more.
    """

    def __init__(self, owner: Any, method: str) -> None:
        self.whole, self.method = owner, method
        self.kept: Any = None

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.kept = (getattr(self.whole, self.method) if self.method else self.whole)(*inputs, **keywords)
        if inspect.isgenerator(self.kept):
            generator = self.kept
            # A function is not copied with what holds it: a generator cannot be.
            self.kept = self._sent(generator, None), lambda dy: self._gradients(generator, len(inputs), dy)
        if not isinstance(self.kept, tuple) or len(self.kept) < 2:
            raise AdapterError(
                f"there is no backward, and {self._name} does not return (value, gradients): name the method that goes "
                "back with backward="
            )
        return self.kept[0]

    def _sent(self, generator: Any, dy: Any) -> Any:
        try:
            return generator.send(dy)
        except StopIteration:
            raise AdapterError(
                f"{self._name} yields too little: yield the output, and yield the gradient after the output"
            ) from None

    def _gradients(self, generator: Any, most: int, dy: Any) -> Any:
        """Return what a generator yields for dy until it ends; one that waits for the next dy yields the same again."""
        found = [self._sent(generator, dy)]
        for _ in range(most):
            try:
                found.append(generator.send(dy))
            except StopIteration:
                return found[0] if len(found) == 1 else tuple(found)
        if all(_equal(found[0], other) for other in found[1:]):
            return found[0]
        raise AdapterError(f"{self._name} yields more gradients than it takes arguments: yield one for each")

    @property
    def _name(self) -> str:
        return self.method or str(getattr(self.whole, "__name__", "it"))

    def backward(self, *given: Any) -> Any:
        if self.pulls:
            return self.kept[1](*given)
        return self.kept[1] if len(self.kept) == 2 else self.kept[1:]

    @property
    def pulls(self) -> bool:
        """Whether the last forward pass returned a function that goes back."""
        return self.kept is not None and len(self.kept) == 2 and callable(self.kept[1])


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return np.array_equal(one, other)


class Contextual:
    """A class of static methods ``forward(ctx, ...)`` and ``backward(ctx, dy)``, as one object.

    Of ``ctx`` it may use ``save_for_backward`` and ``saved_tensors``, ``save`` and ``saved``, and attributes of any
    name.
    """

    def __init__(self, kind: type) -> None:
        self.kind, self.ctx = kind, Saved()

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.ctx = Saved()
        return self.kind.forward(self.ctx, *inputs, **keywords)  # type: ignore[attr-defined]  # `is_contextual`

    def backward(self, *given: Any) -> Any:
        return self.kind.backward(self.ctx, *given)  # type: ignore[attr-defined]  # likewise

    def target(self, which: int) -> Any:
        """Return forward (0) or backward (1) as it is called."""
        return functools.partial((self.kind.forward, self.kind.backward)[which], self.ctx)  # type: ignore[attr-defined]


class Saved(SimpleNamespace):
    """What a forward pass leaves for the backward pass."""

    def save_for_backward(self, *arrays: Any) -> None:
        self.saved = self.saved_tensors = self.saved_values = arrays

    save = save_for_backward


def is_contextual(kind: object) -> bool:
    """Return whether something is a class with static methods ``forward(ctx, ...)`` and ``backward(ctx, ...)``."""
    if not isinstance(kind, type):
        return False
    methods = [inspect.getattr_static(kind, name, None) for name in ("forward", "backward")]
    firsts = [next(iter(positional(each.__func__)), None) for each in methods if isinstance(each, staticmethod)]
    return len(firsts) == 2 and all(first is not None and first.name in CONTEXTS for first in firsts)


class Pair:
    """A pair of functions as the methods of one object."""

    def __init__(self, forward: Any, backward: Any) -> None:
        self.functions = forward, backward
        self.params: Any = None

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.functions[0](*inputs, **keywords)

    def backward(self, *given: Any, **keywords: Any) -> Any:
        return self.functions[1](*given, **keywords)

    @property
    def name(self) -> str:
        """Return the name of the function that goes forward."""
        return name_of(self.functions[0])


class Filled(dict[Any, Any]):
    """A dict for gradients, to which may be added what is not there yet."""

    def __missing__(self, key: Any) -> float:
        return 0.0


@dataclass(frozen=True)
class Constant:
    """An argument of ``forward`` that is given as it is."""

    value: Any


@dataclass(frozen=True)
class Bundle:
    """An argument of ``forward`` that is a list of inputs, by their numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Held:
    """An argument of ``forward`` that the subject holds at a path, as a dict of parameters given with the inputs."""

    path: str


Argument = int | Constant | Bundle | Held


def arranged(values: Sequence[Any]) -> tuple[list[Array], tuple[Argument, ...]]:
    """Return the arrays among what is given, those in lists included, and the arguments that they are put into."""
    arrays: list[Array] = []
    arguments: list[Argument] = []
    for value in values:
        if isinstance(value, np.ndarray):
            arguments.append(len(arrays))
            arrays.append(value)
        elif isinstance(value, list) and value and all(isinstance(one, np.ndarray) for one in value):
            arguments.append(Bundle(tuple(range(len(arrays), len(arrays) + len(value)))))
            arrays += value
        else:
            arguments.append(Constant(value))
    return arrays, tuple(arguments)


@dataclass(frozen=True)
class Calls:
    """How ``forward`` and ``backward`` are called.

    ``arguments`` are those of forward: the number of an input, a `Bundle`, or a `Constant`. ``outputs`` are the paths
    to what it computes: ``result`` is what is returned, ``result.0`` the first of a tuple, ``object.output`` an
    attribute. ``given`` says what backward is given, in order: ``dy``, ``dy0`` and ``dy1`` of two outputs, ``dys`` (a
    tuple of them), ``cache`` (the last that forward returned), ``rate``, ``_filled`` (a dict to put gradients into),
    ``one`` (the number 1), ``y`` (the output), ``output1`` (what else forward returned), ``input0``, or ``argument1``,
    which was no input. ``gradients`` are the paths to the gradients of inputs, by their numbers. ``local``: what is
    returned is dy/dx of each element, to be multiplied by dy. ``keep`` are flags that forward needs set for backward to
    work, ``derive`` those that make a function return its derivative.
    """

    forward: str = "forward"
    backward: str = "backward"
    arguments: tuple[Argument, ...] = ()
    switch: Switch = field(default_factory=Switch)
    outputs: tuple[str, ...] = (RESULT,)
    given: tuple[str, ...] = ("dy",)
    gradients: Mapping[int, str] = field(default_factory=dict)
    local: bool = False
    contracted: str = ""  # einsum's subscripts of dy, a Jacobian dy/dx and dx, where a local derivative is one
    mean: bool = False  # the value is the mean of what forward returns, one number a sample
    names: tuple[str, ...] = ()  # of backward's arguments, as its author calls them
    returns_outputs: int = 0  # how many things forward returns in a tuple; 0 where it returns none
    keep: tuple[str, ...] = ()
    derive: tuple[str, ...] = ()
    after: str = ""  # a method that is called after backward, and computes the gradients of parameters
    recorded: tuple[Site, ...] = ()  # what backward hands gradients to, which nothing keeps
    spoken: tuple[str, ...] = ()  # names of functions in place of forward and backward, or of one that does both

    def go_forward(self, layer: Any, inputs: Sequence[Any], *, training: bool) -> Any:
        """Call ``forward`` in a mode and return what it returns."""
        self.switch.set(layer, resolve, training=training)
        arguments = [_value(argument, layer, inputs) for argument in self.arguments]
        flags = self.switch.keywords(training=training) | dict.fromkeys(self.keep, True)
        return getattr(layer, self.forward)(*arguments, **flags)

    def go_backward(self, layer: Any, result: Any, inputs: Sequence[Any], dys: Sequence[Array]) -> Any:
        """Call ``backward`` and return what it returns; ``result`` is what forward has returned."""
        arguments = [self._argument(what, layer, result, inputs, dys) for what in self.given]
        flags = dict.fromkeys(self.derive, True)
        if not self.recorded:
            return self._back(layer, arguments, flags)
        with recording(layer, self.recorded) as handed:
            back = self._back(layer, arguments, flags)
        setattr(layer, HANDED, {each.key: each.copy for each in handed})
        return back

    def _back(self, layer: Any, arguments: Sequence[Any], flags: Mapping[str, bool]) -> Any:
        back = getattr(layer, self.backward)(*arguments, **flags)
        if self.after:
            getattr(layer, self.after)()
        return back

    def _argument(self, what: str, layer: Any, result: Any, inputs: Sequence[Any], dys: Sequence[Array]) -> Any:
        if what == "dy":
            return dys[0]
        if what == "dys":
            return tuple(dys)
        if what == "cache":
            return result[-1]
        if what == FILLED:
            filled = Filled()
            setattr(layer, FILLED, filled)
            return filled
        if what in ("rate", "one"):
            return RATE
        if what.startswith("dy"):
            return dys[int(what[2:])]
        if what == "y":
            return np.array(found(self.outputs[0], layer, result))
        if what.startswith("output"):
            return result[int(what[6:])]
        if what.startswith("input"):
            return inputs[int(what[5:])]
        if what.startswith("argument"):
            return _value(self.arguments[int(what[8:])], layer, inputs)
        raise ValueError(what)

    @property
    def elementwise(self) -> bool:
        """Whether backward is f'(x), of the input or of the output, whatever gradient comes from behind."""
        return self.local and ("y" in self.given or (len(self.given) == 1 and self.given[0].startswith("input")))

    def times(self, value: Any, dys: Sequence[Array]) -> Array:
        """Return a gradient that backward has returned: a local derivative times dy, any other as it is."""
        array = np.asarray(value)
        if not self.local:
            return array
        dy = dys[0]
        array = array.astype(dy.dtype) if array.dtype.kind in "iub" else array
        if self.contracted:
            try:
                return np.asarray(np.einsum(self.contracted, dy, array))
            except ValueError:
                raise ValueError(
                    f"{self.backward} returns shape {array.shape}, which is no Jacobian for an output of {dy.shape}"
                ) from None
        return np.asarray(dy.reshape(dy.shape + (1,) * (array.ndim - dy.ndim)) * array)

    def values(self, layer: object, result: object) -> list[Array]:
        """Return the outputs as arrays."""
        values = [np.asarray(found(path, layer, result)) for path in self.outputs]
        return [np.asarray(value.mean()) for value in values] if self.mean else values


def _value(argument: Argument, layer: Any, inputs: Sequence[Any]) -> Any:
    if isinstance(argument, int):
        return inputs[argument]
    if isinstance(argument, Bundle):
        return [inputs[n] for n in argument.numbers]
    return resolve(layer, argument.path) if isinstance(argument, Held) else argument.value


def found(path: str, layer: object, result: object) -> Any:
    """Return what a path leads to that begins with ``result`` or ``object``."""
    head, _, rest = path.partition(".")
    start = result if head == RESULT else layer
    return resolve(start, rest) if rest else start


def found_or_none(path: str, layer: object, result: object) -> Any:
    """Return what a path leads to, or None where there is nothing."""
    try:
        return found(path, layer, result)
    except AdapterError:
        return None


def packed(arrays: Sequence[Array]) -> Array:
    """Return one output as it is, and several in a row as one vector."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([array.reshape(-1) for array in arrays])


def unpacked(vector: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Return the arrays of these shapes that `packed` made a vector of."""
    if len(shapes) == 1:
        return [vector]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)]
