"""Hypotheses about the batch of a step: its order, its labels, its range."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import FITTED, distinct, rounded
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_floating

# The fewest labels: with ten classes one label agrees with a wrong guess one time in ten.
LABELS = 7


def other_order(scene: Scene) -> StepDiagnosis | None:
    """The samples of the batch, or their labels, in another order."""
    ours, theirs = scene.ours, scene.theirs
    if ours.ndim == 0 or not _tells_order(theirs) or np.array_equal(ours, theirs):
        return None
    rolls = [by for by in _shifts(len(ours)) if np.array_equal(ours, np.roll(theirs, by, axis=0))]
    if not rolls and sorted(map(bytes, _rows(ours))) != sorted(map(bytes, _rows(theirs))):
        return None
    return StepDiagnosis(StepCause.OTHER_ORDER, {"rolled": rolls[0] if rolls else None})


def labels_shifted(scene: Scene) -> StepDiagnosis | None:
    """Each label shifted by the same number of classes, cyclically."""
    outputs = scene.moment.outputs()
    if scene.tensor != "y" or outputs is None or outputs.ndim != 2:
        return None
    classes = outputs.shape[1]
    labels = [_labels(array, classes) for array in (scene.ours, scene.theirs)]
    ours, theirs = labels
    if ours is None or theirs is None or len(theirs) < LABELS:
        return None
    shifts = np.unique((ours - theirs) % classes)
    if len(shifts) != 1 or shifts[0] == 0:
        return None
    by = int(shifts[0]) if shifts[0] <= classes // 2 else int(shifts[0]) - classes
    return StepDiagnosis(StepCause.LABELS_SHIFTED, {"by": by, "classes": classes})


def rescaled(scene: Scene) -> StepDiagnosis | None:
    """Inputs that are ``a x + b``, as of pixels in another range."""
    ours, theirs = (np.asarray(array, dtype=np.float64) for array in (scene.ours, scene.theirs))
    if scene.tensor != "x" or distinct(theirs) <= FITTED:
        return None
    least, most = int(theirs.argmin()), int(theirs.argmax())
    factor = float((ours.flat[most] - ours.flat[least]) / (theirs.flat[most] - theirs.flat[least]))
    offset = float(ours.flat[least] - factor * theirs.flat[least])
    eps = max([0.0, *(float(np.finfo(array.dtype).eps) for array in (scene.ours, scene.theirs) if is_floating(array))])
    rounding = 8 * eps * (float(np.abs(ours).max()) + abs(factor) * float(np.abs(theirs).max()) + abs(offset))
    right = np.all(np.abs(ours - (factor * theirs + offset)) <= rounding)
    if not right or distinct(ours) <= FITTED or np.all(np.abs(ours - theirs) <= rounding):
        return None
    return StepDiagnosis(
        StepCause.RESCALED, {"factor": rounded(factor), "offset": rounded(offset) if abs(offset) > rounding else 0.0}
    )


def _shifts(count: int) -> Iterator[int]:
    """Yield the cyclic shifts of some rows, the shortest first."""
    for by in range(1, count // 2 + 1):
        yield by
        if by != count - by:
            yield -by


def _rows(array: Array) -> Array:
    return np.ascontiguousarray(array.reshape(len(array), -1))


def _tells_order(array: Array) -> bool:
    """Return whether an order of rows is no accident: two rows of pixels suffice, of labels many are needed."""
    rows = len(np.unique(_rows(array), axis=0))
    return rows > 1 and (len(array) > LABELS or bool(distinct(array) > LABELS))


def _labels(array: Array, classes: int) -> Array | None:
    """Return labels as indices, from indices or from rows with a single one."""
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        return array.astype(np.int64)
    one_hot = array.ndim == 2 and array.shape[1] == classes and np.array_equal(array, np.eye(classes)[array.argmax(1)])
    return array.argmax(axis=1) if one_hot else None
