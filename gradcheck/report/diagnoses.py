"""Diagnoses in words: why a gradient is wrong, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import Quantity
from gradcheck.diagnosis.guards import Place
from gradcheck.report.text import Json


def describe_diagnosis(tensor: str, diagnosis: Diagnosis) -> str:
    """Return what is wrong with a tensor's gradient, or with the output, as one sentence."""
    what = "the output" if tensor == "output" else f"{tensor}'s gradient"
    return SENTENCES[diagnosis.cause](what, diagnosis.details)


def _not_finite(gradient: str, found: Json) -> str:
    more = "" if found["count"] == 1 else f", as are {found['count'] - 1:,} more elements"
    return f"{gradient} is {found['value']} at {_index(found['index'])}{more}, where {_right(found)} is finite"


def _wrong_shape(gradient: str, found: Json) -> str:
    return f"{gradient} has shape {found['shape']}, the tensor has shape {found['needed']}"


def _not_reduced(gradient: str, found: Json) -> str:
    over = "the batch" if found["batch"] else _axes(found["axes"])
    return f"{gradient} is not summed over {over}: its shape is {found['shape']}, the tensor's {found['needed']}"


def _ignores_dy(gradient: str, found: Json) -> str:
    ones = ": it is as if dy were 1 everywhere" if found["ones"] else ""
    return f"{gradient} does not depend on dy, the gradient that comes in from above{ones}"


def _factor(gradient: str, found: Json) -> str:
    of = f": it is {_descended(found)}" if found.get("descents") else ""
    return f"{gradient} is {_times(found, _right(found))}{of}"


def _other_loss(gradient: str, found: Json) -> str:
    return f"{gradient} is that of another loss: it is {_descended(found)}"


def _descended(found: Json) -> str:
    """Return ``prediction - target, the gradient of half the sum of squares``."""
    formula, loss, divisor = found["descents"][0]
    divided = f", all divided by {QUANTITIES[divisor]}" if divisor else ""
    return f"{formula}, the gradient of {loss}{divided}"


def _transposed(gradient: str, found: Json) -> str:
    if found["axes"] == (0, 1):
        return f"{gradient} is the transpose of {_right(found)}"
    return f"{gradient} is {_right(found)} with {_axes(found['axes'])} exchanged"


def _reversed(gradient: str, found: Json) -> str:
    return f"{gradient} is {_right(found)} reversed along {_axes(found['axes'])}"


def _shifted(gradient: str, found: Json) -> str:
    where = "forwards" if found["by"] > 0 else "backwards"
    filled = "what falls off returns at the other end" if found["cyclic"] else "zeros follow"
    return f"{gradient} is {_right(found)} shifted by one {where} along axis {found['axis']}; {filled}"


def _exchanged(gradient: str, found: Json) -> str:
    mutual = ", and the reverse: the two are exchanged" if found["mutual"] else ""
    return f"{gradient} is what {found['other']}'s should be{mutual}"


def _reduced_too_far(gradient: str, found: Json) -> str:
    kind = {"sum": "the sum", "mean": "the mean", "mean over the batch too": "the mean, over the batch too,"}
    reason = "where each needs its own: an axis is missing from the sum"
    if found["everything"]:
        return f"every element of {gradient} is the same: {kind[found['kind']]} over all elements, {reason}"
    return f"{gradient} is the same all along {_axes(found['axes'])}: {kind[found['kind']]} over it, {reason}"


def _part_wrong(gradient: str, found: Json) -> str:
    place, what = found["place"], found["what"]
    others = f"the other {found['agreeing']:,} elements agree"
    if "element" in place:
        where = f"element {_index(place['element'])}"
    else:
        named = ("row {}", "column {}")[place["axis"]] if place["of"] == 2 else f"index {{}} of axis {place['axis']}"
        if place.get("sample"):
            named = f"sample {{}} ({named.format(place['index'])})"
        where = named.format(place["index"])
    if what is None:
        return f"only {where} of {gradient} is wrong; {others}"
    change = "zero" if what["factor"] == (0, 1) else _times(what, "what it should be")
    return f"{where} of {gradient} is {change}; {others}"


def _border_wrong(gradient: str, found: Json) -> str:
    sides = " and ".join(f"the {end} index of axis {axis}" for axis, end in found["sides"])
    return f"{gradient} is wrong on the border only, at {sides}; the other {found['agreeing']:,} elements agree"


