"""What people's optimizers take parameters and gradients in: dicts, lists, one tensor a call, layers, or nothing."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array, Gradients
from gradcheck.subjects.held_parameters import Held, Place


class Packed(NamedTuple):
    """Parameters and gradients as a call takes them, and how to find the parameters again after it."""

    params: Any
    grads: Any
    after: Callable[[], dict[str, Array]]
    named: Mapping[str, Any] = types.MappingProxyType({})  # arguments that are given by their names


class Container(ABC):
    """What parameters and gradients are given in."""

    words: str
    each = False  # whether there is a call for every tensor, or for every layer

    def units(self, names: Sequence[str]) -> list[list[str]]:
        """Return the names of the tensors of each call."""
        return [[name] for name in names] if self.each else [list(names)]

    @abstractmethod
    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        """Return the tensors as they are given; ``made`` keeps objects that are made for that from step to step."""

    @abstractmethod
    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        """Return the parameters that a call has returned, or None if it is not them that it returned."""

    def zeros(self, params: Mapping[str, Array]) -> Any:
        """Return zeros in place of every gradient."""
        return self.pack(params, {name: np.zeros_like(array) for name, array in params.items()}, {}).grads


@dataclass(frozen=True)
class Dicts(Container):
    """A dict of parameters and a dict of gradients, whose keys may begin with a d."""

    prefix: str = ""

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        return f"dicts, gradients by {self.prefix} and the name" if self.prefix else "dicts"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = dict(params)
        return Packed(own, {f"{self.prefix}{name}": grad for name, grad in grads.items()}, lambda: own)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        known = isinstance(result, Mapping) and result and all(name in names for name in result)
        return {str(name): array for name, array in result.items()} if known and isinstance(result, Mapping) else None


class Lists(Container):
    """A list of parameters and a list of gradients."""

    words = "lists"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = list(params.values())
        return Packed(own, [grads.get(name) for name in params], lambda: dict(zip(params, own, strict=True)))

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        fits = isinstance(result, (list, tuple)) and len(result) == len(names) and all(map(_is_number, result))
        return dict(zip(names, result, strict=True)) if fits and isinstance(result, (list, tuple)) else None


@dataclass(frozen=True)
class Pairs(Lists):
    """A list of (gradient, parameter) or (parameter, gradient), in the place of the gradients."""

    gradient_first: bool

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        return f"a list of ({'gradient, parameter' if self.gradient_first else 'parameter, gradient'})"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = list(params.values())
        couples = [(p, grads.get(name)) for name, p in params.items()]
        given = [couple[::-1] for couple in couples] if self.gradient_first else couples
        return Packed(given, given, lambda: dict(zip(params, own, strict=True)))


class OfNetwork(Lists):
    """An object whose method ``params_and_grads`` gives each parameter with its gradient."""

    words = "a network with params_and_grads()"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        pairs = Pairs(gradient_first=False).pack(params, grads, made)
        network = types.SimpleNamespace(params_and_grads=lambda: iter(pairs.params))
        return Packed(network, network, pairs.after)


class Parameter:
    """A parameter as an object, with its value in ``data`` and its gradient in ``grad``."""

    def __init__(self, name: str, data: Array) -> None:
        self.name, self.data, self.shape, self.requires_grad = name, data, data.shape, True
        self.grad: Array | None = None


class Objects(Lists):
    """A list of objects with ``data`` and ``grad``."""

    words = "a list of objects with data and grad"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        for name, array in params.items():
            one = made.setdefault(name, Parameter(name, array))
            one.data, one.grad = array, grads.get(name)
        given = [made[name] for name in params]
        return Packed(given, given, lambda: {name: made[name].data for name in params})


class Single(Container):
    """One parameter and its gradient a call."""

    words, each = "one tensor a call", True

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        ((name, array),) = params.items()
        return Packed(array, grads[name], lambda: {name: array})

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return {names[0]: result} if _is_number(result) else None


@dataclass(frozen=True)
class Nested(Container):
    """A dict or a list of layers, each a dict or a list of its tensors, whose names are such as ``0.W``."""

    outer: type[dict[str, Any]] | type[list[Any]]
    inner: type[dict[str, Any]] | type[list[Any]]
    prefix: str = ""

    @property
    def words(self) -> str:  # type: ignore[override]  # of several sorts
        prefix = f", gradients by {self.prefix} and the name" if self.prefix else ""
        return f"a {self.outer.__name__} of {self.inner.__name__}s{prefix}"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = self._nested(params, "")
        return Packed(own, self._nested(grads, self.prefix), lambda: self._flat(own, list(params)))

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        try:
            found = self._flat(result, names)
        except (KeyError, IndexError, TypeError, ValueError):
            return None
        return found if all(map(_is_number, found.values())) else None

    def _nested(self, arrays: Mapping[str, Array], prefix: str) -> Any:
        layers: dict[str, dict[str, Array]] = {}
        for name, array in arrays.items():
            layer, _, key = name.partition(".")
            layers.setdefault(layer, {})[f"{prefix}{key}"] = array
        inner = [layer if self.inner is dict else list(layer.values()) for layer in layers.values()]
        return dict(zip(layers, inner, strict=True)) if self.outer is dict else inner

    def _flat(self, nested: Any, names: Sequence[str]) -> dict[str, Array]:
        layers = list(dict.fromkeys(name.partition(".")[0] for name in names))
        found = {}
        for name in names:
            layer, _, key = name.partition(".")
            inside = nested[layer if self.outer is dict else layers.index(layer)]
            keys = [other.partition(".")[2] for other in names if other.partition(".")[0] == layer]
            found[name] = inside[key if self.inner is dict else keys.index(key)]
        return found


@dataclass(frozen=True)
class Separate(Container):
    """Each parameter, and each gradient, as an argument of its own: one tensor, or a list of them, named ``w.0``."""

    couples: tuple[tuple[str, str], ...]  # the arguments of each parameter and of its gradient
    lists: bool = False

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        return f"{'lists' if self.lists else 'tensors'} in arguments of their own"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = {param: self._of(params, param) for param, _ in self.couples}
        given = {grad: self._of(grads, param) for param, grad in self.couples}
        return Packed(own, given, lambda: self._flat(list(own.values()), list(params)), {**own, **given})

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        if isinstance(result, Mapping) and [*result] == [param for param, _ in self.couples]:
            result = tuple(result.values())
        if not isinstance(result, (tuple, list)) or len(result) < len(self.couples):
            return None
        values = list(result[: len(self.couples)])
        if not all(isinstance(value, list) if self.lists else _is_number(value) for value in values):
            return None
        return self._flat(values, names)

    def _of(self, arrays: Mapping[str, Array], param: str) -> Any:
        found = [array for name, array in arrays.items() if name.partition(".")[0] == param]
        return found if self.lists else next(iter(found), None)

    def _flat(self, values: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        every = [array for value in values for array in (value if self.lists else [value])]
        return dict(zip(names, every, strict=True))


class _Network(list[Any]):
    """A list of layers that is also an object with ``layers``."""

    @property
    def layers(self) -> list[Any]:
        return self


@dataclass(frozen=True)
class Layers(Container):
    """Objects with parameters and gradients in attributes, one a call or a list of all; tensors are named ``0.W``."""

    naming: tuple[tuple[str, str], ...]  # the attributes of each parameter and of its gradient
    each: bool = False

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        names = ", ".join(f"{param} and {grad}" for param, grad in self.naming)
        return f"{'one layer a call' if self.each else 'a list of layers'}, with {names}"

    def units(self, names: Sequence[str]) -> list[list[str]]:
        layers = list(dict.fromkeys(name.partition(".")[0] for name in names))
        groups = [[name for name in names if name.partition(".")[0] == layer] for layer in layers]
        return groups if self.each else [list(names)]

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        beside = dict(self.naming)
        for name, array in params.items():
            number, _, attribute = name.partition(".")
            layer = made.setdefault(number, types.SimpleNamespace())
            setattr(layer, attribute, array)
            setattr(layer, beside[attribute], grads.get(name))
        layers = _Network(made[number] for number in dict.fromkeys(name.partition(".")[0] for name in params))
        given = layers[0] if self.each else layers

        def after() -> dict[str, Array]:
            places = {name: name.partition(".") for name in params}
            return {name: getattr(made[number], attribute) for name, (number, _, attribute) in places.items()}

        return Packed(given, given, after)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return None


@dataclass(frozen=True)
class Own(Container):
    """Nothing: the optimizer holds its parameters, and their gradients where ``held`` says."""

    held: tuple[Held, ...]
    words = "what it holds"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        return Packed(None, None, dict)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return None


@dataclass(frozen=True)
class OwnAndGradients(Container):
    """A list or dict of gradients of the parameters that the optimizer holds; keys may begin with a d."""

    places: tuple[Place, ...]
    prefix: str = ""

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        return f"the gradients of what it holds{f', by {self.prefix} and the name' if self.prefix else ''}"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        keys = [place.path[-1][0] for place in self.places]
        numbered = all(isinstance(key, int) for key in keys)
        given = [grads.get(name) for name in params]
        named = {f"{self.prefix}{k}" if self.prefix else k: g for k, g in zip(keys, given, strict=True)}
        return Packed(None, given if numbered else {k: g for k, g in named.items() if g is not None}, dict)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, (np.ndarray, np.floating, float)) and np.asarray(value).dtype.kind == "f"
