"""Hypotheses about the gradients of a step: those of single gradients, and what one step leaves for the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.factors import constant_factor
from gradcheck.diagnosis.factors import quantities as quantities_of
from gradcheck.diagnosis.fits import TWO, factor_of
from gradcheck.diagnosis.shapes import not_reduced, turned
from gradcheck.trajectory.causes.scene import LEVELS, Hypothesis, Scene, StepCause, StepDiagnosis, is_within
from gradcheck.trajectory.divergence import split
from gradcheck.trajectory.engine import below

# Fewer parts of a batch have a likelier explanation: a derivative of a square has the factor 2.
FEWEST_PARTS = 3


def stale(scene: Scene) -> StepDiagnosis | None:
    """The reference's gradient of the step before."""
    previous = scene.moment.previous.get(scene.tensor)
    if previous is None or previous.shape != scene.ours.shape:
        return None
    allowed = scene.comparison.allowed
    return StepDiagnosis(StepCause.STALE, {}) if scene.comparison.explained_by(previous, allowed, TWO) else None


def accumulated(scene: Scene) -> StepDiagnosis | None:
    """The sum of the gradients of this step and of the one before, on one side."""
    previous = scene.moment.previous.get(scene.tensor)
    if previous is None or previous.shape != scene.ours.shape:
        return None
    comparison = scene.comparison
    for sign, reference in ((1, False), (-1, True)):
        if comparison.explained_by(comparison.numeric + sign * previous, comparison.allowed, TWO):
            return StepDiagnosis(StepCause.ACCUMULATED, {"reference": reference})
    return None


def micro_batches(scene: Scene) -> StepDiagnosis | None:
    """Every gradient off by one whole factor that divides the batch, as of losses that are added up in parts of it."""
    evidence = evidence_of(scene)
    found = constant_factor(evidence)
    if found is None or not isinstance(found.details["factor"], tuple):
        return None
    above, below_ = found.details["factor"]
    parts, size = max(above, below_), len(scene.moment.batch.x)
    named = any(not half for _, half in found.details["quantities"])
    if min(above, below_) != 1 or not FEWEST_PARTS <= parts < size or size % parts or named:
        return None
    for name in (f"backward/{key}" for key in below("param/", scene.moment.before)):
        if name in scene.moment.theirs:
            one = scene.compared(name)
            if not is_within(one.analytic, one.numeric * above / below_, (1 + above / below_) * one.allowed):
                return None
    return StepDiagnosis(StepCause.MICRO_BATCHES, {"parts": parts, "reference": below_ > 1})


def of_another_shape(scene: Scene) -> Diagnosis | None:
    """A gradient that is not summed over an axis, or that is transposed."""
    evidence = evidence_of(scene)
    return not_reduced(evidence) or turned(evidence) if split(scene.name)[0] == "backward" else None


def loss_factor(scene: Scene) -> Diagnosis | None:
    """A factor that has a name, such as the batch size: every error of a single number is some factor."""
    details = factor_of(scene.comparison, quantities_of(evidence_of(scene)))
    return Diagnosis(Cause.FACTOR, details) if details and details["quantities"] else None


def of_gradient(hypothesis: Callable[[Evidence], Diagnosis | None]) -> Hypothesis:
    """Return a hypothesis about gradients as one about a step."""
    return lambda scene: hypothesis(evidence_of(scene))


def evidence_of(scene: Scene) -> Evidence:
    """Return the evidence for the hypotheses about gradients: one cotangent, and the other parameters' gradients."""
    moment, name = scene.moment, scene.tensor
    theirs = {key.removeprefix("backward/"): key for key in moment.theirs if key.startswith("backward/")}
    variables = below("param/", moment.before)
    shown = moment.outputs()
    outputs = np.asarray(np.zeros(len(moment.batch.x)) if shown is None else shown, dtype=np.float64)
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs  # one number a sample

    def other_numeric(other: str) -> tuple[Array, Array]:
        gradient = np.asarray(moment.theirs[theirs[other]], dtype=np.float64)
        return gradient, np.full(gradient.shape, moment.allowed[theirs[other]])

    def unknown(_: Array) -> Any:  # noqa: ANN401  whatever is asked for
        raise NotImplementedError("a step is taken with one cotangent only")

    comparison = scene.comparison
    return Evidence(
        tensor=name,
        analytic=np.asarray(scene.ours, dtype=np.float64),
        numeric=comparison.numeric,
        allowed=comparison.allowed,
        value=np.asarray(variables.get(name, np.zeros(comparison.numeric.shape)), dtype=np.float64),
        inputs=(),
        variables={other: array for other, array in variables.items() if other in theirs and name in variables},
        gradients={other: np.asarray(moment.ours[key], dtype=np.float64) for other, key in theirs.items()},
        y=outputs,
        dy=outputs,
        analytic_of=unknown,
        numeric_of=unknown,
        other_numeric=other_numeric,
        levels=LEVELS,
    )
