"""Results put into words for people and into JSON for programs. The only module that chooses words."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.agreement import Verdict, Worst, judge, largest
from gradcheck.collection import Shape
from gradcheck.comparison import Quantity
from gradcheck.contract import Array, Case, Initializer, Layer, Loss, Optimizer, Schedule
from gradcheck.diagnosis import Cause, Diagnosis
from gradcheck.trajectory.causes import StepCause, StepDiagnosis
from gradcheck.trajectory.divergence import Divergence

if TYPE_CHECKING:
    from gradcheck.results import Finding, Report
    from gradcheck.trajectory.check import NonFinite, TrajectoryReport
    from gradcheck.trajectory.freerun import FreeRunResult
    from gradcheck.trajectory.kinks import Crossing
    from gradcheck.trajectory.lockstep import LockStepResult
    from gradcheck.trajectory.recording import Recording
    from gradcheck.trajectory.replay import Replay, Replayed
    from gradcheck.trajectory.sensitivity import Sensitivity
    from gradcheck.trajectory.trace_comparison import TraceReport

Json = Any
SCHEMA_VERSION = 1

CROSSINGS = 10  # kinks that a document names, of any number


# Values of a hyper-parameter, up to which all are listed, and above which they are told by their range.
LISTED = 6


def describe_values(values: Sequence[object]) -> str:
    """Return what is drawn for a hyper-parameter: its values, or the range of many."""
    shapes = [value for value in values if isinstance(value, Shape)]
    pairs = [value for value in values if isinstance(value, tuple) and not isinstance(value, Shape)]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    others = [value for value in values if not isinstance(value, (tuple, int, float)) or isinstance(value, bool)]
    words = sorted(value if isinstance(value, str) else repr(value) for value in others)
    if numbers:
        words.append(_range(numbers) if len(numbers) > LISTED else ", ".join(f"{n:.6g}" for n in sorted(numbers)))
    if len(pairs) > LISTED:
        words.append(_tuples(pairs))
    else:
        words += sorted(map(repr, pairs))
    for axes in sorted({len(shape) for shape in shapes}):
        sides = zip(*(shape for shape in shapes if len(shape) == axes), strict=True)
        words.append(f"array ({', '.join(map(_range, sides))}{',' * (axes == 1)})")
    return ", ".join(words)


def _tuples(values: Sequence[tuple[Any, ...]]) -> str:
    lengths = {len(value) for value in values}
    if len(lengths) == 1:
        return f"({', '.join(map(_range, zip(*values, strict=True)))})"
    return f"{_range(list(lengths))} numbers of {_range([number for value in values for number in value])}"


def _range(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "None"
    low, high = min(numbers), max(numbers)
    text = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
    return text if len(numbers) == len(values) else f"None or {text}"


def strict(value: Json) -> Json:
    """Return ``value`` with infinities and NaNs as strings, which strict JSON has no numbers for."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def worst_to_json(worst: Worst | None) -> Json:
    """Return the fields of a `Worst`."""
    if worst is None:
        return None
    return {
        "tensor": worst.tensor,
        "index": list(worst.index),
        "analytic": worst.analytic,
        "numeric": worst.numeric,
        "allowed": worst.allowed,
        "ratio": worst.ratio,
    }


def finding_to_json(finding: Finding) -> Json:
    """Return what was found of one property."""
    return {
        "subject": finding.subject,
        "property": finding.property,
        "verdict": str(finding.verdict),
        "examples": finding.examples,
        "failing_examples": finding.failing,
        "inconclusive_examples": finding.inconclusive,
        "worst": worst_to_json(finding.worst),
        "message": finding.message or None,
        "diagnosis": finding.diagnosis or None,
        "remarks": list(finding.remarks),
    }


def report_to_json(report: Report) -> Json:
    """Return the whole report of a check."""
    return {
        "schema_version": SCHEMA_VERSION,
        "subject": report.subject,
        "verdict": str(report.verdict),
        "worst": worst_to_json(report.worst),
        "evaluations": report.evaluations,
        "seed": report.seed,
        "mode": report.settings.mode,
        "findings": [finding_to_json(finding) for finding in report.findings],
    }


def dump_json(document: Json) -> str:
    """Return a document as strict JSON."""
    return json.dumps(strict(document), indent=2, allow_nan=False)


def element(tensor: str, index: Sequence[int]) -> str:
    """Return an element's name, ``bias[2]``; a scalar has no index."""
    return f"{tensor}[{', '.join(map(str, index))}]" if len(index) else tensor


def sentence(claim: str) -> str:
    """Return a property's name as words."""
    return claim.replace("_", " ")


