"""Anybody's optimizer, as one of the contract."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradcheck.contract import Array, Case, Gradients, Optimizer
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.optimizer_calls import Call, Rate, Running
from gradcheck.subjects.optimizer_containers import Own

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

RATE_OF_TRIALS = 0.01  # where nothing says which rate an optimizer was made with


@dataclass(eq=False, kw_only=True)
class ForeignOptimizer(Optimizer):
    """Anybody's optimizer or update function, called as ``call`` says, with its rate where ``rate`` says.

    Its reference is another one, or else the torch optimizer that ``make_twin`` returns for a list of parameters.
    """

    optimizer: Any
    call: Call
    rate: Rate
    names: tuple[str, ...]
    manner: str
    make_twin: Callable[[list[Any]], Any] | None = None
    reference: ForeignOptimizer | None = None
    _running: Running | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """Return the name of the object's class, or of the function."""
        return name_of(self.optimizer)

    @property
    def base_lr(self) -> float:
        """Return the rate that the object was made with."""
        return RATE_OF_TRIALS if self.rate.base is None else self.rate.base

    @property
    def sets_rate(self) -> bool:
        """Return whether the rate of both sides can be set; else both keep those that they were made with."""
        return self.rate.known and (self.reference is None or self.reference.rate.known)

    @property
    def holds(self) -> bool:
        """Return whether the optimizer holds the gradients, too, so that what it does to them is its own affair."""
        return isinstance(self.call.container, Own)

    @property
    def reading(self) -> str:
        """Return how the optimizer is called, in words."""
        how = {"in place": "moved in place", "replaced": "new arrays put in their places"}.get(self.manner, self.manner)
        one_each = "; one copy of it for each" if self.call.own else ""
        own = f"{self.call.words(self.name)}, {how}{one_each}; {self.rate}"
        return own if self.reference is None else f"{own}; its reference as: {self.reference.reading}"

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        if self._running is None:
            dtype = next(iter(params.values())).dtype
            self._running = Running(self.optimizer, self.call, self.rate, dtype)
        self._running.step(params, grads, lr if self.sets_rate else None)

    @property
    def widened(self) -> bool:
        """Return whether parameters came back in a higher precision than they were given in."""
        return self._running is not None and self._running.widened

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        if self.make_twin is None:
            raise AdapterError(f"{self.name} has no twin")
        made: torch.optim.Optimizer = self.make_twin(list(params))
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign optimizer is tried on what it is given")


def name_of(optimizer: object) -> str:
    """Return the name of a function or of an object's class."""
    owner = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    return str(getattr(owner, "__name__", type(owner).__name__))
