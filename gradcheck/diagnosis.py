"""Why a gradient is wrong: the likeliest cause, named only if it explains every judged element.

Each hypothesis predicts the whole wrong gradient from the numeric one. It is believed if every judged element is as
predicted within its allowance, if enough elements could have shown otherwise, and if it says the same for other
cotangents. "Cause unknown" (None) is an answer; a wrong cause is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import partial
from itertools import combinations, product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array

# An element tells something if its error is this many tolerances: a prediction that is right by chance, uniformly
# spread over the size of the error, is then right once in half a million times.
PRECISION = 1e6

# Products and sums of a few terms are taken between the given numbers and a prediction.
ROUNDING = 8 * float(np.finfo(np.float64).eps)

# How many telling elements of different value a hypothesis needs: one if nothing is fitted or chosen, two if
# a place is chosen (one number often equals another), and more than are fitted.
ONE, TWO, FITTED = 1, 2, 3

# Fewer elements that agree make "only this one is wrong" an accident of a small tensor.
AGREEING = 3

# Fractions up to 12/12 are 1e-3 or more apart from most ratios, against a precision of 1e-6.
SIMPLE = frozenset(Fraction(p, q) for p in range(1, 13) for q in range(1, 13))

# Half of a quantity is no better a name for a factor of 2 than 2 itself.
LEAST_HALF = 3

# One numeric gradient for every output is affordable up to here.
MOST_ONE_HOTS = 64

# More axes than an image has have too many subsets to be tried.
MOST_AXES = 4

# Other cotangents must tell the same: dy backwards and larger (a power of two, so without rounding; |dy| or a clipped
# gradient show), and two that are random, from this seed.
BACKWARDS = -4.0
OTHER_COTANGENTS = 20


class Cause(StrEnum):
    """What can be wrong with a gradient; the comment says which details come with it."""

    NOT_FINITE = "not finite"  # index, count, value
    WRONG_SHAPE = "wrong shape"  # shape, needed
    NOT_REDUCED = "not reduced"  # axes, batch, shape, needed
    ZERO = "zero"
    IGNORES_DY = "ignores dy"  # ones
    FACTOR = "factor"  # factor, quantities
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


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a wrong gradient, with what its sentence needs."""

    cause: Cause
    details: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What is known about one tensor whose gradient is wrong.

    ``analytic`` is judged, and may have another shape than the tensor; ``numeric``, ``allowed`` (inf where not judged)
    and ``value`` have the tensor's. ``inputs`` names those of the ``variables`` that are inputs; the first has the
    batch on axis 0 if it has two axes or more. ``gradients`` are the analytic gradients of all variables. The
    functions take another cotangent, or the name of another variable; numeric ones return gradient and allowance.
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

    @property
    def batch(self) -> int | None:
        """The batch size, or None if the first input has no batch."""
        x = self.variables[self.inputs[0]] if self.inputs else self.y
        return x.shape[0] if x.ndim >= 2 else None

    @property
    def elementwise_shapes(self) -> bool:
        """Whether the tensor is an input that the output has the shape of, and dy too."""
        return self.tensor in self.inputs and self.y.shape == self.value.shape == self.dy.shape == self.numeric.shape

    def for_cotangent(self, dy: Array) -> Evidence:
        """Return the evidence for another cotangent. ``gradients`` and ``other_numeric`` stay those of the first."""
        numeric, allowed = self.numeric_of(dy)
        return replace(self, dy=dy, analytic=self.analytic_of(dy), numeric=numeric, allowed=allowed)

    def scaled(self, factor: float) -> Evidence:
        """Return the evidence for a multiple of dy: all but the gradient that is judged are known to be linear."""

        def other_numeric(name: str) -> tuple[Array, Array]:
            numeric, allowed = self.other_numeric(name)
            return factor * numeric, abs(factor) * allowed

        return replace(
            self,
            dy=factor * self.dy,
            analytic=self.analytic_of(factor * self.dy),
            numeric=factor * self.numeric,
            allowed=abs(factor) * self.allowed,
            gradients={name: factor * gradient for name, gradient in self.gradients.items()},
            other_numeric=other_numeric,
        )


