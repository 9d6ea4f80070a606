"""Why a gradient is wrong: the likeliest cause, named only if it explains every judged element.

Each hypothesis predicts the whole wrong gradient from the numeric one. It is believed if every judged element is as
predicted within its allowance, if enough elements could have shown otherwise, and if it says the same for other
cotangents. "Cause unknown" (None) is an answer; a wrong cause is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcheck.diagnosis.clipping import clipped
from gradcheck.diagnosis.cotangents import (
    derivative,
    diagonal_only,
    ignores_dy,
    part_of_dy,
    passed_on,
    slices_apart,
)
from gradcheck.diagnosis.evidence import BACKWARDS, Cause, Diagnosis, Evidence, Hypothesis, other_cotangents
from gradcheck.diagnosis.factors import arguments_exchanged, constant_factor, other_loss
from gradcheck.diagnosis.fits import FITTED, ONE, TWO, Quantity
from gradcheck.diagnosis.losses import Descent
from gradcheck.diagnosis.patterns import border_wrong, part_wrong, rearranged, region_wrong
from gradcheck.diagnosis.shapes import not_reduced, reduced_too_far, turned, wrong_shape
from gradcheck.diagnosis.terms import affine_term, constant_term, term_in_dy, term_in_value

TELLING = ("batch", "outputs", "batch x outputs", "axes")


def diagnose(evidence: Evidence) -> Diagnosis | None:
    """Return the first cause, from the surest to the most general, that explains a wrong gradient, or None."""
    with np.errstate(all="ignore"):
        evidence = evidence.of_arrays()
        same = evidence.analytic.shape == evidence.numeric.shape
        others = [evidence.scaled(BACKWARDS), *map(evidence.for_cotangent, other_cotangents(evidence.dy))]
        for hypothesis in HYPOTHESES if same else HYPOTHESES_ABOUT_SHAPES:
            found = hypothesis(evidence)
            sought = others[: CONFIRMATIONS.get(hypothesis, len(others))] if found else []
            if found and all(_same(found, hypothesis(other)) for other in sought):
                return found
    return None


def diagnose_value(evidence: Evidence) -> Diagnosis | None:
    """Return the first cause that explains why an output is not what a reference gives, or None."""
    with np.errstate(all="ignore"):
        return next((found for hypothesis in OF_VALUES if (found := hypothesis(evidence.of_arrays()))), None)


def consensus(found: Sequence[Diagnosis | None]) -> Diagnosis | None:
    """Return the first diagnosis of several cases of one fault, as far as the others bear it out, or None.

    A true cause explains whatever case can tell it, so most must name it and none another. A factor keeps those of its
    names that it has in every case: 4 may be the batch size and the number of outputs in one of them only. So does a
    gradient of another loss.
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
    if len(told) == 1:  # that 3/2 has half of 3 samples in it is too likely an accident
        kept = [pair for pair in first.details["quantities"] if not pair[1]]
    else:
        kept = [named for one in first.details["quantities"] if (named := _as_in_all(first, one, common)) is not None]
    details = first.details | {"quantities": tuple(kept)}
    if "descents" in details:  # as in `constant_factor`
        details["descents"] = losses if kept else ()
    return Diagnosis(Cause.FACTOR, details)


def _descents(found: Diagnosis) -> tuple[Descent, ...]:
    """Return the losses whose gradient one is, if any is known."""
    known: tuple[Descent, ...] = found.details.get("descents", ())
    return known


def _names(factor: Diagnosis) -> set[tuple[Any, ...]]:
    """Return the quantities of a factor by what they are, whatever their value: 1/4 of 4 samples is 1/3 of 3."""
    return {key for one in factor.details["quantities"] for key in _aliases(factor, one)}


def _aliases(factor: Diagnosis, one: tuple[Quantity, bool]) -> dict[tuple[Any, ...], tuple[str, tuple[int, ...]]]:
    """Return all that a quantity is by name and axes, the most telling first, with what it may be known again by."""
    (top, bottom), (quantity, half) = factor.details["factor"], one
    names = sorted(((quantity.name, quantity.axes), *quantity.others), key=lambda alias: TELLING.index(alias[0]))
    return {(name, quantity.of, axes, half, abs(top) > abs(bottom), top > 0): (name, axes) for name, axes in names}


