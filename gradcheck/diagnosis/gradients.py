"""Why a gradient is wrong: the likeliest cause, named only if it explains every judged element.

Each hypothesis predicts the whole wrong gradient from the numeric one. It is accepted under three conditions: every
judged element is as predicted within its allowance, enough elements are evidence for it, and it gives the same result
for other cotangents. "Cause unknown" (None) is an acceptable answer, a wrong cause is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import combinations, product
from math import prod
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import (
    FITTED,
    ONE,
    PRECISION,
    TWO,
    Comparison,
    Quantity,
    axes_of_fit,
    axis_sets,
    factor_of,
    multiple_of,
    rounded,
)
from gradcheck.diagnosis.losses import Descent, descents
from gradcheck.streams import stream

# With fewer elements that agree, "only this one is wrong" may be an accident of a small tensor.
AGREEING = 3

# The most outputs for which one numeric gradient each is affordable.
MOST_ONE_HOTS = 64

# Other cotangents must give the same cause: dy with the sign changed and larger, which shows |dy| or a clipped gradient
# (a power of two, so without rounding), and two random ones, from this seed.
BACKWARDS = -4.0


class Cause(StrEnum):
    """What can be wrong with a gradient; the comments list the details of each."""

    NOT_FINITE = "not finite"  # index, count, value
    WRONG_SHAPE = "wrong shape"  # shape, needed
    NOT_REDUCED = "not reduced"  # axes, batch, shape, needed
    ZERO = "zero"
    IGNORES_DY = "ignores dy"  # ones
    FACTOR = "factor"  # factor, quantities; of a loss also descents
    OTHER_LOSS = "other loss"  # descents
    TRANSPOSED = "transposed"  # axes
    REVERSED = "reversed"  # axes
    SHIFTED = "shifted"  # axis, by, cyclic
    EXCHANGED = "exchanged"  # other, mutual
    REDUCED_TOO_FAR = "reduced too far"  # axes, everything, kind
    PART_WRONG = "part wrong"  # place (axis and index, or all of the index), what, agreeing
    BORDER_WRONG = "border wrong"  # sides, agreeing
    ONLY_PART_OF_DY = "only part of dy"  # axis, end, batch
    PART_OF_DY_LEFT_OUT = "part of dy left out"  # axis, end, batch
    DERIVATIVE_MISSING = "derivative missing"  # multiple
    DERIVATIVE_TWICE = "derivative twice"
    DERIVATIVE_OF_WRONG_ARRAY = "derivative of wrong array"  # function, given
    DIAGONAL_ONLY = "diagonal only"
    TERM_IN_VALUE = "term in value"  # multiple
    TERM_IN_DY = "term in dy"  # multiple
    CONSTANT_TERM = "constant term"  # axes, everything
    AFFINE_TERM = "affine term"  # axes, everything
    TIED_IN_FULL = "tied in full"  # found where kinks are judged, not by a hypothesis below


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a wrong gradient, with the details for its sentence."""

    cause: Cause
    details: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """The data about one tensor whose gradient is wrong.

    ``analytic`` is the gradient to be judged, and may have another shape than the tensor. ``numeric``, ``allowed`` (inf
    where not judged) and ``value`` have the tensor's shape. ``inputs`` names the inputs among the ``variables``; the
    first has the batch on axis 0 if it has two axes or more. ``gradients`` are the analytic gradients of all variables.
    The functions take another cotangent, or the name of another variable; numeric ones return gradient and allowance.
    ``target`` is the target of a loss.
    """

    tensor: str
    analytic: Array
    numeric: Array
    allowed: Array
    value: Array
    inputs: tuple[str, ...]
    variables: dict[str, Array]
    gradients: dict[str, Array]
    y: Array
    dy: Array
    analytic_of: Callable[[Array], Array]
    numeric_of: Callable[[Array], tuple[Array, Array]]
    other_numeric: Callable[[str], tuple[Array, Array]]
    levels: tuple[float, ...] = (PRECISION,)
    target: Array | None = None

    @property
    def comparison(self) -> Comparison:
        """The two gradients; the analytic one is broadcast to the tensor's shape, which must be possible."""
        arrays = (self.analytic, self.numeric, self.allowed)
        analytic, numeric, allowed = (
            np.broadcast_to(np.asarray(a, dtype=np.float64), self.numeric.shape) for a in arrays
        )
        return Comparison(analytic, numeric, allowed, self.levels)

    @property
    def batch(self) -> int | None:
        """The batch size, or None if the first input has no batch."""
        x = self.variables[self.inputs[0]] if self.inputs else self.y
        return x.shape[0] if x.ndim >= 2 else None

    @property
    def elementwise_shapes(self) -> bool:
        """Whether the tensor is an input of the same shape as the output and dy."""
        return self.tensor in self.inputs and self.y.shape == self.value.shape == self.dy.shape == self.numeric.shape

    def of_arrays(self) -> Evidence:
        """Return the evidence with arrays in place of gradients that are plain numbers."""
        analytic_of = self.analytic_of
        return replace(self, analytic=np.asarray(self.analytic), analytic_of=lambda dy: np.asarray(analytic_of(dy)))

    def for_cotangent(self, dy: Array) -> Evidence:
        """Return the evidence for another cotangent. ``gradients`` and ``other_numeric`` stay those of the first."""
        numeric, allowed = self.numeric_of(dy)
        return replace(self, dy=dy, analytic=self.analytic_of(dy), numeric=numeric, allowed=allowed)

    def scaled(self, factor: float) -> Evidence:
        """Return the evidence for a multiple of dy: all but the analytic gradient are known to be linear."""

        def other_numeric(name: str) -> tuple[Array, Array]:
            numeric, allowed = self.other_numeric(name)
            return factor * numeric, abs(factor) * allowed

        dy = np.asarray(factor * self.dy)
        return replace(
            self,
            dy=dy,
            analytic=self.analytic_of(dy),
            numeric=factor * self.numeric,
            allowed=abs(factor) * self.allowed,
            gradients={name: factor * gradient for name, gradient in self.gradients.items()},
            other_numeric=other_numeric,
        )


