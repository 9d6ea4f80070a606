"""Layers, losses and plain functions as functions of named arrays, so that all, and their twins, are tried alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case, Context, Layer, Loss
from gradcheck.numerics.decimals import decimal_of
from gradcheck.numerics.memory import copied, read_only
from gradcheck.numerics.monte_carlo import nudging
from gradcheck.numerics.precision import OFF, Precision, precision_seen
from gradcheck.numerics.rounding import nudged

GRAINS_SEEN = 6  # points at which results are seen to be multiples of a power of ten

Arrays = Mapping[str, Array]
Pullback = Callable[[Array], dict[str, Array]]
Values = Callable[[Arrays], Array]


class GradientNamesError(ValueError):
    """The gradients of a layer are not those of its parameters."""


class RefusedError(ValueError):
    """A forward pass raises for arrays that we made from those of its case, and so is not defined there."""


@dataclass(frozen=True)
class Function:
    """``call(variables, context)`` returns the value and a pullback from dy to gradients named like the variables.

    ``arguments`` are the inputs in their order, each the name of a variable or, for one that has no gradient, its
    value. Variables that are not arguments are parameters. ``foreign`` objects are not asked for what only the
    contract promises: taps, and arithmetic that also takes complex numbers. A foreign ``call`` takes `constants` by
    their names, too, in place of the values in ``arguments``. Results that code rounds to some decimals are multiples
    of ``grain`` at most. ``values`` is what the method `at` returns, where that takes less than calls.
    """

    variables: dict[str, Array]
    arguments: tuple[str | Array, ...]
    call: Callable[[Arrays, Context], tuple[Array, Pullback]]
    foreign: bool = False
    grain: float = 0.0
    values: Callable[[Arrays, Context], Values] | None = None

    def at(self, variables: Arrays, context: Context) -> Values:
        """Return a function that gives the value alone where some variables are replaced."""
        if self.values is not None:
            return self.values(variables, context)
        return lambda moved: self.call({**variables, **moved}, context)[0]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the variables that are inputs."""
        return tuple(argument for argument in self.arguments if isinstance(argument, str))

    @property
    def constants(self) -> dict[str, Array]:
        """Return the arguments that have no gradient: the ``target`` of a loss, else by their places, as inputs are."""
        names = names_of_arguments(self.arguments)
        return {n: a for n, a in zip(names, self.arguments, strict=True) if not isinstance(a, str)}


def names_of_arguments(arguments: tuple[str | Array, ...]) -> list[str]:
    """Return a name for each argument: those that are no variables have one, too."""
    if arguments and isinstance(arguments[0], str) and arguments[0] == "prediction":
        return ["prediction", "target", *(f"input{i}" for i in range(2, len(arguments)))]
    return ["input"] if len(arguments) == 1 else [f"input{i}" for i in range(len(arguments))]


def values_of_arguments(arguments: tuple[str | Array, ...], given: Arrays) -> list[Array]:
    """Return the arguments of a call: as they are given, and constants that are not given as they are."""
    known = [given[a] for a in arguments if isinstance(a, str)]
    if len(known) == len(arguments):
        return known
    names = names_of_arguments(arguments)
    return [given[a] if isinstance(a, str) else given.get(n, a) for n, a in zip(names, arguments, strict=True)]


@runtime_checkable
class Callables(Protocol):
    """The interface of an adapter of a foreign object, in place of the contract."""

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the object as a function of its parameters and of those ``inputs`` that have a gradient."""


def function_of(case: Case) -> Function:
    """Return a case's subject as a `Function` that counts its calls in the case's tally.

    The variables are ``input`` (or ``input0``, ``input1``, ... of several; none that holds integers) and the parameters
    of a layer, or the ``prediction`` of a loss. A foreign object is given copies, as by `function_on_copies`, and a
    gradient of its that lacks axes of one element, or has some too many, has its tensor's shape. Variables of one that
    computes in float32 are float32.
    """
    function = _function_of(case)
    if function.foreign:
        if precision_of(case) is np.float32:
            function = replace(function, variables=cast(function.variables, np.float32))
        function = replace(function, grain=max(grains_of(case), default=0.0))
        function = _with_shapes_of_tensors(_on_copies(function))
    return _counted(case, function)


def precision_of(case: Case) -> Precision:
    """Return the precision that a case's subject computes in, as `precision_seen` measures it once a check."""
    if "precision" not in case.measured:
        case.measured["precision"] = _precision_of(case)
    found: Precision = case.measured["precision"]
    return found


