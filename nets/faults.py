"""Faults of what only a network's own engine has: its optimizer's memory, its schedule, its modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gradcheck.contract import Array, Context, Gradients, Optimizer, Schedule
from gradcheck.trajectory.faults import Fault

if TYPE_CHECKING:
    from gradcheck.trajectory.engine import Batch
    from nets.layers.dropout import Dropout


@dataclass(frozen=True)
class MomentumLost(Fault):
    """The velocity, begun anew in every step, as by an optimizer that does not keep it. The first step is right."""

    inside: ClassVar[bool] = True

    def update(self, step: int, optimizer: Optimizer, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        if step >= self.begin:
            kept = optimizer.state.items()
            optimizer.state = {key: array for key, array in kept if not key.startswith("momentum_buffer/")}
        optimizer.step(params, grads, lr)


@dataclass(frozen=True)
class CorrectionWithoutPower(Fault):
    """Adam's bias correction ``1 - beta`` in place of ``1 - beta^t``. The first update of a tensor is right."""

    inside: ClassVar[bool] = True

    def update(self, step: int, optimizer: Optimizer, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        counts = {key: int(count) for key, count in optimizer.state.items() if key.startswith("step/")}
        if step < self.begin or not counts:
            optimizer.step(params, grads, lr)
            return
        for key in counts:
            optimizer.state[key][...] = 0
        optimizer.step(params, grads, lr)
        for key, count in counts.items():
            optimizer.state[key][...] += count


@dataclass(frozen=True)
class RateOfNextEpoch(Fault):
    """The learning rate of the epoch that comes next, as of a schedule that is moved on before its epoch."""

    schedule: Schedule
    steps_per_epoch: int

    def batch(self, step: int, batch: Batch) -> Batch:
        return batch._replace(lr=self.rate(step)) if step >= self.begin else batch

    def rate(self, step: int) -> float:
        """Return the rate that is taken in a step from ``begin`` on."""
        return self.schedule(step // self.steps_per_epoch + 1)


@dataclass(frozen=True)
class DropoutInEvaluation(Fault):
    """Dropout left on where a network is evaluated, in all of ``layers``, by path, with the masks of that step."""

    layers: Mapping[str, Dropout]

    def tap(self, context: Context, name: str, array: Array) -> Array:
        path = name.removeprefix("forward/").removesuffix(".output")
        if context.training or context.key.step < self.begin or name != f"forward/{path}.output":
            return array
        layer = self.layers.get(path)
        # The tap is that of the whole network, whose key has no path yet.
        key = context.key._replace(path=path)
        return array if layer is None else layer.forward(array, Context(training=True, key=key))[0]
