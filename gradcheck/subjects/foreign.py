"""Anybody's layers, losses, optimizers and schedules, as what the properties can be asked of.

A foreign object is never modified: every call is made on a copy of its own, with the same random numbers.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case, Context, Gradients, Optimizer, Schedule
from gradcheck.numerics.functions import Arrays, Function, GradientNamesError, Pullback, like, require_names

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

TRAINING_FLAGS = ("training", "train", "train_flg", "is_training")  # of forward, where it takes the mode

Owner = TypeVar("Owner")


class AdapterError(TypeError):
    """An object does not offer what is needed to check it."""


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
            values = [given[a] if isinstance(a, str) else like(a, next(iter(given.values()), a)) for a in arguments]
            with randomness(context.key.seed + context.key.step, context.training):
                y = np.asarray(self._output(layer, values, training=context.training))
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
                gradients = self._input_gradients(result, arguments)
                return gradients | self._parameter_gradients(current, parameters)

            return y, pullback

        return Function(variables, arguments, call, foreign=True)

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
            results = [np.array(self._output(layer, inputs, training=training)) for _ in range(count)]
        yield from results

    def used(self, inputs: tuple[Array, ...]) -> ForeignLayer:
        """Return this layer after a step in training mode on ``inputs``, with whatever that has left in it."""
        layer = fresh(self.layer)
        with same_randomness(1):
            y = np.asarray(self._output(layer, inputs, training=True))
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
                y = np.array(self._output(layer, [x.copy() for x in inputs], training=training))
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
                outputs.append(np.array(self._output(layer, inputs, training=training)))
        return outputs


@dataclass(frozen=True, eq=False)
class ForeignLoss:
    """A loss with ``forward(prediction, target) -> float`` and ``backward() -> dprediction``.

    One whose ``backward(dvalue)`` takes a cotangent may return an array, such as one number a sample.
    """

    loss: object
    forward: str = "forward"
    backward: str = "backward"

    def __post_init__(self) -> None:
        for method in (self.forward, self.backward):
            require_method(self.loss, method)

    @property
    def name(self) -> str:
        """Return the name of the object's class."""
        return type(self.loss).__name__

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the loss as a function of its prediction."""
        prediction, target = inputs
        takes_dvalue = _required_arguments(getattr(self.loss, self.backward)) == 1
        kinds = {dtype: copier(self.loss, dtype) for dtype in (np.float64, np.float32)}

        def begin(given: Arrays) -> tuple[Any, Array]:
            loss = kinds[np.float32 if given["prediction"].dtype == np.float32 else np.float64]()
            value = getattr(loss, self.forward)(given["prediction"], like(target, given["prediction"]))
            # A number of Python's has no precision of its own.
            kind = given["prediction"].dtype
            return loss, np.asarray(value, kind if type(value) is float and kind.kind == "f" else None)

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            loss, value = begin(given)
            if value.ndim and not takes_dvalue:
                raise AdapterError(
                    f"{self.name}.{self.forward} returns shape {value.shape}; one number is needed, "
                    f"or a {self.backward} that takes dvalue"
                )
            waiting = [loss]

            def pullback(dvalue: Array) -> dict[str, Array]:
                current = waiting.pop() if waiting else begin(given)[0]
                backward = getattr(current, self.backward)
                gradient = np.asarray(backward(dvalue) if takes_dvalue else backward())
                return {"prediction": gradient if takes_dvalue else dvalue * gradient}

            return value, pullback

        return Function({"prediction": prediction}, ("prediction", target), call, foreign=True)


@dataclass(frozen=True, eq=False)
class PlainFunction:
    """``f(*inputs) -> array`` with ``vjp(inputs, dy) -> gradients``, one of each input that is floating-point."""

    f: Callable[..., Array]
    vjp: Callable[[tuple[Array, ...], Array], Sequence[Array]]

    @property
    def name(self) -> str:
        """Return the name of the function."""
        return getattr(self.f, "__name__", type(self.f).__name__)

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return it as a function of named inputs."""
        arguments = arguments_of(inputs)

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            values = tuple(given[a] if isinstance(a, str) else a for a in arguments)
            y = np.asarray(self.f(*values))

            def pullback(dy: Array) -> dict[str, Array]:
                result = self.vjp(values, dy)
                results = list(result) if isinstance(result, (tuple, list)) else [result]
                wanted = [a for a in arguments if isinstance(a, str)]
                if len(results) == len(arguments):
                    results = [r for r, a in zip(results, arguments, strict=True) if isinstance(a, str)]
                if len(results) != len(wanted):
                    raise GradientNamesError(f"vjp returns {len(results)} gradients for {len(wanted)} inputs")
                return {name: np.asarray(value) for name, value in zip(wanted, results, strict=True)}

            return y, pullback

        return Function(variables_of(inputs), arguments, call, foreign=True)


