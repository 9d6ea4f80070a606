"""All planted faults, and the page about them, which ``python -m tests.nets.faults.catalogue`` prints.

Every other file here is a family: of classes with a mistake, `caught_by` some properties, and of some that look wrong
and are right, being `equivalent`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from gradcheck.contract import Layer, Loss
from gradcheck.items import CONTRACTS
from gradcheck.trials import Subject
from tests.nets.faults.fault import DIFFERENCES, EQUIVALENT_IN, PLANTED_IN

FAMILIES = [
    import_module(f"tests.nets.faults.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if path != Path(__file__)
]
PLANTED = [fault for family in FAMILIES for fault in PLANTED_IN[family.__name__]]
EQUIVALENT = [pair for family in FAMILIES for pair in EQUIVALENT_IN[family.__name__]]

WRITTEN: list[Subject] = [
    value
    for family in FAMILIES
    for name, value in vars(family).items()
    if inspect.isclass(value)
    and issubclass(value, CONTRACTS)
    and value.__module__ == family.__name__
    and not name.startswith("_")
]
NAMED = {fault.subject for fault in PLANTED} | {subject for subject, _ in EQUIVALENT}
# What several faults have in common and is right by itself: a rule told anew, for its subclasses to get wrong.
TOLD_ANEW = [subject for subject in WRITTEN if subject not in NAMED and any(subject in each.__mro__ for each in NAMED)]

# Whose gradients are right, or wrong as the outputs are: the tests hold that differences pass each.
SEEN = {fault.subject for fault in PLANTED if fault.claim == DIFFERENCES}
FAULTY = dict.fromkeys(fault.subject for fault in PLANTED)
BLIND = [subject for subject in FAULTY if issubclass(subject, (Layer, Loss)) and subject not in SEEN]

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"
INTRODUCTION = """\
# Planted faults

{faults} faults in {classes} classes, {blind} of which finite differences cannot see.

A checker that has never failed proves nothing. Each class here is a part of this project with one mistake in it. The
tests require that the named properties find it, in the tensor that is wrong, with the cases that the part itself draws.

An id names a real fault, collected from public issue trackers and course code: ACT activation, BN batch normalisation,
CNV convolution, DRP dropout, EMB embedding, ENG engine and number types, INI initialiser, LIN linear, LN layer
normalisation, LOS loss, OPT optimizer, POL pooling, SCH schedule. Faults without an id are our own. "Consistently"
means that forward and backward make the same mistake.

The last column says whether finite differences, the usual check of a gradient, see the fault. They cannot see one that
is consistent, or that is in no gradient; the twin and the other properties can. Optimizers, schedules and initialisers
have no gradient to take a difference of: "-".

`python -m tests.nets.faults.catalogue` prints this page.
"""
QUIET = """\
## Changes that are not faults

These look like mistakes, but compute the same. Every property must pass.
"""


def claims_of(subject: Subject) -> list[str]:
    """Return the properties that must see the fault of a class."""
    return [fault.claim for fault in PLANTED if fault.subject is subject]


def page() -> str:
    """Return the page in Markdown."""
    ids = {fault.subject: fault.id for fault in PLANTED}
    subjects = sorted(ids, key=lambda subject: (not ids[subject], ids[subject], _part(subject), _sentence(subject)))
    known = {name for name in ids.values() if name}
    rows = [
        (ids[s] or "-", _sentence(s), _part(s), ", ".join(claims_of(s)).replace("_", " "), _seen(s)) for s in subjects
    ]
    quiet = [
        (name or "-", _sentence(subject), _part(subject))
        for subject, name in sorted(EQUIVALENT, key=lambda pair: pair[1])
    ]
    count = len(known) + sum(not name for name in ids.values())
    head = ("id", "what is wrong", "part", "caught by", "seen by differences?")
    parts = (
        INTRODUCTION.format(faults=count, classes=len(subjects), blind=len(BLIND)),
        _table(head, rows),
        QUIET,
        _table(("id", "what is changed", "part"), quiet),
    )
    return "\n".join(parts)


def _seen(subject: Subject) -> str:
    if not issubclass(subject, (Layer, Loss)):
        return "-"
    return "no" if subject in BLIND else "yes"


def _part(subject: Subject) -> str:
    """Return the name of the part that a class gets wrong."""
    return next(base.__name__ for base in subject.__mro__ if base.__module__.startswith("nets."))


def _sentence(subject: Subject) -> str:
    """Return the first sentence of a class's docstring, on one line and in Markdown."""
    text = " ".join((subject.__doc__ or "").split())
    return re.split(r"(?<=\.)\s", text)[0].replace("``", "`").replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
