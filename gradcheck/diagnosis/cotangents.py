"""What a pullback makes of dy: nothing, a part of it, or dy with a wrong derivative."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import BACKWARDS, Cause, Diagnosis, Evidence, other_cotangents
from gradcheck.diagnosis.fits import FITTED, ONE, PRECISION, TWO, rounded
from gradcheck.diagnosis.losses import sigmoid
from gradcheck.diagnosis.patterns import end_of

# One numeric gradient for every output is affordable up to here.
MOST_ONE_HOTS = 64


def ignores_dy(evidence: Evidence) -> Diagnosis | None:
    """The same gradient for every cotangent."""
    others = (np.asarray(BACKWARDS * evidence.dy), *other_cotangents(evidence.dy))
    comparison = evidence.comparison
    if not np.any(comparison.failing) or not np.any(comparison.analytic):
        return None
    if not all(np.array_equal(evidence.analytic_of(dy), evidence.analytic) for dy in others):
        return None
    of_ones, unsure = evidence.numeric_of(np.ones_like(evidence.dy))
    return Diagnosis(Cause.IGNORES_DY, {"ones": comparison.explained_by(of_ones, unsure, ONE)})


def part_of_dy(evidence: Evidence) -> Diagnosis | None:
    """Only one end of dy counts, or all but that end."""
    comparison, dy = evidence.comparison, evidence.dy
    for axis, end in product(range(dy.ndim), ("last", "first")):
        if dy.shape[axis] < 2:
            continue
        masked = np.zeros_like(dy)
        masked[end_of(axis, end)] = dy[end_of(axis, end)]
        part, unsure = evidence.numeric_of(masked)
        batch = axis == evidence.batch_axis and dy.shape[axis] == evidence.batch
        details = {"axis": axis, "end": end, "batch": batch}
        if comparison.explained_by(part, unsure, TWO):
            return Diagnosis(Cause.ONLY_PART_OF_DY, details)
        if comparison.explained_by(comparison.numeric - part, unsure + comparison.allowed, TWO):
            return Diagnosis(Cause.PART_OF_DY_LEFT_OUT, details)
    return None


def derivative(evidence: Evidence) -> Diagnosis | None:
    """For an elementwise y = f(x): dy without f'(x), with f'(x) twice, or with the derivative of the wrong array."""
    if not evidence.elementwise_shapes or not _truly_elementwise(evidence):
        return None
    comparison, dy = evidence.comparison, evidence.dy
    multiple = float(np.sum(dy * comparison.analytic) / np.sum(dy * dy))
    if comparison.explained_by(multiple * dy, 0.0, FITTED):
        return Diagnosis(Cause.DERIVATIVE_MISSING, {"multiple": rounded(multiple), "elementwise": True})
    slope = np.where(dy == 0, 0.0, comparison.numeric / dy)
    if comparison.explained_by(slope * comparison.numeric, 2 * np.abs(slope) * comparison.allowed, TWO):
        return Diagnosis(Cause.DERIVATIVE_TWICE, {})
    for name, (function, form) in OUTPUT_FORMS.items():
        if not np.allclose(function(evidence.value), evidence.y, rtol=1 / PRECISION, atol=0):
            continue
        for given, wrong in (("input", form(evidence.value)), ("output", form(function(evidence.y)))):
            if comparison.explained_by(dy * wrong, 0.0, TWO):
                return Diagnosis(Cause.DERIVATIVE_OF_WRONG_ARRAY, {"function": name, "given": given})
    return None


def passed_on(evidence: Evidence) -> Diagnosis | None:
    """Dy itself, or a multiple, where every output depends on several inputs."""
    if not evidence.elementwise_shapes:
        return None
    comparison, dy = evidence.comparison, evidence.dy
    multiple = float(np.sum(dy * comparison.analytic) / np.sum(dy * dy))
    if not comparison.explained_by(multiple * dy, 0.0, FITTED):
        return None
    return Diagnosis(Cause.DERIVATIVE_MISSING, {"multiple": rounded(multiple), "elementwise": False})


def diagonal_only(evidence: Evidence) -> Diagnosis | None:
    """The diagonal of the Jacobian times dy, though the Jacobian has other elements too."""
    if not evidence.elementwise_shapes or not 2 <= evidence.dy.size <= MOST_ONE_HOTS:
        return None
    if not _elementwise(evidence, evidence.analytic_of) or _truly_elementwise(evidence):
        return None
    predicted, unsure = np.zeros(evidence.dy.shape), np.zeros(evidence.dy.shape)
    for index in np.ndindex(evidence.dy.shape):
        one_hot = np.zeros_like(evidence.dy)
        one_hot[index] = evidence.dy[index]
        part, allowed = evidence.numeric_of(one_hot)
        predicted[index], unsure[index] = part[index], allowed[index]
    return Diagnosis(Cause.DIAGONAL_ONLY, {}) if evidence.comparison.explained_by(predicted, unsure, TWO) else None


def slices_apart(evidence: Evidence) -> Diagnosis | None:
    """What each index of an axis gets back from its own index of dy alone, as without the gradient through a state."""
    shape, dy = evidence.numeric.shape, evidence.dy
    if evidence.tensor not in evidence.inputs or len(shape) < 3:
        return None
    for axis in range(min(len(shape) - 1, dy.ndim)):  # the last is of features
        if axis == evidence.batch_axis or shape[axis] != dy.shape[axis] or not 2 <= shape[axis] <= MOST_ONE_HOTS:
            continue
        predicted, unsure = np.zeros(shape), np.zeros(shape)
        for index in range(shape[axis]):
            where = (slice(None),) * axis + (index,)
            masked = np.zeros_like(dy)
            masked[where] = dy[where]
            part, allowed = evidence.numeric_of(masked)
            predicted[where], unsure[where] = part[where], allowed[where]
        if evidence.comparison.explained_by(predicted, unsure, FITTED):
            return Diagnosis(Cause.SLICES_APART, {"axis": axis})
    return None


def _elementwise(evidence: Evidence, gradient_of: Callable[[Array], Array]) -> bool:
    """Say whether each element of a gradient depends on its own element of dy only."""
    weights = np.linspace(1.0, 2.0, evidence.dy.size).reshape(evidence.dy.shape)
    plain = gradient_of(evidence.dy)
    slack = float(np.abs(plain).max(initial=0.0)) / PRECISION
    return bool(np.all(np.abs(gradient_of(weights * evidence.dy) - weights * plain) <= slack))


def _truly_elementwise(evidence: Evidence) -> bool:
    return _elementwise(evidence, lambda dy: evidence.numeric_of(dy)[0])


# Functions whose derivative is written in terms of their output y, with that form.
OUTPUT_FORMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}