@dataclass(eq=False, kw_only=True)
class ForeignOptimizer(Optimizer):
    """An optimizer with ``step(params, grads)``, which moves arrays in place, and a rate in an attribute."""

    optimizer: Any
    make_twin: Callable[[list[Any]], Any]
    rate: str = "lr"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not callable(getattr(self.optimizer, "step", None)):
            raise AdapterError(f"{self.name} needs a method step(params, grads) that moves params in place")
        if not hasattr(self.optimizer, self.rate):
            raise AdapterError(
                f"{self.name} has no attribute {self.rate}: name the one that holds its learning rate with lr="
            )

    @property
    def name(self) -> str:
        """Return the name of the object's class."""
        return type(self.optimizer).__name__

    @property
    def base_lr(self) -> float:
        """Return the rate that the object was made with."""
        return float(getattr(self.optimizer, self.rate))

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        setattr(self.optimizer, self.rate, lr)
        try:
            self.optimizer.step(params, grads)
        except KeyError as error:
            if self.names or error.args[:1] not in [(name,) for name in params] or error.args[0] not in grads:
                raise
            raise AdapterError(
                f"{self.name} does not know the parameter {error.args[0]!r}: give those that it was made for, "
                "by name, as params={...}"
            ) from error

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = self.make_twin(list(params))
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign optimizer is tried on what it is given")


@dataclass(frozen=True)
class ForeignSchedule(Schedule):
    """A schedule ``schedule(epoch) -> lr``, or ``schedule(epoch, history) -> lr``."""

    schedule: Callable[..., float]
    make_twin: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """Return the name of the schedule's class or function."""
        return getattr(self.schedule, "__name__", type(self.schedule).__name__)

    @cached_property
    def takes_history(self) -> bool:
        """Return whether the second argument is called ``history``, or is one that has to be given."""
        try:
            second = list(inspect.signature(self.schedule).parameters.values())[1:2]
        except (TypeError, ValueError):
            return False
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return any(p.kind in kinds and (p.name == "history" or p.default is inspect.Parameter.empty) for p in second)

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return float(self.schedule(epoch, history) if self.takes_history else self.schedule(epoch))

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        made: torch.optim.lr_scheduler.LRScheduler = self.make_twin(optimizer)
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign schedule is tried on what it is given")


def items_of(owner: object, attribute: str) -> dict[str, str]:
    """Return the paths of what a dict or list in an attribute holds, by its keys or numbers; there may be none."""
    items = getattr(owner, attribute, None)
    if isinstance(items, Mapping):
        return {str(key): f"{attribute}.{key}" for key in items}
    if isinstance(items, (list, tuple)):
        return {str(i): f"{attribute}.{i}" for i in range(len(items))}
    if callable(items) or items is None:
        return {}
    raise AdapterError(
        f"{type(owner).__name__}.{attribute} is a {type(items).__name__}; a dict of arrays by name is needed"
    )


def input_names(count: int) -> list[str]:
    """Return what inputs are called: ``input``, or of several ``input0``, ``input1``, ..."""
    return ["input"] if count == 1 else [f"input{i}" for i in range(count)]


def arguments_of(inputs: tuple[Array, ...]) -> tuple[str | Array, ...]:
    """Return inputs as the arguments of a `Function`: those that have a gradient by name, others themselves."""
    return tuple(n if a.dtype.kind == "f" else a for n, a in zip(input_names(len(inputs)), inputs, strict=True))


def variables_of(inputs: tuple[Array, ...]) -> dict[str, Array]:
    """Return those inputs that have a gradient, by name."""
    return {n: a for n, a in zip(input_names(len(inputs)), inputs, strict=True) if a.dtype.kind == "f"}


def resolve(owner: object, path: str) -> object:
    """Return what a path of attributes, keys and numbers leads to, such as ``params.W`` or ``W.T``."""
    return _walk(owner, path)[2]


def _walk(owner: object, path: str) -> tuple[object, str, object]:
    """Return what holds the end of a path, the last step there, and what it leads to."""
    current = owner
    parent: object = None
    part = ""
    parts = path.split(".")
    while parts:
        # Keys may have dots in them, as those of a network's parameters often do: the longest that fits is taken.
        keys = current if isinstance(current, Mapping) else {}
        taken = next((n for n in range(len(parts), 1, -1) if ".".join(parts[:n]) in keys), 1)
        part, parts = ".".join(parts[:taken]), parts[taken:]
        try:
            parent, current = current, _step(current, part)
        except (AttributeError, KeyError, IndexError, ValueError):
            raise AdapterError(f"{type(owner).__name__} has no {path}: there is no {part!r}") from None
    return parent, part, current


