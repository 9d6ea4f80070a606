"""Every argument of torch's classes is there with torch's default, and drawn by the cases, or is refused by name."""

from __future__ import annotations

import inspect
from dataclasses import Field, dataclass, fields
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from gradcheck.collection import domain
from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from nets.layers import MaxPool2d
from nets.refusals import UnsupportedArgumentError, refuses
from tests.nets.refused import refusal

ELSEWHERE = {"optimizer", "tensor"}  # what a twin is given, not the class
GIVEN = {"params", "lr", "after"}  # what a step is given, or a schedule first of all


def counterpart(subject: type) -> Any | None:  # noqa: ANN401  a class of torch's, or a function
    """Return what torch calls by the same name, if anything."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in subject.__name__).strip("_")
    places = ((torch.nn, subject.__name__), (torch.optim, subject.__name__), (torch.nn.init, f"{snake}_"))
    found = (getattr(place, name, None) for place, name in places)
    return next((each for each in found if each), getattr(torch.optim.lr_scheduler, subject.__name__, None))


PARTS: tuple[type, ...] = (*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS)
PAIRS = [(subject, counterpart(subject)) for subject in PARTS if counterpart(subject) is not None]


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
            if name in GIVEN:
                continue
            try:
                call(**{name: argument.default})
            except UnsupportedArgumentError as error:
                found.append(f"torch's default {name}={argument.default} is refused: {error}")
            except TypeError:
                pass  # others are needed
    placed = [name for name, each in ours.items() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    places = [name for name in arguments(theirs) if name not in GIVEN]
    placed = [name for name in placed if name not in GIVEN]
    if placed != places[: len(placed)]:
        found.append(f"the order is {placed}, torch's {places}")
    return found


@pytest.mark.parametrize(("subject", "theirs"), PAIRS, ids=[subject.__name__ for subject, _ in PAIRS])
def test_every_argument_of_torch_is_there_or_refused(subject: type, theirs: Any) -> None:  # noqa: ANN401  as above
    assert gaps(subject, theirs) == []


@pytest.mark.short(20)
@pytest.mark.parametrize(
    "subject",
    [*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS],
    ids=lambda subject: subject.__name__,
)
def test_every_argument_is_drawn(subject: Any) -> None:  # noqa: ANN401  one of several kinds
    named = [spec for spec in fields(subject) if spec.init]
    if named:
        # To draw takes longest, and most show in a few cases.
        assert undrawn(subject, named, 6) == [] or undrawn(subject, named, 25) == []


def undrawn(subject: Any, named: list[Field[Any]], examples: int) -> list[str]:  # noqa: ANN401  as above
    """Return which arguments have one value in all of some cases, or are never None where they may be."""
    values, hints = domain(subject, examples), get_type_hints(subject)
    found = []
    for spec in named:
        if spec.name not in values:
            continue  # child layers
        optional = type(None) in getattr(hints[spec.name], "__args__", ())
        if (optional or spec.metadata.get("role") is None) and len(values[spec.name]) == 1:
            found.append(f"{spec.name} is always {values[spec.name]}")
        if optional and None not in values[spec.name]:
            found.append(f"{spec.name} is never None")
    return found


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
    assert [gap for gap in gaps(half, torch.nn.MaxPool2d) if "default" in gap] == [
        found[0],
        *(
            f"torch's default {name}={default} is refused: Bare does not support {name}: no"
            for name, default in (("padding", 0), ("dilation", 1), ("ceil_mode", False))
        ),
    ]


@refuses(size_average="no", reduce="no")
@dataclass(frozen=True)
class Displaced:
    """What torch calls L1Loss, with its third argument in first place."""

    reduction: str = "mean"


def test_an_argument_in_another_place_is_seen() -> None:
    (found,) = gaps(Displaced, torch.nn.L1Loss)
    assert found == "the order is ['reduction'], torch's ['size_average', 'reduce', 'reduction']"


def test_a_refusal_gives_its_reason() -> None:
    with pytest.raises(UnsupportedArgumentError, match=r"MaxPool2d does not support return_indices: "):
        MaxPool2d(2, return_indices=True)  # type: ignore[call-arg]  # which is the point


def test_the_defaults_of_torch_may_be_said() -> None:
    layer = made("Conv2d.create(1, 8, 3, padding_mode='zeros', device=None, dtype=None)")
    assert layer.weight.shape == (8, 1, 3, 3)
    for call in ("ReLU(inplace=False)", "MSELoss(size_average=None, reduce=None)", "SGD(foreach=None)"):
        assert made(call) is not None


def made(call: str) -> Any:  # noqa: ANN401  whatever is called
    """Return what a line of a user's makes; a type checker would not let us write it."""
    return eval(call, {**{part.__name__: part for part in PARTS}, "np": np})  # noqa: S307  lines of this file


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ReLU(True)", "ReLU takes 0 arguments by position, got 1: others are given by name, and there is no inplace"),
        (
            "MSELoss(None, None, 'sum')",
            "MSELoss takes 0 arguments by position, got 3: "
            "others are given by name, and there is no size_average, reduce",
        ),
        ("CrossEntropyLoss(None, True)", "CrossEntropyLoss takes 1 arguments by position, got 2: "),
        ("Embedding.create(10, 3, None, 1.0)", "Embedding.create takes 3 arguments by position, got 4: "),
        ("MaxPool2d(2, 2, 0, 1, True)", "MaxPool2d takes 4 arguments by position, got 5: "),
        ("Sequential([Linear])", "Sequential needs a layer in place 0, got the class Linear: make one"),
        ("Sequential((ReLU(), 'a'))", "Sequential needs a layer in place 1, got a str"),
        ("Sequential(ReLU())", "Sequential needs a tuple of layers, got a ReLU: write Sequential((a, b))"),
        (
            "Sequential(ReLU(), ReLU())",
            "Sequential needs one tuple of layers, got 2 arguments: write Sequential((a, b))",
        ),
        ("Residual(ReLU)", "Residual needs a layer for its branch, got the class ReLU: make one"),
        (
            "Linear(3, 4)",
            "Linear is made of arrays (weight, bias), got 3: Linear.create(...) takes torch's arguments",
        ),
        ("Linear([[1.0]], None)", "Linear is made of arrays (weight, bias), got a list: "),
        ("Linear(in_features=3, out_features=4)", "Linear is made of arrays (weight, bias), got in_features: "),
        ("Conv2d(1, 8, kernel_size=3)", "Conv2d is made of arrays (weight, bias), got 1: "),
        ("GroupNorm(3, 6)", "GroupNorm is made of arrays (weight, bias), got 3: "),
        ("Embedding(10, 3)", "Embedding is made of arrays (weight), got 10: "),
        ("PReLU()", "PReLU is made of arrays (weight), got none: PReLU.create(...) takes torch's arguments"),
        ("BatchNorm1d(3)", "BatchNorm1d is made of arrays (weight, bias, running_mean, running_var, num_"),
        ("LayerNorm(3)", "LayerNorm is made of arrays (weight, bias), got 3: "),
        ("MaxPool2d(2.5)", "MaxPool2d needs kernel_size of one whole number or two, got 2.5"),
        ("AdaptiveAvgPool2d((2, 2.5))", "AdaptiveAvgPool2d needs output_size of one whole number or two, got (2, 2.5)"),
        ("Conv1d.create(1, 2, (3, 3))", "Conv1d needs kernel_size of one whole number, got (3, 3)"),
    ],
)
def test_what_is_typed_wrong_is_said_in_one_line(call: str, message: str) -> None:
    assert refusal((TypeError, ValueError), made, call).startswith(message)


