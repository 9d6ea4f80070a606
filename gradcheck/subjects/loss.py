"""Anybody's loss, as a function of its prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gradcheck.contract import Array
from gradcheck.numerics.functions import Function
from gradcheck.numerics.precision import Precision
from gradcheck.subjects.attributes import AdapterError, member
from gradcheck.subjects.caller import Given
from gradcheck.subjects.calls import Pair, Together, arranged
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.reader import read
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import BACKWARDS, FORWARDS, PREDICTIONS, TARGETS, plain, positional

NAMES = ("prediction", "target")
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
        forward = forward or _method(loss, FORWARDS_OF_LOSSES)
        subject: Any = loss
        if isinstance(loss, tuple):
            subject, forward, backward = Pair(*loss), "forward", "backward"
        elif callable(loss) and forward == "__call__" and not backward and not _method(loss, BACKWARDS):
            subject, forward, backward = Together(loss, ""), "forward", "backward"
        elif forward and not backward and not _method(loss, tuple(b for b in BACKWARDS if b != forward)):
            subject, forward, backward = Together(loss, forward), "forward", "backward"
        first = _target_first(loss, subject, forward)
        values = (prediction, target, *others)
        arrays, arguments = arranged(values)
        names = (*NAMES, *(f"input{i}" for i in range(2, len(arrays))))
        order = (TARGET, PREDICTION, *arguments[2:]) if first else ()
        given = Given(forward=forward, backward=backward, constant=tuple(range(TARGET, len(arrays))), order=order)
        try:
            reading = read(subject, values, names, given)
        except (TypeError, IndexError) as error:
            if isinstance(error, AdapterError) and not isinstance(subject, Together):
                raise
            raise AdapterError(
                f"{type(loss).__name__} needs a method backward that returns the gradient of the prediction, or a "
                "forward that returns (value, gradient): name its own with backward="
            ) from error
        return cls(ForeignLayer(subject, reading))

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


def _method(owner: object, usual: tuple[str, ...]) -> str:
    return next((name for name in usual if callable(member(owner, name))), "")


def _target_first(loss: object, subject: Any, forward: str) -> bool:
    """Return whether the arguments' names say that the target comes before the prediction."""
    method: Callable[..., object]
    if isinstance(subject, Pair):
        method = subject.functions[0]
    elif isinstance(subject, Together):
        method = getattr(loss, subject.method) if subject.method else loss  # type: ignore[assignment]  # it is callable
    else:
        method = getattr(loss, forward, None) or (lambda: None)
    names = [plain(each.name) for each in positional(method)][:2]
    if len(names) < 2:
        return False
    targets = TARGETS | ({"y"} if names[1] in PREDICTIONS - {"x", "input"} else set())
    return names[0] in targets and names[1] not in TARGETS