def _region_wrong(gradient: str, found: Json) -> str:
    where = found["region"]
    if found["at"] is not None:
        where = f"where the input is {where} {found['at']:g}"
    others = f"the other {found['agreeing']:,} elements agree"
    if found["what"] is None:
        return f"{gradient} is wrong {where} only; {others}"
    change = "zero" if found["what"]["factor"] == (0, 1) else _times(found["what"], "what it should be")
    return f"{where}, {gradient} is {change}; {others}"


def _clipped(gradient: str, found: Json) -> str:
    if found["norm"] is not None:
        return f"{gradient} is {_right(found)}, clipped to a norm of {found['norm']:g}"
    low, high = ("-inf" if found["low"] is None else f"{found['low']:g}"), found["high"]
    return f"{gradient} is {_right(found)}, clipped to [{low}, {'inf' if high is None else f'{high:g}'}]"


def _arguments_exchanged(gradient: str, found: Json) -> str:
    what = f"{'the negative of ' if found['negated'] else ''}the gradient"
    if found["of"] == "target":
        return f"{gradient} is {what} of the target: prediction and target are exchanged"
    return f"{gradient} is {what} of the loss with prediction and target exchanged"


def _only_part_of_dy(gradient: str, found: Json) -> str:
    why = ": overwritten instead of accumulated, or not summed over the batch" if found["batch"] else ""
    return f"{gradient} is what {_slice_of_dy(found)} alone would give{why}"


def _part_of_dy_left_out(gradient: str, found: Json) -> str:
    return f"{gradient} leaves out {_slice_of_dy(found)}"


def _slice_of_dy(found: Json) -> str:
    return f"the {found['end']} sample" if found["batch"] else f"the {found['end']} index of dy's axis {found['axis']}"


def _derivative_missing(gradient: str, found: Json) -> str:
    what = "dy itself" if found["multiple"] == 1 else f"{found['multiple']:g} times dy, whatever x is"
    if found["elementwise"]:
        return f"{gradient} is {what}: the derivative f'(x) is missing"
    return f"{gradient} is {what}: the derivative is missing, as where the loss behind it has it in its own gradient"


def _derivative_of_wrong_array(gradient: str, found: Json) -> str:
    name = found["function"]
    form = {"sigmoid": "y (1 - y)", "tanh": "1 - y^2"}[name]
    if found["given"] == "input":
        return f"{gradient} takes x for y in {name}'s derivative, {form}, where y is the output and x the input"
    return f"{gradient} takes {name}'s derivative at its output, where it belongs at its input: {name} is applied twice"


def _constant_term(gradient: str, found: Json) -> str:
    along = "everywhere" if found["everything"] else f"all along {_axes(found['axes'])}"
    return f"{gradient} is off by the same amount {along}: as when a term that is a sum or a mean is missing"


def _affine_term(gradient: str, found: Json) -> str:
    along = "" if found["everything"] else f" along {_axes(found['axes'])}"
    return f"{gradient} is off by a + b x{along}, x its own input: as without the term of a mean or of a variance"


def _guard(gradient: str, found: Json) -> str:
    eps, off = f"eps = {found['eps']}", f"off by up to {found['off']:.2g} of itself"
    return {
        Place.LOGARITHM: f"{gradient} is that without the {eps} inside the value's logarithm, {off}: no mere guard",
        Place.DIVISOR: f"{gradient} has {eps} beside what it divides by, which the value has not, {off}: no mere guard",
        Place.NORM: f"{gradient} is {off}, as {eps} beside a norm of the input explains: no mere guard",
        Place.HELD: f"{gradient} is {off}, as {eps} beside an array that the layer holds explains: no mere guard",
        Place.SOFTMAX: f"{gradient} is {off}, as {eps} beside the sum of a softmax explains: no mere guard",
    }[found["place"]]


def _right(found: Json) -> str:
    """Return what a gradient is compared with."""
    return str(found.get("reference", "the numerical one"))


def _times(found: Json, reference: str) -> str:
    """Return ``exactly 1/4 of the numerical one; 4 is the batch size``."""
    if isinstance(found["factor"], float):
        return f"{found['factor']:.12g} times {reference} everywhere"
    numerator, denominator = found["factor"]
    times = "of" if abs(numerator) == 1 and denominator > 1 else "times"
    factor = f"{numerator}/{denominator}" if denominator > 1 else str(numerator)
    sign = ", the sign is wrong" if numerator < 0 else ""
    return f"exactly {factor} {times} {reference}{sign}{_quantities(found['quantities'])}"


