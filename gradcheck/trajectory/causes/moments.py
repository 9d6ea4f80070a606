"""Hypotheses about what optimizers keep: decay in it, how it averages, and in which precision it is kept."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import FITTED, Comparison, distinct, multiple_of, rounded
from gradcheck.diagnosis.updates import Moments
from gradcheck.trajectory.causes.outputs import LOWER
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_floating, is_within, joined
from gradcheck.trajectory.slots import kinds

# What is kept of the gradients: the power of a gradient in it, and what the share is called that is kept from before.
MEANS = {"exp_avg": (1, "beta1"), "exp_avg_sq": (2, "beta2"), "square_avg": (2, "alpha")}

ROUNDINGS = 4.0  # of a slot, in a move

STEPS_OF_FIT = 30  # of a decay that enters as its square, too


def decay_in_slot(scene: Scene) -> StepDiagnosis | None:
    """A velocity, or mean of gradients, off by a multiple of the parameter, in one tensor or in all."""
    slot = scene.tensor.removeprefix("optim/").rpartition("/")[0]
    share = 1.0 if slot == "momentum_buffer" else _share(scene) if slot == "exp_avg" else None
    if share is None or not scene.tensor.startswith("optim/"):
        return None
    every = [key.removeprefix("param/") for key in scene.moment.before if key.startswith("param/")]
    for names in ([scene.parameter], [name for name in every if f"update/optim/{slot}/{name}" in scene.moment.theirs]):
        starts = [scene.moment.before.get(f"param/{name}") for name in names]
        parts = [scene.compared(f"update/optim/{slot}/{name}") for name in names]
        kept = [np.asarray(start, dtype=np.float64).ravel() for start in starts if start is not None]
        multiple = multiple_of(joined(parts), np.concatenate(kept)) if len(kept) == len(parts) > 0 else None
        if multiple is not None:
            decay = rounded(abs(multiple) / share)
            coupled = _taken_off(scene, decay, "theirs" if multiple > 0 else "ours")
            return StepDiagnosis(StepCause.WEIGHT_DECAY, {"decay": decay, "more": multiple > 0, "coupled": coupled})
    return None


def decay_in_squares(scene: Scene) -> StepDiagnosis | None:
    """A mean or sum of squares of ``g + w p`` on one side, and of g on the other."""
    slot = scene.tensor.removeprefix("optim/").rpartition("/")[0]
    grad, start = (
        scene.moment.theirs.get(f"backward/{scene.parameter}"),
        scene.moment.before.get(f"param/{scene.parameter}"),
    )
    share = 1.0 if slot == "sum" else _share(scene) if MEANS.get(slot, (1, ""))[0] == 2 else None
    if share is None or grad is None or start is None or grad.shape != scene.theirs.shape:
        return None
    one, g, p = scene.comparison, grad.astype(np.float64), start.astype(np.float64)
    for sign in (1, -1):
        decay, squared = 0.0, float(np.sum((2 * g * p) ** 2))
        for _ in range(STEPS_OF_FIT if squared > 0 else 0):
            decay = float(np.sum(2 * g * p * (sign * one.error / share - (decay * p) ** 2))) / squared
        predicted = one.numeric + sign * share * (2 * decay * g * p + (decay * p) ** 2)
        if decay > 0 and one.explained_by(predicted, one.allowed, FITTED):
            return StepDiagnosis(StepCause.DECAY_IN_SQUARES, {"decay": rounded(decay), "slot": slot, "more": sign > 0})
    return None


def other_beta(scene: Scene) -> StepDiagnosis | None:
    """A mean of gradients, or of their squares, that keeps another share of what it was."""
    slot = scene.tensor.removeprefix("optim/").rpartition("/")[0]
    share, towards = _share(scene), _towards(scene, slot)
    if share is None or towards is None:
        return None
    old = scene.slot(slot, "before")
    multiple = multiple_of(scene.comparison, (0.0 if old is None else old) - towards)
    if multiple is None:
        return None
    theirs = round(1 - share, 4)
    ours = rounded(theirs + multiple)
    if not 0 < ours < 1:  # with none of it kept, the factor of the gradient may as well be missing
        return None
    return StepDiagnosis(StepCause.BETA, {"name": MEANS[slot][1], "slot": slot, "ours": ours, "theirs": theirs})


def _towards(scene: Scene, slot: str, of: str = "theirs") -> Array | None:
    """Return what the mean in a slot moves towards in the step: the gradient, or its square."""
    gradient = getattr(scene.moment, of).get(f"backward/{scene.parameter}")
    if gradient is None or slot not in MEANS or gradient.shape != scene.theirs.shape:
        return None
    return np.asarray(gradient, dtype=np.float64) ** MEANS[slot][0]


def _share(scene: Scene) -> float | None:
    """Return the share of the gradient, or its square, in the mean that a scene is about, on the side that has one."""
    slot = scene.tensor.removeprefix("optim/").rpartition("/")[0]
    for of in ("theirs", "ours"):
        new, towards = scene.slot(slot, of), _towards(scene, slot, of)
        if new is None or towards is None or new.shape != towards.shape:
            continue
        old = scene.slot(slot, "before")
        start = np.zeros_like(new) if old is None else old
        away = towards - start
        square = float(np.sum(away * away))
        share = float(np.sum(away * (new - start))) / square if square > 0 else 0.0
        if 0 < share <= 1 and is_within(new, start + share * away, scene.comparison.allowed):
            return share
    return None


def averaged(scene: Scene) -> StepDiagnosis | None:
    """A mean of a parameter over steps that keeps another share of itself, or takes in the parameter as it was."""
    slot, before, old = scene.tensor.removeprefix("optim/").rpartition("/")[0], scene.moment.before, scene.before
    after, start = (scene.moment.theirs.get(f"update/param/{scene.parameter}"), before.get(f"param/{scene.parameter}"))
    if kinds(slot) or old is None or after is None or start is None or not scene.tensor.startswith("optim/"):
        return None
    moves = scene.moved(scene.name)
    theirs = _kept(moves, moves.numeric, after - old) if moves is not None else None
    if moves is None or theirs is None or not moves.failing.any():
        return None
    for late, towards in ((False, after), (True, start)):
        ours = _kept(moves, moves.analytic, towards - old)
        if ours is not None:
            return StepDiagnosis(StepCause.AVERAGED, {"ours": ours, "theirs": theirs, "late": late})
    if np.array_equal(start, old) and not moves.analytic.any():
        return StepDiagnosis(StepCause.AVERAGED, {"ours": None, "theirs": theirs, "late": True})
    return None


def _kept(moves: Comparison, moved: Array, away: Array) -> float | None:
    """Return the share of itself that a mean has kept, or None where it has not moved by one share of the way."""
    square = float(np.sum(away * away, dtype=np.float64))
    share = rounded(float(np.sum(away * moved)) / square) if square > 0 else 0.0
    unsure = moves.allowed + 1e-4 * share * np.abs(away)
    return rounded(1 - share) if 0 < share < 1 and is_within(moved, share * away, unsure) else None


def low_slot(scene: Scene) -> StepDiagnosis | None:
    """What an optimizer keeps, rounded to a lower precision than the other side's: its values, or its type."""
    if not scene.tensor.startswith("optim/") or not (is_floating(scene.ours) and is_floating(scene.theirs)):
        return _moved_by_low_slot(scene)
    old, slot = (
        np.abs(0.0 if scene.before is None else scene.before),
        scene.tensor.removeprefix("optim/").rpartition("/")[0],
    )
    for low, high, reference in ((scene.ours, scene.theirs, False), (scene.theirs, scene.ours, True)):
        given = np.finfo(high.dtype)
        for name, lower in LOWER.items():
            rounds = np.asarray(lower.round(high) != high)
            near = np.abs(low - high) <= lower.eps * (np.abs(high) + old) + scene.comparison.allowed + lower.smallest
            fits = lower.eps > given.eps and np.array_equal(lower.round(low), low)
            if fits and np.all(near) and distinct(high[rounds]) >= FITTED and scene.comparison.failing.any():
                kept = (high.dtype.name, name) if reference else (name, high.dtype.name)
                return _low(slot, *kept)
    return None


