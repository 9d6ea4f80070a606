"""What an object keeps of every call, such as a list of inputs, and what empties it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from gradcheck.subjects.attributes import AdapterError, member, resolve
from gradcheck.subjects.calls import found
from gradcheck.subjects.parameters import containers_of
from gradcheck.subjects.reading import Reading
from gradcheck.subjects.signatures import required

RESETS = re.compile(r"_?(reset|flush|zero|clear|empty|forget|init_(state|hidden))(_?[a-zA-Z]\w*)?")


def sizes_of(owner: object) -> dict[str, int]:
    """Return how much the lists and dicts below an object hold, by their paths."""
    return {path: len(each) for path, each in containers_of(owner).items()}


def grown(before: Mapping[str, int], between: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """Return the paths of what one call and the next have each made longer."""
    return tuple(path for path, size in between.items() if before.get(path, 0) < size < after.get(path, 0))


def resets_of(owner: object) -> Iterator[str]:
    """Yield the names of methods without arguments that may empty what calls leave."""
    for name in dir(owner):
        if re.fullmatch(RESETS, name) and callable(method := member(owner, name)) and not required(method):
            yield name


def begin_anew(layer: Any, reading: Reading) -> None:
    """Empty what grows from call to call, and the gradients that calls add to."""
    if reading.grows and reading.resets:
        getattr(layer, reading.resets)()
    elif reading.grows:
        empty(layer, reading.grows)
    for name in reading.adds_up:
        try:
            kept = found(reading.grads[name], layer, None)
        except AdapterError:
            continue
        if isinstance(kept, np.ndarray):
            kept[...] = 0


def empty(layer: Any, paths: tuple[str, ...]) -> None:
    """Empty the lists and dicts at these paths; there may be none yet."""
    for path in paths:
        try:
            kept = resolve(layer, path)
        except AdapterError:
            continue
        if isinstance(kept, (list, dict)):
            kept.clear()
