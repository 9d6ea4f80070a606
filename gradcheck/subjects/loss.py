"""Anybody's loss, as a function of its prediction."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import Arrays, Function, Pullback, like, values_of_arguments
from gradcheck.subjects.attributes import AdapterError, require_method
from gradcheck.subjects.copies import copier


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
            values = values_of_arguments(("prediction", target), given)
            value = getattr(loss, self.forward)(values[0], like(values[1], values[0]))
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


def _required_arguments(method: Callable[..., object]) -> int:
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is inspect.Parameter.empty and p.kind in kinds for p in parameters)
