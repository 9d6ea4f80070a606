"""How far rounding moves a call, and by how much it may therefore set two results apart: measured, as far as needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case
from gradcheck.numerics.functions import Arrays, Function, RefusedError, cast, shadow
from gradcheck.numerics.rounding import Recorder, largest_difference, noise_of, roughness
from gradcheck.numerics.separation import separation
from gradcheck.subjects.twin import TwinError

# Shadows of a check of small arrays. With few elements and cancelling terms all nudges of a shadow may cancel (with
# probability 0.22 for two terms just above a power of two); all 16 do so less than once in 10^10 times.
SHADOWS = 16

# In large arrays each element matters less, and each shadow costs more.
LARGE, SHADOWS_OF_LARGE = 1 << 17, 5
SLOW = 2e-3  # seconds of a forward and a backward pass, above which there are no more of them either

# What agrees by a few of them, or by none, needs no more: nothing fails but by all. They are most of a check.
FEW = 2
SO_FAR = (0, 1, FEW, None)  # by which arrays are compared in turn

# Allowance over the spread of the widest of these shadows. It is seldom small by chance. That of three is, so
# trajectories need a factor of 8. A foreign object has no taps, so its shadows show its rounding less reliably.
NATIVE_FACTOR, FOREIGN_FACTOR = 4.0, 8.0


def factor_of(function: Function) -> float:
    """Return the allowance over the spread of shadows: `FOREIGN_FACTOR` or `NATIVE_FACTOR`."""
    return FOREIGN_FACTOR if function.foreign else NATIVE_FACTOR


def allowance(function: Function, reference: Array, spread_of_shadows: float) -> float:
    """Return by how much rounding may set a tensor and its reference apart, given how far shadows spread."""
    least = float(np.finfo(reference.dtype).smallest_subnormal) if reference.dtype.kind == "f" else 0.0
    return (
        max(factor_of(function) * noise_of(reference, spread_of_shadows, factor_of(function)), least) + function.grain
    )


def seconds_a_call(case: Case) -> float:
    """Return the processor time of a forward and a backward pass of a case's subject, measured once a check."""
    seconds: float = case.measured.get("seconds", 0.0)
    return seconds


def has_many(case: Case, variables: Arrays) -> bool:
    """Return whether a call is small and quick enough for `SHADOWS` of it; then a comparison may begin with `FEW`."""
    return sum(array.size for array in variables.values()) <= LARGE and seconds_a_call(case) <= SLOW


def shadows_of(
    case: Case,
    function: Function,
    variables: Arrays,
    dy: Array,
    rng: np.random.Generator,
    precision: DTypeLike | None = None,
) -> Iterator[dict[str, Array]]:
    """Yield shadows of a call, and for a foreign object, which has no taps, its `roughness` too.

    Nudges are of one unit in the last place of ``precision``, by default that of the arrays. Those of small arrays are
    kept in the case, for other properties that make the same call.
    """
    many = has_many(case, variables)
    kept = _kept(case, {**variables, "dy": dy}, precision) if many else []
    for place in range(SHADOWS if many else SHADOWS_OF_LARGE):
        if place < len(kept):
            yield kept[place]
            continue
        one = shadow(function, variables, dy, rng, case.context(Recorder(rng, precision)), precision)
        if many:
            kept.append(one)
        yield one
    if not function.foreign:
        return
    yield from roughness(partial(_results, function, case, dy), variables, rng)


def _kept(case: Case, arrays: Arrays, precision: DTypeLike | None) -> list[dict[str, Array]]:
    """Return the list of those shadows that a case keeps of a call with these arrays, to which others are added."""
    calls: list[tuple[Arrays, list[dict[str, Array]]]] = case.found.setdefault(("shadows", str(precision)), [])
    for known, shadows in calls:
        if all(known[n].dtype == a.dtype and np.array_equal(known[n], a, equal_nan=True) for n, a in arrays.items()):
            return shadows
    calls.append(({name: array.copy() for name, array in arrays.items()}, []))
    return calls[-1][1]


def _results(function: Function, case: Case, dy: Array, given: Arrays) -> dict[str, Array] | None:
    """Return the output and the gradients, or None outside the domain."""
    try:
        y, pullback = function.call(given, case.context())
    except (RefusedError, TwinError):
        return None
    return {"output": y, **pullback(dy)}


class Rounding:
    """By how much rounding may set the results of a call apart from others that are to equal them.

    Shadows are called as comparisons need them: none for arrays that agree up to one rounding of their largest element.
    """

    def __init__(self, function: Function, results: Arrays, shadows: Iterator[dict[str, Array]]) -> None:
        self._function, self._results, self._shadows = function, results, shadows
        self._widest = dict.fromkeys(results, 0.0)
        self._taken = 0

    def after(self, count: int | None, name: str, reference: Array) -> float:
        """Return what a tensor is allowed by what that many shadows show, by default all."""
        left = None if count is None else max(0, count - self._taken)
        for one in islice(self._shadows, left):
            self._taken += 1
            for each, array in self._results.items():
                self._widest[each] = max(self._widest[each], largest_difference(one[each], array))
        return allowance(self._function, reference, self._widest[name])

    def allowed(
        self, name: str, array: Array, reference: Array, more: float = 0.0, precision: DTypeLike | None = None
    ) -> float:
        """Return what a tensor is allowed, besides ``more``: by none, by few or by all shadows, if it exceeds that.

        A ``precision`` is that in which the lower of both was computed, if the reference was not.
        """
        rounded = reference if precision is None else reference.astype(precision)
        for count in SO_FAR:
            allowed = self.after(count, name, rounded) + more
            if array.shape != reference.shape or largest_difference(array, reference) <= allowed:
                break
        return allowed


class Separation:
    """By how much rounding may set two functions apart, as `separation` sees it, measured where more is needed.

    Variables and dy are given to the second in the precision of its own dy. A native function shows its rounding at its
    taps, and nothing else excuses it.
    """

    def __init__(
        self, one: Function, other: Function, variables: Arrays, cotangents: tuple[Array, Array], case: Case
    ) -> None:
        self._one = partial(_results, one, case, cotangents[0])
        self._other = partial(_results, other, case, cotangents[1])
        self._variables, self._kind, self._foreign = variables, cotangents[1].dtype, one.foreign
        self._found: dict[str, float] = {}

    def of(self, name: str, array: Array, reference: Array, allowed: float) -> float:
        """Return what is added to an allowance: 0 where it is enough."""
        if not self._foreign or array.shape != reference.shape or largest_difference(array, reference) <= allowed:
            return 0.0
        if name not in self._found:
            self._found[name] = separation(self._one, self._in_its_precision, self._variables, name)
        return self._found[name]

    def _in_its_precision(self, given: Arrays) -> dict[str, Array] | None:
        return self._other(cast(given, self._kind))
