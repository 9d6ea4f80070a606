"""Mistakes planted in schedules and initialisers, one at a time: each is caught, in the right property and tensor."""

from __future__ import annotations

import pytest

from gradcheck.agreement import Verdict
from gradcheck.checks import Subject, check_class, properties_of
from tests.nets.faults import initialisers, schedules

PLANTED = [*schedules.PLANTED, *initialisers.PLANTED]


@pytest.mark.parametrize(
    ("subject", "claim", "tensor"),
    [fault[:3] for fault in PLANTED],
    ids=[f"{subject.__name__}-{claim}" for subject, claim, *_ in PLANTED],
)
def test_a_planted_fault_is_caught(subject: Subject, claim: str, tensor: str | None) -> None:
    claims = [each for each in properties_of(subject) if each.__name__ == claim]
    (finding,) = check_class(subject, claims=claims).findings
    assert finding.verdict is Verdict.FAIL
    if tensor is not None:
        assert finding.worst is not None
        assert finding.worst.tensor == tensor


def test_what_is_told_anew_is_right_but_for_its_fault() -> None:
    assert check_class(schedules.Plateau).verdict is Verdict.PASS
