"""A rate that falls when a metric has stopped improving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gradcheck.contract import Case, Schedule
from nets.schedules.limits import require_at_least

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class ReduceLROnPlateau(Schedule):
    """The rate ``max(lr factor^k, min_lr)`` after k plateaus: more than ``patience`` epochs without a new best each.

    In ``mode`` min a metric is a new best below ``best (1 - threshold)``, or with ``threshold_mode`` abs below
    ``best - threshold``; in mode max above ``best (1 + threshold)`` or ``best + threshold``. The ``cooldown`` epochs
    after a plateau belong to none, and a rate is left as it is where it would fall by no more than ``eps``. The rate of
    an epoch follows from the metrics of those before. Raises ValueError if there are fewer, for a factor outside
    [0, 1), for other modes than these and for what is negative.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html
    """

    mode: Literal["min", "max"] = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if isinstance(self.min_lr, Sequence):
            raise ValueError(f"ReduceLROnPlateau needs one min_lr, as it has one lr, got {self.min_lr}")
        require_at_least(self, 0, "patience", "threshold", "cooldown", "min_lr", "eps")
        if not 0 <= self.factor < 1:
            raise ValueError(f"ReduceLROnPlateau needs a factor in [0, 1), got {self.factor}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau needs mode min or max, got {self.mode!r}")
        if self.threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau needs threshold_mode rel or abs, got {self.threshold_mode!r}")

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        if len(history) < epoch:
            raise ValueError(f"ReduceLROnPlateau needs the {epoch} losses before epoch {epoch}, got {len(history)}")
        lr, best = self.lr, math.inf if self.mode == "min" else -math.inf
        waited = resting = 0
        for loss in history[:epoch]:
            if self._is_better(loss, best):
                best, waited = loss, 0
            else:
                waited += 1
            if resting:
                resting, waited = resting - 1, 0
            if waited > self.patience:
                lower = max(lr * self.factor, self.min_lr)
                if lr - lower > self.eps:
                    lr = lower
                resting, waited = self.cooldown, 0
        return lr

    def _is_better(self, loss: float, best: float) -> bool:
        sign = -1 if self.mode == "min" else 1
        least = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return loss < least if self.mode == "min" else loss > least

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        import torch

        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            self.mode,
            self.factor,
            self.patience,
            self.threshold,
            self.threshold_mode,
            self.cooldown,
            self.min_lr,
            self.eps,
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.properties.rates import THRESHOLDS
        from gradcheck.strategies import cases

        def drawn(draw: st.DrawFn) -> ReduceLROnPlateau:
            lr = draw(st.floats(1e-4, 10))
            return cls(
                lr,
                draw(st.sampled_from(["min", "max"])),
                draw(st.sampled_from([0.1, 0.5, 0.7, 0.9, 0.0])),
                draw(st.sampled_from([0, 1, 2, 5])),
                draw(st.sampled_from(THRESHOLDS)),
                draw(st.sampled_from(["rel", "abs"])),
                draw(st.sampled_from([0, 1, 2, 4])),
                lr * draw(st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.3, 2.0])),
                draw(st.sampled_from([1e-8, 0.0, 0.1 * lr, 0.3 * lr])),
            )

        return cases(st.composite(drawn)())
