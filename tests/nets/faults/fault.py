"""What a planted fault is, how a class is said to have one, and the properties that most of them show in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

from gradcheck.trials import Subject

DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"
BUFFERS = "buffers_agree_with_twin"
EXTREMES = "extreme_values_agree_with_twin"
KINKS = "kinks_are_where_choices_change"
INDICES = "indices_out_of_range_are_refused"
SHAPES = "gradients_match_their_tensors"
UPDATES = "updates_agree_with_twin"

Faulty = TypeVar("Faulty", bound=Subject)
Made = TypeVar("Made")


class Fault(NamedTuple):
    """A class with one mistake, the property that must see it, in which tensor if in one, and what it is known by.

    ``id`` names the fault in a collection of real ones; it is empty for one of our own.
    """

    subject: Subject
    claim: str
    tensor: str | None
    id: str


# By the module that plants them, since which of them is imported first is not always the same.
PLANTED_IN: dict[str, list[Fault]] = defaultdict(list)
EQUIVALENT_IN: dict[str, list[tuple[Subject, str]]] = defaultdict(list)


def caught_by(*claims: str, tensor: str | None = None, name: str = "") -> Callable[[Faulty], Faulty]:
    """Say which properties must see the mistake of a class, each in that tensor; ``name`` is its ``id``."""

    def planted(subject: Faulty) -> Faulty:
        PLANTED_IN[subject.__module__] += [Fault(subject, claim, tensor, name) for claim in claims]
        return subject

    return planted


def equivalent(name: str) -> Callable[[Faulty], Faulty]:
    """Say that a class looks wrong and is right, and what it is known by."""

    def planted(subject: Faulty) -> Faulty:
        EQUIVALENT_IN[subject.__module__].append((subject, name))
        return subject

    return planted


def recast(made: Any, kind: type[Made]) -> Made:  # noqa: ANN401  a dataclass, of a class that ``kind`` is made from
    """Return the same as another class would make it, and what it holds of its own kind likewise."""
    values = {spec.name: getattr(made, spec.name) for spec in fields(made) if spec.init}
    return kind(**{name: recast(one, kind) if type(one) is type(made) else one for name, one in values.items()})
