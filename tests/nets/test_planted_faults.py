"""Real mistakes, planted one at a time: each is caught, in the right property and tensor; and right parts are not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from gradcheck import checks
from gradcheck.checks import check_class
from gradcheck.contract import Case, Optimizer
from gradcheck.items import CONTRACTS
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import DTYPES, PROPERTIES, Property, Settings
from gradcheck.report.results import GradientMismatch
from gradcheck.subjects.copies import arrays_in, fresh
from gradcheck.trials import EXAMPLES, Subject, drawn_cases, properties_of
from tests.nets.faults.catalogue import BLIND, EQUIVALENT, FAULTY, NAMED, PAGE, PLANTED, TOLD_ANEW, WRITTEN, page
from tests.nets.faults.fault import DIFFERENCES, Fault, recast

# How many cases at a time, from up to how many seeds: nearly every fault is caught in the first.
CASES, SEEDS = 2, 30

# Right parts are tried on more: as many as of every registered part, and as many as `mnistcheck verify` draws.
FEW = 3
EXAMPLES_TRIED = [pytest.param(FEW, id="few"), pytest.param(EXAMPLES, id="all", marks=pytest.mark.long)]


def name_of(subject: Subject) -> str:
    """Return the name of a class with that of its family, since two families may use one name."""
    return f"{subject.__module__.rpartition('.')[2]}.{subject.__name__}"


def part_of(subject: Subject) -> Subject:
    """Return the part that a faulty class is made from."""
    return next(kind for kind in subject.__mro__ if kind.__module__.startswith("nets."))


@cache
def drawn(part: Subject, examples: int, seed: int) -> list[Case]:
    """Return cases of a part that nobody is to call: those of all its faults are copies of them."""
    return drawn_cases(part, examples, seed)


def cases_of(subject: Subject, examples: int, seed: int) -> list[Case]:
    """Return what `drawn_cases` does of a faulty class: the cases of its part, with that made by the faulty class.

    To draw them takes longer than to find most faults in them. A class with cases of its own has those.
    """
    part: Any = part_of(subject)
    if "cases" in {name for kind in subject.__mro__[: subject.__mro__.index(part)] for name in vars(kind)}:
        return drawn_cases(subject, examples, seed)
    return [replace(case, subject=recast(case.subject, subject)) for case in fresh(drawn(part, examples, seed))]


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "drawn_cases", cases_of)


def claim_of(subject: Subject, name: str) -> list[Property]:
    """Return the property of this name."""
    return [claim for claim in properties_of(subject) if claim.__name__ == name]


def called(fault: Fault) -> str:
    return f"{name_of(fault.subject)}-{fault.claim}"


# The short run has a fault of every part, and one of every property of every kind of part; the long one has all.
KINDS = [next(kind for kind in CONTRACTS if issubclass(fault.subject, kind)) for fault in PLANTED]
FIRST = [
    *{part_of(fault.subject): fault for fault in reversed(PLANTED)}.values(),
    *{(kind, fault.claim): fault for kind, fault in zip(reversed(KINDS), reversed(PLANTED), strict=True)}.values(),
]
SHORT = {fault.subject for fault in FIRST}


@pytest.mark.parametrize(
    "fault", [pytest.param(one, marks=() if one in FIRST else pytest.mark.long) for one in PLANTED], ids=called
)
def test_a_planted_fault_is_caught(fault: Fault) -> None:
    subject, claim, tensor, _ = fault
    claims = claim_of(subject, claim)
    # Causes have tests of their own. A fault of an optimizer shows in float64, and two precisions take twice as long.
    settings = Settings(explain=False, dtypes=DTYPES[:1] if issubclass(subject, Optimizer) else DTYPES)
    tries = (check_class(subject, claims=claims, examples=CASES, seed=seed, settings=settings) for seed in range(SEEDS))
    report = next((report for report in tries if report.failures), None)
    assert report is not None
    (result,) = report.findings
    if tensor is not None:
        assert result.worst is not None
        assert result.worst.tensor == tensor
        assert result.worst.ratio > 1
    with pytest.raises(GradientMismatch, match=f"{subject.__name__}: {claim.replace('_', ' ')}: FAIL") as caught:
        report.raise_if_failed()
    assert caught.value.report is report


@pytest.mark.long
@pytest.mark.parametrize("subject", {part_of(subject): subject for subject in FAULTY}.values(), ids=name_of)
def test_a_faulty_class_draws_the_cases_of_its_part(subject: Subject) -> None:
    ours, theirs = (made(subject, 3, 0) for made in (cases_of, drawn_cases))
    assert [repr(case) for case in ours] == [repr(case) for case in theirs]
    assert [array.tobytes() for array in arrays_in(ours)] == [array.tobytes() for array in arrays_in(theirs)]


@pytest.mark.parametrize(
    "subject", [pytest.param(one, marks=() if one in SHORT else pytest.mark.long) for one in BLIND], ids=name_of
)
def test_differences_pass_what_they_cannot_see(subject: Subject) -> None:
    # Two cases may tell nothing: a softmax of one number, or of numbers far apart, has no gradient.
    assert check_class(subject, claims=claim_of(subject, DIFFERENCES), examples=8).verdict is Verdict.PASS


@pytest.mark.short(3)
@pytest.mark.parametrize("subject", [subject for subject, _ in EQUIVALENT], ids=name_of)
@pytest.mark.parametrize("examples", EXAMPLES_TRIED)
def test_what_is_no_mistake_is_not_accused(subject: Subject, examples: int) -> None:
    report = check_class(subject, examples=examples)
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("subject", TOLD_ANEW, ids=name_of)
@pytest.mark.parametrize("examples", EXAMPLES_TRIED)
def test_what_is_told_anew_is_right_but_for_its_fault(subject: Subject, examples: int) -> None:
    caught_by = {fault.claim for fault in PLANTED if issubclass(fault.subject, subject)} | {DIFFERENCES}
    claims = [claim for claim in properties_of(subject) if claim.__name__ in caught_by]
    report = check_class(subject, claims=claims, examples=examples)
    assert report.verdict is Verdict.PASS, str(report)


def test_every_class_is_planted() -> None:
    assert [subject for subject in WRITTEN if subject not in NAMED and subject not in TOLD_ANEW] == []


def test_every_property_has_a_planted_fault() -> None:
    native = (properties for kind, properties in PROPERTIES.items() if issubclass(kind, CONTRACTS))
    assert {fault.claim for fault in PLANTED} == {claim.__name__ for properties in native for claim in properties}


def test_the_page_is_what_the_catalogue_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
