"""What the forward and backward passes of one step show, by hooks of modules and of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.loops.torch_nudges import nudge, nudge_all
from gradcheck.trajectory.trees import leaves

if TYPE_CHECKING:
    import torch

TARGETS = ("_saved_target", "_saved_self_target")  # where torch's losses keep what they compare with
DEPTH = 8  # functions from the loss back to the one that keeps the target: a mean, a scale, a sum of terms

Hook = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module in a step: the name of its result, and the hook that takes the gradient of it."""

    forward: str
    backward: Hook


class Passes:
    """The tensors of one step, copied in the order in which they were seen.

    Where a module is called several times, or there are several micro-batches, names are ``0.output``, ``0.output@1``
    and so on. Evaluations, in which torch keeps no graph, are no part of a step. ``rng``, if given, nudges everything
    that the loop goes on with. ``scale`` is that of the losses, which the gradients on the way have, too.
    """

    def __init__(self, rng: np.random.Generator | None, on_begin: Callable[[], None]) -> None:
        import torch

        self.rng, self.on_begin = rng, on_begin
        self.with_graph, self.tensor = torch.is_grad_enabled, torch.Tensor
        self.scale = 1.0
        self.calls: dict[str, list[Call]] = {}
        self.begin(wanted=False)

    def begin(self, *, wanted: bool) -> None:
        """Begin a step, which is shown only if it is ``wanted``."""
        self.wanted, self.begun = wanted, False
        self.shown: list[tuple[str, torch.Tensor]] = []
        self.counts: dict[str, int] = {}

    def show(self, name: str, tensor: torch.Tensor) -> None:
        """Copy a tensor, under a name that is numbered if it has been used in this step."""
        self.shown.append((self._numbered(name), tensor.detach().clone()))

    def _numbered(self, name: str) -> str:
        count = self.counts.get(name, 0)
        self.counts[name] = count + 1
        return f"{name}@{count}" if count else name

    def _looks(self) -> bool:
        if not self.wanted or not self.with_graph():
            return False
        if not self.begun:
            self.begun = True
            self.on_begin()
        return True

    def entry(self, prefix: str) -> Hook:
        """Return the hook before the forward pass of the model, whose tensors are named after ``prefix``."""

        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
            del module
            if not self._looks():
                return None
            if self.rng is None and not kwargs and len(args) == 1 and type(args[0]) is self.tensor:
                self.show(f"forward/{prefix}input.x" if args[0].requires_grad else f"data/{prefix}x", args[0])
                return None
            for place, (path, value) in enumerate([*leaves(args), *leaves(kwargs)]):
                if isinstance(value, self.tensor):
                    given = value.requires_grad or (place and value.is_floating_point())  # may be a carried state
                    name = "x" if path == "0" else f"x{path}" if path.replace(".", "").isdigit() else path
                    self.show(f"forward/{prefix}input.{name}" if given else f"data/{prefix}{name}", value)
            return (nudge_all(args, self.rng), nudge_all(kwargs, self.rng)) if self.rng is not None else None

        return hook

    def result(self, name: str) -> Hook:
        """Return the hook after the forward pass of a module, whose result gets a name."""

        def hook(module: torch.nn.Module, args: object, results: object) -> object:
            del module, args
            if not self._looks():
                return None
            if self.rng is None and type(results) is self.tensor:  # as nearly always: the rest costs more
                self._take(name, results, results)
                return None
            plain = list(leaves(results))
            nudged = nudge_all(results, self.rng) if self.rng is not None else results
            shown = dict(leaves(nudged))
            for place, (path, value) in enumerate(plain):
                if isinstance(value, self.tensor):
                    self._take(name if not place else f"{name}.{path}", value, shown[path])
            return nudged if self.rng is not None else None

        return hook

    def _take(self, name: str, result: torch.Tensor, nudged: torch.Tensor) -> None:
        """Show a result, and the gradient of it once it is known: of that which is not nudged, which others may use."""
        count = self.counts.get(name, 0)
        self.counts[name] = count + 1
        known = self.calls.setdefault(name, [])
        if count == len(known):
            own = f"{name}@{count}" if count else name
            known.append(Call(f"forward/{own}", self._gradient(f"backward/{own}")))
        if result.requires_grad:
            result.register_hook(known[count].backward)  # type: ignore[no-untyped-call]  # torch declares no types for it
        self.shown.append((known[count].forward, nudged.detach().clone()))

    def _gradient(self, name: str) -> Hook:
        def hook(gradient: torch.Tensor) -> torch.Tensor | None:
            if self.rng is not None:
                gradient = nudge(gradient, self.rng)
            self.shown.append((name, gradient.clone() if self.scale == 1 else gradient / self.scale))
            return gradient if self.rng is not None else None

        return hook


def targets(function: torch.autograd.graph.Node | None) -> Iterator[torch.Tensor]:
    """Yield the targets that the losses behind a node keep, the nearest first."""
    level, known = [function], set()
    for _ in range(DEPTH):
        below = []
        for node in level:
            if node is None or node in known:
                continue
            known.add(node)
            kept = next((getattr(node, name) for name in TARGETS if hasattr(node, name)), None)
            if kept is not None:
                yield from () if kept.requires_grad else (kept,)
            else:
                below += [one for one, _ in node.next_functions]
        level = below
