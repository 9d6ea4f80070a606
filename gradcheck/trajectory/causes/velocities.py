"""Hypotheses about velocities: another momentum, dampening, Nesterov's step, and those that no state shows."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import TWO, factor_of, multiple_of, rounded
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within

# Momenta are fitted to 4 digits.
ZERO = 1e-4


def momentum(scene: Scene) -> StepDiagnosis | None:
    """A velocity that is the gradient alone, or off by a multiple of the velocity before the step."""
    name = f"update/optim/momentum_buffer/{scene.parameter}"
    kept, gradient = scene.slot("momentum_buffer", "before"), scene.moment.theirs.get(f"backward/{scene.parameter}")
    if kept is None or name not in scene.moment.ours:
        return None
    velocity = scene.compared(name)
    if gradient is not None and np.any(kept) and velocity.explained_by(gradient, velocity.allowed, TWO):
        return StepDiagnosis(StepCause.MOMENTUM, {"lost": True, "multiple": None})
    if gradient is not None and np.any(kept) and (share := multiple_of(velocity, gradient)) is not None:
        return StepDiagnosis(StepCause.DAMPENING, {"share": rounded(1 + share)})
    multiple = multiple_of(velocity, kept)
    return None if multiple is None else StepDiagnosis(StepCause.MOMENTUM, {"lost": False, "multiple": multiple})


def hidden_velocity(scene: Scene) -> StepDiagnosis | None:
    """A parameter off by a multiple of the reference's velocity before the step, where ours shows none."""
    kept, gradient = scene.slot("momentum_buffer", "before"), scene.moment.theirs.get(f"backward/{scene.parameter}")
    shown = f"update/optim/momentum_buffer/{scene.parameter}" in scene.moment.theirs
    lr, moves = scene.moment.batch.lr, scene.moved(scene.name)
    if kept is None or gradient is None or shown or moves is None or not lr > 0:
        return None
    multiple = multiple_of(scene.comparison, kept)
    if multiple is None or not scene.elsewhere(lambda other: _times(multiple, other.slot("momentum_buffer", "before"))):
        return None
    theirs = rounded(float(np.sum(kept * (-moves.numeric / lr - gradient)) / np.sum(kept * kept)))
    ours = rounded(theirs - multiple / lr) if abs(theirs - multiple / lr) > ZERO else 0.0
    right = is_within(moves.numeric, -lr * (gradient + theirs * kept), moves.allowed + ZERO * lr * np.abs(kept))
    if not right or not 0 <= ours < 1:
        return None
    return StepDiagnosis(StepCause.HIDDEN_VELOCITY, {"ours": ours, "theirs": theirs})


def carried_over(scene: Scene) -> StepDiagnosis | None:
    """A parameter off by a multiple of its move in the step before, as by a velocity that no state shows."""
    shown = f"update/optim/momentum_buffer/{scene.parameter}" in scene.moment.theirs
    moved, own = _moved_before(scene), scene.moved(scene.name)
    if moved is None or own is None or shown or not scene.tensor.startswith("param/"):
        return None
    multiple = multiple_of(scene.comparison, moved)
    if (
        multiple is None
        or abs(multiple) > 1
        or not scene.elsewhere(lambda other: _times(multiple, _moved_before(other)))
    ):
        return None
    gradient = scene.moment.theirs.get(f"backward/{scene.parameter}")
    other = own.analytic if multiple < 0 else own.numeric  # that of which the momentum is the smaller
    none = gradient is None or is_within(other, -scene.moment.batch.lr * gradient, own.allowed)
    details = {
        "multiple": abs(multiple),
        "reference": multiple < 0,
        "none": none,
        "engine": scene.moment.earlier is not None,
    }
    return StepDiagnosis(StepCause.CARRIED_OVER, details)


def nesterov(scene: Scene) -> StepDiagnosis | None:
    """A move by ``g + m v`` on one side, as of Nesterov's momentum, and by the same velocity v alone on the other."""
    velocity, gradient = scene.slot("momentum_buffer"), scene.moment.theirs.get(f"backward/{scene.parameter}")
    moves, lr = scene.moved(scene.name), scene.moment.batch.lr
    if velocity is None or gradient is None or moves is None or not scene.tensor.startswith("param/") or not lr > 0:
        return None
    if scene.compared(f"update/optim/momentum_buffer/{scene.parameter}").failing.any():
        return None
    if "data/lr" not in scene.moment.theirs and factor_of(moves, ()) is not None:
        return None  # another rate, as well
    for reference in (False, True):
        ahead, plain = (moves.numeric, moves.analytic) if reference else (moves.analytic, moves.numeric)
        kept = rounded(float(np.sum(velocity * (-ahead / lr - gradient)) / np.sum(velocity * velocity)))
        fits = is_within(ahead, -lr * (gradient + kept * velocity), moves.allowed + ZERO * lr * np.abs(velocity))
        if 0 < kept < 1 and fits and is_within(plain, -lr * velocity, moves.allowed) and moves.failing.any():
            return StepDiagnosis(StepCause.NESTEROV, {"momentum": kept, "reference": reference})
    return None


def _times(multiple: float, array: Array | None) -> Array | None:
    return None if array is None else multiple * array


def _moved_before(scene: Scene) -> Array | None:
    """Return how the reference has moved a parameter in the step before, in float64, or None if that is not known.

    Where the state before that step is not known, the first step tells: the first move is a multiple of the gradient.
    """
    moment, name = scene.moment, scene.tensor.removeprefix("param/")
    if scene.before is None:
        return None
    if moment.earlier is not None:
        start = moment.earlier[0].get(scene.tensor)
        return None if start is None else np.asarray(scene.before - start, dtype=np.float64)
    first = moment.previous.get(name) if moment.context.key.step == 1 else None
    return None if first is None else -moment.batch.lr * np.asarray(first, dtype=np.float64)