Hypothesis = Callable[[Evidence], Diagnosis | None]


def diagnose(evidence: Evidence) -> Diagnosis | None:
    """Return the first cause, from the surest to the most general, that explains a wrong gradient, or None."""
    with np.errstate(all="ignore"):
        evidence = evidence.of_arrays()
        same = evidence.analytic.shape == evidence.numeric.shape
        others = [evidence.scaled(BACKWARDS), *map(evidence.for_cotangent, _other_cotangents(evidence.dy))]
        for hypothesis in HYPOTHESES if same else HYPOTHESES_ABOUT_SHAPES:
            found = hypothesis(evidence)
            sought = others[: CONFIRMATIONS.get(hypothesis, len(others))] if found else []
            if found and all(_same(found, hypothesis(other)) for other in sought):
                return found
    return None


def consensus(found: Sequence[Diagnosis | None]) -> Diagnosis | None:
    """Return the first diagnosis of several cases of one fault, as far as the others confirm it, or None.

    A true cause explains every case in which it can be seen, so most must name it and none another. A factor keeps only
    the names that it has in every case: 4 may be both the batch size and the number of outputs in one of them. The same
    holds for the names of another loss.
    """
    told = [each for each in found if each is not None]
    if not told or 2 * len(told) < len(found) or len({each.cause for each in told}) > 1:
        return None
    first = told[0]
    losses = tuple(one for one in _descents(first) if all(one in _descents(each) for each in told))
    if first.cause is Cause.OTHER_LOSS:
        return Diagnosis(Cause.OTHER_LOSS, {"descents": losses}) if losses else None
    if first.cause is not Cause.FACTOR:
        return first
    common = set.intersection(*(set(_names(each)) for each in told))
    if not common and len({each.details["factor"] for each in told}) > 1:
        return None
    kept = {quantity.value: (quantity, half) for key, (quantity, half) in _names(first).items() if key in common}
    if len(told) == 1:  # 3/2 as half of 3 samples is too likely an accident
        kept = dict(enumerate(pair for pair in first.details["quantities"] if not pair[1]))
    details = first.details | {"quantities": tuple(kept.values())}
    if "descents" in details:  # as in `constant_factor`
        details["descents"] = losses if kept else ()
    return Diagnosis(Cause.FACTOR, details)


def _descents(found: Diagnosis) -> tuple[Descent, ...]:
    """Return the losses that a diagnosis names, if any."""
    known: tuple[Descent, ...] = found.details.get("descents", ())
    return known


def _names(factor: Diagnosis) -> dict[tuple[Any, ...], tuple[Quantity, bool]]:
    """Return the quantities of a factor by meaning, not value: 1/4 for 4 samples is the same as 1/3 for 3."""
    top, bottom = factor.details["factor"] if factor.details["quantities"] else (1, 1)
    return {
        (name, quantity.of, axes, half, abs(top) > abs(bottom), top > 0): (
            quantity._replace(name=name, axes=axes, others=()),
            half,
        )
        for quantity, half in factor.details["quantities"]
        for name, axes in reversed(((quantity.name, quantity.axes), *quantity.others))
    }


