"""An eps that one pass alone adds to an array that the layer holds, as to the variance of a norm in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import LARGEST, Guard, Place
from gradcheck.numerics.functions import cast, function_of
from gradcheck.properties.judge import Judge
from gradcheck.subjects.attributes import assign, resolve
from gradcheck.subjects.copies import fresh
from gradcheck.subjects.layer import ForeignLayer

SMALLER = (2.0**-10, 2.0**-7)  # of the array: where what an eps does of it counts more, and otherwise in each element
STEPS = 8  # of Newton and secants
NEAR = 2.0**-4  # of eps, by which it is moved to see what that does
SETTLED = 1e-12  # of the array, below which eps is found


class _Fit(NamedTuple):
    """What added to an array makes a gradient that which differences show, and how far it may be off."""

    eps: float
    unsure: float


def guard_of_held(judge: Judge, name: str, here: Comparison) -> Guard | None:
    """Return the guard beside an array, or all arrays, that a layer holds, by which a gradient is off; None if none is.

    With eps added to the array, the way back alone must give what differences show without: at the array as it is, and
    where it is smaller, with the same eps. A wrong factor is explained by another one there.
    """
    layer = judge.case.subject
    if not isinstance(layer, ForeignLayer):
        return None
    paths = [path for path in (*layer.reading.unchecked, *layer.reading.buffers) if np.all(_array(layer, path) > 0)]
    for chosen in [*([path] for path in paths), *([paths] if len(paths) > 1 else [])]:
        try:
            guard = _beside(judge, name, here, chosen)
        except Exception:  # noqa: BLE001, S112  with other values of what it holds it may raise anything
            continue
        if guard is not None:
            return guard
    return None


def _array(layer: ForeignLayer, path: str) -> Array:
    return np.asarray(resolve(layer.layer, path))


def _beside(judge: Judge, name: str, here: Comparison, paths: Sequence[str]) -> Guard | None:
    rng = judge.case.rng("smaller arrays that a layer holds")
    held = [_array(judge.case.subject, path) for path in paths]
    smaller = [x * rng.uniform(*SMALLER, x.shape) for x in held]

    def holding(arrays: Sequence[Array], eps: float) -> Judge:
        subject = judge.case.subject
        layer = fresh(subject.layer)
        for path, array in zip(paths, arrays, strict=True):
            assign(layer, path, array + eps)
        return replace(judge, case=replace(judge.case, subject=replace(subject, layer=layer)))

    def gradients(arrays: Sequence[Array]) -> Callable[[float], Array]:
        def gradient(eps: float) -> Array:
            case = holding(arrays, eps).case
            function = function_of(case)
            _, pullback = function.call(cast(function.variables, judge.point.precision), case.context())
            return np.asarray(pullback(judge.point.dy)[name], np.float64)

        return gradient

    with np.errstate(all="ignore"):
        if not np.any(gradients(held)(float(min(x.min() for x in held))) != here.analytic):
            return None  # on which it does not depend
        there = holding(smaller, 0.0)
        function = function_of(there.case)
        there = there.moved(cast(function.variables, judge.point.precision), function)
        numeric, allowed = there.numeric_of({}, name, judge.point.dy)
        shown = Comparison(there.grads[name], numeric, allowed + there.noise(name))
        found = _fitted(shown, gradients(smaller))
        if found is None or not found.unsure < abs(found.eps):
            return None
        near, gradient = NEAR * found.eps, gradients(held)
        with_eps = gradient(found.eps)
        blur = np.abs((gradient(found.eps + near) - with_eps) / near) * found.unsure
        off = np.abs(with_eps - here.numeric)
        if not np.all((off <= here.allowed + blur)[here.judged]):
            return None
        nowhere, one = np.zeros(here.numeric.shape, bool), np.ones(here.numeric.shape)
        shift = here.analytic - with_eps
        return Guard(abs(found.eps), found.unsure, Place.HELD, one, 0 * one, nowhere, shift, blur)


def _fitted(shown: Comparison, gradient: Callable[[float], Array]) -> _Fit | None:
    """Return what has to be added for a gradient to be the numeric one, at all judged elements; None if nothing is."""
    judged = shown.judged
    weights = np.where(judged, 1 / shown.allowed, 0.0)
    eps, slope = 0.0, np.zeros(judged.shape)
    for _ in range(STEPS):
        now, step = gradient(eps), NEAR * (eps or LARGEST)
        slope = (gradient(eps + step) - now) / step
        total = float(((weights * slope) ** 2)[judged].sum())
        if not 0 < total < np.inf:
            return None
        eps += (change := float((weights**2 * slope * (shown.numeric - now))[judged].sum() / total))
        if abs(change) <= SETTLED * abs(eps):
            break
    unsure = float((weights * np.abs(slope))[judged].sum()) / total
    now = gradient(eps)
    fits = np.abs(now - shown.numeric) <= shown.allowed + np.abs(slope) * unsure
    return _Fit(eps, unsure) if np.all(fits[judged]) else None