Hypothesis = Callable[[Evidence], Diagnosis | None]


@dataclass(frozen=True)
class Comparison:
    """Two gradients of one shape and the allowance; ``judged`` where there is one."""

    analytic: Array
    numeric: Array
    allowed: Array

    @classmethod
    def of(cls, evidence: Evidence) -> Comparison:
        """Return the comparison of an analytic gradient that can be broadcast to the numeric one's shape."""
        arrays = (evidence.analytic, evidence.numeric, evidence.allowed)
        return cls(*(np.broadcast_to(np.asarray(a, dtype=np.float64), evidence.numeric.shape) for a in arrays))

    def at(self, place: Any) -> Comparison:  # noqa: ANN401  whatever NumPy takes as an index
        """Return the comparison of some elements."""
        return Comparison(*(np.asarray(array[place]) for array in (self.analytic, self.numeric, self.allowed)))

    @property
    def error(self) -> Array:
        """What the analytic gradient is off by."""
        return np.asarray(self.analytic - self.numeric)

    @property
    def judged(self) -> Array:
        """Where the numeric gradient is known."""
        return np.asarray(np.isfinite(self.allowed) & np.isfinite(self.numeric))

    @property
    def failing(self) -> Array:
        """Where the gradients disagree."""
        return np.asarray(self.judged & ~(np.abs(self.error) <= self.allowed))

    @property
    def agreeing(self) -> Array:
        """Where they agree and could have disagreed: both being zero is no agreement."""
        known = np.abs(self.numeric) >= PRECISION * (self.allowed + ROUNDING * np.abs(self.numeric))
        return np.asarray(self.judged & ~self.failing & known & (self.numeric != 0))

    def explained_by(self, predicted: Array, unsure: Array | float, needed: int) -> bool:
        """Say whether all judged elements are as ``predicted``, and ``needed`` of them could have shown otherwise.

        ``unsure`` is how far the prediction itself may be off, beyond the allowance.
        """
        judged = self.judged
        tolerance = (self.allowed + unsure + ROUNDING * np.abs(predicted))[judged]
        residual = np.abs(self.analytic - predicted)[judged]
        if not np.all((residual <= tolerance) & np.isfinite(tolerance)):
            return False
        telling = np.abs(self.error[judged]) >= PRECISION * tolerance
        known = max(distinct(array[judged][telling]) for array in (self.numeric, self.analytic))
        return bool(np.any(self.failing)) and known >= needed


def diagnose(evidence: Evidence) -> Diagnosis | None:
    """Return the first cause, from the surest to the most general, that explains a wrong gradient, or None."""
    with np.errstate(all="ignore"):
        same = np.shape(evidence.analytic) == evidence.numeric.shape
        others = [evidence.scaled(BACKWARDS), *map(evidence.for_cotangent, _other_cotangents(evidence.dy))]
        for hypothesis in HYPOTHESES if same else HYPOTHESES_ABOUT_SHAPES:
            found = hypothesis(evidence)
            sought = others[: CONFIRMATIONS.get(hypothesis, len(others))] if found else []
            if found and all(_same(found, hypothesis(other)) for other in sought):
                return found
    return None


def _same(one: Diagnosis, other: Diagnosis | None) -> bool:
    """Say whether two diagnoses are the same but for how many elements agree."""
    return other is not None and one == Diagnosis(other.cause, {**other.details, **_counts(one)})


def _counts(diagnosis: Diagnosis) -> dict[str, Any]:
    return {key: value for key, value in diagnosis.details.items() if key == "agreeing"}


def _other_cotangents(dy: Array) -> list[Array]:
    rng = np.random.default_rng(OTHER_COTANGENTS)
    return [np.asarray(rng.standard_normal(dy.shape)) for _ in range(2)]


