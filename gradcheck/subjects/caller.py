"""Copies of a foreign object, called in one mode or the other with the same random numbers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.precision import Precision
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.calls import (
    Argument,
    Calls,
    Contextual,
    Pair,
    Together,
    arranged,
    found_or_none,
)
from gradcheck.subjects.copies import fresh
from gradcheck.subjects.parameters import (
    nearest,
    squeezed,
)
from gradcheck.subjects.randomness import generators_around, is_generator, same_randomness
from gradcheck.subjects.signatures import (
    name_of,
    positional,
)

LOSS_INPUTS = ("prediction", "target")  # what the first inputs of a loss are called, and no others
NUDGE = 2.0**-6  # of an array's size, by which it is moved to see what depends on it


@dataclass(frozen=True)
class Given:
    """What the user says of an object, in place of what would be found."""

    params: Mapping[str, str] = field(default_factory=dict)
    grads: Mapping[str, str] = field(default_factory=dict)
    forward: str = ""
    backward: str = ""
    constant: tuple[str | int, ...] = ()
    order: tuple[Argument, ...] = ()


class Caller:
    """Calls copies of an object: each stage of reading it knows more of how."""

    pulls = False  # whether a forward pass returns the function that goes back

    def __init__(
        self,
        subject: Any,
        inputs: Sequence[Any],
        names: Sequence[str],
        given: Given,
        precision: Precision = np.float64,
    ) -> None:
        self.subject, self.given, self.names, self.precision = subject, given, tuple(names), precision
        arrays, self.arguments = arranged(inputs)
        if given.order:
            self.arguments = given.order
        self.inputs = [in_precision(array, precision) for array in arrays]
        self.kinds_given = {array.dtype for array in arrays if array.dtype.kind == "f"}
        self.who = _name_of(subject)
        self.generators = generators_around(subject)
        self.base = self._copied(subject)
        self.calls = Calls()

    @property
    def of_loss(self) -> bool:
        """Whether the inputs are a prediction and a target."""
        return self.names[:2] == LOSS_INPUTS

    def _copied(self, subject: Any) -> Any:
        try:
            return fresh(subject, self.precision)
        except Exception as error:  # which is of the object's own making
            raise AdapterError(
                f"{self.who} cannot be copied, and checks work on copies: copy.deepcopy raises "
                f"{type(error).__name__}: {error}"
            ) from error

    def own_names(self) -> list[str]:
        """Return what forward itself calls the arrays that it is given."""
        names = [each.name for each in positional(self.forward_target())]
        own = list(self.names)
        for name, argument in zip(names, self.arguments, strict=False):
            if isinstance(argument, int):
                own[argument] = name
        return own

    def forward_target(self) -> Callable[..., object]:
        target: Callable[..., object] = self.target(0) or getattr(self.base, self.calls.forward)
        return target

    def target(self, which: int) -> Any:
        """Return the function whose arguments are to be looked at; None for an object's own methods."""
        if isinstance(self.subject, Pair):
            return self.subject.functions[which]
        if isinstance(self.subject, Contextual):
            return self.subject.target(which)
        if isinstance(self.subject, Together) and which == 1:
            return _pullback if self.pulls else _given_already
        if isinstance(self.subject, Together):
            owner, name = self.subject.whole, self.subject.method
            return getattr(owner, name) if name else owner
        return None

    def spoken(self, which: int) -> str:
        """Return how its user calls what goes forward (0) or back (1): ``Dense.forward``, or a function's own name."""
        target = self.target(which)
        if isinstance(self.subject, Pair):
            return name_of(target)
        if isinstance(self.subject, Together):
            return f"{self.who}.{self.subject.method}" if self.subject.method else self.who
        return f"{self.who}.{(self.calls.forward, self.calls.backward)[which]}"

    def floating(self) -> list[int]:
        """Return the numbers of the inputs that may have a gradient."""
        own = self.own_names()
        constant = set(self.given.constant)
        return [
            i
            for i, v in enumerate(self.inputs)
            if isinstance(v, np.ndarray) and v.dtype.kind == "f" and not {i, self.names[i], own[i]} & constant
        ]

    def go(
        self, *, training: bool, inputs: Sequence[Any] | None = None, layer: Any = None, seed: int = 0
    ) -> tuple[Any, Any]:
        """Return a copy after its forward pass, and what that returned."""
        layer = copy.deepcopy(self.base) if layer is None else layer
        given = [np.array(v) for v in (self.inputs if inputs is None else inputs)]
        with same_randomness(seed, self.generators), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return layer, self.calls.go_forward(layer, given, training=training)

    def both(
        self, *, training: bool, seed: int = 0, layer: Any = None, dys: Sequence[Array] | None = None
    ) -> tuple[Any, Any, Any, list[Array]]:
        """Return a copy after a forward and a backward pass, what both returned, and the cotangents."""
        layer, result = self.go(training=training, layer=layer, seed=seed)
        back, cotangents = self.back(layer, result, dys=dys, seed=seed)
        return layer, result, back, cotangents

    def back(
        self,
        layer: Any,
        result: Any,
        *,
        dys: Sequence[Array] | None = None,
        inputs: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> tuple[Any, list[Array]]:
        """Return what a backward pass behind a forward pass returns, and the cotangents."""
        outputs = self.calls.values(layer, result)
        cotangents = self.cotangents(outputs) if dys is None else list(dys)
        given = [np.array(dy) for dy in cotangents]
        values = [np.array(v) for v in (self.inputs if inputs is None else inputs)]
        with same_randomness(seed + 1, self.generators), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.calls.go_backward(layer, result, values, given), cotangents

    def cotangents(self, outputs: Sequence[Array]) -> list[Array]:
        """Return a cotangent of each output."""
        rng = stream("cotangents of a reading")
        return [np.asarray(rng.standard_normal(y.shape)).astype(self.precision) for y in outputs]

    def try_forward(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        try:
            return self.go(training=True, inputs=inputs)
        except Exception:  # noqa: BLE001  it does not take these: those given will do
            return self.go(training=True)

    def put_generators_back(self, layer: Any) -> None:
        for name, value in getattr(self.base, "__dict__", {}).items():
            if is_generator(value):
                setattr(layer, name, copy.deepcopy(value))


def _pullback(dy: Array) -> None:
    """Take what a function takes that a forward pass has returned."""


def _given_already() -> None:
    """Take nothing: the gradients came with the value."""


def _name_of(subject: Any) -> str:
    """Return the name of a function, or of a class or an object's class, as its user knows it."""
    if isinstance(subject, Pair):
        return subject.name
    owner = subject
    if isinstance(subject, Together):
        owner = subject.whole
    elif isinstance(subject, Contextual):
        owner = subject.kind
    return name_of(owner)


def value_at(path: str, layer: Any, back: Any) -> Any:
    """Return what is at a path, or nothing, a number 0, where there is nothing."""
    value = found_or_none(path, layer, back)
    return np.zeros(()) if value is None else value


def in_precision(value: Any, precision: Precision) -> Any:
    """Return an array in a precision if it is floating-point, and anything else as it is."""
    return value.astype(precision) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def changed(before: Mapping[str, Array], after: Mapping[str, Array]) -> set[str]:
    """Return the paths of the arrays that were not there before, or have other values."""
    return {path for path, array in after.items() if path not in before or not equal(before[path], array)}


def other_values(array: Array, rng: np.random.Generator) -> Array:
    """Return other values of the same kind: a permutation along the first axis, moved a little if floating-point."""
    if array.dtype.kind != "f":
        return np.array(array[::-1]) if array.ndim else array
    moved = (array * (1 + NUDGE * rng.uniform(0.25, 1.0, array.shape))).astype(array.dtype)
    return np.array(moved[::-1]) if array.ndim else np.asarray(moved)


def is_floating(value: object) -> bool:
    """Return whether a value is an array of floating-point numbers, or can be made one."""
    return is_number(value) and np.asarray(value).dtype.kind == "f"


def is_number(value: object) -> bool:
    """Return whether a value is a number, whole or not, or an array of such."""
    try:
        return np.asarray(value).dtype.kind in "fiub" and not isinstance(value, Mapping)
    except ValueError:  # ragged
        return False


def same_shape(value: object, array: Array) -> bool:
    """Return whether a value has the shape of an array, but for axes of one element."""
    try:
        shape = np.shape(value)  # type: ignore[call-overload]  # anybody's
    except ValueError:
        return False
    return shape == array.shape or squeezed(shape) == squeezed(array.shape)


def equal(a: object, b: object) -> bool:
    """Return whether two values are arrays of the same numbers."""
    return (
        isinstance(a, np.ndarray)
        and isinstance(b, np.ndarray)
        and a.shape == b.shape
        and np.array_equal(a, b, equal_nan=True)
    )


def alike(a: object, b: object) -> bool:
    """Return whether two attributes hold the same numbers; what is no number is taken to."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return equal(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(alike(value, b[key]) for key, value in a.items())
    if a is None or b is None:
        return a is b
    return bool(a == b) if isinstance(a, (int, float, str, bool)) else True


def described(value: object) -> str:
    """Return what a value is, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} values"
    return f"shape {np.shape(value)}" if is_floating(value) else f"a {type(value).__name__}"  # type: ignore[call-overload]


def suggestion(word: str, words: Sequence[str]) -> str:
    """Return what was perhaps meant by a word that is none of those that there are."""
    close = nearest(word, words)
    return (
        f"; did you mean {' or '.join(close[:2])}?"
        if close
        else (f"; it has {', '.join(list(words)[:8])}" if words else "")
    )
