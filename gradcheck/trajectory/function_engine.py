"""An engine of a function that takes one step, in NumPy, JAX or anything else."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import PHASES, Array, Context
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.engine import STATE, Batch, Engine, State, Step
from gradcheck.trajectory.trees import Tree, arrays, as_array, filled

# What the first level of a state is called, and which part of an engine's state that is.
PARTS = {"params": "param", "param": "param", "buffers": "buffer", "buffer": "buffer", "optim": "optim", "step": "step"}
TURNED = ".T"  # ends the name of a matrix that the function keeps the other way round


class FunctionEngine(Engine):
    """Trains by ``step(state, batch)``, which returns ``(state, loss)`` or ``(state, loss, shown)``.

    ``state`` is everything that is carried from step to step: arrays in nested dicts, lists, tuples or dataclasses. A
    `Batch` has ``x``, ``y`` and ``lr``. ``shown`` is a dict: ``grads``, nested as the parameters are, ``outputs``, and
    further arrays by name, such as ``"0.output"`` or ``"backward/0.output"``. A function of three arguments,
    ``step(state, batch, tap)``, goes on with ``x = tap("0.output", x)``, so that rounding inside is measured; without
    this a small difference cannot be told from rounding, and is inconclusive.

    Of a dict, what is below ``params`` are parameters, ``param/PATH``, below ``buffers`` what is not trained,
    ``buffer/PATH``, and the rest is the optimizer's: ``optim/SLOT/PATH``, for what has the path of a parameter in it.
    Of a tuple the first is taken for the parameters, the rest for the optimizer's. ``names`` says otherwise, for single
    arrays or whole branches: ``{"W1": "param/0.weight.T", "adam.mu": "optim/exp_avg", "adam.count": "step"}``, where
    ``.T`` turns a matrix; slots and gradients follow their parameter. The optimizer's arrays are not shown before the
    first step while they are zero, as in `TorchEngine`.

    Raises `AdapterError` for a state without parameters, and for a step that returns something else.
    """

    def __init__(self, step: Callable[..., Any], state: Tree, names: Mapping[str, str] | None = None) -> None:
        self.function, self.tree = step, copy.deepcopy(state)
        self.taps = _takes_tap(step)
        self.places = _places(list(arrays(state)), names or {}, nested=isinstance(state, Mapping))
        self.grads = {place.tail: place for place in self.places.values() if place.key.startswith("param/")}
        counts = [array for place, array in self._arrays() if place.key == "step"]
        self.steps = int(counts[0]) if counts else 0

    @property
    def opaque(self) -> bool:
        return True

    def state(self) -> State:
        shown = {"step": np.asarray(self.steps)}
        for place, array in self._arrays():
            if place.key == "step":
                shown["step"] = np.asarray(int(array))
            elif self.steps or array.any() or not place.key.startswith("optim/"):
                shown[place.key] = place.turned(array)
        return shown

    def load(self, state: Mapping[str, Array]) -> None:
        values = {path: np.zeros_like(array) for path, array in arrays(self.tree).items() if path in self.places}
        for path, place in self.places.items():
            if place.key in state or not place.key.startswith("optim/"):
                values[path] = place.turned(state[place.key])
        self.tree, self.steps = filled(copy.deepcopy(self.tree), values), int(state["step"])

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        batch, tap = Batch(context.tapped("data", "x", x), context.tapped("data", "y", y), lr), _Tap(context)
        tree, loss, shown = _returned(self.function(self.tree, batch, *([tap] if self.taps else [])))
        if (paths := set(arrays(tree))) != (own := set(arrays(self.tree))):
            raise AdapterError(
                f"FunctionEngine: step returned a state with {_listed(paths - own)}, and without "
                f"{_listed(own - paths)}; begin with zeros for what is made in the first step"
            )
        self.tree, self.steps = tree, self.steps + 1
        outputs, grads = as_array(shown.pop("outputs", None)), arrays(shown.pop("grads", None))
        for name, array in arrays(shown).items():
            tap(name, array)
        return Step(loss, np.empty(0) if outputs is None else outputs, dict(self._named(grads)), self.state())

    def _arrays(self) -> Iterator[tuple[_Place, Array]]:
        found = arrays(self.tree)
        return ((place, found[path]) for path, place in self.places.items())

    def _named(self, grads: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        for path in reversed(list(grads)):
            place, array = self.grads.get(path), grads[path]
            yield (path, array) if place is None else (place.key.removeprefix("param/"), place.turned(array))


class _Place(NamedTuple):
    """What an array of a state is to the engine: a key, turned or not, and its path below that of the parameters."""

    key: str
    is_turned: bool = False
    tail: str = ""

    @classmethod
    def of(cls, key: str, tail: str = "") -> _Place:
        return cls(key.removesuffix(TURNED), key.endswith(TURNED), tail)

    def turned(self, array: Array) -> Array:
        return array.T if self.is_turned else array


class _Tap:
    """Passes arrays of NumPy or JAX through a context."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, name: str, array: Any) -> Any:  # noqa: ANN401  of any library
        phase, _, tensor = name.partition("/")
        shown = as_array(array)
        if shown is None:
            raise AdapterError(f"FunctionEngine: tap({name!r}) is given a {type(array).__name__}, which is no array")
        known = next((one for one in PHASES if one == phase), None)
        given = self.context.tapped(known, tensor, shown) if known else self.context.tapped("forward", name, shown)
        if given is shown:
            return array
        return array.at[...].set(given) if hasattr(array, "at") else given


