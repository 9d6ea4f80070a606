"""Which arrays below an object are parameters, and where the gradient of each is kept: found by names and shapes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck.subjects.attributes import AdapterError

# Where an object that is one parameter keeps its value, and where its gradient.
VALUES = ("data", "value", "val")
GRADIENTS = ("grad", "gradient")

# Where an object keeps its parameters, and where their gradients, each in a dict or a list.
TOGETHER = {
    "params": ("grads", "gradients", "dparams"),
    "parameters": ("grads", "gradients", "dparameters"),
    "weights": ("grads", "gradients"),
}

DEEPEST = 6  # steps from an object to its parameters, as in optimizer.model.layers.0.params.W


@dataclass(frozen=True)
class Place:
    """Where something is below an object: attributes, and keys or numbers of containers, in turn."""

    path: tuple[tuple[object, bool], ...]  # each step, and whether it is an attribute

    def __str__(self) -> str:
        return ".".join(str(step) for step, _ in self.path)

    @classmethod
    def of(cls, owner: object, path: str) -> Place:
        """Return the place that a path such as ``config.lr`` leads to; raises `AdapterError` if there is none."""
        place, current = cls(()), owner
        for part in path.split("."):
            key: object = int(part) if isinstance(current, (list, tuple)) and part.isdigit() else part
            inside = isinstance(current, (Mapping, list, tuple))
            place = place.child(key, attribute=not inside)
            try:
                current = place.read(owner)
            except (AttributeError, KeyError, IndexError, TypeError):
                raise AdapterError(f"{type(owner).__name__} has no attribute {path}") from None
        return place

    def child(self, step: object, *, attribute: bool) -> Place:
        """Return the place of what is one step further."""
        return Place((*self.path, (step, attribute)))

    def read(self, owner: object) -> object:
        """Return what is there."""
        for step, attribute in self.path:
            owner = getattr(owner, str(step)) if attribute else owner[step]  # type: ignore[index]  # a container
        return owner

    def write(self, owner: object, value: object) -> None:
        """Put a value there, in the place of what is there; into it, where that is an array in a tuple."""
        parent = Place(self.path[:-1]).read(owner)
        step, attribute = self.path[-1]
        if attribute:
            setattr(parent, str(step), value)
        elif isinstance(parent, tuple):
            parent[step][...] = value  # type: ignore[call-overload]  # a number
        else:
            parent[step] = value  # type: ignore[index]  # a list or a dict


@dataclass(frozen=True)
class Held:
    """Where an object keeps a parameter, and where the gradient of that parameter."""

    param: Place
    grad: Place


def held_parameters(owner: object) -> list[Held]:
    """Return the parameters below an object that have a place for their gradient beside them, each once."""
    found: dict[int, Held] = {}
    for held in _pairs(owner, Place(()), set()):
        found.setdefault(id(held.param.read(owner)), held)
    return list(found.values())


def arrays_of(owner: object) -> list[Place]:
    """Return the places of the arrays in an object's dict or list of parameters, whether or not it keeps gradients."""
    for name in TOGETHER:
        items = items_in(getattr(owner, name, None))
        if items and all(_is_array(value) for _, value in items):
            return [Place(((name, True), (key, False))) for key, _ in items]
    return []


def _pairs(owner: object, place: Place, seen: set[int]) -> Iterator[Held]:
    if id(owner) in seen or len(place.path) > DEEPEST:
        return
    seen.add(id(owner))
    if isinstance(owner, tuple) and len(owner) == 2 and _fit(*owner):
        yield Held(place.child(0, attribute=False), place.child(1, attribute=False))
        return
    attributes = not isinstance(owner, (Mapping, list, tuple))
    members = dict(_attributes(owner) if attributes else items_in(owner))
    for name, value in members.items():
        beside = _gradient_beside(str(name), value, members)
        if beside is not None:
            yield Held(place.child(name, attribute=attributes), place.child(beside, attribute=attributes))
    for name, others in TOGETHER.items():
        for other in others:
            yield from _of_containers(place, (name, members.get(name)), (other, members.get(other)))
    for name, value in members.items():
        if not _is_plain(value):
            yield from _pairs(value, place.child(name, attribute=attributes), seen)


def _of_containers(place: Place, params: tuple[str, object], grads: tuple[str, object]) -> Iterator[Held]:
    """Yield the parameters of one container whose gradients are in another, by the same key or d and the key."""
    own, empty = dict(items_in(grads[1])), isinstance(grads[1], dict) and not grads[1]
    for key, value in items_in(params[1]):
        beside = next((k for k in (key, f"d{key}") if k in own and _fit(value, own[k])), key if empty else None)
        if beside is not None and _is_array(value):
            param, grad = (place.child(name, attribute=True) for name in (params[0], grads[0]))
            yield Held(param.child(key, attribute=False), grad.child(beside, attribute=False))


def _gradient_beside(name: str, value: object, members: Mapping[object, object]) -> object | None:
    """Return the name of the member that is a member's gradient, or None."""
    if name in VALUES:
        number = isinstance(value, float)  # as of micrograd
        return next((k for k in GRADIENTS if k in members and (number or _fit(value, members[k]))), None)
    of_losses = [f"d{loss}{bar}d" for loss in "LlEJC" for bar in ("", "_")]  # dLdW, dE_db
    usual = [f"{mark}{name}" for mark in ("d", "d_", "g", "grad_", "grad", *of_losses, "delta_")]
    usual += [f"{name}{mark}" for mark in ("_grad", "grad", "_gradient")]
    return next((k for k in usual if k in members and _fit(value, members[k])), None)


def _fit(param: object, grad: object) -> bool:
    """Return whether the second may be the gradient of the first, which may not be there yet."""
    if not isinstance(param, np.ndarray) or not _is_array(param):
        return False
    return grad is None or (isinstance(grad, np.ndarray) and grad.dtype.kind == "f" and grad.shape == param.shape)


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _is_plain(value: object) -> bool:
    plain = (np.ndarray, str, bytes, int, float, complex, type, np.random.Generator)
    return isinstance(value, plain) or inspect.isroutine(value) or inspect.ismodule(value)


def items_in(container: object) -> list[tuple[object, object]]:
    """Return what a dict or a list holds, by its keys or numbers; nothing of what is neither."""
    if isinstance(container, Mapping):
        return list(container.items())
    return list(enumerate(container)) if isinstance(container, (list, tuple)) else []


def _attributes(owner: object) -> list[tuple[object, object]]:
    names = [*getattr(owner, "__dict__", {}), *getattr(type(owner), "__slots__", ())]
    return [(name, getattr(owner, name)) for name in names if hasattr(owner, name)]
