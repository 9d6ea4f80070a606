"""The front door: check registered classes over the cases that they draw themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gradcheck.agreement import Verdict, Worst, judge, largest
from gradcheck.contract import Case, Layer, Loss, Optimizer, Schedule
from gradcheck.properties import PROPERTIES, Finding, Property

Subject = type[Layer] | type[Loss] | type[Optimizer] | type[Schedule]

EXAMPLES = 25


class GradientMismatch(AssertionError):  # noqa: N818  the field's word, as TrajectoryMismatch is
    """A property does not hold; ``result`` says of what, where and by how much."""

    def __init__(self, message: str, result: PropertyResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class PropertyResult:
    """What one property found over many cases of one class.

    ``worst`` is the worst agreement of all cases, or for a failure that of the smallest failing case, which is
    ``case`` with the ``message``. ``inconclusive`` counts the cases that could tell nothing.
    """

    subject: str
    property: str
    verdict: Verdict
    examples: int
    inconclusive: int
    worst: Worst | None
    message: str
    case: Case | None

    def raise_if_failed(self) -> None:
        """Raise `GradientMismatch` if the property failed."""
        from gradcheck.report import describe_failure

        if self.verdict is Verdict.FAIL:
            raise GradientMismatch(describe_failure(self), self)


def properties_of(subject: Subject) -> tuple[Property, ...]:
    """Return the properties that apply to a class."""
    return next(properties for kind, properties in PROPERTIES.items() if issubclass(subject, kind))


def check_property(subject: Subject, claim: Property, *, examples: int = EXAMPLES, seed: int = 0) -> PropertyResult:
    """Try one property of a class on ``examples`` cases that Hypothesis draws, and shrink a failure."""
    import hypothesis

    findings: list[Finding] = []
    failing: list[tuple[Case, Finding]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(subject.cases())
    def attempt(case: Case) -> None:
        finding = claim(case)
        findings.append(finding)
        if finding.verdict is Verdict.FAIL:
            failing.append((case, finding))
            raise _Failing

    try:
        attempt()
    except _Failing:
        # Hypothesis runs the smallest failing case last.
        case, finding = failing[-1]
        return _result(subject, claim, Verdict.FAIL, findings, finding, case)
    verdict = judge([finding.verdict for finding in findings])
    return _result(subject, claim, verdict, findings, None, None)


def check_all(
    subjects: Iterable[Subject],
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    progress: Callable[[PropertyResult], None] = lambda _: None,
) -> list[PropertyResult]:
    """Try every property of every class; ``progress`` is called with each result as it comes."""
    results = []
    for subject in subjects:
        for claim in properties_of(subject):
            results.append(check_property(subject, claim, examples=examples, seed=seed))
            progress(results[-1])
    return results


class _Failing(Exception):  # noqa: N818  never leaves this module
    """Tells Hypothesis that a case fails, so that it shrinks the case."""


def _result(
    subject: Subject,
    claim: Property,
    verdict: Verdict,
    findings: list[Finding],
    failure: Finding | None,
    case: Case | None,
) -> PropertyResult:
    return PropertyResult(
        subject=subject.__name__,
        property=claim.__name__,
        verdict=verdict,
        examples=len(findings),
        inconclusive=sum(finding.verdict is Verdict.INCONCLUSIVE for finding in findings),
        worst=failure.worst if failure else largest(*(finding.worst for finding in findings)),
        message=failure.message if failure else "",
        case=case,
    )
