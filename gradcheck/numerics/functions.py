"""Layers, losses and plain functions as functions of named arrays, so that all, and their twins, are tried alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case, Context, Layer, Loss
from gradcheck.numerics.monte_carlo import nudging
from gradcheck.numerics.rounding import nudged

Arrays = Mapping[str, Array]
Pullback = Callable[[Array], dict[str, Array]]


class GradientNamesError(ValueError):
    """The gradients of a layer are not those of its parameters."""


@dataclass(frozen=True)
class Function:
    """``call(variables, context)`` returns the value and a pullback from dy to gradients named like the variables.

    ``arguments`` are the inputs in their order, each the name of a variable or, for one that has no gradient, its
    value. Variables that are not arguments are parameters. A ``foreign`` object need not have what only the contract
    promises: taps, and arithmetic that also takes complex numbers.
    """

    variables: dict[str, Array]
    arguments: tuple[str | Array, ...]
    call: Callable[[Arrays, Context], tuple[Array, Pullback]]
    foreign: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the variables that are inputs."""
        return tuple(argument for argument in self.arguments if isinstance(argument, str))


@runtime_checkable
class Callables(Protocol):
    """The interface of an adapter of a foreign object, in place of the contract."""

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the object as a function of its parameters and of those ``inputs`` that have a gradient."""


def function_of(case: Case) -> Function:
    """Return a case's subject as a `Function` that counts its calls in the case's tally.

    The variables are ``input`` (or ``input0``, ``input1``, ... of several; none that holds integers) and the parameters
    of a layer, or the ``prediction`` of a loss.
    """
    function = _function_of(case)

    def counted(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        case.tally.evaluations += 1
        return function.call(variables, context)

    return Function(function.variables, function.arguments, counted, function.foreign)


def _function_of(case: Case) -> Function:
    subject = case.subject
    if isinstance(subject, Callables):
        return subject.function(case.inputs)
    if isinstance(subject, Layer):
        layer, buffers, x = subject, subject.buffers(), case.inputs[0]
        indices = x.dtype.kind in "iu"  # which have no gradient
        frozen = {name: (mask, subject.parameters()[name]) for name, mask in subject.frozen().items()}

        def call_layer(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
            parameters = {name: array for name, array in variables.items() if name != "input"}
            for name, (mask, kept) in frozen.items():  # constants, so that differences see no slope either
                parameters[name] = np.where(mask, kept.astype(parameters[name].dtype), parameters[name])
            given = variables.get("input", x)
            kind = next((array.dtype for array in variables.values() if array.dtype.kind in "fc"), None)
            own = cast(buffers, kind) if kind is not None else {}
            y, backward = layer.replace_arrays(own | parameters).forward(given, context)

            def pullback(dy: Array) -> dict[str, Array]:
                dx, grads = backward(dy)
                require_names(parameters, grads)
                return grads if indices else {"input": dx, **grads}

            return y, pullback

        if indices:
            return Function(subject.parameters(), (x,), call_layer)
        return Function({"input": x, **subject.parameters()}, ("input",), call_layer)
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
    return constant.astype(array.dtype) if constant.dtype.kind == array.dtype.kind == "f" else constant


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
        try:
            y, pullback = function.call({name: nudging(array, rng) for name, array in moved.items()}, context)
            return {"output": nudged(y, rng), **pullback(nudging(cotangent, rng))}
        except Exception:  # noqa: BLE001, S110  it takes plain arrays alone
            pass
    y, pullback = function.call(moved, context)
    return {name: nudged(array, rng, precision) for name, array in {"output": y, **pullback(cotangent)}.items()}