def not_finite(evidence: Evidence) -> Diagnosis | None:
    """A NaN or an infinity where the numeric gradient is a number."""
    comparison = Comparison.of(evidence)
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
    """Another shape, whatever the reason."""
    return Diagnosis(Cause.WRONG_SHAPE, {"shape": evidence.analytic.shape, "needed": evidence.numeric.shape})


def zero(evidence: Evidence) -> Diagnosis | None:
    """Nothing but zeros."""
    comparison = Comparison.of(evidence)
    everywhere = not np.any(comparison.analytic[~comparison.judged])
    if everywhere and comparison.explained_by(np.zeros_like(comparison.numeric), 0.0, ONE):
        return Diagnosis(Cause.ZERO, {})
    return None


def ignores_dy(evidence: Evidence) -> Diagnosis | None:
    """The same gradient for every cotangent."""
    others = (BACKWARDS * evidence.dy, *_other_cotangents(evidence.dy))
    comparison = Comparison.of(evidence)
    if not np.any(comparison.failing) or not np.any(comparison.analytic):
        return None
    if not all(np.array_equal(evidence.analytic_of(dy), evidence.analytic) for dy in others):
        return None
    of_ones, unsure = evidence.numeric_of(np.ones_like(evidence.dy))
    return Diagnosis(Cause.IGNORES_DY, {"ones": comparison.explained_by(of_ones, unsure, ONE)})


def constant_factor(evidence: Evidence) -> Diagnosis | None:
    """Every element is off by one factor."""
    details = _factor(Comparison.of(evidence), quantities(evidence))
    return Diagnosis(Cause.FACTOR, details) if details else None


def rearranged(evidence: Evidence) -> Diagnosis | None:
    """The right numbers in the wrong places."""
    comparison = Comparison.of(evidence)
    for cause, details, rearrange in _rearrangements(evidence.numeric.shape):
        if comparison.explained_by(rearrange(comparison.numeric), rearrange(comparison.allowed), TWO):
            return Diagnosis(cause, details)
    return None


def exchanged(evidence: Evidence) -> Diagnosis | None:
    """The gradient of another variable of the same shape."""
    comparison = Comparison.of(evidence)
    for name, array in evidence.variables.items():
        if name == evidence.tensor or array.shape != evidence.value.shape:
            continue
        if comparison.explained_by(*evidence.other_numeric(name), FITTED):
            theirs = evidence.gradients.get(name)
            mutual = theirs is not None and theirs.shape == array.shape and _right(evidence, theirs)
            return Diagnosis(Cause.EXCHANGED, {"other": name, "mutual": mutual})
    return None


def reduced_too_far(evidence: Evidence) -> Diagnosis | None:
    """All elements along some axes are their sum, or a mean of it."""
    shape = evidence.numeric.shape
    if not _broadcasts(evidence.analytic.shape, shape):
        return None
    comparison = Comparison.of(evidence)
    for axes in _axis_sets(shape):
        count = prod(shape[axis] for axis in axes)
        total = comparison.numeric.sum(axis=axes, keepdims=True)
        unsure = comparison.allowed.sum(axis=axes, keepdims=True)
        for kind, divisor in (("sum", 1), ("mean", count), ("mean over the batch too", count * (evidence.batch or 1))):
            predicted, error = np.broadcast_to(total / divisor, shape), np.broadcast_to(unsure / divisor, shape)
            if comparison.explained_by(predicted, error, TWO):
                details = {"axes": axes, "everything": _everything(axes, shape), "kind": kind}
                return Diagnosis(Cause.REDUCED_TOO_FAR, details)
    return None


def part_wrong(evidence: Evidence) -> Diagnosis | None:
    """Only one element, or one row, column or channel, is wrong: each of its elements, or all by one factor."""
    comparison = Comparison.of(evidence)
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
    if not inside.explained_by(np.zeros_like(inside.numeric), 0.0, ONE):
        what = _factor(inside, quantities(evidence))
    if what is None and not np.array_equal(inside.failing, inside.judged):
        return None
    return Diagnosis(Cause.PART_WRONG, {"place": place, "what": what, "agreeing": agreeing})


