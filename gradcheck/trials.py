"""A property tried on one case after another, and what many outcomes come to: a finding, with its cause."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Case, Initializer, Layer, Loss, Optimizer, Schedule
from gradcheck.diagnosis.gradients import consensus
from gradcheck.numerics.agreement import Verdict, judge, largest
from gradcheck.numerics.functions import RefusedError
from gradcheck.properties import PROPERTIES, Outcome, Property, Settings
from gradcheck.report.diagnoses import describe_diagnosis
from gradcheck.report.results import IN_EVALUATION, Finding
from gradcheck.subjects.attributes import AdapterError, raised
from gradcheck.subjects.copies import fresh
from gradcheck.subjects.variations import AS_GIVEN, DEGENERATE, Variation

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


Subject = type[Layer] | type[Loss] | type[Optimizer] | type[Schedule] | type[Initializer]


EXAMPLES = 25

EXPLAINED = 8  # failing cases of a class whose cause is sought; that takes longer than to see that they fail

KEPT = 8  # classes whose drawn cases are kept, by their ``cases`` itself: what else that reads must not change

NUMBER = r"(?<![\w.])\d[\d.,]*(e[+-]?\d+)?(?![\w.])"  # in a remark, but not in a name

DRAWN_TO_EXPLAIN = 3  # small cases of which fewer fail can seem to have a cause by accident


def properties_of(subject: object) -> tuple[Property, ...]:
    """Return the properties that apply to a class or object."""
    kind = subject if isinstance(subject, type) else type(subject)
    return next(properties for base, properties in PROPERTIES.items() if issubclass(kind, base))


def check_case(case: Case, claim: Property, settings: Settings = Settings()) -> Outcome | None:
    """Return what a property finds in a case; whatever the subject raises is its failure."""
    try:
        with np.errstate(all="ignore"):
            return claim(case, settings)
    except ImportError:
        raise  # a missing library is nobody's fault here
    except AdapterError:
        raise  # nor is an object that was wrongly described
    except RefusedError as refusal:  # of arrays of our own making
        return Outcome(Verdict.INCONCLUSIVE, None, str(refusal))
    except Exception as error:  # noqa: BLE001  whatever a subject raises on its own domain is a failure of the subject
        return Outcome(Verdict.FAIL, None, f"raises {type(error).__name__}: {error}")


def unless_torch_is_missing(case: Case, claim: Property, settings: Settings) -> Outcome | None:
    """Return what a property finds in a case; without PyTorch, a property that needs it is inconclusive."""
    try:
        return check_case(case, claim, settings)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return Outcome(Verdict.INCONCLUSIVE, None, "PyTorch is not installed: pip install 'mnistcheck[torch]'")


def joined(name: str, claim: str, tried: list[tuple[Variation, Outcome]]) -> Finding:
    """Return what a property finds in all variations of one object."""
    failing = [(v, o) for v, o in tried if o.verdict is Verdict.FAIL]
    # A degenerate case has a cause only where that is one of ties, of which it has many.
    failing.sort(key=lambda pair: (pair[0].name in DEGENERATE) * (1 if pair[1].causes else 2))
    ordinary = [(v.case, o) for v, o in failing if v.name not in DEGENERATE]
    place, explanation = _explained(ordinary or [(v.case, o) for v, o in failing if o.causes], 1)
    variation, outcome = failing[place] if failing else (None, None)
    message = outcome.message if outcome else ""
    if variation is not None and variation.name != AS_GIVEN:
        message = f"{variation.name}: {message}".removesuffix(": ")
    verdict = judge([o.verdict for _, o in tried])
    telling = [o.verdict for v, o in tried if v.name not in DEGENERATE]
    if verdict is Verdict.PASS and telling and judge(telling) is Verdict.INCONCLUSIVE:
        verdict = Verdict.INCONCLUSIVE  # zeros, ties or a batch of 1 alone say too little
    if verdict is Verdict.INCONCLUSIVE:
        message = next((o.message for _, o in tried if o.message), "")
    if failing and all(not v.case.training for v, _ in failing):
        trained = [o for v, o in tried if v.case.training]
        if trained and all(o.verdict is Verdict.PASS for o in trained):
            message = f"{IN_EVALUATION}, right in training mode: {message}".removesuffix(": ")
    return Finding(
        subject=name,
        property=claim,
        verdict=verdict,
        examples=len(tried),
        failing=len(failing),
        inconclusive=sum(o.verdict is Verdict.INCONCLUSIVE for _, o in tried),
        worst=outcome.worst if outcome else largest(*(o.worst for _, o in tried)),
        message=message,
        diagnosis=explanation,
        remarks=tuple(_remarks(tried)),
        case=variation.case if variation else None,
    )


def _remarks(tried: list[tuple[Variation, Outcome]]) -> Iterator[str]:
    """Yield what is remarked of the variations: of remarks that are the same but for their numbers the first alone."""
    yield from [outcome.trait for _, outcome in tried if outcome.trait][:1]
    alike: dict[str, list[tuple[str, str]]] = {}
    for variation, outcome in tried:
        if outcome.remark:
            alike.setdefault(re.sub(NUMBER, "", outcome.remark), []).append((variation.name, outcome.remark))
    for (first, remark), *others in alike.values():
        more = f" and in {len(others)} more case{'s' if len(others) > 1 else ''}" if others else ""
        yield remark if first == AS_GIVEN else f"{first}{more}: {remark}"


def drawn_cases(subject: Subject, examples: int, seed: int) -> list[Case]:
    """Return cases that Hypothesis draws from the ``cases()`` of a class, once: that takes longer than to try them.

    No two callers share an array or an attribute of them; what a function closes over is not copied. Raises
    `AdapterError` where ``cases()``, or what it returns, raises: that says nothing of what the class computes.
    """
    try:
        kept = _kept_cases(subject.cases, examples, seed)
    except ImportError:
        raise  # a missing library is nobody's fault here
    except Exception as error:  # the strategy is the subject's own, and so is what it raises
        raise AdapterError(
            f"{subject.__name__}.cases() raises {raised(error)}; it returns a Hypothesis strategy of "
            "Case objects to try the class on"
        ) from error
    try:
        return fresh(kept)
    except Exception:  # noqa: BLE001  copying is the subject's own code; without a copy the same cases are drawn anew
        return _draw(subject.cases, examples, seed)


@lru_cache(KEPT)
def _kept_cases(strategy: Callable[[], SearchStrategy[Case]], examples: int, seed: int) -> list[Case]:
    """Return cases that nobody is to call: they are what others are copies of."""
    return _draw(strategy, examples, seed)


def _draw(strategy: Callable[[], SearchStrategy[Case]], examples: int, seed: int) -> list[Case]:
    import hypothesis

    from gradcheck.strategies import DRAWN_ANEW

    options = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        backend=DRAWN_ANEW,
    )
    cases: list[Case] = []

    def keep(case: Case) -> None:
        cases.append(case)

    hypothesis.seed(seed)(options(hypothesis.given(strategy())(keep)))()
    return cases


def found_in(name: str, claim: Property, cases: list[Case], settings: Settings) -> Finding | None:
    """Return what a property finds in cases of a class, by the smallest that fails; None where it applies to none."""
    tried: list[tuple[Case, Outcome]] = []
    for each in cases:
        explained = sum(bool(outcome.causes) for _, outcome in tried)
        found = check_case(each, claim, replace(settings, explain=settings.explain and explained < EXPLAINED))
        if found is not None:
            tried.append((each, found))
    if not tried:
        return None
    failing = [(case, outcome) for case, outcome in tried if outcome.verdict is Verdict.FAIL]
    failing.sort(key=lambda pair: _size(pair[0]))
    place, explanation = _explained(failing, DRAWN_TO_EXPLAIN)
    case, worst = failing[place] if failing else (None, None)
    outcomes = [outcome for _, outcome in tried]
    verdict = judge([outcome.verdict for outcome in outcomes])
    message = worst.message if worst else ""
    if verdict is Verdict.INCONCLUSIVE:
        message = next((outcome.message for outcome in outcomes if outcome.message), "")
    return Finding(
        subject=name,
        property=claim.__name__,
        verdict=verdict,
        examples=len(tried),
        failing=len(failing),
        inconclusive=sum(outcome.verdict is Verdict.INCONCLUSIVE for outcome in outcomes),
        worst=worst.worst if worst else largest(*(outcome.worst for outcome in outcomes)),
        message=message,
        diagnosis=explanation,
        case=case,
    )


def _explained(failing: list[tuple[Case, Outcome]], needed: int) -> tuple[int, str]:
    """Return which failing case to show, and in words what it and those with as many axes say of the cause.

    That is the first case, unless only of cases with other axes a cause is found.
    """
    by_axes: dict[tuple[int, ...], list[int]] = {}
    for place, (case, _) in enumerate(failing):
        by_axes.setdefault(tuple(array.ndim for array in case.inputs), []).append(place)
    for places in by_axes.values():
        sentences = _sentences([failing[place][1] for place in places], needed)
        if sentences:
            others = [outcome.diagnosis for place in places[:1] if (outcome := failing[place][1]).diagnosis]
            return places[0], "; ".join([sentences, *others])
    known = [(place, outcome.diagnosis) for place, (_, outcome) in enumerate(failing) if outcome.diagnosis]
    return known[0] if known else (0, "")


def _sentences(outcomes: list[Outcome], needed: int) -> str:
    sentences = []
    for name in outcomes[0].causes:
        opinions = [outcome.causes[name] for outcome in outcomes if name in outcome.causes]
        cause = consensus(opinions) if len(opinions) >= needed else None
        if cause is not None:
            sentences.append(describe_diagnosis(name, cause))
    return "; ".join(sentences)


def _size(case: Case) -> tuple[int, int]:
    arrays = [*case.inputs, *(case.subject.parameters().values() if isinstance(case.subject, Layer) else ())]
    return sum(array.size for array in arrays), sum(int(np.count_nonzero(array)) for array in arrays)