def _same(one: Diagnosis, other: Diagnosis | None) -> bool:
    """Return whether two diagnoses are the same, except for how many elements agree."""
    return (
        other is not None
        and one.cause == other.cause
        and all(other.details[name] == detail for name, detail in one.details.items() if name != "agreeing")
    )


def _other_cotangents(dy: Array) -> list[Array]:
    rng = stream("other cotangents")
    return [np.asarray(rng.standard_normal(dy.shape)) for _ in range(2)]


def not_finite(evidence: Evidence) -> Diagnosis | None:
    """A NaN or an infinity where the numeric gradient is a number."""
    comparison = evidence.comparison
    bad = ~np.isfinite(comparison.analytic) & np.isfinite(comparison.numeric)
    if not np.any(bad):
        return None
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    value = str(float(comparison.analytic[index]))
    return Diagnosis(Cause.NOT_FINITE, {"index": index, "count": int(bad.sum()), "value": value})


def not_reduced(evidence: Evidence) -> Diagnosis | None:
    """The gradient has more axes than its tensor; summed over them it is right."""
    analytic, needed = evidence.analytic, evidence.numeric.shape
    for axes in combinations(range(analytic.ndim), max(analytic.ndim - len(needed), 0)):
        extents = tuple(analytic.shape[axis] for axis in axes)
        rest = tuple(extent for axis, extent in enumerate(analytic.shape) if axis not in axes)
        if rest == needed and prod(extents) > 1 and _right(evidence, analytic.sum(axis=axes)):
            batch = axes == (0,) and extents[0] == evidence.batch
            details = {"axes": axes, "batch": batch, "shape": analytic.shape, "needed": needed}
            return Diagnosis(Cause.NOT_REDUCED, details)
    return None


def turned(evidence: Evidence) -> Diagnosis | None:
    """The transpose, which has another shape."""
    if evidence.analytic.shape == evidence.numeric.shape[::-1] and _right(evidence, evidence.analytic.T):
        return Diagnosis(Cause.TRANSPOSED, {"axes": tuple(range(evidence.numeric.ndim))})
    return None


def wrong_shape(evidence: Evidence) -> Diagnosis:
    """A gradient of another shape, whatever the reason."""
    return Diagnosis(Cause.WRONG_SHAPE, {"shape": evidence.analytic.shape, "needed": evidence.numeric.shape})


def zero(evidence: Evidence) -> Diagnosis | None:
    """Nothing but zeros."""
    comparison = evidence.comparison
    everywhere = not np.any(comparison.analytic[~comparison.judged])
    if everywhere and comparison.explained_by(np.zeros_like(comparison.numeric), 0.0, ONE):
        return Diagnosis(Cause.ZERO, {})
    return None


def ignores_dy(evidence: Evidence) -> Diagnosis | None:
    """The same gradient for every cotangent."""
    others = (np.asarray(BACKWARDS * evidence.dy), *_other_cotangents(evidence.dy))
    comparison = evidence.comparison
    if not np.any(comparison.failing) or not np.any(comparison.analytic):
        return None
    if not all(np.array_equal(evidence.analytic_of(dy), evidence.analytic) for dy in others):
        return None
    of_ones, unsure = evidence.numeric_of(np.ones_like(evidence.dy))
    return Diagnosis(Cause.IGNORES_DY, {"ones": comparison.explained_by(of_ones, unsure, ONE)})


def constant_factor(evidence: Evidence) -> Diagnosis | None:
    """Every element is off by one factor."""
    details = factor_of(evidence.comparison, quantities(evidence))
    if details is None:
        return None
    # A factor without a name, such as 2, makes no other loss.
    other = other_loss(evidence) if details["quantities"] else None
    return Diagnosis(Cause.FACTOR, details | (other.details if other else {}))


def other_loss(evidence: Evidence) -> Diagnosis | None:
    """The gradient of another loss than the value that is returned."""
    if evidence.target is None:
        return None
    found = descents(evidence.comparison, evidence.dy, evidence.value, evidence.target)
    return Diagnosis(Cause.OTHER_LOSS, {"descents": found}) if found else None


