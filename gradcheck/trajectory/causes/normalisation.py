"""Other statistics in a normalisation: a biased or unbiased variance, another eps, running ones, another momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ONE, Comparison, rounded
from gradcheck.trajectory.causes.layers import EPS_UNITS, own, row, sources, unit
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis, is_within

EPS = (1e-5, 1e-3, 1e-6, 1e-8, 1e-12, 0.0, 1e-4, 1e-7)
MOMENTA = (0.1, 0.01, 0.001, 0.05, 0.2, 0.03, 0.9, 0.99, 0.5)


class Statistics(NamedTuple):
    """How a normalisation computes ``(x - mean) / root``."""

    axes: tuple[int, ...]
    variance: str  # biased, unbiased, running
    eps: float
    inside: bool  # whether eps is inside the root

    def told(self, other: Statistics) -> str:
        """Return in what this differs from another."""
        said = []
        if self.axes != other.axes:
            said.append(f"statistics over the axes {', '.join(map(str, self.axes))}")
        if self.variance != other.variance:
            running = "running" in (self.variance, other.variance)
            batch = f"the {self.variance} variance{' of the batch' if running else ''}"
            said.append("the running statistics" if self.variance == "running" else batch)
        if (self.eps, self.inside) != (other.eps, other.inside):
            place = "" if self.inside == other.inside else f" {'inside' if self.inside else 'outside'} the root"
            said.append(f"an eps of {self.eps:g}{place}")
        return " and ".join(said)


def normalisation(scene: Scene) -> StepDiagnosis | None:
    """A normalisation by other statistics of an earlier result of the step."""
    one = scene.comparison
    if one.numeric.ndim < 2:
        return None
    for source in sources(scene):
        if source.theirs.shape != one.numeric.shape:
            continue
        theirs = next((how for how, _ in _fitting(scene, source.theirs, one.numeric)), None)
        for how, made in _fitting(scene, source.ours, one.analytic) if theirs is not None else ():
            if theirs is not None and one.explained_by(made[0], one.allowed + made[1], ONE):
                return StepDiagnosis(StepCause.NORMALISATION, {"ours": how.told(theirs), "theirs": theirs.told(how)})
    return None


def _fitting(scene: Scene, x: Array, result: Array) -> Iterator[tuple[Statistics, tuple[Array, Array]]]:
    """Yield which normalisations of x give a result, in the first row and in all, with what they give."""
    for axes, variance in _kinds(scene):
        given = _statistics(scene, axes, variance, x)
        for eps, inside in product(EPS, (True, False)) if given is not None else ():
            how, made = Statistics(axes, variance, eps, inside), None
            for some in (row, np.asarray):
                made = _normalised(scene, how, x, given, some) if given is not None else None
                allowed = some(scene.comparison.allowed)
                if made is None or not np.all(np.abs(some(result) - made[0]) <= 2 * allowed + made[1]):
                    break
            else:
                if made is not None:
                    yield how, made


def running_variance(scene: Scene) -> StepDiagnosis | None:
    """A running variance moved by the biased variance of the batch, where the reference's is moved by the unbiased."""
    old, theirs = scene.before, scene.comparison.numeric
    results = scene.moment.theirs.get(f"forward/{scene.tensor.removeprefix('buffer/').rpartition('.')[0]}.output")
    if not scene.tensor.endswith("running_var") or old is None or results is None or results.size <= theirs.size:
        return None
    count = results.size // theirs.size
    for momentum in MOMENTA:
        batch = np.asarray(momentum * old + theirs - old, dtype=np.float64)  # momentum times the variance
        for biased, share in ((True, (count - 1) / count), (False, count / (count - 1))):
            predicted, allowed = theirs + (share - 1) * batch, scene.comparison.allowed
            if np.all(batch >= 0) and scene.comparison.explained_by(predicted, allowed, ONE):
                return StepDiagnosis(StepCause.RUNNING_VARIANCE, {"biased": biased, "momentum": momentum})
    return None