def border_wrong(evidence: Evidence) -> Diagnosis | None:
    """Every judged element at an end of one or both of the last two axes (not of the first) is wrong, and no other."""
    comparison = Comparison.of(evidence)
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
    """Only one end of dy counts, or all but that end."""
    comparison, dy = Comparison.of(evidence), evidence.dy
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
    if not evidence.elementwise_shapes or not _elementwise(evidence, lambda dy: evidence.numeric_of(dy)[0]):
        return None
    comparison, dy = Comparison.of(evidence), evidence.dy
    multiple = float(np.sum(dy * comparison.analytic) / np.sum(dy * dy))
    if comparison.explained_by(multiple * dy, 0.0, FITTED):
        return Diagnosis(Cause.DERIVATIVE_MISSING, {"multiple": _rounded(multiple)})
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
    """The diagonal of the Jacobian times dy, though the Jacobian has other elements too."""
    if not evidence.elementwise_shapes or not 2 <= evidence.dy.size <= MOST_ONE_HOTS:
        return None
    if not _elementwise(evidence, evidence.analytic_of) or _elementwise(
        evidence, lambda dy: evidence.numeric_of(dy)[0]
    ):
        return None
    predicted, unsure = np.zeros(evidence.dy.shape), np.zeros(evidence.dy.shape)
    for index in np.ndindex(evidence.dy.shape):
        one_hot = np.zeros_like(evidence.dy)
        one_hot[index] = evidence.dy[index]
        part, allowed = evidence.numeric_of(one_hot)
        predicted[index], unsure[index] = part[index], allowed[index]
    return Diagnosis(Cause.DIAGONAL_ONLY, {}) if Comparison.of(evidence).explained_by(predicted, unsure, TWO) else None


def term_in_value(evidence: Evidence) -> Diagnosis | None:
    """The error is a multiple of the tensor itself, as of a penalty."""
    multiple = _multiple(Comparison.of(evidence), evidence.value)
    return None if multiple is None else Diagnosis(Cause.TERM_IN_VALUE, {"multiple": multiple})


def term_in_dy(evidence: Evidence) -> Diagnosis | None:
    """The error is a multiple of dy, as of a path around a layer."""
    multiple = _multiple(Comparison.of(evidence), evidence.dy) if evidence.elementwise_shapes else None
    return None if multiple is None else Diagnosis(Cause.TERM_IN_DY, {"multiple": multiple})


def constant_term(evidence: Evidence) -> Diagnosis | None:
    """The error is the same along some axes, though the gradient is not."""
    found = _along_axes(evidence, None) if evidence.elementwise_shapes else None
    return Diagnosis(Cause.CONSTANT_TERM, found) if found else None


def affine_term(evidence: Evidence) -> Diagnosis | None:
    """The error is ``a + b x`` along some axes, as without the terms of a normalisation's mean and variance."""
    found = _along_axes(evidence, evidence.value) if evidence.elementwise_shapes else None
    return Diagnosis(Cause.AFFINE_TERM, found) if found else None


class Quantity(NamedTuple):
    """A number that a factor may come from: ``name`` is batch, outputs, batch x outputs, or axes (of input, output)."""

    name: str
    of: str
    axes: tuple[int, ...]
    value: int


def quantities(evidence: Evidence) -> tuple[Quantity, ...]:
    """Return the numbers that gradients are divided by; those of the prediction if y is the number that a loss is."""
    x = evidence.variables[evidence.inputs[0]] if evidence.inputs else evidence.y
    shape, of = (evidence.y.shape, "output") if evidence.y.ndim >= 2 else (x.shape, "input")
    axes = tuple(range(len(shape)))
    batched = evidence.batch is not None and shape[:1] == (evidence.batch,)
    named = [("batch", axes[:1]), ("outputs", axes[1:]), ("batch x outputs", axes)] if batched else [("outputs", axes)]
    named += [("axes", (axis,)) for axis in axes]
    named += [("axes", some) for some in (axes[2:], axes[:1] + axes[2:], axes[:-1], axes[1:-1])]
    found: dict[tuple[int, ...], Quantity] = {}
    for name, some in named:
        counted = tuple(axis for axis in some if shape[axis] > 1)
        if counted:
            found.setdefault(counted, Quantity(name, of, some, prod(shape[axis] for axis in counted)))
    return tuple(found.values())