@pytest.mark.parametrize(
    ("call", "alike", "shape"),
    [
        ("Conv2d.create(1, 8, np.int64(3), np.int8(2))", "Conv2d.create(1, 8, 3, 2)", (2, 1, 6, 6)),
        ("Conv1d.create(1, 2, np.int64(3))", "Conv1d.create(1, 2, [3])", (2, 1, 6)),
        ("ConvTranspose2d.create(1, 2, [3, 3], np.int64(2))", "ConvTranspose2d.create(1, 2, 3, 2)", (2, 1, 6, 6)),
        ("MaxPool2d([2, 2], np.int64(1))", "MaxPool2d(2, 1)", (2, 1, 6, 6)),
        ("AvgPool2d([2, 2], np.int64(1))", "AvgPool2d(2, 1)", (2, 1, 6, 6)),
        ("AdaptiveAvgPool2d([2, None])", "AdaptiveAvgPool2d((2, None))", (2, 1, 6, 6)),
        ("AdaptiveAvgPool2d(np.int64(2))", "AdaptiveAvgPool2d(2)", (2, 1, 6, 6)),
        ("LayerNorm.create(np.int64(3))", "LayerNorm.create(3)", (2, 3)),
        ("Sequential([ReLU()])", "Sequential((ReLU(),))", (2, 3)),
    ],
)
def test_numpys_integers_and_lists_are_taken(call: str, alike: str, shape: tuple[int, ...]) -> None:
    layer, x = made(call), np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(layer.forward(x)[0], made(alike).forward(x)[0])
    assert tuple(layer.twin()(torch.from_numpy(x.astype(np.float32))).shape) == layer.forward(x)[0].shape