def rearranged(evidence: Evidence) -> Diagnosis | None:
    """The right numbers in the wrong places."""
    comparison = evidence.comparison
    for cause, details, rearrange in _rearrangements(evidence.numeric.shape):
        if comparison.explained_by(rearrange(comparison.numeric), rearrange(comparison.allowed), TWO):
            return Diagnosis(cause, details)
    return None


def exchanged(evidence: Evidence) -> Diagnosis | None:
    """The gradient of another variable of the same shape."""
    comparison = evidence.comparison
    for name, array in evidence.variables.items():
        if name == evidence.tensor or array.shape != evidence.value.shape:
            continue
        if comparison.explained_by(*evidence.other_numeric(name), FITTED):
            theirs = evidence.gradients.get(name)
            mutual = theirs is not None and theirs.shape == array.shape and _right(evidence, theirs)
            return Diagnosis(Cause.EXCHANGED, {"other": name, "mutual": mutual})
    return None


def reduced_too_far(evidence: Evidence) -> Diagnosis | None:
    """All elements along some axes are replaced by their sum or mean."""
    shape = evidence.numeric.shape
    if not _broadcasts(evidence.analytic.shape, shape):
        return None
    comparison = evidence.comparison
    for axes in axis_sets(shape):
        count = prod(shape[axis] for axis in axes)
        total = comparison.numeric.sum(axis=axes, keepdims=True)
        unsure = comparison.allowed.sum(axis=axes, keepdims=True)
        for kind, divisor in (("sum", 1), ("mean", count), ("mean over the batch too", count * (evidence.batch or 1))):
            predicted, error = np.broadcast_to(total / divisor, shape), np.broadcast_to(unsure / divisor, shape)
            if comparison.explained_by(predicted, error, TWO):
                return _along(Cause.REDUCED_TOO_FAR, axes, shape, kind=kind)
    return None


def part_wrong(evidence: Evidence) -> Diagnosis | None:
    """Only one element, or one row, column or channel, is wrong: each of its elements, or all by one factor."""
    comparison = evidence.comparison
    failing, agreeing = comparison.failing, int(comparison.agreeing.sum())
    if agreeing < AGREEING or not np.any(failing):
        return None
    places = np.argwhere(failing)
    if len(places) == 1:
        index = tuple(int(i) for i in places[0])
        return _part(evidence, comparison.at(index), {"element": index}, agreeing)
    for axis in range(failing.ndim):
        indices = {int(i) for i in places[:, axis]}
        if len(indices) == 1 and failing.shape[axis] > 1:
            (at,) = indices
            inside = comparison.at((slice(None),) * axis + (at,))
            place = {"axis": axis, "index": at, "of": failing.ndim}
            outside = agreeing - int(inside.agreeing.sum())
            return _part(evidence, inside, place, outside) if outside >= AGREEING else None
    return None


def _part(evidence: Evidence, inside: Comparison, place: dict[str, Any], agreeing: int) -> Diagnosis | None:
    what: dict[str, Any] | None = {"factor": (0, 1), "quantities": ()}
    if np.any(inside.analytic[inside.judged]):  # zeros need no precision, however small the right numbers are
        what = factor_of(inside, quantities(evidence))
    if what is None and not np.array_equal(inside.failing, inside.judged):
        return None
    return Diagnosis(Cause.PART_WRONG, {"place": place, "what": what, "agreeing": agreeing})


def border_wrong(evidence: Evidence) -> Diagnosis | None:
    """Every judged element at an end of one or both of the last two axes (not of the first) is wrong, and no other."""
    comparison = evidence.comparison
    failing, agreeing = comparison.failing, int(comparison.agreeing.sum())
    ends = [(axis, end) for axis in range(1, failing.ndim)[-2:] if failing.shape[axis] > 2 for end in ("first", "last")]
    if agreeing < AGREEING:
        return None
    for count in range(1, len(ends) + 1):
        for sides in combinations(ends, count):
            border = np.zeros(failing.shape, dtype=bool)
            for axis, end in sides:
                border[_end(axis, end)] = True
            if np.array_equal(failing, border & comparison.judged) and failing.sum() >= FITTED:
                return Diagnosis(Cause.BORDER_WRONG, {"sides": sides, "agreeing": agreeing})
    return None