def precision_taken(case: Case) -> Precision | None:
    """Return the one precision that a foreign subject takes, where it raises for another; None where it takes both.

    What is not asked for is not tried: float64 is, and float32 where some of what is given has it. If both are given,
    as an input and a parameter, and it raises for that alone, it is given float64.
    """
    if "taken" not in case.measured:
        case.measured["taken"] = _precision_taken(case)
    found: Precision | None = case.measured["taken"]
    return found


def _precision_taken(case: Case) -> Precision | None:
    function = function_on_copies(case)
    given = {array.dtype.type for array in function.variables.values() if array.dtype.kind == "f"}
    if not function.foreign or not given:
        return None

    def takes(variables: Arrays) -> bool:
        try:
            with np.errstate(all="ignore"):
                y, pullback = function.call(variables, case.context())
                pullback(np.ones_like(y))
        except ImportError:
            raise
        except Exception:  # noqa: BLE001  it may be anything: what it takes in the other precision tells
            return False
        return True

    wide, narrow = (cast(function.variables, precision) for precision in (np.float64, np.float32))
    if not takes(wide):
        return np.float32 if takes(narrow) else None
    return np.float64 if np.float32 in given and not (takes(narrow) and takes(function.variables)) else None


def size_of(case: Case) -> float:
    """Return the size of the largest output of the first case of a check."""
    precision_of(case)
    size: float = case.measured.get("size", 0.0)
    return size


class Grains(NamedTuple):
    """The powers of ten that code rounds its output and its gradients to, 0 where it does not."""

    output: float = 0.0
    gradients: float = 0.0


def grains_of(case: Case) -> Grains:
    """Return what decimals a case's subject rounds its results to, as `decimal_of` sees it once a check."""
    precision_of(case)
    found: Grains = case.measured.get("grains", Grains())
    return found


OUTPUT, COTANGENT = "the output", "the cotangent"  # beside variables, none of which is called so


def _precision_of(case: Case) -> Precision:
    """Measure how the output rounds, and gradients of a random cotangent, which moves, too."""
    function, rng = function_on_copies(case), case.rng("precision")
    if not function.foreign:
        return np.float64
    taken = precision_taken(case)

    def compute(given: Arrays) -> dict[str, Array] | None:
        try:
            y, pullback = function.call({name: given[name] for name in function.variables}, case.context())
        except ImportError:
            raise
        except Exception:  # noqa: BLE001  it is not defined here; of the input given that is reported elsewhere
            return None
        results = {OUTPUT: y}
        with suppress(Exception):  # as are mistakes of the way back
            results |= pullback(given[COTANGENT].astype(y.dtype)) if COTANGENT in given else {}
        return results

    with np.errstate(all="ignore"):
        first = compute(cast(function.variables, np.float64)) or compute(cast(function.variables, np.float32))
        if first is None or first[OUTPUT].dtype not in (np.float64, np.float32):
            return np.float64
        case.measured["size"] = float(np.abs(first[OUTPUT]).max(initial=0.0, where=np.isfinite(first[OUTPUT])))
        dy = rng.standard_normal(first[OUTPUT].shape)
        variables = {**function.variables, COTANGENT: dy}
        case.measured["grains"] = grains = _grains_of(compute, variables, rng)
        if taken is not None:
            return taken
        # What is rounded to decimals is as coarse in either precision: that is said of the dtype alone.
        return first[OUTPUT].dtype.type if any(grains) else precision_seen(compute, variables, rng)


def _grains_of(
    compute: Callable[[Arrays], dict[str, Array] | None], variables: Arrays, rng: np.random.Generator
) -> Grains:
    samples = []
    for _ in range(GRAINS_SEEN):
        moved = {n: x * (1 + OFF * rng.uniform(-1, 1, x.shape)) for n, x in cast(variables, np.float64).items()}
        results = compute(moved)
        if results is None:
            return Grains()
        samples.append(results)
    grains = {name: decimal_of([one[name] for one in samples]) for name in samples[0].keys() & samples[-1].keys()}
    return Grains(grains.pop(OUTPUT), max(grains.values(), default=0.0))


def function_on_copies(case: Case) -> Function:
    """Return a case's subject as a `Function`; a foreign one is given copies of its arguments in every call.

    Copies are of variables, constants and dy, so that what a call changes in place reaches neither another call nor the
    caller. Forward and backward make a pair: each further pullback has a forward pass of its own. Results are copies,
    too. What forward raises for other arrays than the case's is a `RefusedError`.
    """
    function = _function_of(case)
    return _counted(case, _on_copies(function) if function.foreign else function)


