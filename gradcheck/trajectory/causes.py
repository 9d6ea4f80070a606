"""Why a step is wrong: the likeliest cause, named only if it explains every element of the wrong tensor.

Gradients are judged by those hypotheses of `gradcheck.diagnosis.gradients` that need only one cotangent, all other
tensors of a step by those below. None is an acceptable answer, a wrong cause is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from gradcheck import words
from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.factors import constant_factor
from gradcheck.diagnosis.factors import quantities as quantities_of
from gradcheck.diagnosis.fits import FITTED, ONE, PRECISION, TWO, Comparison, distinct, factor_of, multiple_of, rounded
from gradcheck.diagnosis.gradients import exchanged, not_finite
from gradcheck.diagnosis.patterns import part_wrong, rearranged
from gradcheck.diagnosis.shapes import not_reduced, reduced_too_far, turned
from gradcheck.diagnosis.terms import term_in_value
from gradcheck.diagnosis.updates import Moments, decay_of, moved, stayed
from gradcheck.trajectory.divergence import Divergence, Moment, split
from gradcheck.trajectory.engine import below

# Allowances of steps are for whole tensors and may be wide beside an element, as in float32. But tensors are large, and
# three elements off by a hundred tolerances each are about as unlikely a coincidence as one off by a million.
LEVELS = (PRECISION, 100.0)

# The fewest labels: with ten classes one label agrees with a wrong guess one time in ten.
LABELS = 7

# Precisions to which numbers may have been rounded, the higher first.
LOWER: tuple[type[np.floating], ...] = (np.float32, np.float16)

# The usual defaults.
EPS_OF_ADAM = (1e-8, 1e-7)

# How far a share of zeros may be from a dropout probability, in standard deviations, and of how many elements.
SURE = 5.0
FEWEST = 20


class StepCause(StrEnum):
    """What can be wrong with a step, besides its gradients; the comments list the details of each."""

    OTHER_ORDER = "other order"  # rolled (by how many, or None)
    LABELS_SHIFTED = "labels shifted"  # by, classes
    RESCALED = "rescaled"  # factor, offset
    OTHER_PRECISION = "other precision"  # precision, lower
    DROPOUT = "dropout"  # p, on, training
    STALE = "stale"
    NOT_UPDATED = "not updated"
    MOVED_BY_FACTOR = "moved by factor"  # factor, everything, lr (given and as if, or None)
    MOMENTUM = "momentum"  # lost, multiple
    CORRECTION = "correction"  # t, given
    WEIGHT_DECAY = "weight decay"  # decay, more


@dataclass(frozen=True)
class StepDiagnosis:
    """The cause of a wrong step, with the details for its sentence."""

    cause: StepCause
    details: dict[str, Any]


Found = Diagnosis | StepDiagnosis


@dataclass(frozen=True)
class Scene:
    """The tensor ``phase/tensor`` in which a step is wrong, and the step."""

    name: str
    moment: Moment

    @property
    def ours(self) -> Array:
        """The engine's tensor."""
        return self.moment.ours[self.name]

    @property
    def theirs(self) -> Array:
        """The reference's tensor."""
        return self.moment.theirs[self.name]

    @property
    def tensor(self) -> str:
        """The tensor's name, without the phase."""
        return split(self.name)[1]

    @property
    def parameter(self) -> str:
        """The name of the parameter of an update: ``0.weight`` for ``optim/exp_avg/0.weight``."""
        return self.tensor.rpartition("/")[2]

    @cached_property
    def comparison(self) -> Comparison:
        """Both tensors, and the allowance of each element."""
        return self.compared(self.name)

    @cached_property
    def before(self) -> Array | None:
        """An updated tensor before the step, if it existed."""
        return self.moment.before.get(self.tensor)

    def compared(self, name: str) -> Comparison:
        """Return both sides' tensor of some name, and the allowance of each element.

        If ours has another shape, it is NaN, which no hypothesis explains.
        """
        arrays = (self.moment.ours[name], self.moment.theirs[name])
        ours, theirs = (np.asarray(array, dtype=np.float64) for array in arrays)
        ours = ours if ours.shape == theirs.shape else np.full(theirs.shape, np.nan)
        return Comparison(ours, theirs, np.full(theirs.shape, self.moment.allowed[name]), LEVELS)

    def moved(self, name: str) -> Comparison | None:
        """Return how far both sides moved a tensor, or None if it was not there before."""
        before = self.moment.before.get(name.removeprefix("update/"))
        return None if before is None else moved(self.compared(name), before)

    def slot(self, slot: str, of: str = "theirs") -> Array | None:
        """Return the parameter's array in a slot of the optimizer, after the step on one side or ``before`` it."""
        key = f"optim/{slot}/{self.parameter}"
        array = self.moment.before.get(key) if of == "before" else getattr(self.moment, of).get(f"update/{key}")
        return None if array is None else np.asarray(array, dtype=np.float64)


