"""Hypotheses about the loss of a step: its factor, its formula, and of what it is a mean."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ONE, Comparison
from gradcheck.diagnosis.losses import sigmoid
from gradcheck.trajectory.causes.gradients import (
    SCALE_KNOWN,
    common_factor,
    gradients_of,
    has_a_name,
    is_loss_scale,
    is_number_of_parts,
    number,
)
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within

# How well a smoothing or a formula has to be known by the loss alone, in allowances; else a gradient must agree.
KNOWN = 1e4

MOST_PARTS = 64  # micro-batches of a step

NEAREST = 3  # results that may be the prediction: the last ones


def factor_in_loss(scene: Scene) -> StepDiagnosis | None:
    """The loss and every gradient off by one factor, as of a factor in the loss, or of micro-batches not divided by."""
    found, last = (common_factor(scene, clipped=clipped) for clipped in (False, True))
    shown = gradients_of(scene, clipped=False).values()
    same = last is None or abs(number(last["factor"]) - 1) <= SCALE_KNOWN  # torch adds 1e-6 to the norm
    hidden = same and all(name.endswith(".unclipped") for name in shown)
    if found is None or has_a_name(found):
        return None
    factor = number(found["factor"])
    one = scene.comparison
    if not is_within(one.analytic, factor * one.numeric, (1 + abs(factor)) * one.allowed):
        return None
    times = max(factor, 1 / factor) if factor > 0 else 0.0
    if last is not None and is_loss_scale(times):
        late = bool(np.isclose(number(last["factor"]) * factor, 1, rtol=SCALE_KNOWN))
        return StepDiagnosis(
            StepCause.LOSS_SCALE, {"scale": round(times), "reference": factor < 1, "late": late, "loss": True}
        )
    if not hidden and (last is None or last["factor"] != found["factor"]):
        return None  # what clipping hides in the gradients is there all the same
    if is_number_of_parts(times, scene):
        return StepDiagnosis(StepCause.MICRO_BATCHES, {"parts": round(times), "reference": factor < 1, "loss": True})
    details = {"factor": found["factor"], "parts": 2 if times == 2 else None, "reference": factor < 1}
    return StepDiagnosis(StepCause.LOSS_FACTOR, details)


def smoothing(scene: Scene) -> StepDiagnosis | None:
    """Cross-entropy with another label smoothing: ``(1 - a) CE + a mean over classes of -log p``."""
    ours, theirs, allowed = _numbers(scene)
    for z, y in _classified(scene):
        log_p = _log_softmax(z)
        each = -log_p[np.arange(len(y)), y]
        plain, even = float(each.mean()), float(-log_p.mean())
        if not abs(even - plain) > 0:
            continue
        found = [
            0.0 if abs(loss - plain) <= 2 * allowed else float(f"{(loss - plain) / (even - plain):.2g}")
            for loss in (ours, theirs)
        ]
        right = [
            abs(plain + a * (even - plain) - loss) <= 2 * allowed for a, loss in zip(found, (ours, theirs), strict=True)
        ]
        if not all(right) or found[0] == found[1] or not all(0 <= a < 1 for a in found):
            continue
        targets = (np.arange(z.shape[1]) == y[:, None]) - 1 / z.shape[1]
        rows, off = _gradient(scene), (found[0] - found[1]) * targets / len(y)
        if rows is not None and rows.numeric.shape == off.shape:
            fits = rows.explained_by(rows.numeric + off, rows.allowed, ONE)
        else:
            fits = abs(ours - theirs) >= KNOWN * allowed
        if fits:
            return StepDiagnosis(StepCause.SMOOTHING, {"ours": found[0], "theirs": found[1]})
    return None


def unequal_parts(scene: Scene) -> StepDiagnosis | None:
    """A mean of the means over parts of the batch of unequal sizes: of the losses, or in the gradient's rows."""
    ours, theirs, allowed = _numbers(scene)
    rows = _gradient(scene)
    each = _losses_of_samples(scene) if rows is None and scene.name.startswith("loss/") else None
    count = len(each) if each is not None else len(rows.numeric) if rows is not None else 0
    for sizes, reference in product(_partitions(count), (False, True)):
        weights = np.concatenate([np.full(size, count / len(sizes) / size) for size in sizes])
        if rows is not None:
            column = (1 / weights if reference else weights).reshape(-1, *[1] * (rows.numeric.ndim - 1))
            fits = rows.explained_by(rows.numeric * column, rows.allowed * column, ONE)
        else:
            parted, whole = (theirs, ours) if reference else (ours, theirs)
            predicted = [float(np.mean(each * weights)), float(np.mean(each))] if each is not None else [np.nan] * 2
            fits = abs(predicted[0] - parted) <= 2 * allowed and abs(predicted[1] - whole) <= 2 * allowed
            fits = fits and abs(ours - theirs) >= KNOWN * allowed
        if fits:
            return StepDiagnosis(StepCause.UNEQUAL_PARTS, {"sizes": sizes, "reference": reference})
    return None


def other_loss(scene: Scene) -> StepDiagnosis | None:
    """A loss of another formula, or another reduction: each side's number is that of one."""
    ours, theirs, allowed = _numbers(scene)
    if not abs(ours - theirs) >= KNOWN * allowed:
        return None
    for predicted, target in _predictions(scene):
        known = dict(_formulas(predicted, target))
        names = [
            next((name for name, value in known.items() if abs(value - loss) <= 2 * allowed), None)
            for loss in (ours, theirs)
        ]
        if all(names):
            return StepDiagnosis(StepCause.OTHER_LOSS, {"ours": names[0], "theirs": names[1]})
    return None


