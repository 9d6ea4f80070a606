"""What a check found, in words: property by property, and all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gradcheck import words
from gradcheck.numerics.agreement import Verdict, judge, largest
from gradcheck.report.json import trajectory_to_json
from gradcheck.report.readings import describe_reading, unchecked
from gradcheck.report.results import IN_EVALUATION, Finding, Report
from gradcheck.report.runs import summarise_trajectory
from gradcheck.report.text import element, listed, sentence, wrapped
from gradcheck.report.values import describe_case
from gradcheck.trajectory.check import TrajectoryReport


def describe_failure(finding: Finding) -> str:
    """Return the lines about a failed property: what, why, where and by how much."""
    share = f"{finding.failing} of {finding.examples} cases"
    lines = [f"{finding.subject}: {sentence(finding.property)}: FAIL in {share}"]
    # What explains comes first, but for where it is so: in one of two modes.
    said = [finding.diagnosis, finding.message]
    lines += [f"  {line}" for line in (said[::-1] if finding.message.startswith(IN_EVALUATION) else said) if line]
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
    if not isinstance(report, Report):
        sides = {"ours": "the engine", "theirs": "the reference"}
        return summarise_trajectory(trajectory_to_json(report, *sides), sides).removeprefix("INCONCLUSIVE: ")
    reasons = dict.fromkeys(finding.message for finding in report.findings if finding.message)
    return f"nothing could be told of {report.subject}: {'; '.join(reasons) or 'no property applies to it'}"


@words.text.register
def describe_report(report: Report) -> str:
    """Return a report as text: the verdict, then what failed and why, then what is inconclusive, then the rest."""
    of = {verdict: [f for f in report.findings if f.verdict is verdict] for verdict in Verdict}
    failed, unclear, held = of[Verdict.FAIL], of[Verdict.INCONCLUSIVE], of[Verdict.PASS]
    counts = [f"{len(held)} of {len(report.findings)} properties hold"]
    if failed:
        counts.append(f"{len(failed)} fail")
    if unclear:
        counts.append(f"{len(unclear)} {'is' if len(unclear) == 1 else 'are'} inconclusive")
    lines = [f"{report.verdict.upper()}: {report.subject}: {', '.join(counts)}"]
    if report.reading is not None:
        lines += [line for line in (unchecked(report.reading),) if line] + describe_reading(report.reading)
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
    lines += [f"inconclusive: {sentence(f.property)}: {f.message or 'nothing to compare'}" for f in unclear]
    lines += [f"note: {remark}" for remark in dict.fromkeys(r for finding in report.findings for r in finding.remarks)]
    if held:
        lines.append(listed("holds", [sentence(finding.property) for finding in held]))
    worst = largest(*(finding.worst for finding in held))
    if worst is not None:
        ratio = f"{worst.ratio:.2g} of the allowance, in {element(worst.tensor, worst.index)}"
        lines.append(f"largest disagreement{' of those' if failed else ''}: {ratio}")
    lines.append(f"{report.evaluations:,} evaluations, seed {report.seed}")
    return "\n".join(wrapped(line) for line in lines)


def summarise(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """Return the verdict over all findings and one sentence about it."""
    verdict = judge([finding.verdict for finding in findings])
    counts = Counter(str(finding.verdict) for finding in findings)
    examples = sum(finding.examples for finding in findings)
    subjects = len({finding.subject for finding in findings})
    parts = ", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v])
    of = f"of {subjects} subject{'' if subjects == 1 else 's'}"
    return verdict, f"{verdict.upper()}: {len(findings)} properties {of} ({parts}), {examples:,} examples"
