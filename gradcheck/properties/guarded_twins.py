"""An eps inside a loss's logarithm, or beside a layer's norm, that one of a subject and its twin has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import LARGEST, guard_of, guard_of_values, values_of
from gradcheck.numerics.agreement import Worst, compare
from gradcheck.numerics.functions import Arrays, Function
from gradcheck.numerics.shrinking import SHRUNK, shrunk
from gradcheck.properties.explained import moved_from, target_of
from gradcheck.properties.normed_twins import Normed

POINTS = 6  # at which two values must part as one eps says


class Guarded:
    """The eps by which a subject and its twin differ, sought where they do; ``said`` is what was found, by tensor."""

    def __init__(self, case: Case, function: Function, twin: Function) -> None:
        self._case, self._function, self._twin = case, function, twin
        self._known: float | None = None
        self._normed: dict[str, Normed] = {}
        self.said: dict[str, str] = {}

    def worst(
        self, name: str, ours: Array, theirs: Array, allowed: float, variables: Arrays, dy: Array
    ) -> Worst | None:
        """Return the worst element of what an eps of at most `LARGEST` leaves unexplained; None if none is found."""
        if not self._function.foreign or ours.shape != theirs.shape:
            return None
        target = target_of(self._function)
        if target is None:
            normed = self._normed.setdefault(
                dy.dtype.name, Normed(self._case, (self._function, self._twin), variables, dy)
            )
            left, eps = normed.worst(name, allowed)
            if eps and left is not None and left.ratio <= 1:
                self._say(name, eps, "beside a norm")
            return left
        return self._of_loss(name, target, (ours, theirs), allowed, variables, dy)

    def _of_loss(
        self, name: str, target: Array, sides: tuple[Array, Array], allowed: float, variables: Arrays, dy: Array
    ) -> Worst | None:
        place = self._function.inputs[0]
        if name == "output":
            return self._of_values(place, target, allowed, variables)
        if name != place:
            return None
        wide = [np.asarray(array, np.float64) for array in (*sides, variables[name], dy)]
        comparison = Comparison(wide[0], wide[1], np.full(wide[0].shape, allowed))
        known = {self._known: 0.0} if self._known else None
        moved = moved_from(self._case, self._function, variables, name, dy)
        guard = guard_of(comparison, wide[2], wide[3], target, moved, known)
        if guard is None or not guard.sure or guard.eps - guard.error > LARGEST or np.any(guard.outside):
            return None
        left = compare(name, comparison.analytic, *guard.without(comparison.numeric, comparison.allowed))
        if left is not None and left.ratio <= 1:
            self._say(name, guard.eps, "inside a logarithm")
        return left

    def _of_values(self, place: str, target: Array, allowed: float, variables: Arrays) -> Worst | None:
        x, rng = variables[place], self._case.rng("guards of twins")
        moved = [shrunk(x, rng, k * SHRUNK / POINTS) for k in range(POINTS)]

        def sums(function: Function) -> Array:
            values = (function.call({**variables, place: one}, self._case.context())[0] for one in moved)
            return np.array([float(np.sum(value, dtype=np.float64)) for value in values])

        try:
            ours, theirs = sums(self._function), sums(self._twin)
        except Exception:  # noqa: BLE001  outside the domain of either
            return None
        losses: list[Callable[[complex], Array]] = list(
            values_of([np.asarray(one, np.float64) for one in moved], target)
        )
        found = guard_of_values(ours, theirs, allowed, losses, self._known)
        if found is None:
            return None
        self._known = found.eps
        self._say("output", found.eps, "inside a logarithm")
        return compare("output", found.explained, ours, 2 * allowed)  # of each side's sum

    def _say(self, name: str, eps: float, where: str) -> None:
        self.said[name] = f"{name} differs from the twin's as eps = {eps:.2g} {where} of one of both explains"
