"""A linear rise of the rate, and then another schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from gradcheck.contract import Case, Schedule
from nets.refusals import refuses
from nets.schedules.decay import CosineAnnealingLR, ExponentialLR, MultiStepLR, StepLR
from nets.schedules.limits import COUNT, require_at_least
from nets.schedules.reduce_lr_on_plateau import ReduceLROnPlateau

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(end_factor="it is 1: the rise ends where the schedule after it begins", **COUNT)
@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """The rate ``lr (start_factor + (1 - start_factor) epoch / total_iters)``, and after these epochs another schedule.

    Epochs of the schedule ``after`` count from there, where its own rate ``lr`` is reached. As ``start_factor`` is
    above 0, the first step moves. Of the metrics it is shown those from there on. In torch it is a SequentialLR of a
    LinearLR and that schedule, with this milestone; a ReduceLROnPlateau or another warm-up, which torch's sequence does
    not take, is begun there. Raises ValueError for a ``start_factor`` outside (0, 1] and for an ``after`` of another
    rate, and TypeError for one that is no schedule.
    Goyal et al. (2017), section 2.2;
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html
    """

    after: Schedule
    start_factor: float = 1 / 3
    total_iters: int = 5

    def __post_init__(self) -> None:
        require_at_least(self, 0, "total_iters")
        if not 0 < self.start_factor <= 1:
            raise ValueError(f"LinearWarmup needs a start_factor in (0, 1], got {self.start_factor}")
        if not isinstance(self.after, Schedule):
            raise TypeError(f"LinearWarmup needs a schedule after it, such as ConstantRate(lr), got {self.after!r:.60}")
        if self.after.lr != self.lr:
            raise ValueError(f"LinearWarmup needs its own lr of {self.lr} after it, got {self.after.lr}")

    def with_lr(self, lr: float) -> Self:
        return replace(self, lr=lr, after=self.after.with_lr(lr))

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        if epoch >= self.total_iters:
            return self.after(epoch - self.total_iters, history[self.total_iters :])
        return self.lr * (self.start_factor + (1 - self.start_factor) * epoch / self.total_iters)

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        from torch.optim.lr_scheduler import LinearLR, LRScheduler, SequentialLR

        warmup = self

        class Twin(LRScheduler):
            """torch's rise, which torch's other schedule follows from the milestone on."""

            def __init__(self) -> None:
                self.optimizer, self.last_epoch = optimizer, -1
                self.current: LRScheduler = LinearLR(optimizer, warmup.start_factor, 1.0, max(warmup.total_iters, 1))
                self.step(math.nan)

            def step(self, metrics: float) -> None:  # type: ignore[override]  # torch's takes an epoch
                self.last_epoch += 1
                if self.last_epoch == warmup.total_iters:
                    for group in optimizer.param_groups:
                        group["lr"] = warmup.lr
                    self.current = warmup.after.twin(optimizer)
                elif self.last_epoch:
                    step: Any = self.current.step
                    step(*[metrics] * ("metrics" in inspect.signature(step).parameters))

        if isinstance(self.after, (LinearWarmup, ReduceLROnPlateau)):
            return Twin()
        rise = LinearLR(optimizer, self.start_factor, 1.0, self.total_iters)
        return SequentialLR(optimizer, [rise, self.after.twin(optimizer)], [self.total_iters])

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases

        kinds = (CosineAnnealingLR, StepLR, MultiStepLR, ExponentialLR, ReduceLROnPlateau)
        after = st.one_of([kind.cases() for kind in kinds])
        starts = st.sampled_from([1 / 3, 0.1, 1e-3, 1.0]) | st.floats(0.01, 1)

        def before(drawn: Case) -> SearchStrategy[Case]:
            following = drawn.subject
            return cases(st.builds(cls, st.just(following.lr), st.just(following), starts, st.integers(0, 12)))

        return st.one_of([after, after, after.flatmap(before)]).flatmap(before)
