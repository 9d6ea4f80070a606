"""Schedules with one mistake each, and the property that has to see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nets.schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearWarmup,
    MultiStepLR,
    PiecewiseConstant,
    ReduceLROnPlateau,
    StepLR,
)
from tests.nets.faults.fault import caught_by

RATES = "rates_agree_with_twin"
REPEATED = "rates_do_not_depend_on_earlier_calls"


@caught_by(RATES, REPEATED, tensor="lr", name="SCH-02")
class Compounding(ExponentialLR):
    """Multiplies the current rate by gamma^epoch, which belongs to the initial rate."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        rate = self.__dict__.get("current", self.lr) * self.gamma**epoch
        object.__setattr__(self, "current", rate)
        return rate


@caught_by(REPEATED, tensor="lr")
class CountingItsCalls(StepLR):
    """Counts calls, not epochs: right only with one call per epoch, in order."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        calls = self.__dict__.get("calls", 0)
        object.__setattr__(self, "calls", calls + 1)
        return super().__call__(calls, history)


@caught_by(RATES, tensor="lr")
class ZeroIsTheDefault(StepLR):
    """Treats a factor of 0 as not given."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * (self.gamma or 0.1) ** (epoch // self.step_size)


@caught_by(RATES, tensor="lr")
class StepLate(StepLR):
    """Lowers the rate one epoch late: after ``step_size`` epochs counted from 1."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return super().__call__(max(epoch - 1, 0), history)


@caught_by(RATES, tensor="lr")
class StepEarly(StepLR):
    """Lowers the rate one epoch early."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return super().__call__(epoch + 1, history)


@caught_by(RATES, tensor="lr")
class PastItsMilestone(MultiStepLR):
    """Applies a milestone one epoch late."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * self.gamma ** sum(milestone < epoch for milestone in self.milestones)


@caught_by(RATES, tensor="lr")
class TwiceIsOnce(MultiStepLR):
    """Counts a repeated milestone once."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * self.gamma ** sum(milestone <= epoch for milestone in set(self.milestones))


@caught_by(RATES, tensor="lr")
class FactorsMultiply(PiecewiseConstant):
    """Multiplies the factors of all milestones that were passed."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        passed = [factor for at, factor in zip(self.milestones, self.factors, strict=True) if at <= epoch]
        return self.lr * math.prod(passed)


@caught_by(RATES, tensor="lr", name="SCH-05")
class WholePeriod(CosineAnnealingLR):
    """Treats ``T_max`` as the whole period: the rate is at its minimum half-way."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return super().__call__(2 * epoch, history)


@caught_by(RATES, tensor="lr")
class WithoutLeast(CosineAnnealingLR):
    """Adds the minimum rate to a cosine of full height, so the rate starts above the base rate."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.eta_min + self.lr * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


@caught_by(RATES, tensor="lr")
class StaysDown(CosineAnnealingLR):
    """Stays at the minimum rate after ``T_max``; torch's cosine rises again."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return super().__call__(min(epoch, self.T_max), history)


@caught_by(RATES, tensor="lr", name="SCH-04")
class FromZero(LinearWarmup):
    """Starts at a rate of 0, so that the first step moves nothing."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr * epoch / self.total_iters if epoch < self.total_iters else super().__call__(epoch, history)


@caught_by(RATES, tensor="lr", name="SCH-05")
class ClockRunsOn(LinearWarmup):
    """Gives the next schedule the epoch of the whole run, so it skips its first epochs."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.after(epoch, history) if epoch >= self.total_iters else super().__call__(epoch, history)


@caught_by(RATES, tensor="lr")
class HandsOverLate(LinearWarmup):
    """Starts the next schedule one epoch late, and at its epoch 1."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return self.lr if epoch == self.total_iters else super().__call__(epoch + (epoch > self.total_iters), history)


@caught_by(RATES, tensor="lr")
class MetricsOfTheRise(LinearWarmup):
    """Passes the metrics of the warm-up to the next schedule, as if they were those of its first epochs."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        if epoch >= self.total_iters:
            return self.after(epoch - self.total_iters, history)
        return super().__call__(epoch, history)


@caught_by(RATES, tensor="lr", name="SCH-05")
class Overshoots(LinearWarmup):
    """Divides by one epoch too few, so the rate overshoots before the warm-up ends."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        if epoch >= self.total_iters:
            return super().__call__(epoch, history)
        return self.lr * (self.start_factor + (1 - self.start_factor) * (epoch + 1) / max(self.total_iters - 1, 1))


class Plateau(ReduceLROnPlateau):
    """The rule told anew, for one mistake at a time; as it is here it has none."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        state: dict[str, Any] = {"lr": self.lr, "best": self._worst(), "waited": 0, "resting": 0}
        for loss in history[:epoch]:
            self._follow(state, loss)
        return float(state["lr"])

    def _follow(self, state: dict[str, Any], loss: float) -> None:
        better = self._improves(loss, state["best"])
        state["waited"] = 0 if better else state["waited"] + 1
        state["best"] = loss if better else state["best"]
        if state["resting"] > 0:
            state["resting"], state["waited"] = state["resting"] - 1, 0
        if self._is_over(state["waited"]):
            lower = self._lower(state["lr"])
            state["lr"] = lower if self._falls(state["lr"], lower) else state["lr"]
            state["resting"], state["waited"] = self.cooldown, 0

    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def _improves(self, loss: float, best: float) -> bool:
        return self._is_better(loss, best)

    def _is_over(self, waited: int) -> bool:
        return waited > self.patience

    def _lower(self, lr: float) -> float:
        return max(lr * self.factor, self.min_lr)

    def _falls(self, lr: float, lower: float) -> bool:
        return lr - lower > self.eps


