"""An engine behind a border, at which arrays are copied, converted and named as the contract of engines says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context, Key, Kinks
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.engine import Engine, State, Step
from gradcheck.trajectory.faults import Fault
from gradcheck.trajectory.generators import seeded

NUMBERS = "fiub"  # kinds of dtype


@dataclass(frozen=True)
class Terms:
    """What happens at the border of an engine; without any, an engine needs none.

    ``copied`` arrays do not share memory with the engine's. ``converted`` numbers and tensors become arrays, and in
    `load` what they were. ``names`` maps keys of its state to those of the contract. A ``counted`` engine has no number
    of steps of its own. A ``seeded`` one draws from the global generators, which are seeded before each of its calls.
    """

    copied: bool = False
    converted: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    counted: bool = False
    seeded: bool = False

    def __bool__(self) -> bool:
        return self.copied or self.converted or bool(self.names) or self.counted or self.seeded


class Border(Engine):
    """``engine`` on some terms; its own arrays are what it trains on, so that it is left as trained."""

    def __init__(self, engine: Engine, terms: Terms) -> None:
        self.engine, self.terms, self.steps = engine, terms, 0

    def state(self) -> State:
        return self._shown(self.engine.state())

    def load(self, state: Mapping[str, Array]) -> None:
        if self.terms.counted:
            self.steps = int(state["step"])
        inward = {given: own for own, given in self.terms.names.items()}
        kept = {inward.get(key, key): np.array(array) for key, array in state.items()}
        own = self.engine.state() if self.terms.counted or self.terms.converted else {}
        if self.terms.counted:
            kept.pop("step")
        # What is first made in a step is not there yet; it is kept as other arrays are.
        other = next((value for value in own.values() if hasattr(value, "new_tensor")), None)
        self.engine.load({key: like(own.get(key, other), array) for key, array in kept.items()})

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        with self._drawing(context.key):
            step = self.engine.step(x, y, lr, context)
        self.steps += 1
        grads = {name: self._array(grad, f"the gradient of {name}") for name, grad in step.grads.items()}
        loss, outputs = self._array(step.loss, "the loss"), self._array(step.outputs, "the outputs")
        return Step(loss, outputs, grads, self._shown(step.updated), step.taps)

    @property
    def opaque(self) -> bool:
        return self.engine.opaque

    def evaluate(self, x: Array, context: Context) -> Array:
        with self._drawing(context.key):
            return self._array(self.engine.evaluate(x, context), "the outputs")

    def kinks(self, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:
        return self.engine.kinks(x, taps)

    def planted(self, fault: Fault) -> Engine:
        if type(self.engine).planted is Engine.planted:
            return super().planted(fault)  # outside, where everything is an array
        planted = Border(self.engine.planted(fault), self.terms)
        planted.steps = self.steps
        return planted

    def _shown(self, state: Mapping[str, Any]) -> State:
        named = {self.terms.names.get(key, key): self._array(value, key) for key, value in state.items()}
        return named | ({"step": np.asarray(self.steps)} if self.terms.counted else {})

    def _array(self, value: Any, name: str) -> Array:  # noqa: ANN401  whatever an engine shows
        return np.array(array_of(value, name)) if self.terms.copied else array_of(value, name)

    def _drawing(self, key: Key) -> Any:  # noqa: ANN401  a context manager
        return seeded(key.child("global generators")) if self.terms.seeded else nullcontext()


def array_of(value: Any, name: str) -> Array:  # noqa: ANN401  whatever an engine shows
    """Return a number, tensor or array as an array; raises `AdapterError` for anything else."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except Exception as error:  # noqa: BLE001  the engine is anybody's
        raise AdapterError(f"{name} is a {type(value).__name__}, of which no array can be made: {error}") from None
    if array.dtype.kind not in NUMBERS:
        raise AdapterError(f"{name} is a {type(value).__name__}; an array of numbers is needed")
    return array


def like(own: Any, array: Array) -> Any:  # noqa: ANN401  whatever an engine shows
    """Return an array as what the engine itself keeps: a tensor, a Python number or an array."""
    if hasattr(own, "new_tensor"):
        torch: Any = sys.modules["torch"]
        return own.new_tensor(array, dtype=torch.from_numpy(np.array(array)).dtype)
    return type(own)(array) if isinstance(own, (bool, int, float)) else array


def is_converted(value: object) -> bool:
    """Return whether a value is no array yet: NumPy's own numbers are taken for arrays."""
    return not isinstance(value, (np.ndarray, np.generic))
