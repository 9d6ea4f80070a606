"""Parts of an experiment as text: what is written reads back as an equal part, and nothing else is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.contract import Initializer, Loss, Optimizer, Schedule
from nets.datasets.augmentation import Augmentation
from nets.initializers import INITIALIZERS
from nets.losses import LOSSES, CrossEntropyLoss
from nets.notation import EXAMPLES, layers_of, parse, registered, written
from nets.optimizers import OPTIMIZERS, SGD, Adam, ClippedByNorm
from nets.presets import PARTS, PRESETS
from nets.schedules import SCHEDULES, LinearWarmup, PiecewiseConstant, StepLR
from tests.nets.refused import refusal

KINDS = (Loss, Optimizer, Schedule, Initializer, Augmentation)
NAMES = sorted(registered())


def told(part: object) -> object:
    """Return everything that decides a part, in a form that compares: its class and its fields."""
    if not is_dataclass(part):
        return tuple(map(told, part)) if isinstance(part, tuple) else part
    return type(part).__name__, {spec.name: told(getattr(part, spec.name)) for spec in fields(part) if spec.init}


def with_text(part: Any) -> Any:  # noqa: ANN401  a dataclass of any kind
    """Return a part that weighs by tuples, as text has them, instead of arrays."""
    weights = {spec.name: getattr(part, spec.name) for spec in fields(part) if spec.init}
    arrays = {name: array for name, array in weights.items() if isinstance(array, np.ndarray)}
    return replace(part, **{name: nested(array.tolist()) for name, array in arrays.items()}) if arrays else part


def nested(found: object) -> object:
    """Return lists in lists as tuples in tuples."""
    return tuple(map(nested, found)) if isinstance(found, list) else found


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("field", list(PARTS))
def test_a_presets_parts_are_read_back_from_their_text(preset: str, field: str) -> None:
    part = getattr(PRESETS[preset], field)
    if part is None:
        return
    again = parse(written(part), PARTS[field])
    assert told(again) == told(part)
    assert written(again) == written(part)


@pytest.mark.short(6)
@pytest.mark.parametrize("made", [*OPTIMIZERS, *SCHEDULES, *INITIALIZERS, *LOSSES], ids=lambda made: made.__name__)
def test_every_part_is_read_back_from_its_text(made: Any) -> None:  # noqa: ANN401  a class with cases
    kind: Any = next(kind for kind in KINDS if issubclass(made, kind))
    drawn: st.SearchStrategy[Any] = made.cases()

    @given(drawn.map(lambda case: with_text(case.subject)))
    def check(part: Any) -> None:  # noqa: ANN401  as above
        again = parse(written(part), kind)
        assert told(again) == told(part)

    check()


@given(st.floats(0, 1e6), st.floats(0, 360))
def test_an_augmentation_is_read_back_from_its_text(shift: float, rotation: float) -> None:
    part = Augmentation(shift, rotation)
    assert parse(written(part), Augmentation) == part


@pytest.mark.parametrize(
    "part",
    [
        ClippedByNorm(ClippedByNorm(SGD(momentum=0.9, nesterov=True), 1.0), 2.0, math.inf),
        ClippedByNorm(Adam(betas=(0.5, 0.75), amsgrad=True), 0.1),
        LinearWarmup(0.1, StepLR(0.1, 3), 0.5, 4),
        PiecewiseConstant(0.1, (3,), (0.5,)),
        PiecewiseConstant(0.1, (), ()),
        CrossEntropyLoss((1.0,) * 10, ignore_index=3),  # type: ignore[arg-type]  # what text can give
    ],
    ids=written,
)
def test_parts_of_parts_and_tuples_are_read_back(part: object) -> None:
    kind: Any = next(kind for kind in KINDS if isinstance(part, kind))
    assert told(parse(written(part), kind)) == told(part)


def test_only_what_is_unusual_is_written() -> None:
    assert written(SGD()) == "SGD()"
    assert written(SGD(momentum=0.9)) == "SGD(momentum=0.9)"
    assert written(StepLR(0.1, 3)) == "StepLR(lr=0.1, step_size=3)"
    assert written(ClippedByNorm(SGD(), 1.0)) == "ClippedByNorm(optimizer=SGD(), max_norm=1.0)"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("Adma()", Optimizer, "optimizer 'Adma()': there is no Adma; did you mean Adam?"),
        ("Nonsense()", Loss, "loss 'Nonsense()': there is no Nonsense"),
        ("Adam()", Schedule, "got 'Adam()': Adam is no schedule"),
        ("Adam(), SGD()", Optimizer, "optimizer needs text such as SGD(momentum=0.9), got 'Adam(), SGD()'"),
        ("", Optimizer, "optimizer needs text such as SGD(momentum=0.9), got ''"),
        ("Adam(", Optimizer, "optimizer needs text such as SGD(momentum=0.9), got 'Adam('"),
        ("Adam\0()", Optimizer, "optimizer needs text such as"),
        ("3", Loss, "loss '3': only names, calls and literals are understood"),
        ("SGD(momentum=-1)", Optimizer, "momentum of at least 0"),
        ("SGD(momentun=1)", Optimizer, "unexpected keyword argument 'momentun'"),
        ("SGD(momentum='much')", Optimizer, "SGD needs a number as momentum"),
        ("SGD(**{'momentum': 1})", Optimizer, "arguments are given one by one"),
        ("SGD(*(1, 2))", Optimizer, "SGD(*(1, 2))"),
        ("SGD(nesterov=3, momentum=0.9)", Optimizer, "SGD needs True or False as nesterov, got 3"),
        ("ConstantRate()", Schedule, "missing 1 required positional argument: 'lr'"),
        ("ConstantRate('fast')", Schedule, "ConstantRate needs a number as lr, got 'fast'"),
        ("ConstantRate(True)", Schedule, "ConstantRate needs a number as lr, got True"),
        ("StepLR(0.1, step_size=1.5)", Schedule, "StepLR needs a whole number as step_size, got 1.5"),
        ("LinearWarmup(0.1, SGD(), 0.5)", Schedule, "LinearWarmup needs a schedule after it, such as ConstantRate(lr)"),
        ("Normal(0, 'wide')", Initializer, "'wide'"),
        ("Constant(None)", Initializer, "Constant needs a number as val, got None"),
        ("ZeroRow(3)", Initializer, "ZeroRow needs an initialiser as "),
        ("BCELoss(ReLU())", Loss, "BCELoss needs numbers or None as weight, got ReLU"),
        ("Uniform('a', 'b')", Initializer, "Uniform needs a number as a, got 'a'"),
        ("Augmentation(shift=-1)", Augmentation, "a shift that is finite and not negative, got -1"),
        ("Augmentation(shift=True)", Augmentation, "needs a number as shift, got True"),
        ("ClippedByNorm(3, 1)", Optimizer, "ClippedByNorm needs an optimizer, such as SGD(), got 3"),
        ("CrossEntropyLoss(label_smoothing=2)", Loss, "label_smoothing in [0, 1], got 2"),
    ],
)
def test_text_that_is_no_part_is_refused_in_one_line_that_says_why(text: str, kind: type, message: str) -> None:
    told = refusal(ValueError, parse, text, kind)
    assert message in told
    assert told.startswith(EXAMPLES[kind][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Liner(784, 10)", "there is no Liner; did you mean Linear?"),
        ("Linear(784, 10), SGD()", "SGD is no layer"),
        ("Linear(784)", "missing 1 required positional argument"),
        ("Linear(784, -3)", "negative dimensions are not allowed"),
        ("MaxPool2d(True)", "as kernel_size, got True"),
        ("LeakyReLU('x')", "LeakyReLU needs a number as negative_slope, got 'x'"),
        ("BatchNorm1d(10, 1e-5, 'same')", "BatchNorm1d needs a number or None as momentum, got 'same'"),
        ("Linear('a', 'b')", "'str' object cannot be interpreted as an integer"),
        ("Linear(784, 1000000000000000)", "layer 'Linear(784, 1000000000000000)'"),
    ],
)
def test_text_that_is_no_network_is_refused_in_one_line_that_says_why(text: str, message: str) -> None:
    assert message in refusal(ValueError, layers_of, text)


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').system('touch {0}')",
        "SGD(momentum=__import__('os').system('touch {0}'))",
        "SGD()), __import__('os').system('touch {0}'",
        "(lambda: open('{0}', 'w'))()",
        "[open('{0}', 'w') for _ in (1,)]",
        "open('{0}', 'w')",
        "SGD(momentum=(x := open('{0}', 'w')))",
        'SGD(momentum=f\'{{open("{0}", "w")}}\')',
        "SGD.__init__.__globals__['np'].savetxt('{0}', [1])",
        "create('{0}')",
        "SGD() if open('{0}', 'w') else SGD()",
    ],
)
@pytest.mark.parametrize("kind", [*KINDS, None], ids=str)
def test_code_is_not_run(code: str, kind: Any, tmp_path: Path) -> None:  # noqa: ANN401  as above
    trace = tmp_path / "run"
    text = code.format(trace)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  as above
        layers_of(text) if kind is None else parse(text, kind)
    assert "\n" not in str(refusal.value)
    assert not trace.exists()


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.builds(lambda name: Named(name), st.sampled_from(NAMES)),
    max_leaves=4,
)


class Named(str):
    """A name, which is written without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def refusal_of(read: Callable[[], object]) -> str:
    """Return why something is refused, or nothing."""
    try:
        read()
    except ValueError as refusal:
        return str(refusal)
    return ""


@given(st.sampled_from(NAMES), st.lists(LITERALS, max_size=4), st.sampled_from(KINDS))
def test_whatever_is_written_is_read_or_refused_in_one_line(name: str, arguments: list[object], kind: Any) -> None:  # noqa: ANN401  as above
    text = f"{name}({', '.join(map(repr, arguments))})"
    assert "\n" not in refusal_of(lambda: parse(text, kind))
    assert "\n" not in refusal_of(lambda: layers_of(text))


@given(st.text(max_size=30), st.sampled_from(KINDS))
def test_any_text_at_all_is_refused_in_one_line(text: str, kind: Any) -> None:  # noqa: ANN401  as above
    assert "\n" not in refusal_of(lambda: parse(text, kind))
