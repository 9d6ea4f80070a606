"""Hypotheses about the updates of a step: momentum, weight decay, Adam's constants, rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ONE, TWO, Comparison, factor_of, multiple_of, rounded
from gradcheck.diagnosis.updates import EPS, Moments, decay_of, stayed
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within, joined

# The usual defaults.
EPS_OF_ADAM = (1e-8, 1e-7)

# What is kept of the gradients: the power of a gradient in it, and what the share is called that is kept from before.
MEANS = {"exp_avg": (1, "beta1"), "exp_avg_sq": (2, "beta2"), "square_avg": (2, "alpha")}


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
    if gradient is not None and np.any(kept) and velocity.explained_by(gradient, velocity.allowed, TWO):
        return StepDiagnosis(StepCause.MOMENTUM, {"lost": True, "multiple": None})
    multiple = multiple_of(velocity, kept)
    return None if multiple is None else StepDiagnosis(StepCause.MOMENTUM, {"lost": False, "multiple": multiple})


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
            details = {"decay": rounded(abs(multiple) / share), "more": multiple > 0}
            return StepDiagnosis(StepCause.WEIGHT_DECAY, details)
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


def other_eps(scene: Scene) -> StepDiagnosis | None:
    """Adam's move with eps inside the root, before the bias correction, or of another size."""
    for moves, moments, eps in _as_by_adam(scene):
        for place, other, predicted in _moves_by_eps(moments, eps):
            if moves.explained_by(predicted, moves.allowed, ONE):
                return StepDiagnosis(StepCause.EPS, {"place": place, "ours": other, "theirs": eps})
    return None


def _as_by_adam(scene: Scene) -> Iterator[tuple[Comparison, Moments, float]]:
    """Yield both moves of a parameter, the reference's moments and each usual eps by which these give its move."""
    moves, moments = scene.moved(scene.name), _moments(scene)
    if moves is None or moments is None or not scene.tensor.startswith("param/"):
        return
    for eps in EPS_OF_ADAM:
        if is_within(moves.numeric, moments.move(moments.t, eps), moves.allowed):
            yield moves, moments, eps


def _moves_by_eps(moments: Moments, eps: float) -> Iterator[tuple[str, float, Array]]:
    """Yield where eps is, its size, and the move with it."""
    first, second = (1 - beta**moments.t for beta in moments.betas)
    mean, square = moments.mean / first, moments.square / second
    yield "inside", eps, -moments.lr * mean / np.sqrt(square + eps)
    yield "before", eps, -moments.lr * mean / (np.sqrt(square) + eps / math.sqrt(second))
    for other in EPS:
        if other != eps:
            yield "after", other, moments.move(moments.t, other)


def carried_over(scene: Scene) -> StepDiagnosis | None:
    """A parameter off by a multiple of its move in the step before, as by a velocity that no state shows."""
    earlier = scene.moment.earlier
    shown = f"update/optim/momentum_buffer/{scene.parameter}" in scene.moment.theirs
    if scene.before is None or earlier is None or shown or not scene.tensor.startswith("param/"):
        return None
    start = earlier[0].get(scene.tensor)
    if start is None:
        return None
    multiple = multiple_of(scene.comparison, np.asarray(scene.before - start, dtype=np.float64))
    if multiple is None or abs(multiple) > 1:
        return None
    return StepDiagnosis(StepCause.CARRIED_OVER, {"multiple": abs(multiple), "reference": multiple < 0})


def correction(scene: Scene) -> StepDiagnosis | None:
    """Adam's move with the bias correction of another step, or without any.

    The betas are computed from how the reference's moments moved, and they must reproduce the reference's move.
    """
    for moves, moments, eps in _as_by_adam(scene):
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
    everything = all(
        is_within(move.analytic, factor * move.numeric, (1 + abs(factor)) * move.allowed) for move in moves
    )
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
    t = scene.moment.theirs.get("update/step") if t is None else t
    grad = scene.moment.theirs.get(f"backward/{scene.parameter}")
    if t is None or mean is None or square is None or grad is None or t.size != 1:
        return None
    before = (scene.slot("exp_avg", "before"), scene.slot("exp_avg_sq", "before"))
    wide = np.asarray(grad, dtype=np.float64)
    return Moments.of(float(t), (mean, square), before, wide, scene.moment.batch.lr)