def running_momentum(scene: Scene) -> StepDiagnosis | None:
    """A running statistic moved by another share of the batch's."""
    moves = scene.moved(scene.name)
    layer, _, kind = scene.tensor.removeprefix("buffer/").rpartition(".")
    if moves is None or scene.before is None or kind not in ("running_mean", "running_var"):
        return None
    result = Scene(f"forward/{layer}.output", scene.moment)
    if result.name not in scene.moment.theirs:
        return None
    old = np.asarray(scene.before, dtype=np.float64)
    for source in sources(result):
        if source.theirs.shape != result.theirs.shape or result.theirs.ndim < 2:
            continue
        axes = _but_channels(source.theirs.ndim)
        batch = source.theirs.mean(axis=axes) if kind == "running_mean" else source.theirs.var(axis=axes, ddof=1)
        if batch.shape != old.shape:
            continue
        away = batch - old
        shares = [_share(moves, side, away) for side in (moves.analytic, moves.numeric)]
        if all(shares) and shares[0] != shares[1] and moves.explained_by(shares[0] * away, moves.allowed, ONE):
            return StepDiagnosis(StepCause.RUNNING_MOMENTUM, {"ours": shares[0], "theirs": shares[1]})
    return None


def _share(moves: Comparison, moved: Array, away: Array) -> float:
    """Return the share of the way that a statistic has moved, 0 where that is not one share."""
    square = float(np.sum(away * away))
    share = rounded(float(np.sum(away * moved)) / square) if square > 0 else 0.0
    return share if 0 < share <= 1 and is_within(moved, share * away, moves.allowed) else 0.0


def _but_channels(ndim: int) -> tuple[int, ...]:
    return (0, *range(2, ndim))


def _kinds(scene: Scene) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield over which axes, and by which variance, a normalisation may be computed, the likeliest first."""
    ndim = scene.theirs.ndim
    for axes in dict.fromkeys([_but_channels(ndim), (ndim - 1,), tuple(range(1, ndim))]):
        yield from ((axes, variance) for variance in ("biased", "unbiased"))
        if axes == _but_channels(ndim) and own(scene, "running_var", "buffer") is not None:
            yield axes, "running"


def _statistics(scene: Scene, axes: tuple[int, ...], variance: str, x: Array) -> tuple[Array, Array] | None:
    """Return mean and variance, with axes of 1 where they are taken over; None if the shapes do not fit."""
    wide = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
    if variance != "running":
        return x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True, ddof=int(variance == "unbiased"))
    mean, square = (own(scene, name, "buffer") for name in ("running_mean", "running_var"))
    if mean is None or square is None or mean.size != np.prod(wide):
        return None
    return mean.reshape(wide), square.reshape(wide)


def _normalised(
    scene: Scene, how: Statistics, x: Array, given: tuple[Array, Array], some: Callable[[Array], Array]
) -> tuple[Array, Array] | None:
    """Return what a normalisation makes of ``some`` of x, and how far rounding moves it; None if it does not fit."""
    mean, variance = given if 0 in how.axes else (some(given[0]), some(given[1]))
    weight, bias = (own(scene, name) for name in ("weight", "bias"))
    scale, shift = np.asarray(1.0 if weight is None else weight), np.asarray(0.0 if bias is None else bias)
    if 0 in how.axes and scale.ndim:  # a number for each channel
        if any(array.size not in (1, mean.size) for array in (scale, shift)):
            return None
        scale, shift = (array.reshape(mean.shape) if array.ndim else array for array in (scale, shift))
    elif scale.shape != x.shape[x.ndim - scale.ndim :] or shift.shape not in ((), scale.shape):
        return None
    x = some(x)
    root = np.sqrt(variance + how.eps) if how.inside else np.sqrt(variance) + how.eps
    size = (np.abs(x) + np.abs(mean)) / root * np.abs(scale) + np.abs(shift)
    return (x - mean) / root * scale + shift, np.asarray(EPS_UNITS * unit(scene) * size)
