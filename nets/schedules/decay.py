"""Rates that depend on the epoch alone, in closed form."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import Case, Schedule
from nets.refusals import refuses
from nets.schedules.limits import COUNT, require_at_least

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

        return cases(st.builds(cls, rates()))


@refuses(**COUNT)
@dataclass(frozen=True)
class StepLR(Schedule):
    """The rate ``lr * gamma^floor(epoch / step_size)``.

    Raises ValueError for steps of less than one epoch and for a negative factor.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        require_at_least(self, 1, "step_size")
        require_at_least(self, 0, "gamma")

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * self.gamma ** (epoch // self.step_size)

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.StepLR(optimizer, self.step_size, self.gamma)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        return cases(st.builds(cls, rates(), st.integers(1, 12), factors()))


@refuses(**COUNT)
@dataclass(frozen=True)
class MultiStepLR(Schedule):
    """The rate ``lr * gamma^k`` in an epoch that k of the ``milestones`` have reached; epochs count from 0.

    Milestones come in any order, and one that comes twice counts twice. Raises ValueError for a negative one, and for a
    negative factor.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html
    """

    milestones: Iterable[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))  # an iterator would be used up by one call
        if any(milestone < 0 for milestone in self.milestones):
            raise ValueError(f"MultiStepLR needs milestones of at least 0, got {self.milestones}")
        require_at_least(self, 0, "gamma")

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        reached = sum(milestone <= epoch for milestone in self.milestones)
        return self.lr * self.gamma**reached

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.MultiStepLR(optimizer, self.milestones, self.gamma)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        # Twice the same is drawn often: it counts twice.
        milestones = st.lists(st.integers(0, 18), max_size=4) | st.integers(0, 9).map(
            lambda epoch: [epoch + 3, epoch, epoch]
        )
        return cases(st.builds(cls, rates(), milestones, factors()))


@dataclass(frozen=True)
class PiecewiseConstant(Schedule):
    """The rate ``lr``, and from the k-th of the ``milestones`` on ``lr * factors[k]``; epochs count from 0.

    In torch it is a LambdaLR. Raises ValueError unless milestones rise from 0 or above, each with a factor that is not
    negative.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LambdaLR.html
    """

    milestones: tuple[int, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        given = f"got {self.milestones} and {self.factors}"
        if len(self.milestones) != len(self.factors):
            raise ValueError(f"PiecewiseConstant needs a factor for each milestone, {given}")
        if list(self.milestones) != sorted({milestone for milestone in self.milestones if milestone >= 0}):
            raise ValueError(f"PiecewiseConstant needs milestones that rise, from 0 or above, {given}")
        if not all(factor >= 0 for factor in self.factors):
            raise ValueError(f"PiecewiseConstant needs factors of at least 0, {given}")

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * (1.0, *self.factors)[sum(milestone <= epoch for milestone in self.milestones)]

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: (1.0, *self.factors)[bisect.bisect_right(self.milestones, epoch)]
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        pieces = st.dictionaries(st.integers(0, 18), factors(), max_size=4).map(lambda found: sorted(found.items()))
        return cases(
            st.builds(
                lambda lr, found: cls(lr, tuple(at for at, _ in found), tuple(factor for _, factor in found)),
                rates(),
                pieces,
            )
        )


@refuses(**COUNT)
@dataclass(frozen=True)
class ExponentialLR(Schedule):
    """The rate ``lr * gamma^epoch``.

    Raises ValueError for a negative factor.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html
    """

    gamma: float

    def __post_init__(self) -> None:
        require_at_least(self, 0, "gamma")

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * self.gamma**epoch

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.ExponentialLR(optimizer, self.gamma)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        return cases(st.builds(cls, rates(), factors()))


@refuses(**COUNT)
@dataclass(frozen=True)
class CosineAnnealingLR(Schedule):
    """The rate ``lr w + eta_min (1 - w)`` with ``w = (1 + cos(pi epoch / T_max)) / 2``.

    It falls from ``lr`` to ``eta_min`` in epoch ``T_max``, and rises again after that. Raises ValueError for a half
    period of less than one epoch and for a negative least rate.
    Loshchilov and Hutter (2017), "SGDR", without the restarts;
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html
    """

    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "T_max")
        require_at_least(self, 0, "eta_min")

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        # As a mean of both ends the rate is exact at either; eta_min + (lr - eta_min) w would miss lr by its rounding.
        weight = (1 + math.cos(math.pi * epoch / self.T_max)) / 2
        return self.lr * weight + self.eta_min * (1 - weight)

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.T_max, self.eta_min)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        # The least rate as a share of the greatest.
        return cases(
            st.builds(
                lambda lr, half, share: cls(lr, half, share * lr),
                rates(),
                st.integers(1, 24),
                st.sampled_from([0.0, 0.01, 0.5, 1.0]),
            )
        )


def rates() -> SearchStrategy[float]:
    """Draw base rates."""
    from hypothesis import strategies as st

    return st.floats(1e-4, 10)


def factors() -> SearchStrategy[float]:
    """Draw what a rate is multiplied by, again and again: mostly less than 1."""
    from hypothesis import strategies as st

    return st.floats(0.05, 1.1) | st.sampled_from([0.0, 1.0, 0.1])
