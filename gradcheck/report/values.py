"""Cases in words: what a part was made with, and which values are drawn for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from gradcheck.contract import Case, Initializer, Layer, Loss, Optimizer, Schedule


class Shape(tuple[int, ...]):
    """The shape of an array that was drawn."""


# Values of a hyper-parameter, up to which all are listed, and above which they are told by their range.
LISTED = 6


def describe_values(values: Sequence[object]) -> str:
    """Return what is drawn for a hyper-parameter: its values, or the range of many."""
    shapes = [value for value in values if isinstance(value, Shape)]
    pairs = [value for value in values if isinstance(value, tuple) and not isinstance(value, Shape)]
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    others = [value for value in values if not isinstance(value, (tuple, int, float)) or isinstance(value, bool)]
    words = sorted(value if isinstance(value, str) else repr(value) for value in others)
    if numbers:
        words.append(_range(numbers) if len(numbers) > LISTED else ", ".join(f"{n:.6g}" for n in sorted(numbers)))
    if len(pairs) > LISTED:
        words.append(_tuples(pairs))
    else:
        words += sorted(map(repr, pairs))
    for axes in sorted({len(shape) for shape in shapes}):
        sides = zip(*(shape for shape in shapes if len(shape) == axes), strict=True)
        words.append(f"array ({', '.join(map(_range, sides))}{',' * (axes == 1)})")
    return ", ".join(words)


def _tuples(values: Sequence[tuple[Any, ...]]) -> str:
    lengths = {len(value) for value in values}
    if len(lengths) == 1:
        return f"({', '.join(map(_range, zip(*values, strict=True)))})"
    return f"{_range(list(lengths))} numbers of {_range([number for value in values for number in value])}"


def _range(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "None"
    low, high = min(numbers), max(numbers)
    text = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
    return text if len(numbers) == len(values) else f"None or {text}"


def describe_case(case: Case) -> str:
    """Return the hyper-parameters of a case and the shapes in it: enough to see what kind of case it is."""
    subject = case.subject
    parameters = subject.parameters() if hasattr(subject, "parameters") else {}
    shapes = ", ".join(str(array.shape) for array in case.inputs)
    held = "".join(f", {name} {array.shape}" for name, array in parameters.items())
    parts = [_constructed(subject), f"input of shape {shapes}{held}" if case.inputs else "", f"seed {case.seed}"]
    return ", ".join(part for part in parts if part) + (", training" if case.training else "")


def _constructed(subject: object) -> str:
    """Return what a part of the contract was made with, but for arrays and child layers; nothing of a foreign one."""
    if not isinstance(subject, (Layer, Loss, Optimizer, Schedule, Initializer)) or hasattr(subject, "reading"):
        return ""
    values = {spec.name: getattr(subject, spec.name) for spec in dataclasses.fields(subject) if spec.init}
    told = [f"{name}={value!r}" for name, value in values.items() if _is_plain(value)]
    return f"{type(subject).__name__}({', '.join(told)})" if told else ""


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, float, str)) or (isinstance(value, tuple) and all(map(_is_plain, value)))
