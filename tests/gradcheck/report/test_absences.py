"""Every property that may not apply has a reason for it."""

from __future__ import annotations

import inspect

import pytest

from gradcheck.properties import PROPERTIES, Property
from gradcheck.report.absences import ABSENCES, describe_absence

KNOWN = {claim.__name__: claim for claims in PROPERTIES.values() for claim in claims}


def may_not_apply(claim: Property) -> bool:
    return "None" in str(inspect.signature(claim).return_annotation)


def test_every_property_that_may_not_apply_has_its_reason_and_no_other() -> None:
    assert {name for name, claim in KNOWN.items() if may_not_apply(claim)} == set(ABSENCES)


def test_the_reason_names_the_property() -> None:
    assert describe_absence("modes_are_restored") == (
        "modes_are_restored does not apply: the layer has no modes, or does the same in both"
    )
    assert describe_absence("a_property_of_tomorrow") == (
        "a_property_of_tomorrow does not apply: there is nothing of its kind"
    )


@pytest.mark.parametrize("name", ABSENCES)
def test_reasons_are_parts_of_a_sentence(name: str) -> None:
    assert ABSENCES[name][0].islower()
    assert not ABSENCES[name].endswith(".")
