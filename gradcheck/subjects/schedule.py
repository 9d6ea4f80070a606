"""Anybody's schedule of learning rates, as one of the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gradcheck.contract import Case, Schedule
from gradcheck.subjects.attributes import AdapterError

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class ForeignSchedule(Schedule):
    """A schedule ``schedule(epoch) -> lr``, or ``schedule(epoch, history) -> lr``."""

    schedule: Callable[..., float]
    make_twin: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """Return the name of the schedule's class or function."""
        return getattr(self.schedule, "__name__", type(self.schedule).__name__)

    @cached_property
    def takes_history(self) -> bool:
        """Return whether the second argument is called ``history``, or is one that has to be given."""
        try:
            second = list(inspect.signature(self.schedule).parameters.values())[1:2]
        except (TypeError, ValueError):
            return False
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return any(p.kind in kinds and (p.name == "history" or p.default is inspect.Parameter.empty) for p in second)

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return float(self.schedule(epoch, history) if self.takes_history else self.schedule(epoch))

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        made: torch.optim.lr_scheduler.LRScheduler = self.make_twin(optimizer)
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign schedule is tried on what it is given")