def describe_case(case: Case) -> str:
    """Return the hyper-parameters of a case and the shapes in it: enough to see what kind of case it is."""
    subject = case.subject
    parameters = subject.parameters() if hasattr(subject, "parameters") else {}
    shapes = ", ".join(str(array.shape) for array in case.inputs)
    held = "".join(f", {name} {array.shape}" for name, array in parameters.items())
    parts = [_constructed(subject), f"input of shape {shapes}{held}" if case.inputs else "", f"seed {case.seed}"]
    return ", ".join(part for part in parts if part) + (", training" if case.training else "")


def _constructed(subject: object) -> str:
    """Return what a part of the contract was made with, but for arrays and child layers; nothing of a foreign one."""
    if not isinstance(subject, (Layer, Loss, Optimizer, Schedule, Initializer)):
        return ""
    values = {spec.name: getattr(subject, spec.name) for spec in dataclasses.fields(subject) if spec.init}
    told = [f"{name}={value!r}" for name, value in values.items() if _is_plain(value)]
    return f"{type(subject).__name__}({', '.join(told)})" if told else ""


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, float, str)) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def describe_failure(finding: Finding) -> str:
    """Return the lines about a failed property: what, why, where and by how much."""
    share = f"{finding.failing} of {finding.examples} cases"
    lines = [f"{finding.subject}: {sentence(finding.property)}: FAIL in {share}"]
    if finding.diagnosis:
        lines.append(f"  {finding.diagnosis}")
    if finding.message:
        lines.append(f"  {finding.message}")
    if finding.worst:
        worst = finding.worst
        lines.append(f"  {element(worst.tensor, worst.index)}: analytic {worst.analytic!r}, numeric {worst.numeric!r}")
        difference = abs(worst.analytic - worst.numeric)
        lines.append(f"  difference {difference:.3g}, allowed {worst.allowed:.3g}, ratio {worst.ratio:.3g}")
    if finding.case is not None:
        lines.append(f"  failing case: {describe_case(finding.case)}")
    return "\n".join(lines)


def describe_silence(report: Report | TrajectoryReport) -> str:
    """Return in one line why a check that is inconclusive could tell nothing."""
    from gradcheck.results import Report

    if not isinstance(report, Report):
        sides = {"ours": "the engine", "theirs": "the reference"}
        return summarise_trajectory(trajectory_to_json(report, *sides), sides).removeprefix("INCONCLUSIVE: ")
    reasons = dict.fromkeys(finding.message for finding in report.findings if finding.message)
    return f"nothing could be told of {report.subject}: {'; '.join(reasons) or 'no property applies to it'}"


def describe_diagnosis(tensor: str, diagnosis: Diagnosis) -> str:
    """Return what is wrong with a tensor's gradient as one sentence."""
    return SENTENCES[diagnosis.cause](f"{tensor}'s gradient", diagnosis.details)


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
        where = named.format(place["index"])
    if what is None:
        return f"only {where} of {gradient} is wrong; {others}"
    change = "zero" if what["factor"] == (0, 1) else _times(what, "what it should be")
    return f"{where} of {gradient} is {change}; {others}"


def _border_wrong(gradient: str, found: Json) -> str:
    sides = " and ".join(f"the {end} index of axis {axis}" for axis, end in found["sides"])
    return f"{gradient} is wrong on the border only, at {sides}; the other {found['agreeing']:,} elements agree"


def _only_part_of_dy(gradient: str, found: Json) -> str:
    why = ": overwritten instead of accumulated, or not summed over the batch" if found["batch"] else ""
    return f"{gradient} is what {_slice_of_dy(found)} alone would give{why}"


def _part_of_dy_left_out(gradient: str, found: Json) -> str:
    return f"{gradient} leaves out {_slice_of_dy(found)}"


def _slice_of_dy(found: Json) -> str:
    return f"the {found['end']} sample" if found["batch"] else f"the {found['end']} index of dy's axis {found['axis']}"


