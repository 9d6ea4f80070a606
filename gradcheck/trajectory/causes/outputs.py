"""Hypotheses about the numbers of a layer: their precision, and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import FITTED, Comparison, distinct, factor_of, rounded
from gradcheck.trajectory.causes.scene import LEVELS, Scene, StepCause, StepDiagnosis, is_floating


class Lower(NamedTuple):
    """A precision to which numbers may have been rounded."""

    eps: float
    smallest: float
    round: Callable[[Array], Array]  # to float64


def _rounding_to(precision: type[np.floating]) -> Lower:
    given = np.finfo(precision)
    return Lower(float(given.eps), float(given.smallest_subnormal), lambda x: x.astype(precision).astype(np.float64))


def _to_bfloat16(x: Array) -> Array:
    """Return numbers rounded to the upper half of a float32, to the even one if two are as near."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), upper.view(np.float32).astype(np.float64), x)


# The higher first.
LOWER = {
    "float32": _rounding_to(np.float32),
    "float16": _rounding_to(np.float16),
    "bfloat16": Lower(2.0**-7, 2.0**-133, _to_bfloat16),
}

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
    for name, lower in LOWER.items():
        rounds = np.asarray(lower.round(theirs) != theirs)
        near = np.abs(ours - theirs) <= lower.eps * np.abs(theirs) + allowed + lower.smallest
        fits = lower.eps > given.eps and np.all(lower.round(ours) == ours)
        if fits and np.all(near) and distinct(theirs[rounds]) >= FITTED:
            return StepDiagnosis(StepCause.OTHER_PRECISION, {"precision": name, "lower": True})
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
