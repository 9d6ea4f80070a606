"""Whether the two sides update by the rules of different optimizers, as what each keeps tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.updates import Moments
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within
from gradcheck.trajectory.causes.slots import slots_in_torchs_names
from gradcheck.trajectory.divergence import Own

EPS = (1e-8, 1e-10, 1e-7)  # the usual defaults
BETAS = (0.9, 0.999)
DECAY_OF_MOMENTUM = 0.004  # of NAdam


class Moved(NamedTuple):
    """What a rule is given: the gradient, the rate, what is kept by slot after the step, and Adam's moments of it."""

    gradient: Array
    lr: float
    kept: Mapping[str, Array]
    moments: tuple[Moments, ...]


Rule = Callable[[Moved, float], Iterator[Array]]  # yields moves, given eps


def _plain(of: Moved, eps: float) -> Iterator[Array]:
    del eps
    yield -of.lr * of.gradient


def _velocity(of: Moved, eps: float) -> Iterator[Array]:
    del eps
    yield -of.lr * of.kept["momentum_buffer"]


def _by_root(slot: str) -> Rule:
    def rule(of: Moved, eps: float) -> Iterator[Array]:
        yield -of.lr * of.gradient / (np.sqrt(of.kept[slot]) + eps)

    return rule


def _centred(of: Moved, eps: float) -> Iterator[Array]:
    yield -of.lr * of.gradient / (np.sqrt(of.kept["square_avg"] - of.kept["grad_avg"] ** 2) + eps)


def _adam(of: Moved, eps: float) -> Iterator[Array]:
    yield from (moments.move(moments.t, eps) for moments in of.moments)


def _amsgrad(of: Moved, eps: float) -> Iterator[Array]:
    largest = of.kept["max_exp_avg_sq"]
    yield from (replace(moments, square=largest).move(moments.t, eps) for moments in of.moments)


def _nadam(of: Moved, eps: float) -> Iterator[Array]:
    product = of.kept["mu_product"]
    for moments in of.moments:
        first, second = moments.betas
        now, then = (first * (1 - 0.5 * 0.96 ** ((moments.t + by) * DECAY_OF_MOMENTUM)) for by in (0, 1))
        root = np.sqrt(moments.square / (1 - second**moments.t)) + eps
        ahead = (1 - now) / (1 - product) * of.gradient + then / (1 - product * then) * moments.mean
        yield -of.lr * ahead / root


def _adamax(of: Moved, eps: float) -> Iterator[Array]:
    del eps
    yield -of.lr / (1 - BETAS[0] ** float(of.kept["step"])) * of.kept["exp_avg"] / of.kept["exp_inf"]


# By name: what each keeps, and how it moves a parameter. Those that keep the most first.
RULES: dict[str, tuple[frozenset[str], Rule]] = {
    "AMSGrad (Adam with amsgrad=True)": (frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}), _amsgrad),
    "NAdam": (frozenset({"exp_avg", "exp_avg_sq", "mu_product"}), _nadam),
    "Adam": (frozenset({"exp_avg", "exp_avg_sq"}), _adam),
    "Adamax": (frozenset({"exp_avg", "exp_inf", "step"}), _adamax),
    "RMSprop with momentum": (frozenset({"square_avg", "momentum_buffer"}), _velocity),
    "centred RMSprop": (frozenset({"square_avg", "grad_avg"}), _centred),
    "RMSprop": (frozenset({"square_avg"}), _by_root("square_avg")),
    "Adagrad": (frozenset({"sum"}), _by_root("sum")),
    "gradient descent with momentum": (frozenset({"momentum_buffer"}), _velocity),
    "plain gradient descent": (frozenset(), _plain),
}


def other_rule(scene: Scene) -> StepDiagnosis | None:
    """A parameter that each side moves exactly by the rule of another optimizer, a decay of it aside."""
    name, moment = f"update/param/{scene.parameter}", scene.moment
    gradient = moment.theirs.get(f"backward/{scene.parameter}")
    if moment.own is None or name not in moment.theirs or gradient is None or scene.tensor == "step":
        return None
    param = Scene(name, moment)
    moves, before = param.moved(name), param.before
    if moves is None or before is None or gradient.shape != before.shape:
        return None
    ours, theirs = (
        _rule(own, scene.parameter, replace(moves, analytic=moved), gradient, before, moment.batch.lr)
        for own, moved in zip(moment.own, (moves.analytic, moves.numeric), strict=True)
    )
    if ours is None or theirs is None or ours == theirs:
        return None
    return StepDiagnosis(StepCause.OTHER_RULE, {"ours": ours, "theirs": theirs})


def _rule(own: Own, parameter: str, moves: Comparison, gradient: Array, before: Array, lr: float) -> str | None:
    """Return by which rule one side, ``moves.analytic``, has moved a parameter, from what it keeps for it, or None."""
    start, kept = (slots_in_torchs_names(slots.get(parameter, {})) for slots in own[:2])
    wide, p = np.asarray(gradient, dtype=np.float64), np.asarray(before, dtype=np.float64)
    of = Moved(wide, lr, kept, _moments(kept, start, wide, lr))
    for name, (slots, rule) in RULES.items():
        made = (move for eps in EPS for move in rule(of, eps)) if slots <= kept.keys() else ()
        if any(move.shape == p.shape and _is_made(moves, move, p) for move in made):
            return name
    return None


def _is_made(moves: Comparison, move: Array, before: Array) -> bool:
    """Return whether a parameter has moved so, or so and by a share of itself, as by a weight decay."""
    if is_within(moves.analytic, move, moves.allowed):
        return True
    square = float(np.sum(before * before))
    share = float(np.sum(before * (move - moves.analytic))) / square if square > 0 else 0.0
    return 0 < share < 1 and before.size > 1 and is_within(moves.analytic, move - share * before, moves.allowed)


def _moments(kept: Mapping[str, Array], start: Mapping[str, Array], gradient: Array, lr: float) -> tuple[Moments, ...]:
    """Return Adam's moments with the betas that led to them, and with the usual ones."""
    mean, square, t = (kept.get(slot) for slot in ("exp_avg", "exp_avg_sq", "step"))
    if mean is None or square is None or t is None or t.size != 1 or mean.shape != gradient.shape:
        return ()
    fitted = Moments.of(float(t), (mean, square), (start.get("exp_avg"), start.get("exp_avg_sq")), gradient, lr)
    usual = Moments(mean, square, float(t), BETAS, lr)
    return (usual,) if fitted is None else (fitted, usual)