def _as_in_all(
    factor: Diagnosis, one: tuple[Quantity, bool], common: set[tuple[Any, ...]]
) -> tuple[Quantity, bool] | None:
    """Return a quantity by the most telling of its names that it has in all cases, or None."""
    alias = next((alias for key, alias in _aliases(factor, one).items() if key in common), None)
    return None if alias is None else (one[0]._replace(name=alias[0], axes=alias[1], others=()), one[1])


def _same(one: Diagnosis, other: Diagnosis | None) -> bool:
    """Say whether two diagnoses are the same but for how many elements agree."""
    return (
        other is not None
        and one.cause == other.cause
        and all(other.details[name] == detail for name, detail in one.details.items() if name != "agreeing")
    )


def not_finite(evidence: Evidence) -> Diagnosis | None:
    """A NaN or an infinity where the numeric gradient is a number."""
    comparison = evidence.comparison
    bad = ~np.isfinite(comparison.analytic) & np.isfinite(comparison.numeric)
    if not np.any(bad):
        return None
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    value = str(float(comparison.analytic[index]))
    return Diagnosis(Cause.NOT_FINITE, {"index": index, "count": int(bad.sum()), "value": value})


def zero(evidence: Evidence) -> Diagnosis | None:
    """Nothing but zeros."""
    comparison = evidence.comparison
    everywhere = not np.any(comparison.analytic[~comparison.judged])
    if everywhere and comparison.explained_by(np.zeros_like(comparison.numeric), 0.0, ONE):
        return Diagnosis(Cause.ZERO, {})
    return None


def whole_numbers(evidence: Evidence) -> Diagnosis | None:
    """Each element is rounded to a whole number, or what is behind its point is cut off."""
    comparison = evidence.comparison
    for how, whole in (
        ("rounded", np.rint),
        ("cut off", np.trunc),
        ("rounded down", np.floor),
        ("rounded up", np.ceil),
    ):
        predicted = np.where(comparison.judged, whole(comparison.numeric), 0.0)
        if comparison.explained_by(predicted, 0.0, TWO):
            return Diagnosis(Cause.WHOLE_NUMBERS, {"how": how})
    return None


def exchanged(evidence: Evidence) -> Diagnosis | None:
    """The gradient of another variable of the same shape."""
    comparison = evidence.comparison
    for name, array in evidence.variables.items():
        if name == evidence.tensor or array.shape != evidence.value.shape:
            continue
        if comparison.explained_by(*evidence.other_numeric(name), FITTED):
            theirs = evidence.gradients.get(name)
            mutual = theirs is not None and theirs.shape == array.shape and evidence.allows(theirs)
            return Diagnosis(Cause.EXCHANGED, {"other": name, "mutual": mutual})
    return None


HYPOTHESES: tuple[Hypothesis, ...] = (
    not_finite,
    zero,
    ignores_dy,
    whole_numbers,
    constant_factor,
    other_loss,
    rearranged,
    exchanged,
    reduced_too_far,
    slices_apart,
    part_wrong,
    part_of_dy,
    derivative,
    passed_on,
    diagonal_only,
    arguments_exchanged,
    term_in_value,
    term_in_dy,
    constant_term,
    affine_term,
    clipped,
    border_wrong,
    region_wrong,
)


# What needs no other cotangent.
OF_VALUES: tuple[Hypothesis, ...] = (not_finite, zero, constant_factor, rearranged, part_wrong, border_wrong)

HYPOTHESES_ABOUT_SHAPES: tuple[Hypothesis, ...] = (not_reduced, turned, reduced_too_far, wrong_shape)


# How many other cotangents must tell the same, if not all: a NaN may be of one cotangent only, other variables'
# gradients are known for dy and its multiples only, and many one-hots are dear.
CONFIRMATIONS: dict[Hypothesis, int] = {not_finite: 0, exchanged: 1, diagonal_only: 1}