def _quantities(named: Sequence[tuple[Quantity, bool]]) -> str:
    if not named:
        return ""
    named = [pair for pair in named if not pair[1]] or named  # that it is half of something else is less likely
    value, half = named[0][0].value, named[0][1] and named[0][0].value % 2 == 0
    names = " and ".join(("half " if half else "") + _quantity(quantity) for quantity, _ in named)
    return f"; {value // 2 if half else value:,} is {names}"


QUANTITIES = {
    "batch": "the batch size",
    "outputs": "the number of outputs",
    "batch x outputs": "the number of elements (batch x outputs)",
}


def _quantity(quantity: Quantity) -> str:
    extent = "the extent" if len(quantity.axes) == 1 else "the product of the extents"
    extents = f"{extent} of the {quantity.of}'s {_axes(quantity.axes)}"
    if quantity.name == "batch" and quantity.axes != (0,):
        return f"{extents}, the batch"
    return QUANTITIES.get(quantity.name, extents)


def _index(index: Sequence[int]) -> str:
    return f"[{', '.join(map(str, index))}]"


def _axes(axes: Sequence[int]) -> str:
    *rest, last = map(str, axes)
    return f"axes {', '.join(rest)} and {last}" if rest else f"axis {last}"


SENTENCES: dict[Cause, Callable[[str, Json], str]] = {
    Cause.NOT_FINITE: _not_finite,
    Cause.WRONG_SHAPE: _wrong_shape,
    Cause.NOT_REDUCED: _not_reduced,
    Cause.ZERO: lambda gradient, _: f"{gradient} is identically zero",
    Cause.IGNORES_DY: _ignores_dy,
    Cause.FACTOR: _factor,
    Cause.OTHER_LOSS: _other_loss,
    Cause.TRANSPOSED: _transposed,
    Cause.REVERSED: _reversed,
    Cause.SHIFTED: _shifted,
    Cause.EXCHANGED: _exchanged,
    Cause.REDUCED_TOO_FAR: _reduced_too_far,
    Cause.PART_WRONG: _part_wrong,
    Cause.BORDER_WRONG: _border_wrong,
    Cause.REGION_WRONG: _region_wrong,
    Cause.WHOLE_NUMBERS: lambda gradient, found: (
        f"{gradient} is {_right(found)}, {found['how']} to whole numbers"
        if found["how"] != "cut off"
        else f"{gradient} is {_right(found)}, cut off at the point, to whole numbers"
    ),
    Cause.CLIPPED: _clipped,
    Cause.ARGUMENTS_EXCHANGED: _arguments_exchanged,
    Cause.ONLY_PART_OF_DY: _only_part_of_dy,
    Cause.PART_OF_DY_LEFT_OUT: _part_of_dy_left_out,
    Cause.DERIVATIVE_MISSING: _derivative_missing,
    Cause.DERIVATIVE_TWICE: lambda gradient, _: f"{gradient} has the derivative f'(x) in it twice",
    Cause.DERIVATIVE_OF_WRONG_ARRAY: _derivative_of_wrong_array,
    Cause.DIAGONAL_ONLY: lambda gradient, _: (
        f"{gradient} takes only the diagonal of the Jacobian: every input moves other outputs too, "
        "and what comes back from those is missing"
    ),
    Cause.SLICES_APART: lambda gradient, found: (
        f"{gradient} takes what comes back from the same index of axis {found['axis']} alone: what passes from one "
        "index to another, as through a state, has no gradient"
    ),
    Cause.TERM_IN_VALUE: lambda gradient, found: (
        f"{gradient} is off by {found['multiple']:g} times the tensor itself: a penalty's term, or one like it"
    ),
    Cause.TERM_IN_DY: lambda gradient, found: (
        f"{gradient} is off by {found['multiple']:g} times dy: a path straight through is missing, or one too many"
    ),
    Cause.CONSTANT_TERM: _constant_term,
    Cause.AFFINE_TERM: _affine_term,
    Cause.GUARD: _guard,
    Cause.TIED_IN_FULL: lambda gradient, _: (
        f"{gradient} goes in full to each of several tied elements, as to all tied maxima of a pool: "
        "together they may have it once"
    ),
}