def _takes_tap(step: Callable[..., Any]) -> bool:
    try:
        kinds = [one.kind for one in inspect.signature(step).parameters.values() if one.default is one.empty]
    except (TypeError, ValueError):  # of some functions of other languages there is no signature
        return False
    return (
        sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds) > 2
    )


def _returned(result: object) -> tuple[Tree, Array, dict[str, Any]]:
    """Return state, loss and what else is shown; raises `AdapterError` for anything else."""
    if not (isinstance(result, tuple) and len(result) in (2, 3)):
        raise AdapterError(
            f"FunctionEngine: step returned a {type(result).__name__}; it is to return (state, loss) or "
            "(state, loss, {'grads': ..., 'outputs': ...})"
        )
    tree, value, *rest = result
    loss = as_array(value)
    if loss is None or loss.size != 1:
        raise AdapterError(f"FunctionEngine: step returned {type(value).__name__} as its loss, which is no number")
    if rest and not isinstance(rest[0], Mapping):
        raise AdapterError(f"FunctionEngine: step shows a {type(rest[0]).__name__}; a dict of arrays by name is needed")
    return tree, loss.reshape(()), dict(rest[0]) if rest else {}


def _places(paths: list[str], names: Mapping[str, str], *, nested: bool) -> dict[str, _Place]:
    """Return what every array of a state is to the engine; raises `AdapterError` where that is unclear."""
    rules = {**(PARTS if nested else {"0": "param"}), **names}
    places, others = {}, {}
    for path in paths:
        rule = max((one for one in rules if f"{path}.".startswith(f"{one}.")), key=len, default="")
        target, rest = rules.get(rule, "optim"), path[len(rule) :].lstrip(".")
        if target.partition("/")[0] not in (*STATE, "step"):
            raise AdapterError(
                f"FunctionEngine: names has {target!r} for {rule!r}; write param/..., buffer/..., "
                "optim/SLOT/... or step"
            )
        if not target.startswith("param"):
            others[path] = target, rest
            continue
        first, _, tail = path.partition(".")
        key = _joined(target, rest or ("" if "/" in target else "value"), 1)
        below = tail if (first in PARTS if nested else first == "0") else path
        places[path] = _Place.of(key, below)
    if not places:
        raise AdapterError(
            f"FunctionEngine: the state has {_listed(paths)}, and none are called parameters; write "
            "{'params': ..., ...}, or say which they are: names={'W': 'param/W'}"
        )
    params = sorted(places.values(), key=lambda place: -len(place.tail))
    for path, (target, rest) in others.items():
        places[path] = (
            _slot(target, rest, params) if target.startswith("optim") else _Place.of(_joined(target, rest, 1))
        )
    keys = [place.key for place in places.values()]
    if twice := [path for path, place in places.items() if keys.count(place.key) > 1]:
        raise AdapterError(f"FunctionEngine: {_listed(twice)} have one name, {places[twice[0]].key}; give names")
    return places


def _slot(target: str, rest: str, params: list[_Place]) -> _Place:
    """Return the slot of the parameter in whose path that of an array ends, of none if there is no such parameter."""
    owner = next((one for one in params if f".{rest}".endswith(f".{one.tail}")), None)
    if owner is None:
        return _Place.of(_joined(target, rest, 2))
    slot = rest.removesuffix(owner.tail).strip(".")
    return _Place(_joined(_joined(target, slot, 1), owner.key.removeprefix("param/"), 2), owner.is_turned)


def _joined(target: str, rest: str, slashes: int) -> str:
    """Return a key of the part, and the slot if there are to be two ``slashes``, that ``target`` names."""
    separator = "/" if target.count("/") < slashes else "."
    return f"{target}{separator}{rest}" if rest else target


def _listed(paths: Collection[str]) -> str:
    return ", ".join(sorted(paths)) or "nothing"
