"""Parts of an experiment as text, ``Adam(eps=1e-07)``, as a configuration file and the command line have them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from numbers import Integral, Real
from types import NoneType
from typing import Any, TypeVar

import numpy as np

from gradcheck.contract import Initializer, Layer, Loss, Optimizer, Schedule
from nets.datasets.augmentation import Augmentation

T = TypeVar("T")

# What a part of each kind is called, with an example of it.
EXAMPLES: dict[type, tuple[str, str]] = {
    Layer: ("layer", "Linear(784, 10), Sigmoid()"),
    Loss: ("loss", "CrossEntropyLoss(label_smoothing=0.1)"),
    Optimizer: ("optimizer", "SGD(momentum=0.9)"),
    Schedule: ("schedule", "StepLR(0.1, step_size=10)"),
    Initializer: ("initialiser", "Normal(0, 0.1)"),
    Augmentation: ("augmentation", "Augmentation(shift=2, rotation=10)"),
}


def parse(text: str, kind: type[T]) -> T:
    """Return the part that ``text`` writes: a call of a registered class with literals, or with further calls.

    Raises ValueError, with an example, for anything else.
    """
    part: T = _parsed(text, kind, 1)[0]
    return part


def layers_of(text: str) -> tuple[Layer, ...]:
    """Return the layers that ``text`` writes, separated by commas, made with torch's arguments; raises as `parse`."""
    return _parsed(text, Layer, None)


def _parsed(text: str, kind: Any, most: int | None) -> tuple[Any, ...]:  # noqa: ANN401  a contract, which is abstract
    what, example = EXAMPLES[kind]
    try:
        tree = ast.parse(f"({text}\n,)", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"{what} needs text such as {example}, got {text!r}") from None
    elements = tree.elts if isinstance(tree, ast.Tuple) else []
    if len(elements) == 1 and isinstance(elements[0], ast.Tuple):
        elements = elements[0].elts
    try:
        found = tuple(_built(element) for element in elements)
    except (TypeError, ValueError, ArithmeticError, AttributeError, MemoryError) as error:
        raise ValueError(f"{what} {text!r}: {str(error).splitlines()[0]}") from None
    if wrong := next((part for part in found if not isinstance(part, kind)), None):
        raise ValueError(f"{what} needs text such as {example}, got {text!r}: {type(wrong).__name__} is no {what}")
    if not found or (most is not None and len(found) > most):
        raise ValueError(f"{what} needs text such as {example}, got {text!r}")
    return found


def written(part: object) -> str:
    """Return the text that `parse` reads as an equal part: its class, and what is not the default.

    Of layers, which hold arrays, the text that made them is kept instead.
    """
    if not _is_part(part):
        if isinstance(part, tuple):
            return f"({''.join(f'{written(item)}, ' for item in part).rstrip(' ' if len(part) == 1 else ', ')})"
        return repr(part)  # of infinity inf, which is understood
    told = [f"{spec.name}={written(getattr(part, spec.name))}" for spec in unusual(part)]
    return f"{type(part).__name__}({', '.join(told)})"


def unusual(part: Any) -> list[Field[Any]]:  # noqa: ANN401  a dataclass of any kind
    """Return the fields that the constructor takes and that are not as they are by default."""
    return [spec for spec in fields(part) if spec.init and getattr(part, spec.name) != _default(spec)]


def registered() -> dict[str, type]:
    """Return every part that text can name."""
    from nets.initializers import INITIALIZERS
    from nets.layers import LAYERS
    from nets.losses import LOSSES
    from nets.optimizers import OPTIMIZERS
    from nets.schedules import SCHEDULES

    parts = (*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS, Augmentation)
    return {each.__name__: each for each in parts}


def _built(node: ast.expr) -> Any:  # noqa: ANN401  a part, or a literal
    if isinstance(node, ast.Name):
        return _called(node.id, [], {})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {keyword.arg: _built_or_literal(keyword.value) for keyword in node.keywords if keyword.arg}
        if len(named) < len(node.keywords):
            raise ValueError("arguments are given one by one")
        return _called(node.func.id, [_built_or_literal(argument) for argument in node.args], named)
    raise ValueError("only names, calls and literals are understood")


def _built_or_literal(node: ast.expr) -> Any:  # noqa: ANN401  as above
    if isinstance(node, (ast.Name, ast.UnaryOp)) and ast.unparse(node) in ("inf", "-inf"):
        return float(ast.unparse(node))
    if isinstance(node, (ast.Call, ast.Name)):
        return _built(node)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_built_or_literal(element) for element in node.elts)
    return ast.literal_eval(node)


def _called(name: str, arguments: list[Any], named: Mapping[str, Any]) -> Any:  # noqa: ANN401  as above
    classes = registered()
    if name not in classes:
        import difflib

        near = difflib.get_close_matches(name, classes, n=1)
        raise ValueError(f"there is no {name}" + (f"; did you mean {near[0]}?" if near else ""))
    made = classes[name]
    part = getattr(made, "create", made)(*arguments, **named)
    _require_types(part)
    return part


def _require_types(part: Any) -> None:  # noqa: ANN401  a dataclass of any kind
    """Raise ValueError for text where a number is needed, and the like: not every class looks."""
    for spec in fields(part):
        what, kinds = PLAIN.get(str(spec.type), ("something else", (object,)))
        value = getattr(part, spec.name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and "bool" not in str(spec.type)):
            raise ValueError(f"{type(part).__name__} needs {what} as {spec.name}, got {value!r:.60}")


# What a field that is annotated so needs.
PLAIN: dict[str, tuple[str, tuple[type, ...]]] = {
    "float": ("a number", (Real,)),
    "float | None": ("a number or None", (Real, NoneType)),
    "int": ("a whole number", (Integral,)),
    "bool": ("True or False", (bool,)),
    "Initializer": ("an initialiser", (Initializer,)),
    "Array | None": ("numbers or None", (np.ndarray, tuple, Real, NoneType)),
}


def _is_part(part: object) -> bool:
    return isinstance(part, tuple(EXAMPLES))


def _default(spec: Field[Any]) -> object:
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default