def _moved_by_low_slot(scene: Scene) -> StepDiagnosis | None:
    """A parameter that is off by no more than the rounding of a slot that one side keeps in a lower precision."""
    moves = scene.moved(scene.name)
    if moves is None or not scene.tensor.startswith("param/"):
        return None
    for name in scene.moment.theirs:
        head, _, parameter = name.removeprefix("update/optim/").rpartition("/")
        ours, theirs = scene.moment.ours[name], scene.moment.theirs[name]
        if not name.startswith("update/optim/") or parameter != scene.parameter or theirs.shape != scene.theirs.shape:
            continue
        if not (is_floating(ours) and is_floating(theirs)) or ours.dtype == theirs.dtype:
            continue
        old = scene.moment.before.get(name.removeprefix("update/"), np.zeros(()))
        grown = 1 + np.abs(old / np.where(theirs == 0, 1.0, theirs))  # what was kept before is rounded, too
        eps = max(np.finfo(ours.dtype).eps, np.finfo(theirs.dtype).eps)
        near = np.abs(moves.error) <= ROUNDINGS * eps * grown * np.abs(moves.numeric) + moves.allowed
        if np.all(near) and moves.failing.any():
            return _low(head, ours.dtype.name, theirs.dtype.name)
    return None


def _low(slot: str, ours: str, theirs: str) -> StepDiagnosis:
    return StepDiagnosis(StepCause.LOW_SLOT, {"slot": slot, "ours": ours, "theirs": theirs})


def _taken_off(scene: Scene, decay: float, of: str) -> bool:
    """Return whether one side takes a weight decay off the parameter, beside a move that is Adam's or a velocity's."""
    name, lr = f"update/param/{scene.parameter}", scene.moment.batch.lr
    if name not in scene.moment.theirs:
        return False
    param = Scene(name, scene.moment)
    moves = param.moved(name)
    if moves is None or param.before is None:
        return False
    rest = (moves.numeric if of == "theirs" else moves.analytic) + lr * decay * param.before
    velocity, moments = param.slot("momentum_buffer", of), adams_moments(param, of)
    made = [] if velocity is None else [-lr * velocity]
    made += [] if moments is None else [moments.move(moments.t, eps) for eps in (1e-8, 1e-7)]
    return any(is_within(rest, one, moves.allowed) for one in made)


def adams_moments(scene: Scene, of: str = "theirs") -> Moments | None:
    """Return Adam's moments of a parameter, or None if nothing of the kind is kept, or the betas are not known."""
    t, mean, square = (scene.slot(slot, of) for slot in ("step", "exp_avg", "exp_avg_sq"))
    t = scene.moment.theirs.get("update/step") if t is None else t
    grad = scene.moment.theirs.get(f"backward/{scene.parameter}")
    if t is None or mean is None or square is None or grad is None or t.size != 1:
        return None
    before = (scene.slot("exp_avg", "before"), scene.slot("exp_avg_sq", "before"))
    wide = np.asarray(grad, dtype=np.float64)
    return Moments.of(float(t), (mean, square), before, wide, scene.moment.batch.lr)
