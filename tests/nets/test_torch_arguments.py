"""Every argument of torch's classes is there with torch's default, and drawn by the cases, or is refused by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, get_type_hints

import pytest
import torch

from gradcheck.collection import domain
from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from nets.layers import MaxPool2d
from nets.refusals import UnsupportedArgumentError, refuses

ELSEWHERE = {"optimizer", "tensor"}  # what a twin is given, not the class


def counterpart(subject: type) -> Any | None:  # noqa: ANN401  a class of torch's, or a function
    """Return what torch calls by the same name, if anything."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in subject.__name__).strip("_")
    places = ((torch.nn, subject.__name__), (torch.optim, subject.__name__), (torch.nn.init, f"{snake}_"))
    found = (getattr(place, name, None) for place, name in places)
    return next((each for each in found if each), getattr(torch.optim.lr_scheduler, subject.__name__, None))


PAIRS = [
    (subject, counterpart(subject))
    for subject in (*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS)
    if counterpart(subject) is not None
]


def constructor(subject: type) -> Any:  # noqa: ANN401  a class, or its class method
    return getattr(subject, "create", subject)


def arguments(call: Any) -> dict[str, inspect.Parameter]:  # noqa: ANN401  as above
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = inspect.signature(call).parameters
    return {name: each for name, each in named.items() if name not in ELSEWHERE and each.kind not in kinds}


def plain(value: object) -> object:
    """Return a default without what torch writes otherwise: 1.0 for 1, (2, 2) for 2."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def gaps(subject: type, theirs: Any) -> list[str]:  # noqa: ANN401  a class of torch's
    """Return what torch's arguments have that ours have not, and that is not refused."""
    ours, found = arguments(constructor(subject)), []
    for name, argument in arguments(theirs).items():
        if name in ours:
            if plain(ours[name].default) != plain(argument.default):
                found.append(f"{name} is {ours[name].default} by default, torch's {argument.default}")
            continue
        for call in {subject, constructor(subject)}:
            try:
                call(**{name: object()})
            except UnsupportedArgumentError as error:
                if not str(error).startswith(f"{subject.__name__} does not support {name}: "):
                    found.append(f"{name} is refused by {error}")
            except TypeError as error:
                found.append(f"{name} is not there, and not refused: {error}")
    shared = [name for name in arguments(theirs) if name in ours]
    if [name for name in ours if name in shared] != shared:
        found.append(f"the order is {list(ours)}, torch's {shared}")
    return found


@pytest.mark.parametrize(("subject", "theirs"), PAIRS, ids=[subject.__name__ for subject, _ in PAIRS])
def test_every_argument_of_torch_is_there_or_refused(subject: type, theirs: Any) -> None:  # noqa: ANN401  as above
    assert gaps(subject, theirs) == []


@cache
def drawn(subject: type) -> dict[str, list[object]]:
    return domain(subject, examples=100)


@pytest.mark.parametrize(
    "subject",
    [*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS],
    ids=lambda subject: subject.__name__,
)
def test_every_argument_is_drawn(subject: Any) -> None:  # noqa: ANN401  one of several kinds
    values, hints = drawn(subject), get_type_hints(subject)
    for spec in fields(subject):
        if not spec.init or spec.name not in values:
            continue  # state, or child layers
        optional = type(None) in getattr(hints[spec.name], "__args__", ())
        if spec.metadata.get("role") is None:
            assert len(values[spec.name]) > 1, f"{spec.name} is always {values[spec.name]}"
        if optional:
            assert None in values[spec.name], f"{spec.name} is never None"
            assert len(values[spec.name]) > 1, f"{spec.name} is always None"


@dataclass(frozen=True)
class Bare:
    """What torch calls MaxPool2d, with another default and less of it."""

    kernel_size: int
    stride: int = 1


def test_a_forgotten_argument_is_seen() -> None:
    found = gaps(Bare, torch.nn.MaxPool2d)
    assert found[0] == "stride is 1 by default, torch's None"
    assert found[1].startswith("padding is not there, and not refused: ")
    half = refuses(padding="no", dilation="no", return_indices="no", ceil_mode="no")(Bare)
    assert gaps(half, torch.nn.MaxPool2d) == found[:1]


def test_a_refusal_gives_its_reason() -> None:
    with pytest.raises(UnsupportedArgumentError, match=r"MaxPool2d does not support return_indices: "):
        MaxPool2d(2, return_indices=True)  # type: ignore[call-arg]  # which is the point
