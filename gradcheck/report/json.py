"""Everything that is found, as documents of strict JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from gradcheck import words
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Worst
from gradcheck.report.engines import describe_reason, note_to_json
from gradcheck.report.readings import reading_to_json
from gradcheck.report.results import Finding, Report
from gradcheck.report.text import Json
from gradcheck.trajectory.check import EvaluationReport, NonFinite, TrajectoryReport
from gradcheck.trajectory.divergence import Divergence
from gradcheck.trajectory.freerun import FreeRunResult
from gradcheck.trajectory.kinks import Crossing
from gradcheck.trajectory.lockstep import LockStepResult
from gradcheck.trajectory.probing import SIDES
from gradcheck.trajectory.replay import Replay, Replayed
from gradcheck.trajectory.sensitivity import Sensitivity
from gradcheck.trajectory.trace_comparison import TraceReport

SCHEMA_VERSION = 1

CROSSINGS = 10  # kinks that a document names, of any number


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
        **({} if report.reading is None else {"reading": reading_to_json(report.reading)}),
        "findings": [finding_to_json(finding) for finding in report.findings],
    }


def dump_json(document: Json) -> str:
    """Return a document as strict JSON."""
    return json.dumps(strict(document), indent=2, allow_nan=False)


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
    tail = quantiles(result.ratios, [0.5, 0.999, 1.0]) if result.ratios.size else [None] * 3
    return {
        "verdict": str(result.verdict),
        "steps_compared": result.steps_compared,
        "worst": worst and {"ratio": worst.ratio, "step": worst.step, "phase": worst.phase, "tensor": worst.tensor},
        "comparisons": int(result.ratios.size),
        "informative_share": result.informative / result.ratios.size if result.ratios.size else 0.0,
        "uninformative": list(result.uninformative),
        "not_compared": {side: list(names) for side, names in result.alone.items()},
        "ratios": dict(zip(("median", "p99.9", "largest"), tail, strict=True)),
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
    """Return a `TrajectoryReport`; the values of its first divergence under the names of the two sides.

    ``reason`` is why the verdict is inconclusive, and ``notes`` what was found out about the engines, as sentences.
    """
    sides = {"ours": ours, "theirs": theirs}
    stop, smallest = report.stopped_by, report.sensitivity and report.sensitivity.smallest
    return {
        "verdict": str(report.verdict),
        "reason": report.silence and describe_reason(report.silence, report.lock_step.steps_compared),
        "factor": report.factor,
        "shadows": report.shadows,
        "every": report.every,
        "lock_step": lock_step_to_json(report.lock_step),
        "free_run": free_run_to_json(report.free_run),
        "smallest_detectable_fault": smallest and smallest.size,
        "sensitivity": report.sensitivity and sensitivity_to_json(report.sensitivity),
        "first_divergence": divergence_to_json(report.first_divergence, ours, theirs),
        "stopped_by": stop and stop_to_json(stop),
        "notes": [note_to_json(note, sides) for note in report.notes],
    }


def evaluation_to_json(report: EvaluationReport) -> Json:
    """Return an `EvaluationReport`."""
    return {
        "verdict": str(report.verdict),
        "factor": report.factor,
        "noise": report.noise,
        "first_divergence": divergence_to_json(report.first_divergence, "ours", "theirs"),
        "notes": [note_to_json(note, SIDES) for note in report.notes],
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


def replay_to_json(case: Replay, result: Replayed, ours: str, theirs: str) -> Json:
    """Return what a case was and what has become of it."""
    changed = result.reference_changed
    return {
        "verdict": str(result.verdict),
        "configuration": case.configuration,
        "training": case.moment.context.training,
        "saved_divergence": divergence_to_json(case.divergence, ours, theirs),
        "divergence": divergence_to_json(result.divergence, ours, theirs),
        "carries_over_hidden_state": result.hidden,
        f"{theirs}_changed": None if changed is None else list(changed),
    }


def quantiles(values: Array, shares: list[float]) -> list[float]:
    """Return values at the given shares: some of the values themselves, so that infinite ones do no harm."""
    return [float(value) for value in np.quantile(values, shares, method="inverted_cdf")]


def _whole(document: Json) -> str:
    return dump_json({"schema_version": SCHEMA_VERSION, **document})


words.document.register(Report, lambda report: dump_json(report_to_json(report)))
words.document.register(TrajectoryReport, lambda report: _whole(trajectory_to_json(report, "ours", "theirs")))
words.document.register(TraceReport, lambda report: _whole(traces_to_json(report)))
words.document.register(EvaluationReport, lambda report: _whole(evaluation_to_json(report)))
