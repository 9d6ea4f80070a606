"""The generators of random numbers that an engine draws from: the global ones, and those that it holds itself."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradcheck.contract import Key
from gradcheck.subjects.randomness import is_generator, state_of


def standing() -> dict[str, Any]:
    """Return where the global generators stand; those of torch and CUDA only where they are in use already."""
    torch: Any = sys.modules.get("torch")
    found = {"np.random": np.random.get_state(legacy=False), "random": random.getstate()}
    if torch is not None:
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            found["torch.cuda"] = torch.stack(torch.cuda.get_rng_state_all())
    return found


def put_back(states: Mapping[str, Any]) -> None:
    """Put the global generators where they stood."""
    np.random.set_state(states["np.random"])
    random.setstate(states["random"])
    if "torch" in states:
        sys.modules["torch"].set_rng_state(states["torch"])
    if "torch.cuda" in states:
        sys.modules["torch"].cuda.set_rng_state_all(list(states["torch.cuda"]))


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return the generators that stand elsewhere now, and where, as text."""
    return {name: _text(after[name]) for name in before if not _same(before[name], after[name])}


@contextmanager
def seeded(key: Key) -> Iterator[None]:
    """Seed the global generators from a key for the time of a call, and put them back afterwards."""
    with kept():
        seed_all(int(key.generator().integers(2**32)))
        yield


@contextmanager
def kept() -> Iterator[None]:
    """Put the global generators back as they were, at the end."""
    states = standing()
    try:
        yield
    finally:
        put_back(states)


def seed_all(seed: int) -> None:
    """Seed the global generators, that of torch where it is in use already.

    For a device that there is not, torch would keep the call and a trace of its callers: most of a small step's time.
    """
    np.random.seed(seed)
    random.seed(seed)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        others = torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
        (torch.manual_seed if others else torch.default_generator.manual_seed)(seed)


def held(owner: object) -> dict[str, Any]:
    """Return where the generators stand that an object holds, in attributes, containers and objects below it."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("", owner)]
    while waiting:
        path, current = waiting.pop()
        if id(current) in seen or isinstance(current, (type, str, bytes, int, float, np.ndarray)):
            continue
        seen.add(id(current))
        if is_generator(current):
            found[path] = state_of(current)
        elif isinstance(current, Mapping):
            waiting += [(f"{path}.{key}", value) for key, value in current.items()]
        elif isinstance(current, (list, tuple)):
            waiting += [(f"{path}.{i}", value) for i, value in enumerate(current)]
        elif type(current).__module__.partition(".")[0] == "torch" and hasattr(current, "get_state"):
            found[path] = current.get_state()  # a torch.Generator
        else:
            waiting += [(f"{path}.{name}", value) for name, value in getattr(current, "__dict__", {}).items()]
    return {path.removeprefix("."): state for path, state in found.items()}


def _same(a: Any, b: Any) -> bool:  # noqa: ANN401  of any generator
    """Return whether two states are equal."""
    if isinstance(a, Mapping):
        return all(_same(value, b[name]) for name, value in a.items())
    equal = a == b
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def _text(state: Any) -> str:  # noqa: ANN401  of any generator
    """Return a state as a text that is equal only for equal states."""
    if isinstance(state, Mapping):
        return str({name: _text(value) for name, value in state.items()})
    if isinstance(state, np.ndarray):
        return state.tobytes().hex()
    return str(state.tolist()) if hasattr(state, "tolist") else str(state)
