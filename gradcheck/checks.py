"""The front door: check registered classes over the cases that they draw themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

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
    ``case`` with the ``message``. ``failing`` and ``inconclusive`` count the cases that failed, or could tell nothing.
    """

    subject: str
    property: str
    verdict: Verdict
    examples: int
    failing: int
    inconclusive: int
    worst: Worst | None
    message: str
    case: Case | None
    seed: int = 0

    def raise_if_failed(self) -> None:
        """Raise `GradientMismatch` if the property failed."""
        from gradcheck.report import describe_failure

        if self.verdict is Verdict.FAIL:
            raise GradientMismatch(describe_failure(self), self)


def properties_of(subject: Subject) -> tuple[Property, ...]:
    """Return the properties that apply to a class."""
    return next(properties for kind, properties in PROPERTIES.items() if issubclass(subject, kind))


def check_property(subject: Subject, claim: Property, *, examples: int = EXAMPLES, seed: int = 0) -> PropertyResult:
    """Try one property of a class on ``examples`` cases that Hypothesis draws.

    All are tried and the smallest failing one is reported: shrinking would take longer than everything else.
    """
    import hypothesis

    tried: list[tuple[Case, Finding]] = []

    def attempt(case: Case) -> None:
        tried.append((case, _try(claim, case)))

    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        hypothesis.seed(seed)(settings(hypothesis.given(subject.cases())(attempt)))()
    except ImportError:
        raise  # a missing library is nobody's fault here
    except Exception as error:  # noqa: BLE001  the strategy is the subject's own, and so is what it raises
        message = f"cases() {_raised(error)}"
        return PropertyResult(
            subject.__name__, claim.__name__, Verdict.FAIL, len(tried), 0, 0, None, message, None, seed
        )
    failing = [(case, finding) for case, finding in tried if finding.verdict is Verdict.FAIL]
    case, finding = min(failing, key=lambda pair: _size(pair[0]), default=(None, None))
    findings = [finding for _, finding in tried]
    return PropertyResult(
        subject=subject.__name__,
        property=claim.__name__,
        verdict=judge([finding.verdict for finding in findings]),
        examples=len(tried),
        failing=len(failing),
        inconclusive=sum(finding.verdict is Verdict.INCONCLUSIVE for finding in findings),
        worst=finding.worst if finding else largest(*(finding.worst for finding in findings)),
        message=finding.message if finding else "",
        case=case,
        seed=seed,
    )


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


def _try(claim: Property, case: Case) -> Finding:
    try:
        return claim(case)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a subject raises on its own domain is a failure of the subject
        return Finding(Verdict.FAIL, None, _raised(error))


def _raised(error: Exception) -> str:
    return f"raises {type(error).__name__}: {error}"


def _size(case: Case) -> tuple[int, int]:
    arrays = [*case.inputs, *(case.subject.parameters().values() if isinstance(case.subject, Layer) else ())]
    return sum(array.size for array in arrays), sum(int(np.count_nonzero(array)) for array in arrays)
