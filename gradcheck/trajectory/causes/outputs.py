"""Hypotheses about the numbers of a layer: their precision, and dropout."""

from __future__ import annotations

import math

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import FITTED, Comparison, distinct, factor_of, rounded
from gradcheck.trajectory.causes.scene import LEVELS, Scene, StepCause, StepDiagnosis, is_floating

# Precisions to which numbers may have been rounded, the higher first.
LOWER: tuple[type[np.floating], ...] = (np.float32, np.float16)

# How far a share of zeros may be from a dropout probability, in standard deviations, and of how many elements.
SURE = 5.0
FEWEST = 20


def other_precision(scene: Scene) -> StepDiagnosis | None:
    """The right numbers, rounded to a lower precision, or computed in a higher one."""
    ours, theirs = scene.ours, scene.theirs
    if not (is_floating(ours) and is_floating(theirs)):
        return None
    allowed, given = scene.moment.allowed[scene.name], np.finfo(theirs.dtype)
    if np.finfo(ours.dtype).eps < given.eps:
        same = np.all(np.abs(ours.astype(theirs.dtype) - theirs) <= allowed) and np.any(theirs)
        details = {"precision": ours.dtype.name, "lower": False}
        return StepDiagnosis(StepCause.OTHER_PRECISION, details) if same else None
    for precision in LOWER:
        eps = float(np.finfo(precision).eps)
        rounds = np.asarray(theirs.astype(precision).astype(theirs.dtype) != theirs)
        near = np.abs(ours - theirs) <= eps * np.abs(theirs) + allowed + float(np.finfo(precision).smallest_subnormal)
        fits = eps > given.eps and np.all(ours.astype(precision) == ours)
        if fits and np.all(near) and distinct(theirs[rounds]) >= FITTED:
            details = {"precision": np.dtype(precision).name, "lower": True}
            return StepDiagnosis(StepCause.OTHER_PRECISION, details)
    return None


def dropout(scene: Scene) -> StepDiagnosis | None:
    """Some elements zero on one side alone, and the others on that side ``1 / (1 - p)`` times as large."""
    ours, theirs = scene.comparison.analytic, scene.comparison.numeric
    zeros = [(ours == 0) & (theirs != 0), (theirs == 0) & (ours != 0)]
    if bool(zeros[0].any()) == bool(zeros[1].any()):
        return None
    on = bool(zeros[0].any())
    dropped, full = (ours, theirs) if on else (theirs, ours)
    if _drops(scene, full):
        return None  # both have dropout, of other rates
    counted, kept = full != 0, dropped != 0
    pair = Comparison(dropped[kept], full[kept], scene.comparison.allowed[kept], LEVELS)
    scale = factor_of(pair, ()) if kept.any() else None
    if scale is None:
        return None
    factor = float(np.divide(*scale["factor"])) if isinstance(scale["factor"], tuple) else scale["factor"]
    p, count = 1 - 1 / factor, int(counted.sum())
    share = float((dropped[counted] == 0).mean())
    if not 0 < p < 1 or count < FEWEST or abs(share - p) > SURE * math.sqrt(p * (1 - p) / count):
        return None
    details = {"p": rounded(p), "on": on, "training": scene.moment.context.training}
    return StepDiagnosis(StepCause.DROPOUT, details)


def _drops(scene: Scene, outputs: Array) -> bool:
    """Return whether outputs are zero where the tensor of the same shape before them in the step is not."""
    side = scene.moment.ours if np.array_equal(outputs, scene.comparison.analytic) else scene.moment.theirs
    earlier = list(side)[: list(side).index(scene.name)]
    before = [side[name] for name in earlier if name.startswith("forward/") and side[name].shape == outputs.shape]
    return bool(before) and bool(np.any((outputs == 0) & (before[-1] != 0)))


def all_zero(scene: Scene) -> Diagnosis | None:
    """Nothing but zeros, which need no precision, however small the right numbers are."""
    wrong = scene.comparison.failing.any() and not scene.comparison.analytic.any()
    return Diagnosis(Cause.ZERO, {}) if wrong else None
