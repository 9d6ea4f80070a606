"""Which modules of a torch model show their results, and under which names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WRAPPERS = ("module", "_orig_mod")  # of DataParallel and DDP, of torch.compile


def unwrapped(module: torch.nn.Module) -> tuple[torch.nn.Module, bool]:
    """Return the module inside DataParallel, DDP and torch.compile, and whether it is compiled."""
    compiled = False
    while name := _wrapper(module):
        compiled |= name == "_orig_mod"
        module = getattr(module, name)
    return module, compiled or getattr(module, "_compiled_call_impl", None) is not None


def showing(module: torch.nn.Module, *, compiled: bool) -> dict[str, torch.nn.Module]:
    """Return the modules whose results are seen, by name: those that hold parameters, or no modules.

    Of a compiled model there are none, since torch does not run the hooks inside.
    """
    if compiled:
        return {}
    return {
        name: inner
        for name, inner in module.named_modules()
        if name and (not _any(inner.children()) or _any(inner.parameters(recurse=False)))
    }


def _wrapper(module: torch.nn.Module) -> str:
    """Return under which name a module that wraps another one holds it, or ""."""
    name = next((name for name in WRAPPERS if name in module._modules), "")
    alone = len(module._modules) == 1 and not _any(module.parameters(recurse=False))
    known = type(module).__name__ in ("DataParallel", "DistributedDataParallel", "OptimizedModule")
    return name if name and alone and known else ""


def _any(things: Iterable[object]) -> bool:
    return next(iter(things), None) is not None