def function_on_its_arguments(case: Case) -> Function:
    """Return a case's subject as a `Function` that gives it the very arrays of a call, which it may change."""
    return _counted(case, _function_of(case))


def _counted(case: Case, function: Function) -> Function:
    def counted(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        case.tally.evaluations += 1
        return function.call(variables, context)

    def values(variables: Arrays, context: Context) -> Values:
        at = function.at(variables, context)

        def value(moved: Arrays) -> Array:
            case.tally.evaluations += 1
            return at(moved)

        return value

    return replace(function, call=counted, values=values if function.values else None)


def _on_copies(function: Function) -> Function:
    constants, inputs = function.constants, function.inputs

    @contextmanager
    def refusing(variables: Arrays) -> Iterator[None]:
        try:
            yield
        except ImportError:
            raise
        except Exception as error:  # anybody's code raises anything: of other arrays than its own, that is a refusal
            if _are_those_of(function, variables):
                raise
            raise RefusedError(
                f"the forward pass refuses what is made of the input given: {type(error).__name__}: {error}"
            ) from error

    def begin(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        # Parameters are copied where they are put into the object.
        copies = {name: copied(a) if name in inputs else read_only(a) for name, a in variables.items()}
        copies |= {name: copied(array) for name, array in constants.items()}
        with refusing(variables):
            return function.call(copies, context)

    def call(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        y, first = begin(variables, context)
        waiting = [first]

        def pullback(dy: Array) -> dict[str, Array]:
            current = waiting.pop() if waiting else begin(variables, context)[1]
            return {name: np.array(grad) for name, grad in current(copied(dy)).items()}

        return np.array(y), pullback

    def values(variables: Arrays, context: Context) -> Values:
        at = function.at(variables, context)

        def value(moved: Arrays) -> Array:
            try:
                return at(moved)
            except Exception:
                with refusing({**variables, **moved}):
                    raise

        return value

    return replace(function, call=call, values=values if function.values else None)


def _are_those_of(function: Function, variables: Arrays) -> bool:
    """Return whether variables are a function's own: the same numbers, in the same precision and order in memory."""
    return all(
        array.dtype == own.dtype
        and array.strides == own.strides
        and np.array_equal(array, own, equal_nan=own.dtype.kind == "f")
        for array, own in ((variables[name], own) for name, own in function.variables.items())
    )


def _with_shapes_of_tensors(function: Function) -> Function:
    if not function.foreign:
        return function

    def call(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        y, pullback = function.call(variables, context)

        def shaped(dy: Array) -> dict[str, Array]:
            return {name: _in_shape_of(variables[name], gradient) for name, gradient in pullback(dy).items()}

        return y, shaped

    return replace(function, call=call)


def _in_shape_of(tensor: Array, gradient: Array) -> Array:
    return gradient.reshape(tensor.shape) if long_axes(gradient) == long_axes(tensor) else gradient


def long_axes(array: Array) -> tuple[int, ...]:
    """Return the extents of an array's axes of more or less than one element."""
    return tuple(extent for extent in array.shape if extent != 1)


def _function_of(case: Case) -> Function:
    subject = case.subject
    if isinstance(subject, Callables):
        return subject.function(case.inputs)
    if isinstance(subject, Layer):
        layer, buffers, x = subject, subject.buffers(), case.inputs[0]
        indices = x.dtype.kind in "iu"  # which have no gradient
        frozen = {name: (mask, subject.parameters()[name]) for name, mask in subject.frozen().items()}

        bases: dict[str, Layer | None] = {}  # by precision: of which others are made without a constructor, if they can

        def holding(arrays: Arrays, kind: np.dtype[Any] | None) -> Layer:
            base = bases.get(str(kind), layer)
            if base is None:
                return layer.replace_arrays(arrays)
            if base is not layer:
                return base.holding(arrays)
            made = layer.replace_arrays(arrays)
            bases[str(kind)] = made if made.keeps_what_it_is_given() else None
            return made

        def put(variables: Arrays) -> dict[str, Array]:
            parameters = {name: array for name, array in variables.items() if name != "input"}
            for name in frozen.keys() & parameters.keys():  # constants, so that differences see no slope either
                mask, kept = frozen[name]
                parameters[name] = np.where(mask, kept.astype(parameters[name].dtype), parameters[name])
            return parameters

        def call_layer(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
            parameters = put(variables)
            given = variables.get("input", x)
            kind = next((array.dtype for array in variables.values() if array.dtype.kind in "fc"), None)
            own = cast(buffers, kind) if kind is not None else {}
            y, backward = holding(own | parameters, kind).forward(given, context)

            def pullback(dy: Array) -> dict[str, Array]:
                dx, grads = backward(dy)
                require_names(parameters, grads)
                return grads if indices else {"input": dx, **grads}

            return y, pullback

        def values(variables: Arrays, context: Context) -> Values:
            kind = next((array.dtype for array in variables.values() if array.dtype.kind == "f"), None)
            own = cast(buffers, kind) if kind is not None else {}
            here, given = own | put(variables), variables.get("input", x)

            def value(moved: Arrays) -> Array:
                return holding(here | put(moved), kind).forward(moved.get("input", given), context)[0]

            return value

        if indices:
            return Function(subject.parameters(), (x,), call_layer, values=values)
        return Function({"input": x, **subject.parameters()}, ("input",), call_layer, values=values)
    if isinstance(subject, Loss):
        loss, target = subject, case.inputs[1]

        def call_loss(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
            prediction = variables["prediction"]
            value, backward = loss.forward(prediction, like(target, prediction), context)
            return value, lambda dvalue: {"prediction": backward(dvalue)}

        return Function({"prediction": case.inputs[0]}, ("prediction", target), call_loss)
    raise TypeError(f"a Layer or a Loss is a function of arrays, got {type(subject).__name__}")


def require_names(parameters: Arrays, grads: Arrays) -> None:
    """Raise `GradientNamesError` unless there is a gradient of every parameter, and of nothing else."""
    if missing := sorted(parameters.keys() - grads.keys()):
        raise GradientNamesError(f"there is no gradient of {', '.join(missing)}")
    if unknown := sorted(grads.keys() - parameters.keys()):
        raise GradientNamesError(f"there is a gradient of {', '.join(unknown)}, which is no parameter")


def like(constant: Array, array: Array) -> Array:
    """Return a constant in the precision of ``array``, if both are floating-point."""
    return constant.astype(array.dtype, copy=False) if constant.dtype.kind == array.dtype.kind == "f" else constant


def cast(variables: Arrays, dtype: DTypeLike) -> dict[str, Array]:
    """Return the variables in one precision; arrays that have it already, or are not floating-point, are not copied."""
    return {
        name: array.astype(dtype, copy=False) if array.dtype.kind == "f" else array for name, array in variables.items()
    }


def shadow(
    function: Function,
    variables: Arrays,
    dy: Array,
    rng: np.random.Generator,
    context: Context,
    precision: DTypeLike | None = None,
) -> dict[str, Array]:
    """Return the value (as ``output``) and the gradients of a shadow, in a context whose tap nudges.

    Inputs, outputs and taps are nudged by one unit in the last place of ``precision``, by default that of the arrays. A
    foreign object has no taps: there the result of every operation is nudged, if it takes `Nudging` arrays.
    """
    moved = {name: nudged(array, rng, precision) for name, array in variables.items()}
    cotangent = nudged(dy, rng, precision)
    if function.foreign:
        return _foreign_shadow(function, (moved, variables), cotangent, rng, context)
    y, pullback = function.call(moved, context)
    return {name: nudged(array, rng, precision) for name, array in {"output": y, **pullback(cotangent)}.items()}


def _foreign_shadow(
    function: Function, choices: tuple[Arrays, ...], dy: Array, rng: np.random.Generator, context: Context
) -> dict[str, Array]:
    """Return the first shadow that is finite throughout, of the variables that may be given, else the first of all.

    An object may take plain arrays alone; and a nudge may lead out of its domain, of which a point may be the end.
    """
    found: list[dict[str, Array]] = []
    refusal: Exception | None = None
    for variables in choices:
        for monte_carlo in (True, False):
            given = {name: nudging(array, rng) if monte_carlo else array for name, array in variables.items()}
            try:
                y, pullback = function.call(given, context)
                gradients = pullback(nudging(dy, rng) if monte_carlo else dy)
            except Exception as error:  # noqa: BLE001  what it raises for all choices is raised below
                refusal = error
                continue
            found.append({"output": nudged(y, rng), **gradients})
            if not monte_carlo:
                found[-1] = {name: nudged(array, rng) for name, array in found[-1].items()}
            if all(np.isfinite(array).all() for array in found[-1].values()):
                return found[-1]
            break  # plain arrays will do no better
    if not found and refusal is not None:
        raise refusal
    return found[0]