def part_of_dy(evidence: Evidence) -> Diagnosis | None:
    """Only one end of dy is used, or all but that end."""
    comparison, dy = evidence.comparison, evidence.dy
    for axis, end in product(range(dy.ndim), ("last", "first")):
        if dy.shape[axis] < 2:
            continue
        masked = np.zeros_like(dy)
        masked[_end(axis, end)] = dy[_end(axis, end)]
        part, unsure = evidence.numeric_of(masked)
        details = {"axis": axis, "end": end, "batch": axis == 0 and dy.shape[0] == evidence.batch}
        if comparison.explained_by(part, unsure, TWO):
            return Diagnosis(Cause.ONLY_PART_OF_DY, details)
        if comparison.explained_by(comparison.numeric - part, unsure + comparison.allowed, TWO):
            return Diagnosis(Cause.PART_OF_DY_LEFT_OUT, details)
    return None


def derivative(evidence: Evidence) -> Diagnosis | None:
    """For an elementwise y = f(x): dy without f'(x), with f'(x) twice, or with the derivative of the wrong array."""
    if not evidence.elementwise_shapes or not _truly_elementwise(evidence):
        return None
    comparison, dy = evidence.comparison, evidence.dy
    multiple = float(np.sum(dy * comparison.analytic) / np.sum(dy * dy))
    if comparison.explained_by(multiple * dy, 0.0, FITTED):
        return Diagnosis(Cause.DERIVATIVE_MISSING, {"multiple": rounded(multiple)})
    slope = np.where(dy == 0, 0.0, comparison.numeric / dy)
    if comparison.explained_by(slope * comparison.numeric, 2 * np.abs(slope) * comparison.allowed, TWO):
        return Diagnosis(Cause.DERIVATIVE_TWICE, {})
    for name, (function, form) in OUTPUT_FORMS.items():
        if not np.allclose(function(evidence.value), evidence.y, rtol=1 / PRECISION, atol=0):
            continue
        for given, wrong in (("input", form(evidence.value)), ("output", form(function(evidence.y)))):
            if comparison.explained_by(dy * wrong, 0.0, TWO):
                return Diagnosis(Cause.DERIVATIVE_OF_WRONG_ARRAY, {"function": name, "given": given})
    return None


def diagonal_only(evidence: Evidence) -> Diagnosis | None:
    """The diagonal of the Jacobian times dy, though the Jacobian is not diagonal."""
    if not evidence.elementwise_shapes or not 2 <= evidence.dy.size <= MOST_ONE_HOTS:
        return None
    if not _elementwise(evidence, evidence.analytic_of) or _truly_elementwise(evidence):
        return None
    predicted, unsure = np.zeros(evidence.dy.shape), np.zeros(evidence.dy.shape)
    for index in np.ndindex(evidence.dy.shape):
        one_hot = np.zeros_like(evidence.dy)
        one_hot[index] = evidence.dy[index]
        part, allowed = evidence.numeric_of(one_hot)
        predicted[index], unsure[index] = part[index], allowed[index]
    return Diagnosis(Cause.DIAGONAL_ONLY, {}) if evidence.comparison.explained_by(predicted, unsure, TWO) else None


def term_in_value(evidence: Evidence) -> Diagnosis | None:
    """The error is a multiple of the tensor itself, as by a penalty."""
    multiple = multiple_of(evidence.comparison, evidence.value)
    return None if multiple is None else Diagnosis(Cause.TERM_IN_VALUE, {"multiple": multiple})


def term_in_dy(evidence: Evidence) -> Diagnosis | None:
    """The error is a multiple of dy, as by a path around a layer."""
    multiple = multiple_of(evidence.comparison, evidence.dy) if evidence.elementwise_shapes else None
    return None if multiple is None else Diagnosis(Cause.TERM_IN_DY, {"multiple": multiple})


def constant_term(evidence: Evidence) -> Diagnosis | None:
    """The error is the same along some axes, though the gradient is not."""
    return _fitted(evidence, None, Cause.CONSTANT_TERM)


def affine_term(evidence: Evidence) -> Diagnosis | None:
    """The error is ``a + b x`` along some axes, as without the terms of a normalisation's mean and variance."""
    return _fitted(evidence, evidence.value, Cause.AFFINE_TERM)


def _fitted(evidence: Evidence, regressor: Array | None, cause: Cause) -> Diagnosis | None:
    axes = axes_of_fit(evidence.comparison, regressor) if evidence.elementwise_shapes else None
    return None if axes is None else _along(cause, axes, evidence.numeric.shape)


