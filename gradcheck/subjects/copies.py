"""Copies of an object, and the arrays in it."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array

Owner = TypeVar("Owner")


def fresh(owner: Owner, dtype: DTypeLike | None = None) -> Owner:
    """Return a deep copy, its floating-point arrays cast if a precision is given.

    Arrays that share memory, such as views of one flat buffer, still do so in the copy.
    """
    return copier(owner, dtype)()


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


def copier(owner: Owner, dtype: DTypeLike | None = None) -> Callable[[], Owner]:
    """Return a function that makes a `fresh` copy at every call, of an object that nobody changes between them.

    Its arrays are looked for once: that takes as long as to copy it.
    """
    arrays = arrays_in(owner)
    return lambda: copy.deepcopy(owner, _copies(arrays, dtype))


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