Hypothesis = Callable[[Scene], Found | None]


def explained(found: Divergence, moment: Moment) -> str | None:
    """Return why the tensor of a divergence is wrong, as a sentence, or None if no cause is found."""
    why = diagnose_step(f"{found.phase}/{found.tensor}", moment)
    return None if why is None else words.cause(why, found)


def diagnose_step(name: str, moment: Moment) -> Found | None:
    """Return the first cause that explains the tensor ``phase/tensor`` of a step, or None."""
    scene = Scene(name, moment)
    alike = scene.ours.shape == scene.theirs.shape
    if not all(_floating(array) or np.issubdtype(array.dtype, np.integer) for array in (scene.ours, scene.theirs)):
        return None
    with np.errstate(all="ignore"):
        for hypothesis in HYPOTHESES[split(name)[0]] if alike else (of_another_shape,):
            if found := hypothesis(scene):
                return found
    return None


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
    eps = max([0.0, *(float(np.finfo(array.dtype).eps) for array in (scene.ours, scene.theirs) if _floating(array))])
    rounding = 8 * eps * (float(np.abs(ours).max()) + abs(factor) * float(np.abs(theirs).max()) + abs(offset))
    right = np.all(np.abs(ours - (factor * theirs + offset)) <= rounding)
    if not right or distinct(ours) <= FITTED or np.all(np.abs(ours - theirs) <= rounding):
        return None
    return StepDiagnosis(
        StepCause.RESCALED, {"factor": rounded(factor), "offset": rounded(offset) if abs(offset) > rounding else 0.0}
    )


def other_precision(scene: Scene) -> StepDiagnosis | None:
    """The right numbers, rounded to a lower precision, or computed in a higher one."""
    ours, theirs = scene.ours, scene.theirs
    if not (_floating(ours) and _floating(theirs)):
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


def all_zero(scene: Scene) -> Diagnosis | None:
    """Nothing but zeros, which need no precision, however small the right numbers are."""
    wrong = scene.comparison.failing.any() and not scene.comparison.analytic.any()
    return Diagnosis(Cause.ZERO, {}) if wrong else None


def stale(scene: Scene) -> StepDiagnosis | None:
    """The reference's gradient of the step before."""
    previous = scene.moment.previous.get(scene.tensor)
    if previous is None or previous.shape != scene.ours.shape:
        return None
    allowed = scene.comparison.allowed
    return StepDiagnosis(StepCause.STALE, {}) if scene.comparison.explained_by(previous, allowed, TWO) else None


def of_another_shape(scene: Scene) -> Diagnosis | None:
    """A gradient that is not summed over an axis, or that is transposed."""
    evidence = _evidence(scene)
    return not_reduced(evidence) or turned(evidence) if split(scene.name)[0] == "backward" else None


def not_updated(scene: Scene) -> StepDiagnosis | None:
    """The tensor as it was."""
    if scene.before is None or not stayed(scene.comparison, np.asarray(scene.before, dtype=np.float64)):
        return None
    return StepDiagnosis(StepCause.NOT_UPDATED, {})


def momentum(scene: Scene) -> StepDiagnosis | None:
    """A velocity that is the gradient alone, or off by a multiple of the velocity before the step."""
    name = f"update/optim/momentum_buffer/{scene.parameter}"
    kept, gradient = scene.slot("momentum_buffer", "before"), scene.moment.theirs.get(f"backward/{scene.parameter}")
    if kept is None or name not in scene.moment.ours:
        return None
    velocity = scene.compared(name)
    if gradient is not None and velocity.explained_by(gradient, velocity.allowed, TWO):
        return StepDiagnosis(StepCause.MOMENTUM, {"lost": True, "multiple": None})
    multiple = multiple_of(velocity, kept)
    return None if multiple is None else StepDiagnosis(StepCause.MOMENTUM, {"lost": False, "multiple": multiple})


