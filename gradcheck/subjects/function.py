"""Any function and its pullback."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import Arrays, Function, GradientNamesError, Pullback, Values, values_of_arguments
from gradcheck.numerics.memory import copied
from gradcheck.numerics.precision import Precision
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError, input_names, raised
from gradcheck.subjects.calls import RESULT, Calls
from gradcheck.subjects.pullbacks import AGREES, STEPS
from gradcheck.subjects.randomness import generators_around, same_randomness, watched_randomness
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import COTANGENTS, plain, positional, required


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

        quiet = self.reading is not None and not self.reading.draws  # or no call so far has drawn a random number

        @contextmanager
        def randomness(context: Context) -> Iterator[None]:
            nonlocal quiet
            if quiet:
                yield
                return
            with watched_randomness(context.key.seed + context.key.step, self.generators) as drawn:
                yield
            quiet = self.reading is None and not drawn()

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

        def values(given: Arrays, context: Context) -> Values:
            def value(moved: Arrays) -> Array:
                with randomness(context):
                    return np.array(value_of(self.f(*map(copied, values_of_arguments(arguments, {**given, **moved})))))

            return value

        return Function(variables, arguments, call, foreign=True, values=values)


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

    ``vjp(x, w, dy)`` and ``vjp(dy, x, w)`` are called as they take their arguments. Raises `AdapterError` where f or
    vjp cannot be called with the inputs.
    """
    named = tuple(names) if names is not None else names_of(f, len(inputs))
    if len(set(named)) != len(inputs):
        raise AdapterError(f"names= needs one name of each input, got {len(named)} for {len(inputs)}")
    generators = {**generators_around(f), **generators_around(vjp)}
    inputs, first = _in_a_precision(f, inputs, generators)
    with same_randomness(0, generators), np.errstate(all="ignore"):
        values = [first, value_of(f(*(np.array(x) for x in inputs)))]
    if values[0].dtype.kind not in "fiub":
        raise AdapterError(f"f returns {values[0].dtype}; an array of numbers, or (array, cache), is needed")
    takes, vjp = _as_called(f, vjp, dict(zip(named, inputs, strict=True)), values[0], generators)
    unseeded = values[0].shape != values[1].shape or not np.array_equal(values[0], values[1], equal_nan=True)
    with watched_randomness(0, generators) as drawn, np.errstate(all="ignore"):
        result = f(*(np.array(x) for x in inputs))
    count = len(result) if isinstance(result, tuple) else 0
    floating = {i: f"{RESULT}.{i}" for i, x in enumerate(inputs) if x.dtype.kind == "f"}
    calls = Calls(
        getattr(f, "__name__", type(f).__name__),
        getattr(vjp, "__name__", type(vjp).__name__),
        tuple(range(len(inputs))),
        outputs=(f"{RESULT}.0",) if count else (RESULT,),
        given=takes,
        gradients=floating,
        returns_outputs=count,
    )
    draws = tuple(generators) or ("NumPy's or Python's global generator",)
    reading = Reading(
        calls.forward, calls, named, draws=draws if drawn() else (), unseeded=unseeded, argument_names=named,
        fixed=not unseeded and _ignores_inputs(vjp, dict(zip(named, inputs, strict=True)), values[0], generators),
    )  # fmt: skip
    return PlainFunction(f, vjp, named, generators, reading)


def _as_called(
    f: Callable[..., Any],
    vjp: Callable[..., Any],
    named: Mapping[str, Array],
    y: Array,
    generators: Mapping[str, Any],
) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """Return what a pullback is called with, and the pullback as a function of a tuple of inputs and of dy.

    Of the ways in which it can be called, that is the first whose gradients agree with a difference along one
    direction; the first of all if none does. Raises `AdapterError` where it cannot be called.
    """
    names, inputs = tuple(named), tuple(named.values())
    taken = np.float32 if y.dtype == np.float32 else np.float64
    refusals: list[Exception] = []
    for precision in dict.fromkeys((taken, np.float32, np.float64)):
        ways = []
        given = [x.astype(precision) if x.dtype.kind == "f" else x for x in inputs]
        along, dy = _directions(given, y, precision)
        for takes, way in _ways(vjp, len(inputs)):
            try:
                with same_randomness(0, generators), np.errstate(all="ignore"):
                    result = way(tuple(np.array(x) for x in given), dy.copy())
            except Exception as error:  # noqa: BLE001  told below, if it can be called in no way
                refusals.append(error)
                continue
            gradients = _listed(result, names)
            fits = len(gradients) == len(inputs) and all(map(_fits, gradients, inputs))
            ways.append((takes, way, fits))
            if fits:
                numeric = _difference(f, given, along, dy, STEPS[precision], generators)
                analytic = sum(
                    float(np.sum(g * v)) for g, v in zip(gradients, along, strict=True) if v.dtype.kind == "f"
                )
                if abs(analytic - numeric) <= AGREES * max(abs(analytic), abs(numeric)):
                    return takes, way
        if ways:
            takes, way, _ = next((each for each in ways if each[2]), ways[0])
            return takes, way
    raise AdapterError(
        f"the gradient raises {raised(refusals[0])}; it is called as vjp(inputs, dy), with a "
        "tuple of the inputs, and returns one gradient of each"
    ) from refusals[0]


