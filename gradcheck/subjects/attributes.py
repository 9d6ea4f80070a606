"""Where an object keeps its parameters and gradients: paths such as params.W or layers.0.W.T, read and set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradcheck.contract import Array


class AdapterError(TypeError):
    """An object does not offer what is needed to check it."""


def member(owner: object, name: str) -> Any:
    """Return an attribute, or None where there is none or where it is a property that raises, as before a call."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  whatever a property of anybody's raises, there is nothing yet
        return None


def items_of(owner: object, attribute: str) -> dict[str, str]:
    """Return the paths of what a dict or list in an attribute holds, by its keys or numbers; there may be none."""
    items = member(owner, attribute)
    if isinstance(items, Mapping):
        return {str(key): f"{attribute}.{key}" for key in items}
    if isinstance(items, (list, tuple)):
        return {str(i): f"{attribute}.{i}" for i in range(len(items))}
    if callable(items) or items is None:
        return {}
    raise AdapterError(
        f"{type(owner).__name__}.{attribute} is a {type(items).__name__}; a dict of arrays by name is needed"
    )


def raised(error: BaseException) -> str:
    """Return what was raised, in one line: the name of its class, and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def input_names(count: int) -> list[str]:
    """Return what inputs are called: ``input``, or of several ``input0``, ``input1``, ..."""
    return ["input"] if count == 1 else [f"input{i}" for i in range(count)]


def resolve(owner: object, path: str) -> object:
    """Return what a path of attributes, keys and numbers leads to, such as ``params.W`` or ``W.T``."""
    return _walk(owner, path)[2]


def parent_of(owner: object, path: str) -> tuple[object, str]:
    """Return what holds the end of a path, and the last step there."""
    return _walk(owner, path)[:2]


def _walk(owner: object, path: str) -> tuple[object, str, object]:
    """Return what holds the end of a path, the last step there, and what it leads to."""
    current = owner
    parent: object = None
    part = ""
    parts = path.split(".")
    while parts:
        # Keys may have dots in them, as those of a network's parameters often do: the longest that fits is taken.
        keys = current if isinstance(current, Mapping) else {}
        taken = next((n for n in range(len(parts), 1, -1) if ".".join(parts[:n]) in keys), 1)
        part, parts = ".".join(parts[:taken]), parts[taken:]
        try:
            parent, current = current, _step(current, part)
        except (AttributeError, KeyError, IndexError, ValueError):
            raise AdapterError(f"{type(owner).__name__} has no {path}: there is no {part!r}") from None
    return parent, part, current


def _step(current: object, part: str) -> object:
    if isinstance(current, Mapping):
        return current[part] if part in current else current[int(part)]
    if isinstance(current, (list, tuple)) or (isinstance(current, np.ndarray) and part.isdigit()):
        return current[int(part)]
    return getattr(current, part)


def assign(owner: object, path: str, value: Array) -> None:
    """Put a value where a path leads: into an array in place, or in the place of a number."""
    parent, last, current = _walk(owner, path)
    number: Callable[[Array], object] = type(current)
    if isinstance(current, np.ndarray):
        current[...] = value
    elif isinstance(parent, dict):
        parent[last] = number(value)
    elif isinstance(parent, list):
        parent[int(last)] = number(value)
    else:
        setattr(parent, last, number(value))


def require_numbers(who: str, name: str, path: str, value: object) -> None:
    """Raise `AdapterError` unless a parameter is a floating-point array or number."""
    if np.asarray(value).dtype.kind != "f":
        raise AdapterError(f"{who}'s parameter {name} at {path} needs to be floating-point numbers, got {value!r:.60}")
