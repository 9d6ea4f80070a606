"""The same random numbers for every call of an object, from whichever generator it draws them."""

from __future__ import annotations

import inspect
import random
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

Generator = np.random.Generator | np.random.RandomState | random.Random


def is_generator(value: object) -> bool:
    """Return whether a value draws random numbers."""
    return isinstance(value, (np.random.Generator, np.random.RandomState, random.Random))


def generators_around(owner: object) -> dict[str, Any]:
    """Return the generators that the code of an object or function draws from and that no copy of it has.

    By their names.

    Those of its module, of default arguments and of what functions close over.
    """
    found: dict[str, Any] = {}
    for function in _functions_of(owner):
        for name, value in _around(function).items():
            if is_generator(value) and not any(value is known for known in found.values()):
                found[name] = value
    return found


def _functions_of(owner: object) -> Iterator[types.FunctionType]:
    if isinstance(owner, types.MethodType):
        if isinstance(owner.__func__, types.FunctionType):
            yield owner.__func__
        owner = owner.__self__
    if isinstance(owner, types.FunctionType):
        yield owner
        return
    seen: set[int] = set()
    waiting = [owner]
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, (str, bytes, int, float, np.ndarray, type(None))):
            continue
        seen.add(id(current))
        if isinstance(current, types.FunctionType):
            yield current
        elif isinstance(current, Mapping):
            waiting.extend(current.values())
        elif isinstance(current, (list, tuple)):
            waiting.extend(current)
        elif not isinstance(current, (type, types.ModuleType)) and not is_generator(current):
            for kind in type(current).__mro__:
                for member in vars(kind).values():
                    function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)) or member)
                    if isinstance(function, types.FunctionType):
                        yield function
            waiting.extend(getattr(current, "__dict__", {}).values())


def _around(function: types.FunctionType) -> dict[str, object]:
    names = set(function.__code__.co_names)
    around = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    around |= {f"a default argument of {function.__name__}": value for value in defaults if is_generator(value)}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            around[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return around


@contextmanager
def same_randomness(seed: int, others: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Seed the global generators of NumPy and Python, and ``others``, for a call, and put all back as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    kept = [(each, state_of(each)) for each in (others or {}).values()]
    np.random.seed(seed % 2**32)
    random.seed(seed)
    for each, _ in kept:
        reseed(each, seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        for each, state in kept:
            _put_back(each, state)


@contextmanager
def watched_randomness(seed: int, others: Mapping[str, Any] | None = None) -> Iterator[Callable[[], bool]]:
    """Do as `same_randomness`, and yield a function that says afterwards whether any random number was drawn."""
    generators, drawn = [*(others or {}).values()], False
    with same_randomness(seed, others):
        begun = _begun(seed), _standing(generators)
        try:
            yield lambda: drawn
        finally:
            drawn = (_of_globals(), _standing(generators)) != begun


def reseed(generator: Any, seed: int) -> None:
    """Start a generator anew, in place."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed % 2**32)


def state_of(generator: Any) -> Any:
    """Return where a generator stands."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def _put_back(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _standing(generators: list[Any]) -> list[str]:
    """Return where generators stand; as text, since the state of one may hold an array."""
    return [repr(state_of(each)) for each in generators]


def _of_globals() -> tuple[object, ...]:
    """Return where the global generators stand: of NumPy's state, an array, the first number and the place."""
    _, keys, place, *gauss = np.random.get_state(legacy=True)
    return int(keys[0]), place, *gauss, random.getstate()


@lru_cache(64)
def _begun(seed: int) -> tuple[object, ...]:
    """Return where the global generators stand when they have just been seeded, as they have."""
    return _of_globals()