def _derivative_missing(gradient: str, found: Json) -> str:
    what = "dy itself" if found["multiple"] == 1 else f"{found['multiple']:g} times dy, whatever x is"
    return f"{gradient} is {what}: the derivative f'(x) is missing"


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
    if quantity.name in QUANTITIES:
        return QUANTITIES[quantity.name]
    extent = "the extent" if len(quantity.axes) == 1 else "the product of the extents"
    return f"{extent} of the {quantity.of}'s {_axes(quantity.axes)}"


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
    Cause.ONLY_PART_OF_DY: _only_part_of_dy,
    Cause.PART_OF_DY_LEFT_OUT: _part_of_dy_left_out,
    Cause.DERIVATIVE_MISSING: _derivative_missing,
    Cause.DERIVATIVE_TWICE: lambda gradient, _: f"{gradient} has the derivative f'(x) in it twice",
    Cause.DERIVATIVE_OF_WRONG_ARRAY: _derivative_of_wrong_array,
    Cause.DIAGONAL_ONLY: lambda gradient, _: (
        f"{gradient} takes only the diagonal of the Jacobian: every input moves other outputs too, "
        "and what comes back from those is missing"
    ),
    Cause.TERM_IN_VALUE: lambda gradient, found: (
        f"{gradient} is off by {found['multiple']:g} times the tensor itself: a penalty's term, or one like it"
    ),
    Cause.TERM_IN_DY: lambda gradient, found: (
        f"{gradient} is off by {found['multiple']:g} times dy: a path straight through is missing, or one too many"
    ),
    Cause.CONSTANT_TERM: _constant_term,
    Cause.AFFINE_TERM: _affine_term,
    Cause.TIED_IN_FULL: lambda gradient, _: (
        f"{gradient} goes in full to each of several tied elements, as to all tied maxima of a pool: "
        "together they may have it once"
    ),
}


def describe_cause(found: Divergence, cause: Diagnosis | StepDiagnosis | None) -> str | None:
    """Return what is wrong with a step as one sentence, or None if nothing is known."""
    if cause is None:
        return None
    if isinstance(cause, StepDiagnosis):
        return STEP_SENTENCES[cause.cause](found.tensor.rpartition("/")[2], cause.details)
    is_gradient = found.phase == "backward" and not found.tensor.endswith((".input", ".prediction"))
    name = f"{found.tensor}'s gradient" if is_gradient else found.tensor
    if found.phase == "backward" and not is_gradient:
        name = f"the gradient of {found.tensor}"
    return SENTENCES[cause.cause](name, cause.details | {"reference": "the reference's"})


def _other_order(tensor: str, found: Json) -> str:
    whose = {"x": "the samples", "y": "the labels"}.get(tensor, tensor)
    if found["rolled"] is not None:
        by = found["rolled"]
        return (
            f"{whose} are the reference's, moved along the batch by {abs(by)} {'forwards' if by > 0 else 'backwards'}"
        )
    return f"{whose} are the reference's in another order"


def _labels_shifted(_: str, found: Json) -> str:
    by = found["by"]
    return (
        f"every label is {abs(by)} class{'' if abs(by) == 1 else 'es'} {'above' if by > 0 else 'below'} the reference's"
    )


def _rescaled(tensor: str, found: Json) -> str:
    offset = f" {'+' if found['offset'] > 0 else '-'} {abs(found['offset']):g}" if found["offset"] else ""
    return f"{tensor} is {found['factor']:g} times the reference's{offset}: another range of the input"


def _other_precision(tensor: str, found: Json) -> str:
    if found["lower"]:
        return f"{tensor} is the reference's, rounded to {found['precision']}"
    return f"{tensor} holds the reference's numbers in {found['precision']}"


def _dropout(tensor: str, found: Json) -> str:
    if found["on"]:
        where = "where the reference has none" if found["training"] else "which is left on in evaluation"
        return f"{tensor} has dropout in it, p = {found['p']:g}, {where}"
    return f"{tensor} has no dropout in it, of which the reference has p = {found['p']:g}"


def _moved_by_factor(tensor: str, found: Json) -> str:
    factor = found["factor"]
    times = f"{factor:.12g}" if isinstance(factor, float) else "/".join(map(str, factor)).removesuffix("/1")
    moved = f"{'every parameter' if found['everything'] else tensor} moved {times} times as far as in the reference"
    if found["lr"] is None:
        return moved
    given, used = found["lr"]
    return f"{moved}: as with a learning rate of {used:g} in place of {given:g}"


def _momentum(tensor: str, found: Json) -> str:
    velocity = f"{tensor}'s velocity (momentum_buffer)"
    if found["lost"]:
        return f"{velocity} is the gradient alone: what it was before the step is not kept"
    return f"{velocity} is off by {found['multiple']:g} times what it was before the step: another momentum, or none"


def _correction(tensor: str, found: Json) -> str:
    if math.isinf(found["t"]):
        return f"{tensor} moved as by Adam without its bias correction"
    power = ": the power t is missing, or t is not counted on" if found["t"] == 1 else ""
    return f"{tensor} moved as by Adam's bias correction for t = {found['t']:g}, where t is {found['given']}{power}"


def _weight_decay(tensor: str, found: Json) -> str:
    how = "more" if found["more"] else "less"
    return (
        f"{tensor}'s update is off by a multiple of the parameter: as by a weight decay of {found['decay']:g} {how} "
        "than the reference's"
    )


