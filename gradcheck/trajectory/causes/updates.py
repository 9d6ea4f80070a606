"""Hypotheses about the updates of a step: momentum, weight decay, Adam's constants, rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import FITTED, ONE, Comparison, factor_of, rounded
from gradcheck.diagnosis.updates import EPS, Moments, decay_of, stayed
from gradcheck.trajectory.causes.gradients import number
from gradcheck.trajectory.causes.moments import adams_moments
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within

# The usual defaults.
EPS_OF_ADAM = (1e-8, 1e-7)

STEPS_OF_FIT = 30  # of a share that is small: each takes the error of the last one times the share


def not_updated(scene: Scene) -> StepDiagnosis | None:
    """The tensor as it was."""
    if scene.before is None or not stayed(scene.comparison, np.asarray(scene.before, dtype=np.float64)):
        return None
    return StepDiagnosis(StepCause.NOT_UPDATED, {})


def other_eps(scene: Scene) -> StepDiagnosis | None:
    """Adam's move with eps inside the root, before the bias correction, or of another size."""
    for moves, moments, eps in _as_by_adam(scene):
        for place, other, predicted in _moves_by_eps(moments, eps):
            if moves.explained_by(predicted, moves.allowed, ONE):
                return StepDiagnosis(StepCause.EPS, {"place": place, "ours": other, "theirs": eps})
    return None


def _as_by_adam(scene: Scene) -> Iterator[tuple[Comparison, Moments, float]]:
    """Yield both moves of a parameter, the reference's moments and each usual eps by which these give its move."""
    moves, moments = scene.moved(scene.name), adams_moments(scene)
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
    times, given = number(found["factor"]), scene.moment.batch.lr
    parameters = [name for name in scene.moment.theirs if name.startswith("update/param/")]
    moves = [move for move in map(scene.moved, parameters) if move is not None]
    everything = scene.tensor.startswith("param/") and all(
        is_within(move.analytic, times * move.numeric, (1 + abs(times)) * move.allowed) for move in moves
    )
    same = "data/lr" in scene.moment.theirs  # and agrees: data come first
    lr = (given, given if same else rounded(times * given)) if everything else None
    return StepDiagnosis(StepCause.MOVED_BY_FACTOR, {"factor": found["factor"], "everything": everything, "lr": lr})


def weight_decay(scene: Scene) -> StepDiagnosis | None:
    """A parameter that is off by a multiple of what it was, by weight decay left out or done twice."""
    if scene.before is None or not scene.tensor.startswith("param/"):
        return None
    lr = scene.moment.batch.lr
    decay = decay_of(scene.comparison, scene.before, lr)
    if decay is None:
        return None
    by = -lr * decay["decay"] if decay["more"] else lr * decay["decay"]
    found = StepDiagnosis(StepCause.WEIGHT_DECAY, decay | {"coupled": False})
    return found if scene.elsewhere(lambda other: None if other.before is None else by * other.before) else None


def decay_after(scene: Scene) -> StepDiagnosis | None:
    """A parameter that decays after its move, ``(p + move)(1 - lr w)``, on one side.

    The other has ``p (1 - lr w) + move``, or no decay.
    """
    lr = scene.moment.batch.lr
    if scene.before is None or not scene.tensor.startswith("param/") or not lr > 0:
        return None
    one, before = scene.comparison, np.asarray(scene.before, dtype=np.float64)
    for reference in (False, True):
        last, other = (one.numeric, one.analytic) if reference else (one.analytic, one.numeric)
        for alone in (True, False):
            share = _decay_of(last, other, before, alone=alone)
            off = share * (other if alone else other - before + share * before)
            sign = -1 if not reference else 1
            predicted = one.numeric + sign * off
            if 0 < share < 1 and one.explained_by(predicted, one.allowed, FITTED):
                details = {"decay": rounded(share / lr), "reference": reference, "alone": alone}
                return StepDiagnosis(StepCause.DECAY_AFTER, details)
    return None


def _decay_of(last: Array, other: Array, before: Array, *, alone: bool) -> float:
    """Return the share that a parameter loses after its move, from what both sides make of it, 0 if there is none."""
    share = 0.0
    for _ in range(STEPS_OF_FIT):
        term = other if alone else other - before + share * before
        square = float(np.sum(term * term))
        share = float(np.sum(term * (other - last))) / square if square > 0 else 0.0
        if not 0 < share < 1:
            return 0.0
    return share
