"""Reports on two programs: a page for people, a document for programs, a short line in a debugger."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import TrajectoryMismatch, check_trajectory
from gradcheck.trajectory.check import EvaluationReport, TrajectoryReport, check_evaluation
from gradcheck.trajectory.recording import record
from gradcheck.trajectory.told import Told
from gradcheck.trajectory.trace import Trace
from gradcheck.trajectory.trace_comparison import TraceReport, compare_traces
from tests.gradcheck.trajectory.neuron import Evaluated, Neuron, WrongInEvaluation, batches, weights


def passed() -> TrajectoryReport:
    return check_trajectory(Neuron(weights()), Neuron(weights(), direction=-1), batches(8))


def failed() -> TrajectoryReport:
    return check_trajectory(Neuron(weights(), corrupt=lambda _, grad: grad * 1.5), Neuron(weights()), batches(8))


def silent() -> TrajectoryReport:
    return check_trajectory(Neuron(weights()), Neuron(weights()), [])


def traces(folder: Path, factor: float) -> TraceReport:
    """Return the report on the traces of two neurons, whose gradients differ by a factor."""
    for name, one in (("ours", factor), ("theirs", 1.0)):
        record(
            Neuron(weights(), corrupt=lambda _, grad, one=one: grad * one),  # type: ignore[misc]
            batches(4),
            folder / name,
            program=name,
            shadows=0,
        )
    return compare_traces(Trace(folder / "ours"), Trace(folder / "theirs"))


def evaluated(wrong: bool) -> EvaluationReport:
    engine = Evaluated(weights())
    x = np.random.default_rng(0).standard_normal((4, 6))
    return check_evaluation(engine.planted(WrongInEvaluation()) if wrong else engine, Evaluated(weights()), x)


def test_a_page_of_a_failed_run_says_where_why_and_what_to_do() -> None:
    lines = str(failed()).splitlines()
    assert lines[0] == "FAIL: ours and the reference are not the same program."
    assert lines[1].startswith("They part at step 0, backward, 0.weight[")
    assert lines[2].startswith("  ours           ")
    assert lines[3].startswith("  the reference  ")
    assert lines[4].startswith("  difference ")
    assert lines[5] == "Why: 0.weight's gradient is exactly 3/2 times the reference's."
    assert lines[6].startswith("Path: in this step 7 tensors before it agree, the last of them")
    assert lines[-2].startswith("Mend the first difference;")


def test_a_page_of_a_passed_run_says_what_it_is_worth() -> None:
    text = " ".join(str(passed()).split())
    assert text.startswith("PASS: ours and the reference are the same program: all of 8 steps agree within rounding")
    assert "lock-step: pass, 8 steps; 56 comparisons, as shares of the allowance: median 0." in text
    assert " free-run: pass, 8 steps; weights " in text
    assert "smallest fault caught, as a factor 1 + size: 0.weight " in text


def test_an_inconclusive_page_says_why() -> None:
    assert str(silent()).startswith("INCONCLUSIVE: No step was compared: there were no batches.\n")


def test_ratios_that_are_not_finite_are_told_in_words() -> None:
    report = passed()
    lock = replace(report.lock_step, ratios=np.array([0.0, 3.0, 2e12, 2e12, np.inf]))
    text = str(replace(report, lock_step=lock))
    assert "median 2e+12, 99.9 % up to not finite" in " ".join(text.split())
    assert "inf " not in text


@pytest.mark.parametrize("make", [passed, failed, silent, lambda: evaluated(False), lambda: evaluated(True)])
def test_no_page_is_wider_than_a_terminal_and_every_document_is_strict(make: object) -> None:
    report: Told = make()  # type: ignore[operator]
    assert max(map(len, str(report).splitlines())) <= 80
    assert "array(" not in str(report)
    assert "\n" not in repr(report)
    assert len(repr(report)) < 80
    document = json.loads(report.to_json(), parse_constant=lambda text: pytest.fail(text))
    assert (document["schema_version"], document["verdict"]) == (1, str(report.verdict))
    assert str(report).lower().startswith(str(report.verdict))


def test_traces_are_told_in_the_same_way(tmp_path: Path) -> None:
    report = traces(tmp_path, 1.5)
    assert str(report).startswith(
        "FAIL: ours and theirs are not of the same program.\nThey part at step 0, backward, 0."
    )
    assert repr(report) == "<TraceReport: fail at step 0, backward/0.weight>"
    assert json.loads(report.to_json())["verdict"] == "fail"
    with pytest.raises(TrajectoryMismatch, match="are not of the same program"):
        report.raise_if_failed()


def test_an_inconclusive_report_raises_on_demand_only() -> None:
    report = silent()
    assert report.verdict is Verdict.INCONCLUSIVE
    report.raise_if_failed()
    with pytest.raises(TrajectoryMismatch, match=r"^INCONCLUSIVE: No step was compared") as caught:
        report.raise_if_failed(inconclusive=True)
    assert caught.value.report is report
    passed().raise_if_failed(inconclusive=True)