def _step(current: object, part: str) -> object:
    if isinstance(current, Mapping):
        return current[part] if part in current else current[int(part)]
    if isinstance(current, (list, tuple)):
        return current[int(part)]
    return getattr(current, part)


def assign(owner: object, path: str, value: Array) -> None:
    """Put a value where a path leads: into an array in place, or in the place of a number."""
    parent, last, current = _walk(owner, path)
    number: Callable[[Array], object] = type(current)
    if isinstance(current, np.ndarray):
        current[...] = value
    elif isinstance(parent, dict):
        parent[last] = number(value)
    elif isinstance(parent, list):
        parent[int(last)] = number(value)
    else:
        setattr(parent, last, number(value))


def set_mode(layer: object, *, training: bool) -> None:
    """Tell a layer to train or to evaluate, in whichever way it can be told."""
    train, evaluate = (getattr(layer, name, None) for name in ("train", "eval"))
    method = train if training else evaluate
    if callable(method):
        method()
    elif callable(train):
        train(training)
    elif hasattr(layer, "training"):
        layer.training = training


def require_method(owner: object, name: str) -> None:
    """Raise `AdapterError` unless there is a method of that name."""
    if not callable(getattr(owner, name, None)):
        raise AdapterError(f"{type(owner).__name__} needs a method {name}; name its own with forward= or backward=")


def require_numbers(who: str, name: str, path: str, value: object) -> None:
    """Raise `AdapterError` unless a parameter is a floating-point array or number."""
    if np.asarray(value).dtype.kind != "f":
        raise AdapterError(f"{who}'s parameter {name} at {path} needs to be floating-point numbers, got {value!r:.60}")


def fresh(owner: Owner, dtype: DTypeLike | None = None) -> Owner:
    """Return a deep copy, its floating-point arrays cast if a precision is given.

    Arrays that share memory, such as views of one flat buffer, still do so in the copy.
    """
    return copier(owner, dtype)()


def copier(owner: Owner, dtype: DTypeLike | None = None) -> Callable[[], Owner]:
    """Return a function that makes a `fresh` copy at every call, of an object that nobody changes between them.

    Its arrays are looked for once: that takes as long as to copy it.
    """
    arrays = arrays_in(owner)
    return lambda: copy.deepcopy(owner, _copies(arrays, dtype))


def _copies(arrays: list[Array], dtype: DTypeLike | None) -> dict[int, Any]:
    """Return copies of arrays, in that precision if one is given, by the identity of what they are copies of."""
    memo: dict[int, Any] = {}
    copies: dict[int, Array] = {}
    for array in arrays:
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        wanted = np.dtype(dtype) if dtype is not None and array.dtype.kind == "f" else array.dtype
        if array is base or base.dtype != array.dtype or not base.flags.c_contiguous or not base.size:
            memo[id(array)] = (
                array.astype(wanted) if array is not base else copies.setdefault(id(base), base.astype(wanted))
            )
            continue
        whole = copies.setdefault(id(base), base.astype(wanted))
        ratio = whole.itemsize / base.itemsize
        offset = int((array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) * ratio)
        memo[id(array)] = np.ndarray(
            array.shape, wanted, whole, offset, tuple(int(stride * ratio) for stride in array.strides)
        )
    return memo


def arrays_in(owner: object) -> list[Array]:
    """Return the arrays that an object holds, in attributes, containers and objects below it."""
    found: dict[int, Array] = {}
    seen: set[int] = set()
    waiting = [owner]
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, (type, str, bytes, int, float, np.random.Generator)):
            continue
        seen.add(id(current))
        if isinstance(current, np.ndarray):
            if type(current) is np.ndarray and current.dtype.kind != "O":
                found[id(current)] = current
        elif isinstance(current, Mapping):
            waiting.extend(current.values())
        elif isinstance(current, (list, tuple, set)):
            waiting.extend(current)
        elif not (inspect.ismodule(current) or inspect.isroutine(current)):
            waiting.extend(getattr(current, "__dict__", {}).values())
            for slot in getattr(type(current), "__slots__", ()):
                waiting.append(getattr(current, slot, None))
    return list(found.values())


@contextmanager
def same_randomness(seed: int) -> Iterator[Callable[[], bool]]:
    """Seed the global generators of NumPy and Python for a call, and put them back as they were.

    Yields a function that tells afterwards whether any random number was drawn.
    """
    drawn = False
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    before = _generators()
    try:
        yield lambda: drawn
    finally:
        drawn = _generators() != before
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _generators() -> tuple[object, ...]:
    """Return where NumPy's and Python's global generators stand."""
    _, _, place, *gauss = np.random.get_state(legacy=True)
    return place, *gauss, random.getstate()


def _required_arguments(method: Callable[..., object]) -> int:
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is inspect.Parameter.empty and p.kind in kinds for p in parameters)