def _directions(inputs: Sequence[Array], y: Array, precision: Precision) -> tuple[list[Array], Array]:
    """Return a direction of each input, zero for integers, and a cotangent."""
    rng = stream("direction of a pullback")
    dy = rng.standard_normal(y.shape).astype(precision)
    return [
        rng.standard_normal(x.shape).astype(precision) if x.dtype.kind == "f" else np.zeros_like(x) for x in inputs
    ], dy


def _ways(vjp: Callable[..., Any], count: int) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    """Yield in which ways a pullback may be called, as a function of a tuple and dy: the likeliest first."""
    names = [each.name for each in required(vjp)]
    each = tuple(f"input{i}" for i in range(count))
    if len(names) != count + 1 or count == 1:
        yield ("inputs", "dy"), vjp
    if len(names) == count + 1:
        own = [(*each, "dy"), functools.wraps(vjp)(lambda inputs, dy: vjp(*inputs, dy))]
        turned = [("dy", *each), functools.wraps(vjp)(lambda inputs, dy: vjp(dy, *inputs))]
        dy_first = plain(names[0]) in COTANGENTS and plain(names[-1]) not in COTANGENTS
        yield from (turned, own) if dy_first else (own, turned)  # type: ignore[misc]  # lists of two


def _fits(gradient: Any, x: Array) -> bool:
    return x.dtype.kind != "f" or (gradient is not None and np.shape(gradient) == x.shape)


def _difference(
    f: Callable[..., Any],
    inputs: Sequence[Array],
    along: Sequence[Array],
    dy: Array,
    step: float,
    generators: Mapping[str, Any],
) -> float:
    """Return the derivative of <dy, f> along a direction, by a central difference; NaN where f is not defined."""
    ends = []
    try:
        for sign in (1, -1):
            with same_randomness(0, generators), np.errstate(all="ignore"):
                moved = (x + (sign * step * v).astype(x.dtype) for x, v in zip(inputs, along, strict=True))
                ends.append(float(np.sum(dy * value_of(f(*moved)))))
    except Exception:  # noqa: BLE001  out of its domain
        return float("nan")
    return (ends[0] - ends[1]) / (2 * step)


def _in_a_precision(
    f: Callable[..., Any], inputs: Sequence[Array], generators: Mapping[str, Any]
) -> tuple[Sequence[Array], Array]:
    """Return the inputs in a precision that a function takes, as they are given if it takes that, and its value."""
    refusals: list[Exception] = []
    kinds = {x.dtype.type for x in inputs if x.dtype.kind == "f"}
    for precision in (None, np.float32, np.float64):
        given = inputs if precision is None else [x.astype(precision) if x.dtype.kind == "f" else x for x in inputs]
        if precision is not None and kinds == {precision}:
            continue
        try:
            with same_randomness(0, generators), np.errstate(all="ignore"):
                return given, value_of(f(*(np.array(x) for x in given)))
        except Exception as error:  # noqa: BLE001  told below, as it was for what was given
            refusals.append(error)
    shapes = ", ".join(str(x.shape) for x in inputs)
    raise AdapterError(
        f"f raises {raised(refusals[0])} for inputs of shape {shapes}, in float64 and in float32"
    ) from refusals[0]


def _ignores_inputs(
    vjp: Callable[..., Any], named: Mapping[str, Array], y: Array, generators: Mapping[str, Any]
) -> bool:
    """Return whether a pullback returns the very same gradients for other inputs: it has those that it was made for."""
    names, inputs, rng = tuple(named), tuple(named.values()), stream("other inputs of a pullback")
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
            found.append([np.array(g, np.float64) for g in _listed(result, names) if g is not None])
    except Exception:  # noqa: BLE001  one that fails for others depends on its inputs
        return False
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*found, strict=False))


def _listed(result: Any, names: Sequence[str]) -> list[Any]:
    """Return the gradients of inputs of these names that a pullback has returned: one, several, or by name."""
    if isinstance(result, Mapping):
        return [result.get(name) for name in names]
    return list(result) if isinstance(result, (tuple, list)) else [result]
