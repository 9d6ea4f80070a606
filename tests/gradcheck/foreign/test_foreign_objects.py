"""Right objects of any style pass, and faulty ones fail for the right reason."""

from __future__ import annotations

import pytest

from gradcheck.agreement import Verdict
from tests.gradcheck.foreign.faulty import FAULTY
from tests.gradcheck.foreign.right import RIGHT

pytest.importorskip("torch")


@pytest.mark.parametrize("name", RIGHT)
def test_right_objects_pass(name: str) -> None:
    report = RIGHT[name].report()
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_objects_fail_and_nothing_wrong_is_said_of_the_cause(name: str) -> None:
    faulty = FAULTY[name]
    report = faulty.example.report()
    failures = {finding.property: finding for finding in report.failures}
    assert faulty.caught_by in failures, str(report)
    said = failures[faulty.caught_by].diagnosis
    assert faulty.diagnosis is None or (faulty.diagnosis in said), said
