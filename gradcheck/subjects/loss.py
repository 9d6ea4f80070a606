"""Anybody's loss, as a function of its prediction."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

from gradcheck.contract import Array
from gradcheck.numerics.functions import Function
from gradcheck.numerics.precision import Precision
from gradcheck.subjects.attributes import AdapterError, member
from gradcheck.subjects.caller import LOSS_INPUTS, Given
from gradcheck.subjects.calls import Pair, Together, arranged
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.reader import read, read_either
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import CERTAIN_PREDICTIONS, FORWARDS, PREDICTIONS, TARGETS, plain, positional
from gradcheck.subjects.ways import derivative_flag, way_back, way_forward

PREDICTION, TARGET = 0, 1  # their numbers
FORWARDS_OF_LOSSES = ("forward", "__call__", "loss", "compute_loss", "compute", "cost", "calculate", "error", *FORWARDS)


@dataclass(frozen=True, eq=False)
class ForeignLoss:
    """A loss that is called as its `Reading` says: a function of its prediction."""

    layer: ForeignLayer

    @classmethod
    def of(
        cls,
        loss: object,
        prediction: Array,
        target: Array,
        *others: Any,
        forward: str = "",
        backward: str = "",
    ) -> ForeignLoss:
        """Return a loss after reading it.

        Its value is a number, or one a sample; the gradient comes from ``backward()``, ``backward(dvalue)``,
        ``grad(prediction, target)``, or together with the value. Raises `AdapterError` where it cannot be called.
        """
        forward = forward or way_forward(loss, backward or way_back(loss), FORWARDS_OF_LOSSES)
        subject: Any = loss
        if isinstance(loss, tuple):
            subject, forward, backward = Pair(*loss), "forward", "backward"
        elif forward and not backward and not way_back(loss, forward):
            method = loss if inspect.isroutine(loss) else getattr(loss, forward)
            if not derivative_flag(method):
                whole = forward == "__call__"
                subject, forward, backward = Together(loss, "" if whole else forward), "forward", "backward"
            elif method is loss:
                subject, forward, backward = Pair(loss, loss), "forward", "backward"
        values = (prediction, target, *others)
        arrays, arguments = arranged(values)
        names = (*LOSS_INPUTS, *(f"input{i}" for i in range(2, len(arrays))))
        given = Given(forward=forward, backward=backward, constant=tuple(range(TARGET, len(arrays))))
        exchanged = replace(given, order=(TARGET, PREDICTION, *arguments[2:]))
        told, of_gradient = (_target_first(method) for method in _both_ways(subject, forward, backward))
        first, second = (exchanged, given) if told or (told is None and of_gradient) else (given, exchanged)
        try:
            if told is None:
                reading = read_either(subject, values, names, first, second)
            else:
                reading = read(subject, values, names, first)
        except (TypeError, IndexError) as error:
            if isinstance(error, AdapterError) and not isinstance(subject, Together):
                raise
            raise AdapterError(
                f"{type(loss).__name__} needs a method backward that returns the gradient of the prediction, or a "
                "forward that returns (value, gradient): name its own with backward="
            ) from error
        return cls(ForeignLayer.as_read(subject, reading))

    @property
    def name(self) -> str:
        """Return the name of the object's class."""
        return self.layer.name

    @property
    def reading(self) -> Reading:
        """Return how it is called."""
        return self.layer.reading

    def in_precision(self, precision: Precision) -> ForeignLoss:
        """Return this loss with its arrays in a precision."""
        return replace(self, layer=self.layer.in_precision(precision))

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the loss as a function of its prediction."""
        return self.layer.function(inputs)


def _both_ways(subject: Any, forward: str, backward: str) -> tuple[Any, Any]:
    """Return what is called to go forward and back; None where there is nothing."""
    if isinstance(subject, Pair):
        return subject.functions
    if isinstance(subject, Together):
        return getattr(subject.whole, subject.method) if subject.method else subject.whole, None
    return member(subject, forward), member(subject, backward or way_back(subject, forward))


def _target_first(method: Any) -> bool | None:
    """Return whether the arguments' names say that the target comes before the prediction; None if they do not say."""
    names = [plain(each.name) for each in positional(method)][:2] if callable(method) else []
    if len(names) < 2:
        return None
    one, other = names
    if one in TARGETS | ({"y"} if other in PREDICTIONS - {"x", "input"} else set()):
        return True if other not in TARGETS else None
    return False if one in CERTAIN_PREDICTIONS or other in TARGETS | {"y"} else None