def distinct(values: Array) -> int:
    """Return how many of the values differ by more than one in ``PRECISION`` of the largest."""
    if values.size == 0:
        return 0
    ordered = np.sort(values, axis=None)
    return 1 + int(np.sum(np.diff(ordered) > np.abs(ordered).max() / PRECISION))


def _factor(comparison: Comparison, among: tuple[Quantity, ...]) -> dict[str, Any] | None:
    """Return the one factor between two gradients, as numerator and denominator if it has a name, or None."""
    tolerance = comparison.allowed + ROUNDING * np.abs(comparison.numeric)
    usable = comparison.judged & (tolerance > 0)
    certainty = np.where(usable, np.abs(comparison.numeric) / np.where(usable, tolerance, 1.0), 0.0)
    if not np.any(certainty):
        return None
    best = np.unravel_index(np.argmax(certainty), certainty.shape)
    ratio = float(comparison.analytic[best] / comparison.numeric[best])
    unsure = (1 + abs(ratio)) / float(certainty[best])
    if not PRECISION * unsure <= abs(ratio):
        return None
    fraction = min(SIMPLE | _fractions(among), key=lambda named: abs(float(named) - abs(ratio)))
    signed = fraction if ratio > 0 else -fraction
    known = abs(float(signed)) * comparison.allowed
    if abs(float(signed) - ratio) <= unsure and comparison.explained_by(float(signed) * comparison.numeric, known, ONE):
        return {"factor": (signed.numerator, signed.denominator), "quantities": _named(fraction, among)}
    fitted = abs(ratio) * comparison.allowed + unsure * np.abs(comparison.numeric)
    if comparison.explained_by(ratio * comparison.numeric, fitted, FITTED):
        return {"factor": _rounded(ratio), "quantities": ()}
    return None


def _fractions(among: tuple[Quantity, ...]) -> frozenset[Fraction]:
    sizes = {Fraction(quantity.value, half) for quantity in among for half in (1, 2)}
    return frozenset(sizes | {1 / size for size in sizes})


def _named(fraction: Fraction, among: tuple[Quantity, ...]) -> tuple[tuple[Quantity, bool], ...]:
    """Return the quantities that a factor or its inverse is, or is half of (then with True)."""
    found = [(q, False) for q in among if fraction in (q.value, Fraction(1, q.value))]
    halves = [(q, True) for q in among if fraction in (Fraction(q.value, 2), Fraction(2, q.value))]
    return tuple(found or [(q, half) for q, half in halves if q.value >= 2 * LEAST_HALF or q.value % 2])


def _rearrangements(shape: tuple[int, ...]) -> Iterator[tuple[Cause, dict[str, Any], Callable[[Array], Array]]]:
    for i, j in combinations(range(len(shape)), 2):
        if shape[i] == shape[j] > 1:
            yield Cause.TRANSPOSED, {"axes": (i, j)}, partial(np.swapaxes, axis1=i, axis2=j)
    for axes in reversed(_axis_sets(shape)):
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


