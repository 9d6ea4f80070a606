"""Arrays that round at random in every operation: how far rounding moves the results of an object without taps.

Monte Carlo arithmetic: Parker (1997); Denis, de Oliveira Castro and Petit, "Verificarlo" (2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.numerics.rounding import nudged

# Ufuncs with an exact result: an operand, a whole number or a truth value.
EXACT = frozenset(
    {"maximum", "minimum", "fmax", "fmin", "negative", "positive", "absolute", "fabs", "sign", "copysign"}
    | {"floor", "ceil", "rint", "trunc", "conjugate", "spacing", "nextafter"}
)
# Functions that round and are no ufuncs.
ROUNDING = frozenset({"dot", "einsum", "inner", "outer", "tensordot", "vdot", "trace", "norm"})


class Nudging(np.ndarray[Any, Any]):
    """An array whose operations nudge their results by one unit in the last place, wherever these may have rounded."""

    rng: np.random.Generator | None

    def __array_finalize__(self, other: object) -> None:
        self.rng = getattr(other, "rng", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [plain_of(value) for value in inputs]
        if out is not None:
            options["out"] = tuple(plain_of(value) for value in out)
        if isinstance(options.get("where"), np.ndarray):
            options["where"] = plain_of(options["where"])
        result = getattr(ufunc, method)(*plain, **options)
        if method == "at" or isinstance(result, tuple) or result is None:
            return result
        moved = result if ufunc.__name__ in EXACT else self._rounded(result, plain)
        if out is not None:
            if moved is not result:
                options["out"][0][...] = moved
            return out[0]
        return self._like(moved)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        result = super().__array_function__(function, types, arguments, options)
        if function.__name__ in ROUNDING and isinstance(result, (np.ndarray, np.floating)):
            return self._like(self._rounded(np.asarray(result), []))
        return result

    def dot(self, other: Any, out: Any = None) -> Any:
        return np.dot(self, other, out)

    def _rounded(self, result: Any, operands: list[Any]) -> Any:
        array = np.asarray(result)
        if array.dtype.kind != "f" or self.rng is None:
            return result
        moved = nudged(array, self.rng)
        for place, operand in enumerate(operands):  # x * 1 and x + 0 are exact, and x + 1e-20 is not
            if np.shape(operand) not in ((), array.shape):
                continue
            exact = array == operand
            if not exact.any():
                continue
            for other in (each for i, each in enumerate(operands) if i != place):
                if np.shape(other) in ((), array.shape):
                    exact = exact & (np.equal(other, 0) | np.equal(other, 1))
            moved = np.where(exact, array, moved)
        return moved.astype(array.dtype, copy=False)

    def _like(self, result: Any) -> Any:
        if not isinstance(result, (np.ndarray, np.floating)) or result.dtype.kind != "f":
            return result
        return nudging(np.asarray(result), self.rng)


def nudging(array: Array, rng: np.random.Generator | None) -> Array:
    """Return a view of an array as a `Nudging` one, or the array itself if it is not floating-point."""
    if array.dtype.kind != "f":
        return array
    view = array.view(Nudging)
    view.rng = rng
    return view


def plain_of(value: Any) -> Any:
    """Return a `Nudging` array as a plain one, and any other value as it is."""
    return value.view(np.ndarray) if isinstance(value, Nudging) else value