def correction(scene: Scene) -> StepDiagnosis | None:
    """Adam's move with the bias correction of another step, or without any.

    The betas are computed from how the reference's moments moved, and they must reproduce the reference's move.
    """
    moves, moments = scene.moved(scene.name), _moments(scene)
    if moves is None or moments is None or not scene.tensor.startswith("param/"):
        return None
    for eps in EPS_OF_ADAM:
        if not _within(moves.numeric, moments.move(moments.t, eps), moves.allowed):
            continue
        for t in (1.0, moments.t - 1, moments.t + 1, math.inf):
            if t >= 1 and t != moments.t and moves.explained_by(moments.move(t, eps), moves.allowed, ONE):
                return StepDiagnosis(StepCause.CORRECTION, {"t": t, "given": int(moments.t)})
    return None


def moved_by_factor(scene: Scene) -> StepDiagnosis | None:
    """A move that is a constant multiple of the reference's, in this tensor or in every parameter."""
    own = scene.moved(scene.name)
    found = factor_of(own, ()) if own is not None else None
    if found is None or scene.tensor == "step":
        return None
    factor = np.divide(*found["factor"]) if isinstance(found["factor"], tuple) else found["factor"]
    parameters = [name for name in scene.moment.theirs if name.startswith("update/param/")]
    moves = [move for move in map(scene.moved, parameters) if move is not None]
    everything = all(_within(move.analytic, factor * move.numeric, (1 + abs(factor)) * move.allowed) for move in moves)
    parameter = scene.tensor.startswith("param/")
    lr = (scene.moment.batch.lr, rounded(float(factor) * scene.moment.batch.lr)) if parameter and everything else None
    details = {"factor": found["factor"], "everything": parameter and everything, "lr": lr}
    return StepDiagnosis(StepCause.MOVED_BY_FACTOR, details)


def weight_decay(scene: Scene) -> StepDiagnosis | None:
    """A parameter that is off by a multiple of what it was, by weight decay left out or done twice."""
    if scene.before is None or not scene.tensor.startswith("param/"):
        return None
    decay = decay_of(scene.comparison, scene.before, scene.moment.batch.lr)
    return None if decay is None else StepDiagnosis(StepCause.WEIGHT_DECAY, decay)


def _moments(scene: Scene) -> Moments | None:
    """Return Adam's moments of a parameter, or None if nothing of the kind is kept, or the betas are not known."""
    t, mean, square = (scene.slot(slot) for slot in ("step", "exp_avg", "exp_avg_sq"))
    grad = scene.moment.theirs.get(f"backward/{scene.parameter}")
    if t is None or mean is None or square is None or grad is None or t.size != 1:
        return None
    before = (scene.slot("exp_avg", "before"), scene.slot("exp_avg_sq", "before"))
    wide = np.asarray(grad, dtype=np.float64)
    return Moments.of(float(t), (mean, square), before, wide, scene.moment.batch.lr)


def _gradient(hypothesis: Callable[[Evidence], Diagnosis | None]) -> Hypothesis:
    return lambda scene: hypothesis(_evidence(scene))


def _evidence(scene: Scene) -> Evidence:
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


def _loss_factor(scene: Scene) -> Diagnosis | None:
    """A factor that has a name, such as the batch size: every error of a single number is some factor."""
    details = factor_of(scene.comparison, quantities_of(_evidence(scene)))
    return Diagnosis(Cause.FACTOR, details) if details and details["quantities"] else None


def _within(array: Array, predicted: Array, allowed: Array) -> bool:
    return bool(np.all(np.abs(array - predicted) <= 2 * allowed))


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


def _floating(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


HYPOTHESES: dict[str, tuple[Hypothesis, ...]] = {
    "data": (other_order, labels_shifted, rescaled),
    "forward": (
        other_precision,
        dropout,
        _gradient(not_finite),
        all_zero,
        _gradient(constant_factor),
        _gradient(rearranged),
        _gradient(part_wrong),
    ),
    "loss": (_loss_factor,),
    "backward": (
        _gradient(not_finite),
        all_zero,
        stale,
        _gradient(constant_factor),
        _gradient(rearranged),
        _gradient(exchanged),
        _gradient(reduced_too_far),
        _gradient(part_wrong),
        _gradient(term_in_value),
        other_precision,
    ),
    "update": (not_updated, momentum, correction, moved_by_factor, weight_decay),
}