STEP_SENTENCES: dict[StepCause, Callable[[str, Json], str]] = {
    StepCause.OTHER_ORDER: _other_order,
    StepCause.LABELS_SHIFTED: _labels_shifted,
    StepCause.RESCALED: _rescaled,
    StepCause.OTHER_PRECISION: _other_precision,
    StepCause.DROPOUT: _dropout,
    StepCause.STALE: lambda tensor, _: f"{tensor}'s gradient is the reference's of the step before: it is stale",
    StepCause.NOT_UPDATED: lambda tensor, _: f"{tensor} is what it was before the step: it is not updated",
    StepCause.MOVED_BY_FACTOR: _moved_by_factor,
    StepCause.MOMENTUM: _momentum,
    StepCause.CORRECTION: _correction,
    StepCause.WEIGHT_DECAY: _weight_decay,
}


def describe_report(report: Report) -> str:
    """Return a report as text: the verdict, then what failed and why, then what could not be told, then the rest."""
    of = {verdict: [f for f in report.findings if f.verdict is verdict] for verdict in Verdict}
    failed, unclear, held = of[Verdict.FAIL], of[Verdict.INCONCLUSIVE], of[Verdict.PASS]
    counts = [f"{len(held)} of {len(report.findings)} properties hold"]
    if failed:
        counts.append(f"{len(failed)} fail")
    if unclear:
        counts.append(f"{len(unclear)} could not be told")
    lines = [f"{report.verdict.upper()}: {report.subject}: {', '.join(counts)}"]
    alike = Counter(finding.message for finding in failed if finding.worst is None and finding.message)
    shown = set()
    for finding in failed:
        if alike[finding.message] > 1 and finding.worst is None:
            if finding.message in shown:
                continue
            shown.add(finding.message)
            lines.append(f"{finding.message}: in {alike[finding.message]} properties")
            if finding.case is not None:
                lines.append(f"  failing case: {describe_case(finding.case)}")
        else:
            lines.append(describe_failure(finding))
    lines += [f"could not tell: {sentence(f.property)}: {f.message or 'nothing to compare'}" for f in unclear]
    lines += [f"note: {remark}" for finding in report.findings for remark in finding.remarks]
    if held:
        lines.append(f"holds: {'; '.join(sentence(finding.property) for finding in held)}")
    worst = largest(*(finding.worst for finding in held))
    if worst is not None:
        ratio = f"{worst.ratio:.2g} of the allowance, in {element(worst.tensor, worst.index)}"
        lines.append(f"largest disagreement{' of those' if failed else ''}: {ratio}")
    lines.append(f"{report.evaluations:,} evaluations, seed {report.seed}")
    return "\n".join(lines)


