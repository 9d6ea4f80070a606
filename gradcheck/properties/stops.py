"""Gradients that are meant not to be derivatives: those that a twin has, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck.contract import Case
from gradcheck.numerics.functions import Arrays, cast, function_of
from gradcheck.numerics.shrinking import shrunk
from gradcheck.properties.outcome import Outcome
from gradcheck.properties.twins import compared_with_twin
from gradcheck.subjects.twin import twin_of


def stopped_in_twin(case: Case, tensors: Sequence[str]) -> bool:
    """Return whether the twin that was given has the gradients of these tensors, at the case's cotangent.

    Values and gradients must be the same, here and where the tensors have shrunk. Then what differences show is kept
    from the way back, and is meant to be: a sign that lets dy through, a scale that counts as a constant, a row of
    padding. A twin whose gradients are zero must at least move with the tensors.
    """
    if case.twin is None:
        return False
    here, rng = cast(function_of(case).variables, np.float64), case.rng("shrunk")
    there = {name: shrunk(x, rng) if name in tensors else x for name, x in here.items()}
    try:
        opinions = [_tells(case, point, tensors) for point in (here, there)]
        if None in opinions:
            return False
        twin = twin_of(case)
        y, moved = (twin.call(point, case.context())[0] for point in (here, there))
    except Exception:  # noqa: BLE001  whatever is raised, by either side, excuses nothing
        return False
    return all(opinions) or not np.array_equal(y, moved)


def _tells(case: Case, variables: Arrays, tensors: Sequence[str]) -> bool | None:
    """Return whether the equal gradients of all tensors tell something, as zeros do not; None if anything differs."""
    compared = compared_with_twin(case, variables, ("float64",), excusing=False)
    if isinstance(compared, Outcome):
        return None
    chosen = {name: (worst, told) for name, worst, told in compared.tensors if name in ("output", *tensors)}
    if not {"output", *tensors} <= chosen.keys():
        return None
    if any(worst is None or worst.ratio > 1 for worst, _ in chosen.values()):
        return None
    return all(told for name, (_, told) in chosen.items() if name != "output")