def _axis_sets(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the sets of axes with more than one element each, the largest sets first."""
    axes = [axis for axis, extent in enumerate(shape) if extent > 1]
    if len(axes) > MOST_AXES:
        return []
    return [some for count in range(len(axes), 0, -1) for some in combinations(axes, count)]


def _everything(axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return prod(shape[axis] for axis in axes) == prod(shape)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    extents = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(have in (1, want) for have, want in extents)


def _right(evidence: Evidence, gradient: Array) -> bool:
    """Say whether a gradient of the tensor's shape is right, at some element measurably so."""
    comparison = Comparison.of(replace(evidence, analytic=gradient))
    return not np.any(comparison.failing) and bool(np.any(comparison.agreeing))


def _elementwise(evidence: Evidence, gradient_of: Callable[[Array], Array]) -> bool:
    """Say whether each element of a gradient depends on its own element of dy only."""
    weights = np.linspace(1.0, 2.0, evidence.dy.size).reshape(evidence.dy.shape)
    plain = gradient_of(evidence.dy)
    slack = float(np.abs(plain).max(initial=0.0)) / PRECISION
    return bool(np.all(np.abs(gradient_of(weights * evidence.dy) - weights * plain) <= slack))


def _multiple(comparison: Comparison, array: Array) -> float | None:
    """Return the number c for which the error is ``c array``, or None."""
    array = np.where(comparison.judged, array, 0.0)
    square = float(np.sum(array * array))
    if not square > 0:
        return None
    multiple = float(np.sum(array * np.where(comparison.judged, comparison.error, 0.0))) / square
    unsure = float(np.sum(np.abs(array) * np.where(comparison.judged, comparison.allowed, 0.0))) / square
    predicted = comparison.numeric + multiple * array
    return _rounded(multiple) if comparison.explained_by(predicted, unsure * np.abs(array), FITTED) else None


def _along_axes(evidence: Evidence, regressor: Array | None) -> dict[str, Any] | None:
    """Return the axes along which the error is a constant, plus a multiple of the regressor if there is one.

    The gradient itself must not be so: of such a one every error in a factor would be.
    """
    comparison, shape = Comparison.of(evidence), evidence.numeric.shape
    if not np.all(comparison.judged):
        return None
    for axes in _axis_sets(shape):
        if _spare(shape, axes, regressor) < FITTED:
            continue
        unsure = comparison.allowed.sum(axis=axes, keepdims=True)
        fit = _fit(comparison.error, axes, regressor)
        remaining = np.abs(comparison.numeric - _fit(comparison.numeric, axes, regressor))
        own = np.sum(remaining >= PRECISION * (unsure + ROUNDING * np.abs(comparison.numeric)))
        if own >= FITTED and comparison.explained_by(comparison.numeric + fit, unsure, FITTED):
            return {"axes": axes, "everything": _everything(axes, shape)}
    return None


def _spare(shape: tuple[int, ...], axes: tuple[int, ...], regressor: Array | None) -> int:
    """Return how many elements are left to contradict a fit along axes."""
    count = prod(shape[axis] for axis in axes)
    if regressor is None:
        return (count - 1) * (prod(shape) // count)
    rows = np.moveaxis(regressor, axes, range(-len(axes), 0)).reshape(-1, count)
    return sum(max(distinct(row) - 2, 0) for row in rows)


def _fit(array: Array, axes: tuple[int, ...], regressor: Array | None) -> Array:
    """Return the least-squares fit along axes of a constant, plus a multiple of the regressor if there is one."""
    mean = array.mean(axis=axes, keepdims=True)
    if regressor is None:
        return np.broadcast_to(mean, array.shape)
    centred = regressor - regressor.mean(axis=axes, keepdims=True)
    square = np.sum(centred**2, axis=axes, keepdims=True)
    slope = np.sum(centred * array, axis=axes, keepdims=True) / np.where(square > 0, square, 1.0)
    return np.asarray(mean + slope * centred)


def _rounded(number: float) -> float:
    """Return what is worth printing of a fitted number, and the same for every cotangent."""
    return float(f"{number:.4g}")


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


# Functions whose derivative is written in terms of their output y, with that form.
OUTPUT_FORMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sigmoid": (_sigmoid, lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}

HYPOTHESES: tuple[Hypothesis, ...] = (
    not_finite,
    zero,
    ignores_dy,
    constant_factor,
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

# How many other cotangents must tell the same, if not all: a NaN may be of one cotangent only, other variables'
# gradients are known for dy and its multiples only, and many one-hots are dear.
CONFIRMATIONS: dict[Hypothesis, int] = {not_finite: 0, exchanged: 1, diagonal_only: 1}
