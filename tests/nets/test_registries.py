"""Every part is registered, and every registered part is complete."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import nets
from gradcheck.contract import Array, Backward, Context, Initializer, Layer, Loss, Optimizer, Schedule
from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS: list[tuple[type, Sequence[type]]] = [
    (Layer, LAYERS),
    (Loss, LOSSES),
    (Optimizer, OPTIMIZERS),
    (Schedule, SCHEDULES),
    (Initializer, INITIALIZERS),
]


def gaps(kind: type, registry: Sequence[type], module_prefix: str) -> list[str]:
    """Return what is forgotten: classes of a kind that are not registered, and registered ones that are abstract."""
    found = []
    for cls in descendants(kind):
        family = inspect.isabstract(cls) and bool(cls.__subclasses__())  # what several parts have in common is no part
        if cls.__module__.startswith(module_prefix) and cls not in registry and not family:
            found.append(f"{cls.__name__} is not registered")
    for cls in registry:
        if inspect.isabstract(cls):
            found.append(f"{cls.__name__} lacks {', '.join(sorted(cls.__abstractmethods__))}")  # type: ignore[attr-defined]
    return found


def descendants(kind: type) -> list[type]:
    """Return every subclass of ``kind``, at any depth."""
    children: list[type] = kind.__subclasses__()
    return [cls for child in children for cls in (child, *descendants(child))]


@pytest.mark.parametrize(("kind", "registry"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_is_forgotten_of(kind: type, registry: Sequence[type]) -> None:
    for module in pkgutil.walk_packages(nets.__path__, "nets."):
        importlib.import_module(module.name)
    assert gaps(kind, registry, "nets.") == []


@dataclass(frozen=True, eq=False)
class Halfway(Layer):
    """A layer whose author forgot its twin and its cases."""

    def forward(self, x: Array, context: Context = Context()) -> tuple[Array, Backward]:  # noqa: B008
        return x / 2, lambda dy: (dy / 2, {})


def test_a_forgotten_registration_is_seen() -> None:
    assert gaps(Layer, LAYERS, __name__) == ["Halfway is not registered"]


def test_a_registered_layer_without_twin_and_cases_is_seen() -> None:
    assert gaps(Layer, [*LAYERS, Halfway], __name__) == ["Halfway lacks cases, twin"]


def test_names_are_unique() -> None:
    names = [cls.__name__ for _, registry in KINDS for cls in registry]
    assert len(names) == len(set(names))
