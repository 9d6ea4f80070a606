"""Real mistakes, planted one at a time: each is caught, in the right property and tensor; and right parts are not."""

from __future__ import annotations

import pytest

from gradcheck.checks import check_class
from gradcheck.contract import Layer, Loss, Optimizer
from gradcheck.items import CONTRACTS
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import DTYPES, PROPERTIES, Property, Settings
from gradcheck.report.results import GradientMismatch
from gradcheck.trials import EXAMPLES, Subject, properties_of
from tests.nets.faults.catalogue import BLIND, EQUIVALENT, NAMED, PAGE, PLANTED, TOLD_ANEW, WRITTEN, claims_of, page
from tests.nets.faults.fault import DIFFERENCES, Fault

# How many cases at a time, from up to how many seeds: nearly every fault is caught in the first.
FEWEST, MOST = (2, 30), (10, 3)

# Right parts are tried on more: as many as of every registered part, and as many as `mnistcheck verify` draws.
FEW = 4
EXAMPLES_TRIED = [pytest.param(FEW, id="few"), pytest.param(EXAMPLES, id="all", marks=pytest.mark.long)]


def name_of(subject: Subject) -> str:
    """Return the name of a class with that of its family, since two families may use one name."""
    return f"{subject.__module__.rpartition('.')[2]}.{subject.__name__}"


def part_of(subject: Subject) -> Subject:
    """Return the part that a faulty class is made from."""
    return next(kind for kind in subject.__mro__ if kind.__module__.startswith("nets."))


def claim_of(subject: Subject, name: str) -> list[Property]:
    """Return the property of this name."""
    return [claim for claim in properties_of(subject) if claim.__name__ == name]


def called(fault: Fault, tried: tuple[int, int]) -> str:
    return f"{'few' if tried == FEWEST else 'all'}-{name_of(fault.subject)}-{fault.claim}"


# The short run has a fault of every part and property; the long one has all.
FIRST = {(part_of(fault.subject), fault.claim): fault for fault in reversed(PLANTED)}.values()


@pytest.mark.parametrize(
    ("fault", "cases", "seeds"),
    [
        *(pytest.param(fault, *FEWEST, id=called(fault, FEWEST)) for fault in FIRST),
        *(pytest.param(fault, *MOST, id=called(fault, MOST), marks=pytest.mark.long) for fault in PLANTED),
    ],
)
def test_a_planted_fault_is_caught(fault: Fault, cases: int, seeds: int) -> None:
    subject, claim, tensor, _ = fault
    claims = claim_of(subject, claim)
    # Causes have tests of their own. A fault of an optimizer shows in float64, and two precisions take twice as long.
    quick = (cases, seeds) == FEWEST and issubclass(subject, Optimizer)
    settings = Settings(explain=False, dtypes=DTYPES[:1] if quick else DTYPES)
    tries = (check_class(subject, claims=claims, examples=cases, seed=seed, settings=settings) for seed in range(seeds))
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


@pytest.mark.parametrize("subject", BLIND, ids=name_of)
def test_differences_pass_what_they_cannot_see(subject: Subject) -> None:
    assert check_class(subject, claims=claim_of(subject, DIFFERENCES), examples=2).verdict is Verdict.PASS


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


def test_of_every_gradient_it_is_said_whether_differences_see_that_it_is_wrong() -> None:
    subjects = {fault.subject for fault in PLANTED if issubclass(fault.subject, (Layer, Loss))}
    seen = {subject for subject in subjects if DIFFERENCES in claims_of(subject)}
    assert sorted(map(name_of, subjects - seen)) == sorted(map(name_of, BLIND))


def test_every_property_has_a_planted_fault() -> None:
    native = (properties for kind, properties in PROPERTIES.items() if issubclass(kind, CONTRACTS))
    assert {fault.claim for fault in PLANTED} == {claim.__name__ for properties in native for claim in properties}


def test_the_page_is_what_the_catalogue_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