@caught_by(RATES, tensor="lr")
class WorstIsZero(Plateau):
    """Starts from 0 as the best metric in mode max, as if no metric were negative."""

    def _worst(self) -> float:
        return math.inf if self.mode == "min" else 0.0


@caught_by(RATES, tensor="lr")
class Impatient(Plateau):
    """Lowers the rate after ``patience`` epochs, one too early."""

    def _is_over(self, waited: int) -> bool:
        return waited >= max(self.patience, 1)


@caught_by(RATES, tensor="lr")
class Restless(Plateau):
    """Ignores the cool-down."""

    def _follow(self, state: dict[str, Any], loss: float) -> None:
        super()._follow(state, loss)
        state["resting"] = 0


@caught_by(RATES, tensor="lr")
class RestsOneLonger(Plateau):
    """Makes the cool-down one epoch too long."""

    def _follow(self, state: dict[str, Any], loss: float) -> None:
        resting = state["resting"]
        super()._follow(state, loss)
        state["resting"] += state["resting"] == self.cooldown > 0 == resting


@caught_by(RATES, tensor="lr")
class AnyImprovement(Plateau):
    """Ignores the threshold: any improvement counts."""

    def _improves(self, loss: float, best: float) -> bool:
        return loss < best if self.mode == "min" else loss > best


@caught_by(RATES, tensor="lr")
class EqualIsBetter(Plateau):
    """Counts a loss that is equal to the best as an improvement, where the threshold is 0."""

    def _improves(self, loss: float, best: float) -> bool:
        return super()._improves(loss, best) or (self.threshold == 0 and loss == best)


@caught_by(RATES, tensor="lr")
class AlwaysRelative(Plateau):
    """Treats an absolute threshold as a relative one."""

    def _improves(self, loss: float, best: float) -> bool:
        return loss < best * (1 - self.threshold) if self.mode == "min" else loss > best * (1 + self.threshold)


@caught_by(RATES, tensor="lr")
class LastIsBest(Plateau):
    """Compares with the previous loss, not with the best."""

    def _follow(self, state: dict[str, Any], loss: float) -> None:
        super()._follow(state, loss)
        state["best"] = loss


@caught_by(RATES, tensor="lr")
class BestForgotten(Plateau):
    """Forgets the best loss when it lowers the rate, so the next loss always counts as an improvement."""

    def _follow(self, state: dict[str, Any], loss: float) -> None:
        before = state["lr"]
        super()._follow(state, loss)
        if state["lr"] != before:
            state["best"] = self._worst()


@caught_by(RATES, tensor="lr")
class AlwaysFalls(Plateau):
    """Ignores ``eps``: the rate falls even if the change is tiny."""

    def _falls(self, lr: float, lower: float) -> bool:
        return lr > lower


@caught_by(RATES, tensor="lr")
class Bottomless(Plateau):
    """Ignores ``min_lr``."""

    def _lower(self, lr: float) -> float:
        return lr * self.factor


@caught_by(RATES, tensor="lr")
class RaisedToItsLeast(Plateau):
    """Raises a rate below ``min_lr`` to ``min_lr``."""

    def _falls(self, lr: float, lower: float) -> bool:
        return abs(lr - lower) > self.eps


@caught_by(RATES, tensor="lr")
class ModesConfused(Plateau):
    """Swaps the modes min and max."""

    def _worst(self) -> float:
        return -super()._worst()

    def _improves(self, loss: float, best: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        least = best * (1 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return loss > least if self.mode == "min" else loss < least


@caught_by(RATES, tensor="lr")
class KnowsItsOwnEpoch(Plateau):
    """Uses the loss of the epoch whose rate it computes, which is not known yet."""

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        return super().__call__(epoch - 1, history)


@caught_by(RATES, tensor="lr")
class RelativeToTheSize(Plateau):
    """Takes a relative threshold of the best metric's absolute value; torch takes it with its sign."""

    def _improves(self, loss: float, best: float) -> bool:
        if self.threshold_mode == "abs" or math.isinf(best):
            return super()._improves(loss, best)
        step = abs(best) * self.threshold
        return loss < best - step if self.mode == "min" else loss > best + step


@caught_by(RATES, tensor="lr")
class NotWorseIsBetter(Plateau):
    """Counts NaN as an improvement, because it is not worse than the best."""

    def _improves(self, loss: float, best: float) -> bool:
        return super()._improves(loss, best) or math.isnan(loss)
