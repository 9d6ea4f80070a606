"""Guards: an eps inside a logarithm that the value has and the gradient has not, or the reverse; and bounds.

``log(p + eps)`` with the gradient of ``log(p)`` is off by ``eps / p`` of itself, which is meant, and below eps
``log(max(p, eps))`` is flat. One eps is fitted; everything else must follow from it, at every judged element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import PRECISION, ROUNDING, TWO, Comparison, distinct
from gradcheck.diagnosis.losses import sigmoid, softmax

# The largest eps that guards against zero; a larger one makes another function. Torch's largest default is as large.
LARGEST = 1e-5

# Decimal digits by which a fit must be surer than its unknowns make it, so that it is no coincidence. These come on top
# of a departure in proportion to 1 / p, which no other fault is known to have.
DIGITS = 3.0

# A departure that is smaller than this everywhere needs no such digits: no constant is written as wrongly as that.
INVISIBLE = 1e-9

# A departure of at most this may be that of an eps, where one number is all that there is to tell.
SMALL = 1e-4

# What an eps usually is. To be one of these is no accident, but it takes digits to choose among them.
USUAL = (
    *(digit * 10.0**-power for power in range(1, 21) for digit in (1, 2, 5)),
    *(float(np.finfo(kind).eps) for kind in (np.float16, np.float32, np.float64)),
)
OF_USUAL = 1.5

GOES_ON = 1e-2  # of what the guard moves, to which the gradient goes on as a logarithm's where the input is smaller

BLURRED = 4.0  # times itself, by which an eps may be off whose departure is invisible
STEPS = 8  # of Gauss and Newton: one is enough for most models
SETTLED = 1e-12  # relative change of eps
ALIKE = 1e-3  # relative departures no further apart than this tell the same
IMAGINARY = 1e-30  # a step along which a derivative is exact


class Model(NamedTuple):
    """The gradient of a loss, of any size, as a function of eps, and the shares that its logarithms are of.

    Where a sum has several of them, it is ``bounded`` as a function of a bound below which they do not count. Of one
    that is a product over a divisor, ``value`` is that of the logarithms, which may hold the same eps.
    """

    gradient: Callable[[complex], Array]
    shares: tuple[Array, ...]
    bounded: Callable[[float], Array] | None = None
    value: Callable[[complex], Array] | None = None


class Place(StrEnum):
    """Where an eps is."""

    LOGARITHM = "logarithm"  # of the value, and not in the gradient
    DIVISOR = "divisor"  # of the gradient, and not in the value
    NORM = "norm"  # beside a norm of the input, on one side only
    HELD = "held"  # beside an array that the layer holds, on one side only
    SOFTMAX = "softmax"  # beside the sum of its exponentials, and not in the gradient


class Beside(NamedTuple):
    """An eps that is added to a power of a norm of the input along axes: of which ``measure`` is the number."""

    eps: float
    power: int
    axes: tuple[int, ...]
    measure: int


@dataclass(frozen=True)
class Guard:
    """An eps with its error, 0 for a bound alone, and its place.

    Without it the numeric gradient is ``ratio`` times as large, to within ``unsure`` times. It is flat ``outside``,
    where a bound cuts the value off. Beside a norm it is larger by ``shift``, to within ``blur``; it is ``beside`` that
    norm, if outputs show which. Where it is ``alone`` in what the gradient is divided by, nothing is known. The guard
    is ``sure`` unless it may be an accident.
    """

    eps: float
    error: float
    place: Place
    ratio: Array
    unsure: Array
    outside: Array
    shift: Array | float = 0.0
    blur: Array | float = 0.0
    sure: bool = True
    beside: Beside | None = None
    alone: Array | bool = False

    def __str__(self) -> str:
        """Return how large eps is, to as many digits as are known."""
        return f"about {self.eps:.0e}" if self.error > 0.1 * self.eps else f"{self.eps:.2g}"

    def without(self, numeric: Array, allowed: Array) -> tuple[Array, Array]:
        """Return a numeric gradient as it is without the guard, and its allowance, which is inf outside."""
        error = allowed * np.abs(self.ratio) + self.unsure * np.abs(numeric) + self.blur
        freed = numeric * self.ratio + self.shift
        unknown = self.outside | self.alone
        return np.where(unknown, 0.0, freed), np.where(unknown, np.inf, error)

    def moves(self, numeric: Array) -> float:
        """Return the largest share of itself by which the guard moves a gradient."""
        freed = numeric * self.ratio + self.shift
        inside = ~(self.outside | self.alone) & (freed != 0)
        moved = np.abs(freed - numeric)[inside]
        if self.place in (Place.NORM, Place.HELD, Place.SOFTMAX):  # where an element may vanish by chance
            return float(moved.max(initial=0.0) / np.abs(freed[inside]).max(initial=1e-300))
        return float((moved / np.abs(freed[inside])).max(initial=0.0))


def bound(outside: Array) -> Guard:
    """Return the guard of a bound alone: the value is flat outside it, and as without it elsewhere."""
    return Guard(0.0, 0.0, Place.LOGARITHM, np.ones(outside.shape), np.zeros(outside.shape), outside)


def alone(where: Array) -> Guard:
    """Return the guard that is alone in what a gradient is divided by somewhere, and counts nowhere else."""
    return replace(bound(np.zeros(where.shape, bool)), place=Place.DIVISOR, alone=where)


class Fit(NamedTuple):
    """An eps, how far it may be off, and whether that it fits is no coincidence."""

    eps: float
    unsure: float
    sure: bool


class Moved(NamedTuple):
    """Another input of a function, and its analytic gradient there."""

    x: Array
    analytic: Array


def guard_of(
    comparison: Comparison,
    x: Array,
    dy: Array,
    target: Array | None,
    moved: Moved | None,
    known: Mapping[float, float] | None = None,
) -> Guard | None:
    """Return the guard that two gradients of ``x`` differ by, alone or beside a fault, or None.

    Where the input is ``moved``, the gradient has to go on as a logarithm's: ``2 x + 2 eps`` is ``2 x`` over
    ``x / (x + eps)`` as well. Nothing is sure if the function is not defined there. ``known`` are guards of the value
    that other cases have shown, with their errors: where one explains all, nothing is fitted.
    """
    with np.errstate(all="ignore"):
        weights = _weights(x, dy)
        models = list(_models(x, weights, target, comparison))
        there = models if moved is None else list(_models(moved.x, weights, target, comparison))

        def found() -> Iterator[Guard | None]:
            for find in (partial(of_value, known=known), of_gradient, beside_a_factor):
                for model, model_there in zip(models, there, strict=True):
                    guard = find(comparison, model)
                    if guard is None or moved is None:
                        yield guard and replace(guard, sure=False)
                    elif _goes_on(comparison, guard, model, model_there, moved.analytic):
                        yield guard
            for model in models:
                yield beside_a_fault(comparison, model)

        return surest(found())


def _goes_on(comparison: Comparison, guard: Guard, model: Model, there: Model, analytic: Array) -> bool:
    """Return whether the gradient elsewhere is that of the model, with the weights that it has here."""
    eps = guard.eps if guard.place is Place.DIVISOR else 0.0
    ratio = _ratio(there.gradient(eps), model.gradient(eps))
    expected = comparison.analytic * ratio
    unsure = (GOES_ON * np.abs(comparison.error) + comparison.allowed) * (1 + np.abs(ratio))
    judged = comparison.judged & ~guard.outside & np.isfinite(unsure)
    return bool(np.all((np.abs(analytic - expected) <= unsure)[judged]))


def guard_of_samples(
    comparison: Comparison, values: Array, gradients: Array, known: Mapping[float, float] | None = None
) -> Guard | None:
    """Return the guard of a mean or sum of ``-log(p + eps)``, given the value and gradient of each sample alone.

    Whatever p comes of, such as a network: ``p + eps`` is ``exp(-value)``.
    """
    with np.errstate(all="ignore"):
        shares = np.exp(-values).reshape(-1, *[1] * comparison.numeric.ndim)
        return of_value(comparison, Model(lambda eps: (gradients * (1 - eps / shares)).sum(axis=0), ()), known)


class OfValues(NamedTuple):
    """An eps, and the values that it explains."""

    eps: float
    explained: Array


def values_of(points: list[Array], target: Array) -> Iterator[Callable[[complex], Array]]:
    """Yield the usual losses at some points, as functions of an eps in their logarithms, up to one factor."""

    def of_two(of: Callable[[Array], Array], eps: complex) -> Array:
        p, rest = (np.array([of(sign * x + start) for x in points]) for sign, start in ((1, 0), (-1, of is _itself)))
        logs = target * np.log(p + eps) + (1 - target) * np.log(rest + eps)
        return np.asarray(-logs.reshape(len(points), -1).sum(axis=1))

    def of_classes(of: Callable[[Array], Array], q: Array, eps: complex) -> Array:
        return np.array([-(q * np.log(np.where(q > 0, of(x), 1.0) + np.where(q > 0, eps, 0.0))).sum() for x in points])

    shape = points[0].shape
    if target.shape == shape:
        yield from (partial(of_two, of) for of in (_itself, sigmoid))
    for axis in range(len(shape)):
        if (q := _rows(points[0], target, axis)) is not None:
            yield from (partial(of_classes, of, q) for of in (_itself, partial(softmax, axis=axis)))


def guard_of_values(
    ours: Array, theirs: Array, allowed: float, losses: Iterable[Callable[[complex], Array]], known: float | None = None
) -> OfValues | None:
    """Return the eps that values of two functions at some points differ by, one of which is a usual loss without it.

    One eps must explain all points, by enough digits, unless it is ``known``; and it is at most `LARGEST`.
    """
    with np.errstate(all="ignore"):
        for loss in losses:
            plain, slope = loss(0.0).real, loss(complex(0.0, IMAGINARY)).imag / IMAGINARY
            for without, sign in ((theirs, 1.0), (ours, -1.0)):
                apart = sign * (ours - theirs)
                factor = float(np.median(without / plain))
                tolerance = allowed + ROUNDING * np.abs(without)
                if not np.all(np.abs(without - factor * plain) <= tolerance):
                    continue
                eps = known or 0.0
                for _ in range(0 if known else STEPS):
                    eps += float(np.sum(apart - factor * (loss(eps).real - plain)) / np.sum(factor * slope))
                moved = factor * (loss(eps).real - plain)
                digits = np.log10(np.abs(apart - moved.mean()).max() / tolerance.max())
                enough = known or digits >= DIGITS or np.all(np.abs(apart) <= INVISIBLE * np.abs(without))
                if 0 < eps <= LARGEST and enough and np.all(np.abs(apart - moved) <= 2 * tolerance):
                    return OfValues(eps, theirs + sign * moved)
    return None


def _itself(x: Array) -> Array:
    return x


def surest(found: Iterable[Guard | None]) -> Guard | None:
    """Return the first guard that is sure, or else the first of all, or None."""
    first = None
    for guard in found:
        if guard is not None and guard.sure:
            return guard
        first = first or guard
    return first


def of_value(comparison: Comparison, model: Model, known: Mapping[float, float] | None = None) -> Guard | None:
    """The value has an eps, or a bound, that the gradient has not."""
    plain, outside = model.gradient(0.0), _outside(comparison, model)

    def shape(eps: complex) -> Array:
        return np.asarray(comparison.analytic * _ratio(model.gradient(eps), plain))

    for eps, unsure in (known or {}).items():
        expected = shape(complex(eps, IMAGINARY))
        tolerance = _tolerance(comparison) + unsure * np.abs(expected.imag / IMAGINARY)
        wrong = np.abs(expected.real - comparison.numeric) > tolerance
        if not np.any(wrong & comparison.judged & ~outside):
            return _guard(model, Fit(eps, unsure, sure=True), outside)
    found = _fitted(comparison, outside, shape)
    if found is not None:
        return _guard(model, found, outside)
    if model.bounded is not None and (beyond := _beyond(comparison, plain, model.bounded)) is not None:
        return bound(beyond)
    seen = _follows(comparison, comparison.numeric, ~outside, plain)
    if np.any(outside) and (seen or _follows(comparison, comparison.analytic, outside, plain)):
        return bound(outside)
    return None


def of_gradient(comparison: Comparison, model: Model) -> Guard | None:
    """The gradient has an eps that the value has not, which may have a bound; or both have it, in other places."""
    outside = _outside(comparison, model)
    for value in (None, model.value):
        both = model if value is None else Model(partial(_quotient, model.gradient, value), model.shares)
        found = _fitted(comparison, outside, partial(_over_gradient, comparison.analytic, both))
        if found is not None:
            guard = _guard(both, found, outside)
            ratio = 1 / guard.ratio
            return replace(guard, place=Place.DIVISOR, ratio=ratio, unsure=guard.unsure * ratio**2)
        if model.value is None:
            break
    return None


def _over_gradient(analytic: Array, model: Model, eps: complex) -> Array:
    return np.asarray(analytic * _ratio(model.gradient(0.0), model.gradient(eps)))


def _quotient(gradient: Callable[[complex], Array], value: Callable[[complex], Array], eps: complex) -> Array:
    return _ratio(gradient(eps), value(eps))


def beside_a_factor(comparison: Comparison, model: Model) -> Guard | None:
    """The value has an eps that the gradient has not, and the gradient is wrong by a factor besides."""
    plain = model.gradient(0.0)
    return _of_any_size(comparison, model, lambda eps: comparison.analytic * _ratio(model.gradient(eps), plain))


def beside_a_fault(comparison: Comparison, model: Model) -> Guard | None:
    """The value has an eps, as its numeric gradient shows alone, and something else is wrong besides."""
    return _of_any_size(comparison, model, model.gradient)


def _of_any_size(comparison: Comparison, model: Model, shape: Callable[[complex], Array]) -> Guard | None:
    outside = _outside(comparison, model)
    found = _fitted(comparison, outside, shape, of_any_size=True)
    return found and _guard(model, found, outside)


def _models(x: Array, weights: Array, target: Array | None, comparison: Comparison) -> Iterator[Model]:
    """Yield the usual losses: of probabilities, and of what a sigmoid or softmax makes probabilities of."""
    of_axes = {} if target is None else {axis: q for axis in range(x.ndim) if (q := _rows(x, target, axis)) is not None}
    below, above = sigmoid(x), sigmoid(-x)
    for p, rest, slope in ((x, 1 - x, weights), (below, above, weights * below * above)):
        if target is not None and target.shape == x.shape:
            yield Model(partial(_of_two, p, rest, slope, target), (p, rest))
            value = partial(_of_two, p, rest, slope, target)
            yield Model(partial(_of_one, p * rest, slope * (p - target)), (p, rest), value=value)
        for q in of_axes.values():
            yield Model(partial(_of_one, p, -slope * q), (p, rest))
        yield Model(partial(_of_one, p, -slope), (p, rest))
        yield Model(partial(_of_one, rest, slope), (p, rest))
    for axis in range(x.ndim):
        p = softmax(x, axis)
        # Where the value is flat, the numeric gradient does not say which class was meant; the analytic one does.
        flat = np.all(comparison.numeric == 0, axis=axis, keepdims=True)
        signs = np.where(flat, comparison.analytic, comparison.numeric) * weights
        for q in [of_axes[axis]] if axis in of_axes else _odd_ones(signs, axis):
            chosen = np.broadcast_to((q * p).sum(axis=axis, keepdims=True), x.shape)
            of_eps, bounded = partial(_of_classes, p, weights * q, axis), partial(_bounded, p, weights * q, axis)
            yield Model(of_eps, (chosen, 1 - chosen), bounded)


def _of_one(share: Array, weight: Array, eps: complex) -> Array:
    """Return the slope of ``-log(share + eps)``, times -weight."""
    return _over(weight, share + eps)


def _of_two(p: Array, rest: Array, slope: Array, target: Array, eps: complex) -> Array:
    """Return the slope of binary cross-entropy, given that of p."""
    return np.asarray(slope * (_over(1 - target, rest + eps) - _over(target, p + eps)))


def _of_classes(p: Array, q: Array, axis: int, eps: complex) -> Array:
    """Return the gradient of ``-sum q log(p + eps)``, where p is a softmax along an axis."""
    kept = q * p / (p + eps)
    return np.asarray(p * kept.sum(axis=axis, keepdims=True) - kept)


def _bounded(p: Array, q: Array, axis: int, bound: float) -> Array:
    """Return the gradient of ``-sum q log(max(p, bound))``, where p is a softmax along an axis."""
    kept = np.where(p > bound, q, 0.0)
    return np.asarray(p * kept.sum(axis=axis, keepdims=True) - kept)


def _rows(x: Array, target: Array, axis: int) -> Array | None:
    """Return a target as rows along an axis of ``x``, which are 1 at their class for classes, or None."""
    if target.shape == x.shape:
        return target.astype(np.float64)
    if target.dtype.kind not in "iu" or target.shape != x.shape[:axis] + x.shape[axis + 1 :]:
        return None
    places = np.arange(x.shape[axis]).reshape(-1, *[1] * (x.ndim - axis - 1))
    return np.asarray(np.expand_dims(target, axis) == places, dtype=np.float64)


def _odd_ones(gradient: Array, axis: int) -> list[Array]:
    """Return rows along an axis that are 1 where alone a gradient is negative: of ``p - row``, those are the rows."""
    negative = np.asarray(gradient < 0, dtype=np.float64)
    return [negative] if np.all(negative.sum(axis=axis) <= 1) and np.any(negative) else []


def _weights(x: Array, dy: Array) -> Array:
    """Return dy for every element of ``x``, where the output has its leading axes or is a number; else 1."""
    if dy.shape != x.shape[: dy.ndim]:
        return np.ones(x.shape)
    return np.broadcast_to(dy.reshape(dy.shape + (1,) * (x.ndim - dy.ndim)), x.shape)


def _ratio(a: Array, b: Array) -> Array:
    """Return a / b; 1 where both are zero, and at a share of 0, where one is infinite: no guard is taken away there."""
    return np.asarray(np.where(((a == 0) & (b == 0)) | ~np.isfinite(a) | ~np.isfinite(b), 1.0, a / b))


def _over(weight: Array, share: Array) -> Array:
    """Return weight / share, and 0 where nothing weighs."""
    return np.asarray(np.where(weight == 0, 0.0, weight / share))


def _outside(comparison: Comparison, model: Model) -> Array:
    """Return where the value is flat since a share is beyond a bound that all others are within; nowhere if in doubt.

    That is, where only the analytic gradient is not zero, and a share is smaller than `LARGEST`, or below zero, and
    smaller than anywhere else.
    """
    judged, numeric = comparison.judged, comparison.numeric
    flat = comparison.failing & (numeric == 0)
    explained = np.zeros(flat.shape, bool)
    for share in model.shares:
        beyond = flat & (share <= LARGEST)
        others = share[judged & (numeric != 0)]
        if np.any(beyond) and share[beyond].max() < others.min(initial=np.inf):
            explained |= beyond
    return explained if np.array_equal(explained, flat) else np.zeros(flat.shape, bool)


def _beyond(comparison: Comparison, plain: Array, bounded: Callable[[float], Array]) -> Array | None:
    """Return where a bound moves a gradient that is explained by it, or None if none of the usual ones explains it."""
    for bound in (bound for bound in USUAL if bound <= LARGEST):
        ratio = _ratio(bounded(bound), plain)
        beyond = np.abs(ratio - 1) > ROUNDING
        wrong = np.abs(comparison.numeric - comparison.analytic * ratio) > _tolerance(comparison)
        partly = beyond & comparison.failing & (ratio != 0)
        if not np.any(wrong & comparison.judged) and distinct(comparison.numeric[partly]) >= TWO:
            return np.asarray(beyond)
    return None


def _follows(comparison: Comparison, gradient: Array, where: Array, shape: Array) -> bool:
    """Return whether a gradient is a multiple of ``shape`` somewhere, as enough elements can tell."""
    tolerance = comparison.allowed + ROUNDING * np.abs(gradient)
    inside = where & comparison.judged
    used = inside & (shape != 0)
    weights = np.where(used, np.abs(shape) / tolerance, 0.0)
    if not np.any(weights):
        return False
    best = np.unravel_index(int(np.argmax(weights)), weights.shape)
    factor, unsure = gradient[best] / shape[best], tolerance[best] / abs(shape[best])
    known = np.abs(gradient) > PRECISION * (tolerance + unsure * np.abs(shape))
    fits = np.abs(gradient - factor * shape) <= tolerance + unsure * np.abs(shape)
    return bool(np.all(fits[inside])) and distinct(shape[used & known]) >= TWO


def _fitted(
    comparison: Comparison, outside: Array, shape: Callable[[complex], Array], *, of_any_size: bool = False
) -> Fit | None:
    """Return the eps for which the numeric gradient has a shape, if that is no coincidence, or None.

    By Gauss and Newton, on inverses: that of ``1 / (p + eps)`` is linear.
    """
    numeric, tolerance, plain = comparison.numeric, _tolerance(comparison), shape(0.0).real
    judged = comparison.judged & ~outside
    used = judged & (numeric != 0) & (plain != 0) & np.isfinite(plain)
    if not np.any(comparison.failing[used]) and not (of_any_size and np.any(used)):
        return None
    weights, wanted = (numeric**2 / tolerance)[used], 1 / numeric[used]
    eps, inverse_factor, sensitivity = 0.0, 1.0, np.zeros(0)
    for _ in range(STEPS):
        model = 1 / shape(complex(eps, IMAGINARY))[used]
        columns = [weights * model.imag / IMAGINARY] + ([weights * model.real] if of_any_size else [])
        sizes = np.array([np.abs(column).max() for column in columns])
        if not np.all((sizes > 0) & np.isfinite(sizes)):
            return None
        inverse = np.linalg.pinv(np.stack(columns, axis=1) / sizes) / sizes[:, None]
        solved = inverse @ (weights * (wanted if of_any_size else wanted - model.real))
        inverse_factor = float(solved[1]) if of_any_size else 1.0
        if not np.isfinite(solved).all() or not inverse_factor:
            return None
        before, eps = eps, max(0.0, eps + float(solved[0]) / inverse_factor)
        sensitivity = np.abs(inverse / inverse_factor).sum(axis=1)
        if abs(eps - before) <= SETTLED * eps:
            break
    unsure = float(sensitivity[0])
    if not unsure < BLURRED * eps:
        return None
    at = shape(complex(eps, IMAGINARY)) / inverse_factor
    error = unsure * np.abs(at.imag / IMAGINARY) + (float(sensitivity[1]) * np.abs(at.real) if of_any_size else 0.0)
    if not np.all((np.abs(numeric - at.real) <= tolerance + error)[judged]):
        return None
    departure = (at.real * inverse_factor / plain - 1)[used]
    digits = _digits(departure, np.abs(numeric[used] * departure) / tolerance[used], 1 + of_any_size)
    digits += max(0.0, np.log10(eps / unsure) - OF_USUAL) if abs(_usual(eps) - eps) <= unsure else 0.0
    most = float(np.abs(departure).max())
    certain = unsure < eps and bool(digits >= DIGITS)
    if of_any_size or certain:
        return Fit(eps, unsure, sure=True) if certain else None
    if most <= INVISIBLE:
        return Fit(eps, unsure, sure=True)
    return Fit(eps, unsure, sure=False) if unsure < eps <= LARGEST and most <= SMALL else None


def _digits(departure: Array, level: Array, unknowns: int) -> float:
    """Return by how many digits departures are known that could have been others, each that is alike but once."""
    order = np.argsort(departure)
    apart = np.flatnonzero(np.diff(departure[order]) > ALIKE * np.abs(departure[order][1:])) + 1
    best = [float(np.log10(group.max())) for group in np.split(level[order], apart)]
    return sum(max(0.0, digits) for digits in sorted(best, reverse=True)[unknowns:])


def _usual(eps: float) -> float:
    return min(USUAL, key=lambda one: abs(np.log(one / eps)))


def _guard(model: Model, found: Fit, outside: Array) -> Guard:
    """Return the guard of the value that a fit shows."""
    usual, eps, unsure = _usual(found.eps), found.eps, found.unsure
    if unsure and abs(usual - eps) <= unsure and np.log10(eps / unsure) >= OF_USUAL:
        eps, unsure = usual, 0.0
    ratio = _ratio(model.gradient(0.0), model.gradient(complex(eps, IMAGINARY)))
    moved = unsure * np.abs(ratio.imag / IMAGINARY)
    return Guard(eps, unsure, Place.LOGARITHM, ratio.real, moved, outside, sure=found.sure)


def _tolerance(comparison: Comparison) -> Array:
    return np.asarray(comparison.allowed + ROUNDING * np.abs(comparison.numeric))
