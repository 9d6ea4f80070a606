"""What a call changes, in place, of what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.numerics.functions import function_on_its_arguments
from gradcheck.numerics.memory import copied
from gradcheck.properties.outcome import Outcome, cotangent, inconclusive


class Change(NamedTuple):
    """An array that was given and holds other numbers afterwards: ``by`` says what changed it."""

    name: str
    by: str
    is_parameter: bool

    def __str__(self) -> str:
        return f"{self.name} is changed by {self.by}"


def changes_of(case: Case) -> list[Change]:
    """Return what forward and backward change of inputs, parameters and dy, where they are given these arrays."""
    if ("changes",) not in case.found:
        case.found["changes",] = _changes(case)
    found: list[Change] = case.found["changes",]
    return found


def _changes(case: Case) -> list[Change]:
    function = function_on_its_arguments(case)
    constants = function.constants if function.foreign else {}
    given = {name: copied(array) for name, array in {**function.variables, **constants}.items()}
    before = _copies(given)
    y, pullback = function.call(given, case.context())
    between = _copies(given)
    dy = cotangent(y, case.rng("cotangent"))
    kept = dy.copy()
    pullback(dy)
    by_forward, by_backward = _differing(before, between), _differing(between, given)
    changes = []
    for name in given:
        passes = [what for what, names in (("forward", by_forward), ("backward", by_backward)) if name in names]
        parameter = name in function.variables and name not in function.inputs
        if passes:
            changes.append(Change(name, " and by ".join(passes) if parameter else "the call", parameter))
    return changes + [Change("dy", "the call", False)] * (not _same(dy, kept))


def not_judged_if_changed(case: Case, *, parameters_alone: bool = False) -> Outcome | None:
    """Return why a claim is not judged: what is given changes, from which other results follow. None if nothing does.

    Of some claims that is so of ``parameters_alone``.
    """
    changes = [change for change in changes_of(case) if change.is_parameter or not parameters_alone]
    return inconclusive(f"not judged, since {' and '.join(map(str, changes))}") if changes else None


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def _differing(before: Mapping[str, Array], after: Mapping[str, Array]) -> set[str]:
    return {name for name, array in before.items() if not _same(array, after[name])}


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
