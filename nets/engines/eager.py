"""Torch without its compiler, in a program that compiles nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
KEPT = "__dynamo_disable"  # where torch's methods keep what the compiler has made of them


class NotLoaded(ModuleType):
    """In the compiler's place: what optimizers ask it for, as it is where nothing is compiled. All else loads it."""

    def graph_break(self, _: str = "") -> None:
        """End a graph that is being recorded: there is none."""

    def disable(self, function: Callable[..., object], *_: object, **__: object) -> Callable[..., object]:
        """Return a function that is not compiled: itself."""
        return function

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever the compiler has
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)  # what is asked of every module
        _restore(self)
        return getattr(importlib.import_module(COMPILER), name)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Train with torch without loading its compiler, which takes as long as to load all else of torch.

    Torch's optimizers load it to tell it what to leave alone. Numbers are the same without it. A compiler that is
    loaded is used; one that is needed is loaded.
    """
    import torch  # noqa: F401  which the compiler is a part of

    if COMPILER in sys.modules:
        yield
        return
    stand_in = NotLoaded(COMPILER)
    sys.modules[COMPILER] = stand_in
    try:
        yield
    finally:
        _restore(stand_in)


def _restore(stand_in: NotLoaded) -> None:
    """Let torch find its own compiler, and forget what the stand-in has made of methods."""
    import torch

    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER]
        vars(torch).pop(COMPILER.rpartition(".")[2], None)
        for method in vars(torch.optim.Optimizer).values():
            wrapped = getattr(method, "__wrapped__", None)
            if hasattr(wrapped, KEPT):
                delattr(wrapped, KEPT)