def quantities(evidence: Evidence) -> tuple[Quantity, ...]:
    """Return the numbers by which gradients are divided; those of the prediction if y is the value of a loss."""
    x = evidence.variables[evidence.inputs[0]] if evidence.inputs else evidence.y
    shape, of = (evidence.y.shape, "output") if evidence.y.ndim >= 2 else (x.shape, "input")
    axes = tuple(range(len(shape)))
    batched = evidence.batch is not None and shape[:1] == (evidence.batch,)
    named = [("batch", axes[:1]), ("outputs", axes[1:]), ("batch x outputs", axes)] if batched else [("outputs", axes)]
    named += [("axes", (axis,)) for axis in axes]
    named += [("axes", some) for some in (axes[2:], axes[:1] + axes[2:], axes[:-1], axes[1:-1])]
    found: dict[tuple[int, ...], list[tuple[str, tuple[int, ...]]]] = {}
    for name, some in named:
        counted = tuple(axis for axis in some if shape[axis] > 1)
        if counted:
            found.setdefault(counted, []).append((name, some))
    return tuple(
        Quantity(*names[0][:1], of, names[0][1], prod(shape[axis] for axis in counted), tuple(names[1:]))
        for counted, names in found.items()
    )


def _rearrangements(shape: tuple[int, ...]) -> Iterator[tuple[Cause, dict[str, Any], Callable[[Array], Array]]]:
    for i, j in combinations(range(len(shape)), 2):
        if shape[i] == shape[j] > 1:
            yield Cause.TRANSPOSED, {"axes": (i, j)}, partial(np.swapaxes, axis1=i, axis2=j)
    for axes in reversed(axis_sets(shape)):
        yield Cause.REVERSED, {"axes": axes}, partial(np.flip, axis=axes)
    for axis, by, cyclic in product(range(len(shape)), (1, -1), (True, False)):
        if shape[axis] > 1:
            details = {"axis": axis, "by": by, "cyclic": cyclic}
            yield Cause.SHIFTED, details, partial(_shift, axis=axis, by=by, cyclic=cyclic)


def _shift(array: Array, axis: int, by: int, *, cyclic: bool) -> Array:
    moved = np.roll(array, by, axis=axis)
    if not cyclic:
        moved[_end(axis, "first" if by > 0 else "last")] = 0
    return moved


def _end(axis: int, end: str) -> tuple[slice | int, ...]:
    return (slice(None),) * axis + (0 if end == "first" else -1,)


def _along(cause: Cause, axes: tuple[int, ...], shape: tuple[int, ...], **details: str) -> Diagnosis:
    everything = prod(shape[axis] for axis in axes) == prod(shape)
    return Diagnosis(cause, {"axes": axes, "everything": everything, **details})


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    extents = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(have in (1, want) for have, want in extents)


def _right(evidence: Evidence, gradient: Array) -> bool:
    """Return whether a gradient of the tensor's shape is right, and measurably so at some element."""
    comparison = replace(evidence, analytic=gradient).comparison
    return not np.any(comparison.failing) and bool(np.any(comparison.agreeing))


def _elementwise(evidence: Evidence, gradient_of: Callable[[Array], Array]) -> bool:
    """Return whether each element of a gradient depends on its own element of dy only."""
    weights = np.linspace(1.0, 2.0, evidence.dy.size).reshape(evidence.dy.shape)
    plain = gradient_of(evidence.dy)
    slack = float(np.abs(plain).max(initial=0.0)) / PRECISION
    return bool(np.all(np.abs(gradient_of(weights * evidence.dy) - weights * plain) <= slack))


def _truly_elementwise(evidence: Evidence) -> bool:
    return _elementwise(evidence, lambda dy: evidence.numeric_of(dy)[0])


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


# Functions whose derivative is often written in terms of their output y, with that form.
OUTPUT_FORMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sigmoid": (_sigmoid, lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}

HYPOTHESES: tuple[Hypothesis, ...] = (
    not_finite,
    zero,
    ignores_dy,
    constant_factor,
    other_loss,
    rearranged,
    exchanged,
    reduced_too_far,
    part_wrong,
    part_of_dy,
    derivative,
    diagonal_only,
    term_in_value,
    term_in_dy,
    constant_term,
    affine_term,
    border_wrong,
)

HYPOTHESES_ABOUT_SHAPES: tuple[Hypothesis, ...] = (not_reduced, turned, reduced_too_far, wrong_shape)

# How many other cotangents must give the same cause, if not all: a NaN may occur for one cotangent only, other
# variables' gradients are known for dy and its multiples only, and many one-hots take long.
CONFIRMATIONS: dict[Hypothesis, int] = {not_finite: 0, exchanged: 1, diagonal_only: 1}
