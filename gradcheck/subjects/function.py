"""Any function and its pullback."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import Arrays, Function, GradientNamesError, Pullback, values_of_arguments
from gradcheck.numerics.memory import copied
from gradcheck.numerics.precision import Precision
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, input_names
from gradcheck.subjects.calls import RESULT, Calls
from gradcheck.subjects.randomness import generators_around, same_randomness
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import positional


@dataclass(frozen=True, eq=False)
class PlainFunction:
    """``f(*inputs) -> array`` with ``vjp(inputs, dy) -> gradients``, one of each input that is floating-point.

    ``names`` are those of the inputs, by default ``input`` or ``input0``, ...; ``f`` may also return ``(array,
    cache)``.
    """

    f: Callable[..., Any]
    vjp: Callable[[tuple[Array, ...], Array], Any]
    names: tuple[str, ...] = ()
    generators: Mapping[str, Any] = field(default_factory=dict, repr=False)
    reading: Reading | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Return the name of the function."""
        return getattr(self.f, "__name__", type(self.f).__name__)

    def in_precision(self, precision: Precision) -> PlainFunction:
        """Return this function, which holds no arrays that are known."""
        return self

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return it as a function of named inputs."""
        names = self.names or tuple(input_names(len(inputs)))
        arguments = tuple(n if a.dtype.kind == "f" else a for n, a in zip(names, inputs, strict=True))
        variables = {n: a for n, a in zip(names, inputs, strict=True) if a.dtype.kind == "f"}

        quiet = self.reading is not None and not self.reading.draws

        @contextmanager
        def randomness(context: Context) -> Iterator[None]:
            if quiet:
                yield
                return
            with same_randomness(context.key.seed + context.key.step, self.generators):
                yield

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            values = values_of_arguments(arguments, given)
            own = [copied(value) for value in values]  # vjp's, since f may change what it is given
            with randomness(context):
                y = value_of(self.f(*values))

            def pullback(dy: Array) -> dict[str, Array]:
                with randomness(context):
                    result = self.vjp(tuple(own), dy)
                for value, changed in zip(values, own, strict=True):
                    if value.flags.writeable:
                        value[...] = changed
                wanted = [a for a in arguments if isinstance(a, str)]
                if isinstance(result, Mapping):
                    return {name: np.asarray(result[name]) for name in wanted if name in result}
                results = list(result) if isinstance(result, (tuple, list)) else [result]
                if len(results) == len(arguments):
                    results = [r for r, a in zip(results, arguments, strict=True) if isinstance(a, str)]
                if len(results) != len(wanted):
                    raise GradientNamesError(f"vjp returns {len(results)} gradients for {len(wanted)} inputs")
                return {name: np.asarray(value) for name, value in zip(wanted, results, strict=True)}

            return y, pullback

        return Function(variables, arguments, call, foreign=True)


def value_of(result: Any) -> Array:
    """Return the value of what a function returns: the first of a tuple (array, cache)."""
    return np.asarray(result[0] if isinstance(result, tuple) and result else result)


def names_of(f: Callable[..., object], count: int) -> tuple[str, ...]:
    """Return what a function calls its first ``count`` arguments; ``input0``, ... where it does not say."""
    own = [each.name for each in positional(f)]
    if len(own) < count or any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in positional(f)):
        return tuple(input_names(count))
    return tuple(own[:count])


def plain_function(
    f: Callable[..., Any], vjp: Callable[..., Any], inputs: Sequence[Array], names: Sequence[str] | None
) -> PlainFunction:
    """Return a function to be checked, after reading it.

    Raises `AdapterError` where it cannot be called with the inputs.
    """
    named = tuple(names) if names is not None else names_of(f, len(inputs))
    if len(set(named)) != len(inputs):
        raise AdapterError(f"names= needs one name of each input, got {len(named)} for {len(inputs)}")
    generators = {**generators_around(f), **generators_around(vjp)}
    inputs, first = _taken(f, inputs, generators)
    with same_randomness(0, generators), np.errstate(all="ignore"):
        values = [first, value_of(f(*(np.array(x) for x in inputs)))]
    if values[0].dtype.kind not in "fiub":
        raise AdapterError(f"f returns {values[0].dtype}; an array of numbers, or (array, cache), is needed")
    unseeded = values[0].shape != values[1].shape or not np.array_equal(values[0], values[1], equal_nan=True)
    with same_randomness(0, generators) as drawn, np.errstate(all="ignore"):
        result = f(*(np.array(x) for x in inputs))
    count = len(result) if isinstance(result, tuple) else 0
    floating = {i: f"{RESULT}.{i}" for i, x in enumerate(inputs) if x.dtype.kind == "f"}
    calls = Calls(
        getattr(f, "__name__", type(f).__name__),
        getattr(vjp, "__name__", "vjp"),
        tuple(range(len(inputs))),
        outputs=(f"{RESULT}.0",) if count else (RESULT,),
        given=("inputs", "dy"),
        gradients=floating,
        returns_outputs=count,
    )
    draws = tuple(generators) or ("NumPy's or Python's global generator",)
    reading = Reading(
        calls.forward, calls, named, draws=draws if drawn() else (), unseeded=unseeded, argument_names=named,
        fixed=not unseeded and _ignores_inputs(vjp, inputs, values[0], generators),
    )  # fmt: skip
    return PlainFunction(f, vjp, named, generators, reading)


def _taken(
    f: Callable[..., Any], inputs: Sequence[Array], generators: Mapping[str, Any]
) -> tuple[Sequence[Array], Array]:
    """Return the inputs in a precision that a function takes, as they are given if it takes that, and its value."""
    refusal: Exception | None = None
    kinds = {x.dtype.type for x in inputs if x.dtype.kind == "f"}
    for precision in (None, np.float32, np.float64):
        given = inputs if precision is None else [x.astype(precision) if x.dtype.kind == "f" else x for x in inputs]
        if precision is not None and kinds == {precision}:
            continue
        try:
            with same_randomness(0, generators), np.errstate(all="ignore"):
                return given, value_of(f(*(np.array(x) for x in given)))
        except Exception as error:  # noqa: BLE001  told below, as it was for what was given
            refusal = refusal or error
    shapes = ", ".join(str(x.shape) for x in inputs)
    reason = str(refusal).splitlines()[0] if str(refusal) else ""
    raise AdapterError(
        f"f raises {type(refusal).__name__}: {reason} for inputs of shape {shapes}, in float64 and in float32"
    ) from refusal


def _ignores_inputs(vjp: Callable[..., Any], inputs: Sequence[Array], y: Array, generators: Mapping[str, Any]) -> bool:
    """Return whether a pullback returns the very same gradients for other inputs: it has those that it was made for."""
    rng = stream("other inputs of a pullback")
    # In another order: of numbers that have moved a little only, a maximum, say, is where it was.
    others = [
        (rng.permutation(x.reshape(-1)).reshape(x.shape) * (1 + 0.125 * rng.uniform(0.5, 1.0, x.shape))).astype(x.dtype)
        if x.dtype.kind == "f" else x
        for x in inputs
    ]  # fmt: skip
    dy = rng.standard_normal(y.shape).astype(y.dtype if y.dtype.kind == "f" else np.float64)
    found = []
    try:
        for given in (inputs, others):
            with same_randomness(0, generators), np.errstate(all="ignore"):
                result = vjp(tuple(np.array(x) for x in given), dy.copy())
            found.append([np.array(g) for g in (result if isinstance(result, (tuple, list)) else [result])])
    except Exception:  # noqa: BLE001  one that fails for others depends on its inputs
        return False
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*found, strict=False))
