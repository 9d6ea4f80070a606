"""Layers and losses as functions of named arrays, so that both, and their twins, are tried alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case, Context, Layer, Loss
from gradcheck.trajectory.noise import nudged

Arrays = Mapping[str, Array]
Pullback = Callable[[Array], dict[str, Array]]


class GradientNamesError(ValueError):
    """The gradients of a layer are not those of its parameters."""


@dataclass(frozen=True)
class Function:
    """``call(variables, context)`` returns the value and a pullback from dy to gradients named like the variables.

    ``main`` names the variable that is an input; the others are parameters.
    """

    main: str
    variables: dict[str, Array]
    call: Callable[[Arrays, Context], tuple[Array, Pullback]]


def function_of(case: Case) -> Function:
    """Return a case's layer (variables ``input`` and its parameters) or loss (``prediction``) as a `Function`."""
    subject = case.subject
    if isinstance(subject, Layer):
        layer = subject

        def call_layer(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
            parameters = {name: array for name, array in variables.items() if name != "input"}
            x = variables["input"]
            own = cast(layer.buffers(), x.dtype) | parameters
            y, backward = layer.replace_arrays(own).forward(x, context)

            def pullback(dy: Array) -> dict[str, Array]:
                dx, grads = backward(dy)
                if missing := sorted(parameters.keys() - grads.keys()):
                    raise GradientNamesError(f"there is no gradient of {', '.join(missing)}")
                if unknown := sorted(grads.keys() - parameters.keys()):
                    raise GradientNamesError(f"there is a gradient of {', '.join(unknown)}, which is no parameter")
                return {"input": dx, **grads}

            return y, pullback

        return Function("input", {"input": case.inputs[0], **subject.parameters()}, call_layer)
    if isinstance(subject, Loss):
        loss, target = subject, case.inputs[1]

        def call_loss(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
            prediction = variables["prediction"]
            wanted = prediction.dtype if np.issubdtype(target.dtype, np.floating) else target.dtype
            value, backward = loss.forward(prediction, target.astype(wanted), context)
            return value, lambda dvalue: {"prediction": backward(dvalue)}

        return Function("prediction", {"prediction": case.inputs[0]}, call_loss)
    raise TypeError(f"a Layer or a Loss is a function of arrays, got {type(subject).__name__}")


def cast(variables: Arrays, dtype: DTypeLike) -> dict[str, Array]:
    """Return the variables in one precision; arrays that have it already, or are not floating-point, are not copied."""
    return {
        name: array.astype(dtype, copy=False) if array.dtype.kind == "f" else array for name, array in variables.items()
    }


def shadow(
    function: Function, variables: Arrays, dy: Array, rng: np.random.Generator, context: Context
) -> dict[str, Array]:
    """Return the value (as ``output``) and the gradients of a shadow, in a context whose tap nudges.

    Everything that goes in, comes out or is tapped is nudged by one unit in the last place.
    """
    moved = {name: nudged(array, rng) for name, array in variables.items()}
    y, pullback = function.call(moved, context)
    return {name: nudged(array, rng) for name, array in {"output": y, **pullback(nudged(dy, rng))}.items()}
