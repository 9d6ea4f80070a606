"""Hypotheses about the gradients of a step: those of single gradients, and what one step leaves for the next."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.factors import quantities as quantities_of
from gradcheck.diagnosis.fits import TWO, factor_of
from gradcheck.diagnosis.shapes import not_reduced, turned
from gradcheck.trajectory.causes.scene import LEVELS, Hypothesis, Scene, StepCause, StepDiagnosis, is_within, joined
from gradcheck.trajectory.divergence import split
from gradcheck.trajectory.engine import below

# Fewer parts of a batch have a likelier explanation: a derivative of a square has the factor 2.
FEWEST_PARTS = 3

# Loss scales are powers of two, from here on. Factors are fitted to 4 digits.
LEAST_SCALE, SCALE_KNOWN = 128, 1e-3


def stale(scene: Scene) -> StepDiagnosis | None:
    """The reference's gradient of the step before."""
    previous = scene.moment.previous.get(scene.tensor)
    if previous is None or previous.shape != scene.ours.shape:
        return None
    allowed = scene.comparison.allowed
    return StepDiagnosis(StepCause.STALE, {}) if scene.comparison.explained_by(previous, allowed, TWO) else None


def accumulated(scene: Scene) -> StepDiagnosis | None:
    """The sum of the gradients of this step and of the one before, on one side."""
    every = [scene.name, *gradients_of(scene, clipped=not scene.name.endswith(".unclipped")).values()]
    for names in ([scene.name], every):  # of few elements, or in float32, the others have to tell
        previous = [
            scene.moment.previous.get(name.removeprefix("backward/").removesuffix(".unclipped")) for name in names
        ]
        known = [array for array in previous if array is not None]
        comparison = joined([scene.compared(name) for name in names])
        flat = (
            np.concatenate([np.asarray(array, dtype=np.float64).ravel() for array in known]) if known else np.zeros(0)
        )
        if len(known) < len(names) or flat.shape != comparison.numeric.shape:
            continue
        for sign, reference in ((1, False), (-1, True)):
            if comparison.explained_by(comparison.numeric + sign * flat, comparison.allowed, TWO):
                return StepDiagnosis(StepCause.ACCUMULATED, {"reference": reference})
    return None


def micro_batches(scene: Scene) -> StepDiagnosis | None:
    """Every gradient off by one whole factor that divides the batch, as of losses that are added up in parts of it."""
    times = _times(scene)
    if times is None or not is_number_of_parts(max(times, 1 / times), scene):
        return None
    details = {"parts": round(max(times, 1 / times)), "reference": times < 1, "loss": False}
    return StepDiagnosis(StepCause.MICRO_BATCHES, details)


def loss_scale(scene: Scene) -> StepDiagnosis | None:
    """Every gradient off by one power of two, as of a loss that is scaled up for a lower precision."""
    times = _times(scene)
    if times is None or not is_loss_scale(max(times, 1 / times)):
        return None
    details = {"scale": round(max(times, 1 / times)), "reference": times < 1, "late": times < 1, "loss": False}
    return StepDiagnosis(StepCause.LOSS_SCALE, details)


def _times(scene: Scene) -> float | None:
    """Return by how much every parameter's gradient and this one are multiplied, if that is no count of the batch."""
    found = common_factor(scene, clipped=True)
    if found is None or has_a_name(found):
        return None
    factor = number(found["factor"])
    one = scene.comparison
    same = is_within(one.analytic, factor * one.numeric, (1 + abs(factor)) * one.allowed)
    return factor if same and factor > 0 else None


def common_factor(scene: Scene, *, clipped: bool) -> dict[str, Any] | None:
    """Return the factor that all parameters' gradients are off by, as `factor_of`, or None.

    Unless ``clipped``, those before clipping are taken, where they are shown.
    """
    names = gradients_of(scene, clipped=clipped)
    parts = [scene.compared(name) for name in names.values()]
    return factor_of(joined(parts), quantities_of(evidence_of(scene))) if parts else None


def gradients_of(scene: Scene, *, clipped: bool) -> dict[str, str]:
    """Return what the gradients of the parameters are called in a step, by parameter."""
    shown = scene.moment.theirs
    names = {key: f"backward/{key}" for key in below("param/", scene.moment.before) if f"backward/{key}" in shown}
    before = {key: f"{name}.unclipped" for key, name in names.items() if f"{name}.unclipped" in shown}
    return names if clipped else names | before


def has_a_name(factor: dict[str, Any]) -> bool:
    """Return whether a factor, as `factor_of` gives it, is a count, such as the batch size; half of one is no name."""
    return any(not half for _, half in factor["quantities"])


def number(factor: tuple[int, int] | float) -> float:
    """Return a factor, as `factor_of` gives it, as a number."""
    return float(np.divide(*factor)) if isinstance(factor, tuple) else factor


def is_number_of_parts(times: float, scene: Scene) -> bool:
    """Return whether a factor may be the number of micro-batches of a step."""
    size = len(scene.moment.batch.x) if scene.moment.batch.x.ndim else 0
    return times == round(times) and FEWEST_PARTS <= times < size and size % round(times) == 0


def is_loss_scale(times: float) -> bool:
    """Return whether a factor may be a loss scale: a power of two, and a large one."""
    return times >= LEAST_SCALE and bool(np.isclose(times, 2.0 ** round(math.log2(times)), rtol=SCALE_KNOWN))


def of_another_shape(scene: Scene) -> Diagnosis | None:
    """A gradient that is not summed over an axis, or that is transposed."""
    evidence = evidence_of(scene)
    return not_reduced(evidence) or turned(evidence) if split(scene.name)[0] == "backward" else None


def loss_factor(scene: Scene) -> Diagnosis | None:
    """A factor that has a name, such as the batch size: every error of a single number is some factor."""
    details = factor_of(scene.comparison, quantities_of(evidence_of(scene)))
    return Diagnosis(Cause.FACTOR, details) if details is not None and has_a_name(details) else None


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
