"""Reports on two programs as pages: the verdict, where and why they part, what was compared, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck import words
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.engines import describe_note, named
from gradcheck.report.json import trajectory_to_json
from gradcheck.report.runs import (
    describe_free_run,
    describe_lock_step,
    describe_other_faults,
    describe_verdict,
    sensitivity_rows,
    summarise_trajectory,
)
from gradcheck.report.steps import divergence_lines
from gradcheck.report.text import Json, noise_units, page
from gradcheck.report.traces import describe_traces, next_of_traces, summarise_traces
from gradcheck.trajectory.check import EvaluationReport, TrajectoryReport
from gradcheck.trajectory.probing import SIDES
from gradcheck.trajectory.trace_comparison import TraceReport

NEXT = {
    Verdict.PASS: "In a test, report.raise_if_failed() keeps it so.",
    Verdict.FAIL: "Mend the first difference; gradcheck.replay repeats this one step (docs/traces.md).",
    Verdict.INCONCLUSIVE: "An inconclusive report is no pass: report.raise_if_failed(inconclusive=True) raises for it.",
}


@words.text.register
def describe_trajectory(report: TrajectoryReport) -> str:
    """Return the report on two engines as a page."""
    return page(_of_a_run(report))


def _of_a_run(report: TrajectoryReport) -> Iterator[str]:
    document = trajectory_to_json(report, *SIDES)
    found = report.first_divergence
    if report.verdict is Verdict.FAIL:
        yield f"FAIL: {describe_verdict('fail', *SIDES.values())}."
    else:
        yield summarise_trajectory(document, SIDES)
    if found is not None:
        yield from divergence_lines(found, report.factor, *SIDES.values())
        yield from _path(report)
    if document["stopped_by"] is not None and report.verdict is not Verdict.INCONCLUSIVE:
        yield f"The run ended at step {report.lock_step.steps_compared:,}."
    lock, free = report.lock_step, report.free_run
    yield f"lock-step: {lock.verdict}, {lock.steps_compared:,} steps; {describe_lock_step(document['lock_step'])}"
    yield f"free-run: {free.verdict}, {free.steps_compared:,} steps; {describe_free_run(document['free_run'])}"
    if report.sensitivity is not None:
        yield from _faults(document["sensitivity"])
    yield from (f"note: {describe_note(note, SIDES)}" for note in report.notes)
    if lock.hidden_from is not None:
        yield (
            f"note: from step {lock.hidden_from:,} on, ours carries something over from step to step that state() does "
            "not show"
        )
    for side, names in lock.alone.items():
        if names:
            yield f"not compared, since only {SIDES[side]} shows them: {named(names)}"
    yield NEXT[report.verdict]


def _path(report: TrajectoryReport) -> Iterator[str]:
    """Yield what came before the first difference in its step, where it was taken in lock-step."""
    found, moment = report.first_divergence, report.lock_step.moment
    if found is None or moment is None or found != report.lock_step.first_failure:
        return
    name = f"{found.phase}/{found.tensor}"
    before = list(moment.theirs)[: list(moment.theirs).index(name)] if name in moment.theirs else []
    if before:
        yield f"Path: in this step {len(before)} tensors before it agree, the last of them {before[-1]}."
    elif name in moment.theirs:
        yield "Path: it is the first tensor of its step."


def _faults(found: Json) -> Iterator[str]:
    told = [f"{tensor} {size}" for tensor, size, *_ in sensitivity_rows(found)]
    yield f"smallest fault caught, as a factor 1 + size: {'; '.join(told)}"
    yield describe_other_faults(found)


@words.text.register
def describe_evaluation(report: EvaluationReport) -> str:
    """Return the report on the outputs of two engines as a page."""
    ours, theirs = SIDES.values()
    worst = f"worst {noise_units(report.noise, 1)} x rounding noise, {report.factor:g} allowed"
    if report.verdict is Verdict.INCONCLUSIVE:
        told = [
            "INCONCLUSIVE: rounding alone may move the outputs by more than a hundredth of the largest",
            "Compare in a higher precision, or at inputs at which the outputs are not the rest of a cancellation.",
        ]
    elif report.first_divergence is None:
        told = [f"{report.verdict.upper()}: {ours} and {theirs} give the same outputs: {worst}."]
    else:
        where = divergence_lines(report.first_divergence, report.factor, ours, theirs)
        told = [f"FAIL: {ours} and {theirs} give other outputs.", *where]
    return page([*told, *(f"note: {describe_note(note, SIDES)}" for note in report.notes)])


@words.text.register
def describe_trace_report(report: TraceReport) -> str:
    """Return the report on two traces as a page."""
    if report.first_divergence is None:
        head = [summarise_traces(report, "ours", "theirs")]
    else:
        told = divergence_lines(report.first_divergence, report.factor, "ours", "theirs")
        head = ["FAIL: ours and theirs are not of the same program.", *told]
    return page([*head, *describe_traces(report, "ours", "theirs"), *next_of_traces(report)])
