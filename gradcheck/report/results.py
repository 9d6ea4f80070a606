"""What checks return: findings, reports, and the error that a failed one raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gradcheck import words
from gradcheck.contract import Case
from gradcheck.numerics.agreement import Verdict, Worst, judge, largest
from gradcheck.properties import Settings
from gradcheck.report.snippets import snippet_of_case
from gradcheck.subjects.reading import Reading

# What a report's pass rests on.
DECIDING = (
    "gradients_agree_with_differences",
    "gradients_agree_with_twin",
    "updates_agree_with_twin",
    "rates_agree_with_twin",
    "draws_agree_with_twin",
)


IN_EVALUATION = "wrong in evaluation mode only"  # begins the message of a finding that is right in training mode


class GradientMismatch(AssertionError):  # noqa: N818  the field's word, as TrajectoryMismatch is
    """A property does not hold; ``report`` says of what, where, by how much, and if it can, why."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Finding:
    """What one property found over many cases of one subject.

    ``worst`` is the worst agreement of all cases, or for a failure that of the smallest failing case, which is
    ``case`` with the ``message`` and the ``diagnosis``. ``failing`` and ``inconclusive`` count the cases that failed,
    or could tell nothing. ``remarks`` qualify a pass, such as elements at kinks.
    """

    subject: str
    property: str
    verdict: Verdict
    examples: int = 1
    failing: int = 0
    inconclusive: int = 0
    worst: Worst | None = None
    message: str = ""
    diagnosis: str = ""
    remarks: tuple[str, ...] = ()
    case: Case | None = None


@dataclass(frozen=True)
class Report:
    """What a check found; true only if it passed.

    ``evaluations`` counts forward calls; ``reading`` is how a foreign object was called. `reproduce` returns a snippet
    that makes the same check again.
    """

    subject: str
    findings: tuple[Finding, ...]
    evaluations: int
    seed: int
    settings: Settings = Settings()
    call: Callable[[], str] | None = field(default=None, repr=False)
    reading: Reading | None = field(default=None, repr=False)

    @property
    def verdict(self) -> Verdict:
        """FAIL if any property failed, else PASS if any of those that compare gradients (updates, rates, draws) passed.

        Otherwise INCONCLUSIVE: that memory is not shared does not make up for gradients that nothing was told about.
        """
        deciding = [f for f in self.findings if f.property in DECIDING] or self.findings
        verdicts = [finding.verdict for finding in deciding]
        return Verdict.FAIL if self.failures else judge(verdicts)

    @property
    def worst(self) -> Worst | None:
        """The element that disagrees most, in allowances, over all properties."""
        return largest(*(finding.worst for finding in self.findings))

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.FAIL)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS

    def __str__(self) -> str:
        return words.text(self)

    def raise_if_failed(self) -> None:
        """Raise `GradientMismatch` with this report if it failed."""
        __tracebackhide__ = True  # pytest shows the line that called
        if self.verdict is Verdict.FAIL:
            raise GradientMismatch(str(self), self)

    def to_json(self) -> str:
        """Return the report as one strict JSON document."""
        return words.document(self)

    def reproduce(self) -> str:
        """Return a program that makes this check again, or of a class drawn at random the smallest failing case."""
        if self.call is not None:
            return self.call()
        case = next((finding.case for finding in self.failures if finding.case is not None), None)
        if case is None:
            case = next((finding.case for finding in self.findings if finding.case is not None), None)
        return "" if case is None else snippet_of_case(case, self.settings)
