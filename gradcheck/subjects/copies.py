"""Copies of an object, and the arrays in it."""

from __future__ import annotations

import copy
import copyreg
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array
from gradcheck.subjects.attributes import assign, resolve

Owner = TypeVar("Owner")

ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type, types.FunctionType, types.BuiltinFunctionType}
)
# By which a class says how its objects are copied.
COPYING = (
    *("__deepcopy__", "__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__new__"),
    *("__getnewargs__", "__getnewargs_ex__"),
)


class Plain:
    """A class of which an object is a ``__dict__`` and nothing else."""


def fresh(owner: Owner, dtype: DTypeLike | None = None) -> Owner:
    """Return a deep copy, its floating-point arrays cast if a precision is given.

    Arrays that share memory, such as views of one flat buffer, still do so in the copy.
    """
    return copier(owner, dtype)({})


def copy_of(owner: Any, dtype: DTypeLike | None = None, copied: dict[int, Any] | None = None) -> Any:
    """Return a copy, in a precision, of an object or a function; what a function has closed over is copied, too."""
    copied = {} if copied is None else copied
    if id(owner) in copied:
        return copied[id(owner)]
    if isinstance(owner, functools.partial):
        function, keywords = copy_of(owner.func, dtype, copied), fresh(owner.keywords, dtype)
        return functools.partial(function, *fresh(owner.args, dtype), **keywords)
    if isinstance(owner, types.MethodType):
        return types.MethodType(owner.__func__, copy_of(owner.__self__, dtype, copied))
    if not isinstance(owner, types.FunctionType):
        return copied.setdefault(id(owner), fresh(owner, dtype))
    cells = tuple(types.CellType() for _ in owner.__closure__ or ())
    made = types.FunctionType(
        owner.__code__, owner.__globals__, owner.__name__, fresh(owner.__defaults__, dtype), cells
    )
    made.__kwdefaults__, made.__dict__ = fresh(owner.__kwdefaults__, dtype), fresh(owner.__dict__, dtype)
    copied[id(owner)] = made
    for cell, original in zip(cells, owner.__closure__ or (), strict=True):
        cell.cell_contents = copy_of(original.cell_contents, dtype, copied)
    return made


def copier(
    owner: Owner, dtype: DTypeLike | None = None, paths: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Mapping[str, Array]], Owner]:
    """Return a function that makes a `fresh` copy at every call, of an object that nobody changes between them.

    It is given what to put at ``paths``, by their names. Arrays are looked for once: that takes as long as to copy.
    """
    arrays = arrays_in(owner)
    held = {name: resolve(owner, path) for name, path in paths.items()}

    def made(given: Mapping[str, Array]) -> Owner:
        memo = _copies(arrays, dtype)
        places = {name: memo.get(id(array)) for name, array in held.items()}
        copied: Owner = _copied(owner, memo)
        for name, place in places.items():
            if place is None:
                assign(copied, paths[name], given[name])
            else:
                place[...] = given[name]
        return copied

    return made


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Return what copy.deepcopy does; faster for containers and for objects of plain Python classes."""
    kind: type = type(value)
    if kind in ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict:
        copied = memo[id(value)] = {}
        copied.update((_copied(key, memo), _copied(each, memo)) for key, each in value.items())
        return copied
    if kind is list:
        found = memo[id(value)] = []
        found.extend(_copied(each, memo) for each in value)
        return found
    if not _is_plain(kind):
        return copy.deepcopy(value, memo)
    instance: Any = object.__new__(kind)
    memo[id(value)] = instance
    instance.__dict__.update((name, _copied(each, memo)) for name, each in value.__dict__.items())
    return instance


@functools.lru_cache(256)
def _is_plain(kind: type) -> bool:
    """Return whether an object of a class is a ``__dict__`` alone, as one of `Plain`, and is copied as Python does."""
    alike = kind.__basicsize__ == Plain.__basicsize__ and kind.__dictoffset__ == Plain.__dictoffset__
    own = any(getattr(kind, name, None) is not getattr(object, name, None) for name in COPYING)
    return alike and not own and kind not in copyreg.dispatch_table


def _copies(arrays: list[Array], dtype: DTypeLike | None) -> dict[int, Any]:
    """Return copies of arrays, in that precision if one is given, by the identity of what they are copies of."""
    memo: dict[int, Any] = {}
    copies: dict[int, Array] = {}
    for array in arrays:
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        wanted = np.dtype(dtype) if dtype is not None and array.dtype.kind == "f" else array.dtype
        if array is base or base.dtype != array.dtype or not base.flags.c_contiguous or not base.size:
            memo[id(array)] = (
                array.astype(wanted) if array is not base else copies.setdefault(id(base), base.astype(wanted))
            )
            continue
        whole = copies.setdefault(id(base), base.astype(wanted))
        ratio = whole.itemsize / base.itemsize
        offset = int((array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) * ratio)
        memo[id(array)] = np.ndarray(
            array.shape, wanted, whole, offset, tuple(int(stride * ratio) for stride in array.strides)
        )
    return memo


def arrays_in(owner: object) -> list[Array]:
    """Return the arrays that an object holds, in attributes, containers and objects below it."""
    found: dict[int, Array] = {}
    seen: set[int] = set()
    waiting = [owner]
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, (type, str, bytes, int, float, np.random.Generator)):
            continue
        seen.add(id(current))
        if isinstance(current, np.ndarray):
            if type(current) is np.ndarray and current.dtype.kind != "O":
                found[id(current)] = current
        elif isinstance(current, Mapping):
            waiting.extend(current.values())
        elif isinstance(current, (list, tuple, set)):
            waiting.extend(current)
        elif not (inspect.ismodule(current) or inspect.isroutine(current)):
            waiting.extend(getattr(current, "__dict__", {}).values())
            for slot in getattr(type(current), "__slots__", ()):
                waiting.append(getattr(current, slot, None))
    return list(found.values())
