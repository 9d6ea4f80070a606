"""The learning-rate schedules and their registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import Case, Schedule

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class ConstantRate(Schedule):
    """The rate ``lr`` in every epoch."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        return cases(st.builds(cls, lr=st.floats(1e-4, 10)))


@dataclass(frozen=True)
class MultiStepLR(Schedule):
    """The rate ``lr * gamma^k`` in an epoch that k of the ``milestones`` have reached; epochs count from 0.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html
    """

    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        reached = sum(milestone <= epoch for milestone in self.milestones)
        return self.lr * self.gamma**reached

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.MultiStepLR(optimizer, list(self.milestones), gamma=self.gamma)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        milestones = st.lists(st.integers(1, 18), max_size=4).map(tuple)  # a repeated milestone counts twice
        schedule = st.builds(cls, lr=st.floats(1e-4, 10), milestones=milestones, gamma=st.floats(0.05, 1))
        return cases(schedule)


SCHEDULES: tuple[type[Schedule], ...] = (ConstantRate, MultiStepLR)
