"""A small engine of plain sums, for trajectories whose right answer is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradcheck.contract import Array, Context, Kinks
from gradcheck.trajectory.engine import Batch, Engine, State, Step
from gradcheck.trajectory.faults import Fault


class Neuron(Engine):
    """``y = act(sum_i x_i w_i)`` with half the squared error, summed in the order of ``direction``.

    Two of opposite directions are the same program up to rounding. ``corrupt(step, grad)`` plants a fault; ``hidden``
    moves the weight after the step has been shown, where lock-step cannot see it.
    """

    def __init__(
        self,
        weight: Array,
        *,
        direction: int = 1,
        rectified: bool = False,
        corrupt: Callable[[int, Array], Array] = lambda _, grad: grad,
        hidden: float = 0.0,
        dynamics: Callable[[Array, Array, float], Array] = lambda w, grad, lr: w - lr * grad,
        tap: str = "0.output",
    ) -> None:
        self.weight = weight.copy()
        self.direction, self.rectified, self.corrupt, self.hidden = direction, rectified, corrupt, hidden
        self.dynamics, self.tap = dynamics, tap
        self.steps = 0

    def state(self) -> State:
        return {"param/0.weight": self.weight.copy(), "step": np.asarray(self.steps)}

    def load(self, state: Mapping[str, Array]) -> None:
        self.weight = state["param/0.weight"].astype(self.weight.dtype)
        self.steps = int(state["step"])

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        x, y = context.tapped("data", "x", x), context.tapped("data", "y", y)
        products = (x * self.weight)[:, :: self.direction]
        z = context.tapped("forward", self.tap, np.cumsum(products, axis=1)[:, -1])
        outputs = context.tapped("forward", "1.output", np.maximum(z, 0) if self.rectified else z)
        error = outputs - y
        loss = np.asarray((error * error).sum() / 2)
        dz = context.tapped("backward", "1.input", error * (z > 0) if self.rectified else error)
        grad = self.corrupt(context.key.step, (dz[:, None] * x).sum(axis=0))
        self.weight = self.dynamics(self.weight, grad, lr).astype(self.weight.dtype)
        self.steps += 1
        shown = self.state()
        self.weight = self.weight * (1 + self.weight.dtype.type(self.hidden))
        return Step(loss, outputs, {"0.weight": grad}, shown)

    def kinks(self, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:
        if not self.rectified:
            return {}
        z = taps["forward/0.output"]
        return {"1": Kinks(z > 0, np.abs(z))}


class Evaluated(Neuron):
    """A neuron that can be evaluated, and remembers at which steps it was."""

    evaluations: tuple[int, ...] = ()

    def evaluate(self, x: Array, context: Context) -> Array:
        self.evaluations += (context.key.step,)
        products = (x * self.weight)[:, :: self.direction]
        return context.tapped("forward", self.tap, np.cumsum(products, axis=1)[:, -1])


class WrongInEvaluation(Fault):
    """Outputs that are doubled where a network does not train."""

    def tap(self, context: Context, name: str, array: Array) -> Array:
        wrong = not context.training and context.key.step >= self.begin and name == "forward/0.output"
        return 2 * array if wrong else array


def batches(count: int, size: int = 6, *, seed: int = 0, lr: float = 0.01, dtype: type = np.float64) -> list[Batch]:
    """Return batches of two samples around a plane."""
    rng = np.random.default_rng(seed)
    return [
        Batch(rng.standard_normal((2, size)).astype(dtype), rng.standard_normal(2).astype(dtype), lr)
        for _ in range(count)
    ]


def weights(size: int = 6, *, seed: int = 1, dtype: type = np.float64) -> Array:
    """Return initial weights."""
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)
