"""Gradients that one side clips, both clip at other bounds, or one clips after each micro-batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import FITTED, ONE, ROUNDING, Comparison, factor_of
from gradcheck.trajectory.causes.gradients import gradients_of
from gradcheck.trajectory.causes.layers import EPS_UNITS
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within, joined

# What torch adds to the norm that it divides by.
TORCH = 1e-6

ROUND = 5e-3  # how well a norm has to be known, to be called a number of 2 digits: as a share of a unit of the second

SAME = 1e-4  # of two norms that are clipped to the same bound, of which torch makes up to that much less

FEWEST_CLIPPED = 3  # gradients, of which one is odd

MOST_NUMBERS = 10**7  # of the gradients of all samples of a parameter, which are not kept for more


def clipped_norm(scene: Scene) -> StepDiagnosis | None:
    """All gradients off by one factor, after which the norm of all is a number as bounds are written."""
    every = _every(scene)
    if every is None:
        return None
    ours, theirs = (float(np.linalg.norm(side)) for side in (every.analytic, every.numeric))
    if not 0 < min(ours, theirs) < max(ours, theirs) < np.inf:
        return None
    unsure = float(np.linalg.norm(every.allowed))
    factor = ours / theirs
    off = (1 + factor) * unsure / theirs * np.abs(every.numeric)
    names = gradients_of(scene, clipped=False).values()
    before = float(np.linalg.norm(np.concatenate([scene.compared(name).numeric.ravel() for name in names])))
    bounds = [_bound(norm, max(before, ours, theirs), unsure) for norm in (ours, theirs)]
    clipped = bounds[0] if ours < theirs else bounds[1]  # the smaller norm is that of what is clipped, or both are
    if clipped is None or not every.explained_by(factor * every.numeric, factor * every.allowed + off, ONE):
        return None
    details = {"ours": bounds[0], "theirs": bounds[1], "norms": (ours, theirs), "by": "norm"}
    return StepDiagnosis(StepCause.CLIPPED, details)


def one_before_clipping(scene: Scene) -> StepDiagnosis | None:
    """One gradient that is wrong before all are clipped by their norm, so that all others are off by one factor."""
    parts = {key: scene.compared(name) for key, name in gradients_of(scene, clipped=True).items()}
    every = _every(scene)
    if every is None or len(parts) < FEWEST_CLIPPED:
        return None
    norms = [float(np.linalg.norm(side)) for side in (every.analytic, every.numeric)]
    if abs(norms[0] - norms[1]) > float(np.linalg.norm(every.allowed)) + SAME * norms[1]:
        return None
    for part in list(parts.values())[:2]:  # of which one is right at least
        found = factor_of(part, ())
        size = float(np.linalg.norm(part.numeric))
        if found is None or not size > 0:
            continue
        factor = float(np.linalg.norm(part.analytic)) / size
        unsure = 2 * part.allowed.max() * math.sqrt(part.allowed.size) / size
        odd = [
            key
            for key, one in parts.items()
            if not is_within(one.analytic, factor * one.numeric, 2 * one.allowed + unsure * np.abs(one.numeric))
        ]
        if len(odd) == 1 and part.failing.any():
            one = parts[odd[0]]
            own = factor_of(Comparison(one.analytic / factor, one.numeric, 2 * one.allowed, one.levels), ())
            details = {"odd": odd[0], "factor": factor, "zero": not one.analytic.any(), "times": own and own["factor"]}
            return StepDiagnosis(StepCause.ONE_BEFORE_CLIPPING, details)
    return None


def clipped_values(scene: Scene) -> StepDiagnosis | None:
    """All elements that are larger than a number cut off there, on one side."""
    every = _every(scene)
    if every is None:
        return None
    for reference in (False, True):
        cut, whole = (every.numeric, every.analytic) if reference else (every.analytic, every.numeric)
        bound = float(np.abs(cut).max(initial=0.0))
        other = Comparison(cut, whole, every.allowed, every.levels)
        if (
            bound
            and np.sum(np.abs(whole) > bound) >= FITTED
            and other.explained_by(np.clip(whole, -bound, bound), 0.0, ONE)
        ):
            bounds = (None, bound) if reference else (bound, None)
            return StepDiagnosis(
                StepCause.CLIPPED, {"ours": bounds[0], "theirs": bounds[1], "norms": None, "by": "value"}
            )
    return None


def clipped_in_parts(scene: Scene) -> StepDiagnosis | None:
    """Gradients of micro-batches clipped as they are added up, where the reference clips their sum.

    The gradient of every parameter is computed again for each part of the batch, from what a linear layer is given and
    the gradient of its result.
    """
    names, before = gradients_of(scene, clipped=True), gradients_of(scene, clipped=False)
    parts = {key: _of_samples(scene, key, scene.moment.theirs[before[key]]) for key in names}
    every = _every(scene)
    if every is None or not parts or any(part is None for part in parts.values()):
        return None
    each = np.concatenate([part.reshape(len(part), -1) for part in parts.values() if part is not None], axis=1)
    sizes = [part.sum(axis=0).ravel() for part in parts.values() if part is not None]
    whole, unsure = (float(np.linalg.norm(norms)) for norms in (np.concatenate(sizes), every.allowed))
    bound = _bound(float(np.linalg.norm(every.numeric)), whole, unsure)
    if bound is None:
        return None
    for count in range(2, len(each) + 1):
        if len(each) % count:
            continue
        sums = each.reshape(count, -1, each.shape[1]).sum(axis=1)
        for how, made in _clipped_sums(sums, bound):
            if every.explained_by(made, EPS_UNITS * ROUNDING * np.abs(each).sum(axis=0), ONE):
                return StepDiagnosis(StepCause.CLIPPED_IN_PARTS, {"parts": count, "how": how, "bound": bound})
    return None


def _clipped_sums(sums: Array, bound: float) -> Iterator[tuple[str, Array]]:
    """Yield what is left of gradients that are clipped part by part."""
    yield "sum so far", reduce(lambda total, part: _clip(total + part, bound), sums, np.zeros(sums.shape[1]))
    yield "its own", np.sum([_clip(part, bound) for part in sums], axis=0)
    yield "its own, then all", _clip(np.sum([_clip(part, bound) for part in sums], axis=0), bound)
    yield "of the mean", np.mean([_clip(len(sums) * part, bound) for part in sums], axis=0)


def _clip(gradient: Array, bound: float) -> Array:
    norm = float(np.linalg.norm(gradient))
    return np.asarray(gradient * min(1.0, bound / (norm + TORCH)))


def _every(scene: Scene) -> Comparison | None:
    """Return the gradients of all parameters, as the update uses them, as one."""
    parts = [scene.compared(name) for name in gradients_of(scene, clipped=True).values()]
    return joined(parts) if parts else None


def _bound(norm: float, whole: float, unsure: float) -> float | None:
    """Return the number to which a norm may be clipped, one of 2 digits, or None."""
    bound = float(f"{norm:.2g}")
    if not 0 < bound < math.inf:
        return None
    digit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    made = [bound, bound * whole / (whole + TORCH)]
    near = min(abs(norm - one) for one in made) <= unsure + ROUNDING * norm
    return bound if near and unsure <= digit * ROUND else None


def _of_samples(scene: Scene, key: str, total: Array) -> Array | None:
    """Return the gradient of a linear layer's parameter from each sample, which add up to ``total``, or None."""
    shown, layer = scene.moment.theirs, key.rpartition(".")[0]
    of_result = shown.get(f"backward/{layer}.output")
    if of_result is None or of_result.ndim != 2 or len(of_result) * total.size > MOST_NUMBERS:
        return None
    delta = of_result.astype(np.float64)
    candidates: list[Array] = [delta]
    for name, array in shown.items() if total.ndim == 2 else ():
        if name.startswith(("data/x", "forward/")) and array.shape == (len(delta), total.shape[1]):
            candidates.append(delta[:, :, None] * array.astype(np.float64)[:, None, :])
    for each in candidates:
        allowed = 2 * scene.moment.allowed[f"backward/{key}"] + EPS_UNITS * ROUNDING * np.abs(each).sum(axis=0)
        if each.shape[1:] == total.shape and np.all(np.abs(each.sum(axis=0) - total) <= allowed):
            return each
    return None