def _numbers(scene: Scene) -> tuple[float, float, float]:
    one = scene.comparison
    return float(one.analytic.reshape(-1)[0]), float(one.numeric.reshape(-1)[0]), float(one.allowed.reshape(-1)[0])


def _predictions(scene: Scene) -> Iterator[tuple[Array, Array]]:
    """Yield what may be the prediction, in float64, the last result first, each with the target."""
    target = np.asarray(scene.moment.theirs.get("data/y", scene.moment.batch.y))
    names = [name for name in reversed(scene.moment.theirs) if name.startswith("forward/")]
    for name in islice(names, NEAREST):
        array = scene.moment.theirs[name]
        if array.ndim and array.dtype.kind == "f" and len(array) == len(target):
            yield np.asarray(array, dtype=np.float64), target


def _classified(scene: Scene) -> Iterator[tuple[Array, Array]]:
    """Yield predictions ``(samples, classes)``, each with the classes of the samples."""
    for z, y in _predictions(scene):
        if z.ndim >= 2 and (rows := _by_class(z, y)) is not None:
            yield rows


def _by_class(z: Array, y: Array) -> tuple[Array, Array] | None:
    """Return predictions as ``(samples, classes)`` and classes, without those samples that have none, or None."""
    if y.shape == z.shape and np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=-1) == 1):
        y = y.argmax(axis=-1)
    if y.dtype.kind not in "iu":
        return None
    if y.shape != z.shape[:-1] and y.shape == z.shape[:1] + z.shape[2:]:
        z = np.moveaxis(z, 1, -1)
    if y.shape != z.shape[:-1] or y.max(initial=0) >= z.shape[-1]:
        return None
    kept = y.reshape(-1) >= 0
    return (z.reshape(-1, z.shape[-1])[kept], y.reshape(-1)[kept]) if kept.any() else None


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _gradient(scene: Scene) -> Comparison | None:
    """Return both gradients of the prediction, with a row for each sample, or None if they are not shown."""
    for name in ("backward/outputs", "backward/loss.prediction"):
        if name in scene.moment.theirs and scene.moment.theirs[name].ndim >= 2:
            return scene.compared(name)
    return None


def _partitions(count: int) -> Iterator[tuple[int, ...]]:
    """Yield how torch.chunk and np.array_split cut a batch into parts of unequal sizes."""
    for parts in range(2, min(count, MOST_PARTS + 1)):
        size = -(-count // parts)
        if count % size:
            yield (*[size] * (count // size), count % size)
        if count % parts:
            yield (*[count // parts + 1] * (count % parts), *[count // parts] * (parts - count % parts))


def _losses_of_samples(scene: Scene) -> Array | None:
    """Return the loss of each sample, whose mean is that of one of the sides, or None if no usual loss is that."""
    ours, theirs, allowed = _numbers(scene)
    for predicted, target in _predictions(scene):
        for _, terms in _terms(predicted, target):
            if min(abs(float(terms.mean()) - loss) for loss in (ours, theirs)) <= 2 * allowed:
                return np.asarray(terms.reshape(len(terms), -1).mean(axis=1))
    return None


def _formulas(predicted: Array, target: Array) -> Iterator[tuple[str, float]]:
    """Yield usual losses, each with its name and value."""
    for name, terms in _terms(predicted, target):
        yield f"the mean {name}", float(terms.mean())
        yield f"the sum of the {name}", float(terms.sum())
        if terms.ndim > 1:
            yield f"the mean over the batch of the summed {name}", float(terms.sum() / len(terms))


def _terms(predicted: Array, target: Array) -> Iterator[tuple[str, Array]]:
    """Yield the terms of usual losses, of which these are the mean or the sum, each with its name."""
    classified = _by_class(predicted, target) if predicted.ndim >= 2 else None
    if classified is not None:
        z, y = classified
        place = np.arange(len(y)), y
        log_p = _log_softmax(z)
        yield "cross-entropy", -log_p[place]
        yield "negative of the scores of the classes", -z[place]
        yield "cross-entropy of probabilities", -np.log(z[place])
        yield "cross-entropy after a second softmax", -_log_softmax(np.exp(log_p))[place]
        one_hot = np.eye(z.shape[1])[y]
        yield "squared error of the softmax", (np.exp(log_p) - one_hot) ** 2
        yield "squared error", (z - one_hot) ** 2
    if predicted.size == target.size and target.dtype.kind == "f":
        t = target.reshape(predicted.shape).astype(np.float64)
        off, p = predicted - t, sigmoid(predicted)
        yield "squared error", off**2
        yield "half of the squared error", off**2 / 2
        yield "absolute error", np.abs(off)
        yield "Huber loss", np.where(np.abs(off) < 1, off**2 / 2, np.abs(off) - 0.5)
        yield "binary cross-entropy", np.maximum(predicted, 0) - predicted * t + np.log1p(np.exp(-np.abs(predicted)))
        yield "binary cross-entropy of probabilities", -t * np.log(predicted) - (1 - t) * np.log(1 - predicted)
        yield "squared error of the sigmoid", (p - t) ** 2
