"""Where an object keeps its arrays, and which of them is the gradient of which."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.signatures import plain

MOST = 2000  # arrays and objects below an object that are looked at

CONTAINERS = {"params", "parameters", "_params", "_parameters", "param", "weights_dict", "model", "theta", "whole"}
GRADIENT_CONTAINERS = {
    "grads",
    "gradients",
    "_grads",
    "_gradients",
    "grad",
    "gradient",
    "dparams",
    "d",
    "g",
    "derivatives",
}
VALUES = (
    "params",
    "param",
    "data",
    "value",
    "values",
    "val",
    "v",
    "array",
    "tensor",
    "w",
    "W",
    "weight",
)  # of an object that is one parameter
GRADIENTS = ("grad", "gradient", "grads", "d", "g", "diff", "dw", "dW", "derivative", "delta")  # beside them

_SHORT = {
    "weights": ("w",), "weight": ("w",), "bias": ("b",), "biases": ("b",), "kernel": ("k", "w"), "filters": ("f", "w"),
    "gamma": ("g",), "beta": ("b",), "w": ("weights", "weight"), "b": ("bias", "biases"), "embedding": ("e", "w"),
}  # fmt: skip
_BEFORE = ("d", "grad", "gradient", "gradients", "grads", "g", "dl", "dld", "de", "ded", "dj", "djd", "dloss", "dlossd",
           "dcostd", "dcost", "delta", "nabla", "del", "partial", "gradof", "gradientof")  # fmt: skip
# Of properties: others are not asked for, since it may take long, or change something.
OF_GRADIENTS = r"_?d_?[A-Za-z]\w?|d_?(weights?|bias|gamma|beta|inputs?)|(grad|delta)\w*|\w+_(grad|gradient|delta)"
_BEHIND = ("grad", "gradient", "grads", "gradients", "g", "delta", "d")


def objects_below(owner: object) -> dict[str, object]:
    """Return the objects that hold something below ``owner``, by their paths, without ``owner`` itself."""
    return {path: value for path, value in _below(owner) if not isinstance(value, (np.ndarray, Mapping, list, tuple))}


def arrays_of(owner: object) -> dict[str, Array]:
    """Return the floating-point arrays below ``owner`` by their paths; what is held twice is named once."""
    return {p: v for p, v in _below(owner) if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size}


def containers_of(owner: object) -> dict[str, list[Any] | dict[Any, Any]]:
    """Return the lists and dicts below ``owner`` by their paths."""
    return {path: value for path, value in _below(owner) if isinstance(value, (list, dict))}


def _below(owner: object) -> Iterable[tuple[str, object]]:
    seen: set[int] = {id(owner)}
    waiting: list[tuple[str, object]] = list(_items("", owner))
    count = 0
    while waiting and count < MOST:
        path, current = waiting.pop(0)
        if id(current) in seen or isinstance(current, (str, bytes, int, float, complex, type(None), type)):
            continue
        if inspect.ismodule(current) or inspect.isroutine(current) or isinstance(current, np.random.Generator):
            continue
        seen.add(id(current))
        count += 1
        if isinstance(current, np.ndarray):
            yield path, current
            continue
        if isinstance(current, (Mapping, list, tuple)) or hasattr(current, "__dict__") or hasattr(current, "__slots__"):
            yield path, current
            waiting.extend(_items(f"{path}.", current))


def _items(prefix: str, owner: object) -> Iterable[tuple[str, object]]:
    if isinstance(owner, Mapping):
        return [(f"{prefix}{key}", value) for key, value in owner.items() if isinstance(key, (str, int))]
    if isinstance(owner, (list, tuple)):
        return [(f"{prefix}{place}", value) for place, value in enumerate(owner)]
    held = dict(getattr(owner, "__dict__", {}))
    for kind in type(owner).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(owner, slot):
                held.setdefault(slot, getattr(owner, slot))
        for name in (name for name, value in vars(kind).items() if isinstance(value, property)):
            with suppress(Exception):  # a gradient that is computed when it is asked for, which may be too early
                if re.fullmatch(OF_GRADIENTS, name) and isinstance(value := getattr(owner, name), np.ndarray):
                    held.setdefault(name, value)
    return [(f"{prefix}{name}", value) for name, value in held.items()]


def name_of(path: str) -> str:
    """Return what a parameter is called: its path without the container or the object that only wraps it."""
    parts = path.split(".")
    if len(parts) > 1 and parts[-1] in VALUES[:9]:
        parts.pop()
    kept = [part for place, part in enumerate(parts) if part not in CONTAINERS or place == len(parts) - 1]
    return ".".join(kept)


def gradient_path(path: str, shape: tuple[int, ...], held: Mapping[str, Array]) -> str | None:
    """Return which of the arrays ``held`` after a backward pass is the gradient of the parameter at ``path``.

    By its name.

    The shape is the parameter's, or lacks only axes of one element.
    """
    for candidate in held:
        if candidate != path and _fits(held[candidate].shape, shape) and _exactly(path, candidate):
            return candidate
    for candidate in held:
        if candidate != path and _fits(held[candidate].shape, shape) and names_gradient(path, candidate):
            return candidate
    if path.rpartition(".")[2].isdigit():
        return None  # of lists beside each other, of which one need not hold the gradients of the other
    # Of another shape: it may be wrong in that.
    return next((each for each in held if each != path and held[each].ndim and _exactly(path, each)), None)


def names_gradient(path: str, candidate: str) -> bool:
    """Return whether ``candidate`` is what the gradient of what is at ``path`` would be called.

    >>> names_gradient("l1.W", "l1.dW"), names_gradient("params.W", "grads.W"), names_gradient("W", "V")
    (True, True, False)
    """
    (*above, own), (*around, other) = path.split("."), candidate.split(".")
    if above == around:
        return _is_gradient_name(own, other) or (own in VALUES and other in GRADIENTS)
    if above and around and above[:-1] == around[:-1]:
        # Containers beside each other: parameters["W"] and gradients["W"] or gradients["dW"], weights[0] and dw[0].
        box, beside = above[-1], around[-1]
        if own == other or _is_gradient_name(own, other):
            return beside in GRADIENT_CONTAINERS or _is_gradient_name(box, beside)
    if len(around) == len(above) + 1 and around[:-1] == above and around[-1] in GRADIENT_CONTAINERS:
        return own == other or _is_gradient_name(own, other)  # W beside grads["W"]
    return False


def says_little(path: str) -> bool:
    """Return whether a name may as well be that of something else, such as ``delta`` of the gradient of an output."""
    return path.rpartition(".")[2] in ("delta", "d", "g", "diff", "derivative")


def _exactly(path: str, candidate: str) -> bool:
    """Say whether the candidate is the commonest name, capitals included.

    ``dW`` of ``W`` where there is a ``dw``, too.
    """
    own, other = path.rpartition(".")[2], candidate.rpartition(".")[2]
    return names_gradient(path, candidate) and (other in (f"d{own}", f"d_{own}", f"grad_{own}", f"{own}_grad", own))


def _is_gradient_name(own: str, other: str) -> bool:
    if own.isdigit() or other.isdigit():
        return False
    name, word = plain(own), plain(other)
    for each in (name, *_SHORT.get(name, ()), *_numbered(name)):
        if word in {*(before + each for before in _BEFORE), *(each + behind for behind in _BEHIND)}:
            return True
    return False


def _numbered(name: str) -> list[str]:
    """Return the short forms of a name that ends in a number: ``w1`` of ``weights1``."""
    found = re.fullmatch(r"([a-z]+)(\d+)", name)
    return [short + found[2] for short in _SHORT.get(found[1], ())] if found else []


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return shape == other or squeezed(shape) == squeezed(other)


def leaves(path: str, values: object, depth: int = 4) -> Iterator[tuple[str, Any]]:
    """Yield what lists and tuples of arrays hold in the end, with its path, without what is None, and no dicts."""
    if isinstance(values, (list, tuple)) and not all(
        isinstance(one, (int, float, np.generic)) for one in _flat(values, depth)
    ):
        for place, value in enumerate(values):
            yield from leaves(f"{path}.{place}", value, depth - 1)
    elif values is not None and not isinstance(values, Mapping):
        yield path, values


def _flat(values: object, depth: int) -> Iterator[object]:
    if isinstance(values, (list, tuple)) and depth > 0:
        for value in values:
            yield from _flat(value, depth - 1)
    else:
        yield values


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its axes of one element."""
    return tuple(extent for extent in shape if extent != 1)


def by_exclusion(missing: Mapping[str, tuple[int, ...]], written: Mapping[str, Array]) -> dict[str, str]:
    """Return gradients by the shape alone: where one parameter and one array that backward wrote have it.

    And no others.
    """
    found = {}
    for path, shape in missing.items():
        alike = [other for other, extent in missing.items() if extent == shape]
        fitting = [name for name, array in written.items() if array.shape == shape]
        if len(alike) == len(fitting) == 1:
            found[path] = fitting[0]
    return found


def beside_alone(paths: Mapping[str, tuple[int, ...]], written: Mapping[str, Array]) -> dict[str, str]:
    """Return, as `by_exclusion`, the gradients that one object holds beside its only parameter of their shape."""
    found: dict[str, str] = {}
    for holder in {path.rpartition(".")[0] for path in paths} - {""}:
        own = {path: shape for path, shape in paths.items() if path.rpartition(".")[0] == holder}
        found |= by_exclusion(own, {p: a for p, a in written.items() if p.rpartition(".")[0] == holder})
    return found


def nearest(word: str, words: Iterable[str]) -> list[str]:
    """Return the words that are spelled almost alike."""
    import difflib

    return difflib.get_close_matches(word, list(dict.fromkeys(words)), 3, 0.6)