def summarise(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """Return the verdict over all findings and one sentence about it."""
    verdict = judge([finding.verdict for finding in findings])
    counts = Counter(str(finding.verdict) for finding in findings)
    examples = sum(finding.examples for finding in findings)
    subjects = len({finding.subject for finding in findings})
    parts = ", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v])
    of = f"of {subjects} subject{'' if subjects == 1 else 's'}"
    return verdict, f"{verdict.upper()}: {len(findings)} properties {of} ({parts}), {examples:,} examples"


def divergence_to_json(found: Divergence | None, ours: str, theirs: str) -> Json:
    """Return a `Divergence`, with the values under the names of the two sides."""
    if found is None:
        return None
    return {
        "step": found.step,
        "phase": found.phase,
        "layer": found.layer,
        "tensor": found.tensor,
        "index": list(found.index),
        ours: found.ours,
        theirs: found.theirs,
        "allowed": found.allowed,
        "ratio": found.ratio,
        "message": found.message or None,
        "mode": "training" if found.training else "evaluation",
        "diagnosis": found.diagnosis,
    }


def divergence_from_json(found: Json, factor: float, ours: str, theirs: str) -> Divergence:
    """Return the `Divergence` that `divergence_to_json` has put down."""
    return Divergence(
        step=found["step"],
        phase=found["phase"],
        layer=found["layer"],
        tensor=found["tensor"],
        index=tuple(found["index"]),
        ours=float(found[ours]),
        theirs=float(found[theirs]),
        noise=found["allowed"] / factor,
        allowed=found["allowed"],
        ratio=found["ratio"],
        message=found["message"] or "",
        training=found["mode"] != "evaluation",
        diagnosis=found["diagnosis"],
    )


def crossing_to_json(crossing: Crossing) -> Json:
    """Return a `Crossing` without its step."""
    return {
        "layer": crossing.layer,
        "index": list(crossing.index),
        "units": crossing.units,
        "margins": [crossing.ours, crossing.theirs],
        "gap": crossing.gap,
        "noise": crossing.noise,
        "explained": crossing.explained,
    }


def lock_step_to_json(result: LockStepResult) -> Json:
    """Return a `LockStepResult`: worst comparison, the tail of the ratios, and what was looked at twice."""
    worst = result.worst
    quantiles = _quantiles(result.ratios, [0.5, 0.999, 1.0]) if result.ratios.size else [None] * 3
    return {
        "verdict": str(result.verdict),
        "steps_compared": result.steps_compared,
        "worst": worst and {"ratio": worst.ratio, "step": worst.step, "phase": worst.phase, "tensor": worst.tensor},
        "comparisons": int(result.ratios.size),
        "informative_share": result.informative / result.ratios.size if result.ratios.size else 0.0,
        "uninformative": list(result.uninformative),
        "ratios": dict(zip(("median", "p99.9", "largest"), quantiles, strict=True)),
        "failed_steps": len(result.failed_steps),
        "cleared_by_more_shadows": result.retakes,
        "cleared_by_second_opinion": result.second_opinions,
        "kinks_crossed": len(result.crossings),
        "kinks": _first_crossings(result.crossings),
    }


def _first_crossings(crossings: Sequence[Crossing]) -> Json:
    return [{"step": one.step, **crossing_to_json(one)} for one in crossings[:CROSSINGS]]


def free_run_to_json(result: FreeRunResult) -> Json:
    """Return a `FreeRunResult`, without its curves."""
    worst, first = result.worst, result.first_failure
    return {
        "verdict": str(result.verdict),
        "steps_compared": result.steps_compared,
        "horizon_step": result.horizon_step,
        "max_relative_distance": result.max_relative_distance,
        "kinks_crossed": len(result.crossings),
        "kinks": _first_crossings(result.crossings),
        "worst": worst and {"ratio": worst.ratio, "step": worst.step, "tensor": worst.tensor},
        "first_failure": first and {"step": first.step, "tensor": first.tensor},
    }


def trajectory_to_json(report: TrajectoryReport, ours: str, theirs: str) -> Json:
    """Return a `TrajectoryReport`; the values of its first divergence under the names of the two sides."""
    stop, smallest = report.stopped_by, report.sensitivity and report.sensitivity.smallest
    return {
        "verdict": str(report.verdict),
        "factor": report.factor,
        "shadows": report.shadows,
        "every": report.every,
        "lock_step": lock_step_to_json(report.lock_step),
        "free_run": free_run_to_json(report.free_run),
        "smallest_detectable_fault": smallest and smallest.size,
        "sensitivity": report.sensitivity and sensitivity_to_json(report.sensitivity),
        "first_divergence": divergence_to_json(report.first_divergence, ours, theirs),
        "stopped_by": stop and stop_to_json(stop),
    }


def sensitivity_to_json(found: Sensitivity) -> Json:
    """Return a `Sensitivity`; sizes are relative, and shares are of the steps that were drawn."""
    return {
        "by_tensor": {
            name: one and {"size": one.size, "step": one.step, "steps": one.steps, "share_of_steps": one.share}
            for name, one in found.by_tensor.items()
        },
        "caught": list(found.caught),
        "missed": list(found.missed),
    }


def stop_to_json(stop: NonFinite) -> Json:
    """Return a `NonFinite`."""
    return {"step": stop.step, "layer": stop.layer, "tensor": stop.tensor}


def describe_divergence(found: Divergence, factor: float, ours: str = "ours", theirs: str = "the reference") -> str:
    """Return where two engines part, with both values and what was allowed, and why, if that is known."""
    where = f"step {found.step:,}, {'' if found.training else 'in evaluation, '}{found.phase}"
    why = f". {found.diagnosis[:1].upper()}{found.diagnosis[1:]}" if found.diagnosis else ""
    if found.message:
        return f"{where}, {found.tensor}: {ours} {found.message}{why}"
    difference = abs(found.ours - found.theirs)
    relative = f", relative {difference / abs(found.theirs):.2g}" if found.theirs else ""
    values = f"{ours} {found.ours!r}, {theirs} {found.theirs!r}"
    noise = f"{noise_units(found.ratio, factor)} x rounding noise, {factor:g} allowed"
    size = f"difference {difference:.3g}{relative}: {noise}"
    if math.isinf(found.ratio):
        size = "they must be equal" if found.allowed == 0 else "one is not finite"
    return f"{where}, {element(found.tensor, found.index)}: {values} ({size}){why}"


def noise_units(ratio: float, factor: float) -> str:
    """Return a ratio in units of rounding noise."""
    noise = ratio * factor
    return f"{noise:.1f}" if noise < 1000 else f"{noise:.1e}"


def describe_lock_step(found: Json, factor: float) -> str:
    """Return what single steps showed, beside their number and their worst; from `lock_step_to_json`."""
    median, tail = found["ratios"]["median"], found["ratios"]["p99.9"]
    if median is None or tail is None:
        return "nothing was compared"
    text = f"{found['comparisons']:,} comparisons: median {factor * median:.1f}, 99.9 % under {factor * tail:.1f}"
    if found["failed_steps"]:
        text = f"{found['failed_steps']:,} of {found['steps_compared']:,} steps are wrong"
    elif found["verdict"] == Verdict.INCONCLUSIVE:
        text += "; no gradient was above rounding noise, so none was tested"
    elif found["uninformative"]:
        text += f"; never above rounding noise, so untested: {', '.join(found['uninformative'])}"
    if found["kinks_crossed"]:
        text += f"; {found['kinks_crossed']:,} kinks crossed by one side"
    return text


def describe_free_run(found: Json) -> str:
    """Return what the run as a whole showed, beside its steps and its worst; from `free_run_to_json`."""
    first = found["first_failure"]
    if first is not None:
        return f"leaves its shadows at step {first['step']:,}, {first['tensor']}"
    if found["verdict"] == Verdict.FAIL:
        return "leaves its shadows"
    if not found["steps_compared"]:
        return "nothing was compared"
    text = f"weights {found['max_relative_distance']:.1e} apart; "
    if found["horizon_step"] is None:
        return f"{text}horizon not reached"
    why = "one side crossed a kink" if found["kinks_crossed"] else "rounding alone parts any two runs"
    return f"{text}horizon at step {found['horizon_step']:,}: from there {why}"


def describe_stop(stop: Json) -> str:
    """Return why a run ended before its end."""
    where = "on either side" if stop.get("side") is None else f"on the side of {stop['side']}"
    return f"stopped at step {stop['step']:,}, where {stop['tensor']} is not finite {where}; lower the learning rate."


def describe_verdict(verdict: str, ours: str, theirs: str) -> str:
    """Return what a verdict on two programs means, as a clause."""
    return {
        "pass": f"{ours} and {theirs} are the same program",
        "fail": f"{ours} and {theirs} are not the same program",
        "inconclusive": f"no telling whether {ours} and {theirs} are the same program",
    }[verdict]


def summarise_trajectory(document: Json, sides: Mapping[str, str]) -> str:
    """Return the sentence that ends a fair run, from its document; ``sides`` are its two keys and their names."""
    verdict, result = Verdict(document["verdict"]), describe_result(document, sides)
    told = f"{verdict.upper()}: {describe_verdict(verdict, *sides.values())}"
    if verdict is Verdict.FAIL:
        return f"{told}. {result}".rstrip()
    return f"{told}: {result[:1].lower()}{result[1:]}" if verdict is Verdict.PASS else f"INCONCLUSIVE: {result}"


def describe_result(document: Json, sides: Mapping[str, str]) -> str:
    """Return what a fair run's verdict rests on, as a sentence; nothing where that is not told."""
    verdict, steps = Verdict(document["verdict"]), document["lock_step"]["steps_compared"]
    if verdict is Verdict.FAIL:
        if document["first_divergence"] is None:
            return ""
        found = divergence_from_json(document["first_divergence"], document["factor"], *sides)
        return f"They part at {describe_divergence(found, document['factor'], *sides.values())}."
    if document["stopped_by"] is not None:
        return describe_stop(document["stopped_by"])
    if verdict is Verdict.PASS:
        return f"All of {steps:,} steps agree within rounding noise."
    return f"{steps:,} steps were compared, and none could tell right from wrong."


OBSTACLES = {
    "other_states": "one was recorded along a trace that is not the other, so they took their steps from other states",
    "other_start": "they do not start from the same state",
    "no_noise": "neither has recorded rounding noise for what both have; record one of them with mnistcheck record",
    "no_step": "they have no step in common",
    "no_tensor": "they have no tensor in common, but what they were given",
    "no_information": "nothing compared could tell right from wrong: no gradient or update was above rounding noise",
    "horizon": "rounding alone parts any two runs from their first step in common",
}


def describe_recording(done: Recording) -> str:
    """Return what a recording has left."""
    megabytes = done.size / 1e6
    size = f"{megabytes:,.1f} MB" if megabytes >= 1 else f"{1e3 * megabytes:,.1f} kB"
    return f"{_steps(done.steps)}, {size}"


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def describe_end(stop: NonFinite) -> str:
    """Return why a recording ended before its end."""
    return f"ended at step {stop.step:,}, where {stop.tensor} is not finite; lower the learning rate."


def traces_to_json(report: TraceReport) -> Json:
    """Return a `TraceReport`."""
    worst = report.worst
    return {
        "verdict": str(report.verdict),
        "reason": report.obstacle and str(report.obstacle),
        "judged_by": "lock-step" if report.lock_step else "free-run",
        "factor": report.factor,
        "steps_compared": report.steps_compared,
        "horizon_step": report.horizon_step,
        "comparisons": int(report.ratios.size),
        "informative_share": report.informative / report.ratios.size if report.ratios.size else 0.0,
        "uninformative": list(report.uninformative),
        "failed_steps": len(report.failed_steps),
        "worst": worst and {"ratio": worst.ratio, "step": worst.step, "phase": worst.phase, "tensor": worst.tensor},
        "first_divergence": divergence_to_json(report.first_divergence, "ours", "theirs"),
        "only_ours": list(report.only_ours),
        "only_theirs": list(report.only_theirs),
        "unmeasured": list(report.unmeasured),
    }


def describe_traces(report: TraceReport, ours: str, theirs: str) -> list[str]:
    """Return how two traces were judged, what one of them lacks, and the tail of the comparisons."""
    lines = [
        f"only in {name}: {', '.join(names)}"
        for name, names in ((ours, report.only_ours), (theirs, report.only_theirs))
        if names
    ]
    if report.unmeasured:
        lines.append(f"not compared, for want of recorded noise: {', '.join(report.unmeasured)}")
    if not report.ratios.size:
        return lines
    if report.lock_step:
        lines.append("judged as in lock-step: both took every step from the same state, so each is judged by itself")
    else:
        lines.append(
            "judged as in free-run: each trained by itself, so the allowance grows with the run, and only its first"
            " step is judged as sharply as in lock-step; record one along the other to judge every step so"
        )
    if report.horizon_step is not None:
        lines.append(f"horizon at step {report.horizon_step:,}: from there rounding alone parts any two runs")
    median, tail = (report.factor * quantile for quantile in _quantiles(report.ratios, [0.5, 0.999]))
    noise = f"median {median:.1f} x rounding noise, 99.9 % under {tail:.1f}, {report.factor:g} allowed"
    lines.append(f"{report.ratios.size:,} comparisons in {_steps(report.steps_compared)}: {noise}")
    if report.uninformative:
        lines.append(f"never above rounding noise, so untested: {', '.join(report.uninformative)}")
    return lines


def summarise_traces(report: TraceReport, ours: str, theirs: str) -> str:
    """Return the sentence that ends a comparison of two traces."""
    if report.first_divergence is not None:
        where = describe_divergence(report.first_divergence, report.factor, ours, theirs)
        return f"FAIL: {ours} and {theirs} are not of the same program. They part at {where}."
    if report.obstacle is not None:
        return f"INCONCLUSIVE: {ours} and {theirs} tell nothing of one another: {OBSTACLES[report.obstacle]}."
    same = f"PASS: {ours} and {theirs} are of the same program"
    if report.horizon_step is not None:
        told = f"{_steps(report.steps_compared)} before the horizon, all within rounding noise"
        return f"{same} as far as can be told: {told}."
    return f"{same}: all of {_steps(report.steps_compared)} agree within rounding noise."


def replay_to_json(case: Replay, result: Replayed, ours: str, theirs: str) -> Json:
    """Return what a case was and what has become of it."""
    changed = result.reference_changed
    return {
        "verdict": str(result.verdict),
        "configuration": case.configuration,
        "training": case.moment.context.training,
        "saved_divergence": divergence_to_json(case.divergence, ours, theirs),
        "divergence": divergence_to_json(result.divergence, ours, theirs),
        f"{theirs}_changed": None if changed is None else list(changed),
    }


def describe_replay(case: Replay, result: Replayed, ours: str, theirs: str) -> list[str]:
    """Return what a case was, where it failed and fails, and whether the reference is still the same."""
    made = ", ".join(f"{name} {value}" for name, value in case.configuration.items() if value is not None)
    what = "training step" if case.moment.context.training else "evaluation before training step"
    lines = [f"{what} {case.moment.context.key.step:,}: {made}" if made else f"{what} {case.moment.context.key.step:,}"]
    lines.append(f"then: {describe_divergence(case.divergence, case.factor, ours, theirs)}")
    if result.divergence is not None:
        lines.append(f"now:  {describe_divergence(result.divergence, case.factor, ours, theirs)}")
    changed = result.reference_changed
    if changed is None:
        lines.append(f"{theirs} was not asked again: what it gave then is what counts")
    elif changed:
        lines.append(f"{theirs} itself gives other bits now, first in {changed[0]}; what it gave then is what counts")
    else:
        lines.append(f"{theirs} still gives the same bits")
    return lines


def summarise_replay(case: Replay, result: Replayed, ours: str, theirs: str) -> str:
    """Return the sentence that ends a replay."""
    step = f"step {case.moment.context.key.step:,}"
    if result.divergence is None:
        return f"PASS: {step} agrees within rounding noise now."
    old, new = case.divergence, result.divergence
    same = all(getattr(old, name) == getattr(new, name) for name in ("phase", "tensor", "index", "ours", "theirs"))
    return f"FAIL: {ours} and {theirs} still part at {step}{', with the very same values' if same else ''}."


def describe_setting(document: Json) -> str:
    """Return how a run was trained, after its network."""
    configuration = document["configuration"]
    return f"batch {configuration['batch_size']}, {configuration['dtype']}, seed {configuration['seed']}"


def describe_epoch(line: Json, epochs: int, sides: Mapping[str, str]) -> str:
    """Return what the sides came to in an epoch, of so many, in one line."""
    told = []
    for key, name in sides.items():
        if (one := line[key]) is not None:
            validated = one["validation_loss"] is not None
            validation = (
                f", validation {one['validation_loss']:.4f} {one['validation_accuracy']:.2%}" if validated else ""
            )
            training = f"training {one['train_loss']:.4f} {one['train_accuracy']:.2%}"
            told.append(f"{name} {training}{validation}, {one['seconds']:.1f} s")
    return f"epoch {line['epoch'] + 1} of {epochs}: {'; '.join(told)}"


def describe_crossing(step: int, crossing: Json) -> str:
    """Return where one side alone crossed a kink, and whether rounding explains it; from `crossing_to_json`."""
    sample, unit = (crossing["index"] or [0])[0], crossing["index"][1:]
    where = element(f"step {step:,}, layer {crossing['layer']}, sample {sample}, unit ", unit)
    others = f", the widest of {crossing['units']}" if (crossing["units"] or 1) > 1 else ""
    told = "which explains it" if crossing["explained"] else "which does not explain it"
    units = crossing["gap"] / crossing["noise"] if crossing["noise"] else math.inf
    return f"{where}{others}: {crossing['gap']:.1e} apart, {units:.1f} x what rounding moves its layer by, {told}"


def sensitivity_rows(found: Json) -> list[tuple[str, str, str, str]]:
    """Return, for every gradient, the smallest relative fault caught, in which step, and on how many others."""
    return [
        (
            tensor,
            f"{one['size']:.1e}" if one else "none",
            f"{one['step']:,}" if one else "",
            f"{round(one['share_of_steps'] * one['steps'])} of {one['steps']}" if one else "",
        )
        for tensor, one in found["by_tensor"].items()
    ]


def describe_other_faults(found: Json) -> str:
    """Return which other faults a run would have caught, and which not."""
    caught, missed = found["caught"], found["missed"]
    count = len(caught) + len(missed)
    told = (
        f"Of {count} other faults all were caught"
        if not missed
        else f"Of {count} other faults these were not caught: {', '.join(missed)}"
    )
    by_name = [name for name in caught if " " not in name]
    kinds = ", ".join(["wrong signs, stale gradients, single zeros", *by_name])
    return f"{told} ({kinds})" if caught else told


SENSITIVITY = "Faults that this run catches, each planted in the step that is named:"
SENSITIVITY_COLUMNS = ("gradient", "times 1 +", "in step", "and in other steps")


# What a figure of a run says, beside its numbers.
FIGURE = {
    "distance": "{ours} to {theirs}, each training on its own",
    "allowed": "allowed: up to {factor:g} \N{MULTIPLICATION SIGN} the spread of the shadows",
    "spread": "spread of the shadows: what rounding alone does",
    "equal": "bitwise equal",
    "explained": "kink crossed by one side, explained by rounding",
    "unexplained": "kink crossed by one side, not explained",
    "horizon": "horizon: step {step:,}\nbeyond the horizon: nothing can be told",
    "divergence": "first divergence: step {step:,},\n{phase}, {tensor}",
    "failures": "step above what is allowed",
    "factor": "{factor:g} allowed",
    "steps": "steps taken",
    "distances": "free-run: relative distance\nof all parameters",
    "noises": "lock-step, each step:\n\N{MULTIPLICATION SIGN} rounding noise",
    "caption": (
        "Shadows are {ours} runs nudged by one unit in the last place at every step.\n"
        "The verdict is reached tensor by tensor; the curves are of all parameters together. "
        "One rounding, eps, is always allowed."
    ),
}


def _quantiles(values: Array, shares: list[float]) -> list[float]:
    """Return values at the given shares: some of the values themselves, so that infinite ones do no harm."""
    return [float(value) for value in np.quantile(values, shares, method="inverted_cdf")]
