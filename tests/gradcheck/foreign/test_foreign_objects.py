"""Right objects of any style pass, and faulty ones fail for the right reason."""

from __future__ import annotations

import pytest

from gradcheck.agreement import Verdict
from gradcheck.collection import CONTRACTS
from gradcheck.properties import PROPERTIES
from tests.gradcheck.foreign.faulty import FAULTY
from tests.gradcheck.foreign.right import RIGHT

pytestmark = pytest.mark.rounding

pytest.importorskip("torch")


# Those whose like, which `make test` checks, is another only in what it is given or holds.
LIKE_OTHERS = {
    "batch norm": "batch norm, twin",
    "binary cross-entropy, no twin": "binary cross-entropy",
    "conv of pixels": "conv by im2col",
    "dropout of a random state": "dropout of a generator",
    "layer norm of sequences": "layer norm",
    "linear of attributes": "linear of attributes, twin",
    "linear of dicts": "linear of dicts, twin",
    "max pool by reshape of pixels": "max pool by reshape",
    "softmax of logits far apart": "softmax",
}
PARAMETERS = [pytest.param(name, marks=[pytest.mark.long] if name in LIKE_OTHERS else []) for name in RIGHT]


@pytest.mark.parametrize("name", PARAMETERS)
def test_right_objects_pass(name: str) -> None:
    report = RIGHT[name].report()
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_objects_fail_and_nothing_wrong_is_said_of_the_cause(name: str) -> None:
    faulty = FAULTY[name]
    report = faulty.report()
    failures = {finding.property: finding for finding in report.failures}
    assert faulty.caught_by in failures, str(report)
    said = failures[faulty.caught_by].diagnosis
    assert faulty.diagnosis is None or (faulty.diagnosis in said), said


def test_what_is_left_for_the_long_run_has_its_like_in_the_short_one() -> None:
    assert LIKE_OTHERS.keys() <= RIGHT.keys()
    assert set(LIKE_OTHERS.values()) <= RIGHT.keys() - LIKE_OTHERS.keys()


def test_every_property_of_foreign_objects_alone_has_a_fault() -> None:
    native = {claim for kind, claims in PROPERTIES.items() if issubclass(kind, CONTRACTS) for claim in claims}
    own = {claim.__name__ for claims in PROPERTIES.values() for claim in claims if claim not in native}
    # The last is that of a published network: tests/test_case_studies.py.
    assert own == {
        "repeated_calls_agree",
        "modes_are_restored",
        "statistics_agree_with_twin",
        "evaluation_is_not_random",
    }
    assert own - {faulty.caught_by for faulty in FAULTY.values()} == {"evaluation_is_not_random"}
