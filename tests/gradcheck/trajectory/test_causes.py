"""Causes that the steps of whole engines show: each is planted, and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradcheck.contract import Array, Context
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch, Engine, State, Step
from tests.gradcheck.trajectory.neuron import weights


class Program(Engine):
    """Least squares of eight samples, by SGD with momentum or by Adam, with the mistakes that are given by name."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        self.options = options
        self.w, self.steps = weights(), 0
        self.kept = {slot: np.zeros(6) for slot in (("exp_avg", "exp_avg_sq") if self.adam else ("momentum_buffer",))}
        self.left = np.zeros(6)  # the gradients that have been added up, or a velocity, that no state shows

    @property
    def adam(self) -> bool:
        return bool(self.options.get("adam"))

    def state(self) -> State:
        shown = {} if self.options.get("plain") else self.kept
        slots = {f"optim/{slot}/0.weight": array.copy() for slot, array in shown.items()}
        return {"param/0.weight": self.w.copy(), **slots, "step": np.asarray(self.steps)}

    def load(self, state: Mapping[str, Array]) -> None:
        self.w, self.steps = state["param/0.weight"].copy(), int(state["step"])
        if not self.options.get("plain"):
            self.kept = {slot: state[f"optim/{slot}/0.weight"].copy() for slot in self.kept}

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        out = context.tapped("forward", "0.output", x @ self.w)
        error = context.tapped("backward", "0.input", out - y)
        grad = error @ x / len(x) * self.options.get("times", 1)
        if self.options.get("accumulates"):
            self.left = grad = self.left + grad
        used = grad + self.options.get("decay", 0.0) * self.w
        self.steps += 1
        self.w = self.w - lr * self.moved(used)
        return Step(np.asarray(error @ error / 2), out, {"0.weight": grad}, self.state())

    def moved(self, grad: Array) -> Array:
        if self.options.get("plain"):
            self.left = self.options.get("hidden", 0.0) * self.left + grad
            return self.left
        if not self.adam:
            self.kept["momentum_buffer"] = 0.9 * self.kept["momentum_buffer"] + grad
            return self.kept["momentum_buffer"]
        betas = self.options.get("betas", (0.9, 0.999))
        powers = zip(self.kept, betas, (grad, grad * grad), strict=True)
        self.kept = {slot: beta * self.kept[slot] + (1 - beta) * power for slot, beta, power in powers}
        mean, square = (kept / (1 - beta**self.steps) for kept, beta in zip(self.kept.values(), betas, strict=True))
        eps = self.options.get("eps", 1e-8)
        return mean / (np.sqrt(square + eps) if self.options.get("inside") else np.sqrt(square) + eps)


def drawn(count: int = 4) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [Batch(rng.standard_normal((8, 6)), rng.standard_normal(8), 0.01) for _ in range(count)]


ADAM, PLAIN = {"adam": True}, {"plain": True}
TOLD = [
    (PLAIN, {"accumulates": True}, 1, "the gradient of 0.weight is the sum of the reference's of this step and of the"),
    (PLAIN, {"hidden": 0.9}, 1, "0.weight is off by 0.9 times its move in the step before: as by a momentum of 0.9 in"),
    ({}, {"decay": 1e-3}, 0, "0.weight's update is off by a multiple of the parameter: as by a weight decay of 0.001"),
    (PLAIN, {"decay": 1e-3}, 0, "0.weight's update is off by a multiple of the parameter: as by a weight decay of 0.0"),
    (ADAM, {"decay": 1e-3}, 0, "0.weight's update is off by a multiple of the parameter: as by a weight decay of 0.0"),
    (ADAM, {"betas": (0.9, 0.99)}, 0, "0.weight's exp_avg_sq moved as by beta2 = 0.99, where the reference's is 0.999"),
    (ADAM, {"betas": (0.8, 0.999)}, 0, "0.weight's exp_avg moved as by beta1 = 0.8, where the reference's is 0.9"),
    (ADAM, {"inside": True}, 0, "0.weight moved as with eps inside the root, sqrt(v + eps), where the reference adds"),
    (ADAM, {"eps": 1e-6}, 0, "0.weight moved as by an eps of 1e-06, where the reference's is 1e-08"),
    (PLAIN, {"times": 4}, 0, "every gradient is exactly 4 times the reference's: as where ours adds up 4 micro-batch"),
    (PLAIN, {"times": 8}, 0, "0.weight's gradient is exactly 8 times the reference's; 8 is the batch size"),
    (PLAIN, {"times": 2}, 0, "0.weight's gradient is exactly 2 times the reference's"),
]


@pytest.mark.parametrize(("common", "mistake", "step", "told"), TOLD, ids=lambda value: str(value)[:40])
def test_a_mistake_is_named(common: dict[str, Any], mistake: dict[str, Any], step: int, told: str) -> None:
    found = check_trajectory(
        Program(**common | mistake), Program(**common), drawn(), sensitivity=False
    ).first_divergence
    assert found is not None
    assert found.step == step
    assert (found.diagnosis or "").startswith(told)


@pytest.mark.parametrize(
    ("common", "mistake", "told"),
    [
        (PLAIN, {"accumulates": True}, "as where zero_grad is missing in the reference"),
        (PLAIN, {"hidden": 0.9}, "as by a momentum of 0.9 in the reference, whose velocity state() does not show"),
        ({}, {"decay": 1e-3}, "as by a weight decay of 0.001 less than the reference's"),
        (ADAM, {"decay": 1e-3}, "as by a weight decay of 0.001 less than the reference's"),
        (PLAIN, {"times": 4}, "as where the reference adds up 4 micro-batches without dividing their losses by 4"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_of_the_reference_is_named_as_such(
    common: dict[str, Any], mistake: dict[str, Any], told: str
) -> None:
    found = check_trajectory(
        Program(**common), Program(**common | mistake), drawn(), sensitivity=False
    ).first_divergence
    assert found is not None
    assert (found.diagnosis or "").endswith(told)


@pytest.mark.parametrize("common", [{}, PLAIN, ADAM], ids=str)
def test_without_a_mistake_they_are_the_same(common: dict[str, Any]) -> None:
    assert check_trajectory(Program(**common), Program(**common), drawn(12), sensitivity=False)
