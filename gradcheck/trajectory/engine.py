"""The contract of an engine, which takes training steps and shows every tensor of them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Context, Gradients, Kinks
from gradcheck.numerics.rounding import Recorder
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.faults import Fault, Planted

State = dict[str, Array]
STATE = ("param", "buffer", "optim")  # the parts of a state, besides its number of steps


class Batch(NamedTuple):
    """What one step learns from: inputs (batch, ...), targets (batch, ...), and the learning rate."""

    x: Array
    y: Array
    lr: float


@dataclass(frozen=True)
class Step:
    """What one training step computed. ``updated`` is the state after it, ``taps`` the tapped arrays.

    The arrays may be views of the engine's own: they are valid until its next `step` or `load`. An evaluation has
    outputs and taps, and an empty loss. Empty outputs or an empty loss are not shown.
    """

    loss: Array
    outputs: Array
    grads: Gradients
    updated: State
    taps: dict[str, Array] = field(default_factory=dict)


class StepError(ValueError):
    """A step cannot be completed.

    ``at`` is the ``phase/tensor`` at fault, if it is known; ``shown`` are the taps before the error.
    """

    def __init__(self, message: str, at: str = "", shown: tuple[str, ...] = ()) -> None:
        super().__init__(f"{at} {message}" if at else message)
        self.message, self.at, self.shown = message, at, shown

    def place(self, order: list[str]) -> str:
        """Return ``at``, or else the tensor that follows, in the order of a step, the last one shown."""
        seen = max((order.index(name) for name in self.shown if name in order), default=-1)
        return self.at or next((name for name in order[seen + 1 :] if name != "forward/outputs"), order[-1])


class Engine(ABC):
    """An implementation of training, of which ``copy.deepcopy`` must make an independent copy.

    Keys of the state are ``param/<name>``, ``buffer/<name>``, ``optim/<slot>/<name>`` and ``step``.
    """

    @abstractmethod
    def state(self) -> State:
        """Return a copy of everything that the next step depends on."""

    @abstractmethod
    def load(self, state: Mapping[str, Array]) -> None:
        """Copy ``state``, from this or another engine, into this one."""

    @abstractmethod
    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        """Take one step on a batch and pass every tap through ``context``; ``taps`` of the result may stay empty."""

    @property
    def opaque(self) -> bool:
        """Whether a step computes much that no tap shows; then shadows nudge inputs and parameters as well as taps."""
        return False

    def evaluate(self, x: Array, context: Context) -> Array:
        """Return the outputs for ``x`` in evaluation mode, and pass every tap through ``context``; nothing changes."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate(x, context), so evaluation is not compared")

    def kinks(self, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:  # noqa: ARG002  by default there are none
        """Return, by layer, the discrete choices of a forward pass on ``x`` with the given taps."""
        return {}

    def planted(self, fault: Fault) -> Engine:
        """Return a copy of this engine with the fault; by default, a `FaultyEngine` around it."""
        return FaultyEngine(copy.deepcopy(self), fault)


class FaultyEngine(Engine):
    """Any engine, with a fault in its batches, in its taps, and in the gradients that it shows.

    Its use of the gradients is out of reach: they are wrong where a `Step` shows them, and the update is right. A fault
    in a tap has an effect only if the engine uses what the tap returns. Raises ValueError for a fault of the update.
    """

    def __init__(self, engine: Engine, fault: Fault) -> None:
        if fault.inside:
            raise ValueError(f"{type(engine).__name__} cannot make {type(fault).__name__}, a fault inside its update")
        self.engine, self.plant = engine, Planted(fault)

    def state(self) -> State:
        return self.engine.state()

    def load(self, state: Mapping[str, Array]) -> None:
        self.engine.load(state)

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        index = context.key.step
        batch = self.plant.fault.batch(index, Batch(x, y, lr))
        step = self.engine.step(*batch, self.plant.context(context))
        return replace(step, grads=self.plant.gradients(index, step.grads, len(x)))

    @property
    def opaque(self) -> bool:
        return self.engine.opaque

    def evaluate(self, x: Array, context: Context) -> Array:
        return self.engine.evaluate(x, self.plant.context(context))

    def kinks(self, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:
        return self.engine.kinks(x, taps)


def observed(
    engine: Engine,
    batch: Batch,
    context: Context,
    rng: np.random.Generator | None = None,
    forced: Mapping[str, Array] | None = None,
) -> Step:
    """Take one step with every tap recorded in ``taps``, nudged if given a generator, or replaced by a ``forced`` one.

    In a context that does not train, ``batch.x`` is evaluated. Any exception of the engine becomes a `StepError` with
    the taps shown before it, but for an `AdapterError`.
    """
    recorder = Recorder(rng, forced=forced)
    tapped = context.tapped_by(recorder)
    try:
        if context.training:
            step = engine.step(*batch, tapped)
        else:
            step = Step(np.empty(0), engine.evaluate(tapped.tapped("data", "x", batch.x), tapped), {}, {})
    except StepError as error:
        raise StepError(error.message, error.at, tuple(recorder.taps)) from error
    except AdapterError:
        raise
    except Exception as error:  # the engine is anybody's
        raise StepError(f"raises {type(error).__name__}: {error}", shown=tuple(recorder.taps)) from error
    return replace(step, taps=recorder.taps)


def tensors_of(step: Step) -> dict[str, Array]:
    """Return everything that a step shows, by the name ``phase/tensor``."""
    return {
        **step.taps,
        **({"forward/outputs": step.outputs} if np.size(step.outputs) else {}),
        **({"loss/loss.value": np.asarray(step.loss)} if np.size(step.loss) else {}),
        **{f"backward/{name}": grad for name, grad in step.grads.items()},
        **{f"update/{key}": np.asarray(array) for key, array in step.updated.items()},
    }


def step_of(tensors: Mapping[str, Array]) -> Step:
    """Return the step that shows ``tensors``, which come in the order of execution: the inverse of `tensors_of`.

    Gradients are those of the parameters that the step updates; every other array is a tap.
    """
    updated = {
        name.removeprefix("update/"): array
        for name, array in tensors.items()
        if name == "update/step" or name.startswith(tuple(f"update/{part}/" for part in STATE))
    }
    named = {f"backward/{key.removeprefix('param/')}" for key in updated if key.startswith("param/")}
    grads = {name.removeprefix("backward/"): array for name, array in tensors.items() if name in named}
    rest = {"forward/outputs", "loss/loss.value", *named, *(f"update/{key}" for key in updated)}
    return Step(
        loss=tensors.get("loss/loss.value", np.empty(0)),
        outputs=tensors.get("forward/outputs", np.empty(0)),
        grads=grads,
        updated=updated,
        taps={name: array for name, array in tensors.items() if name not in rest},
    )


def below(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays whose names begin with ``prefix``, by what comes after it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def load(engine: Engine, state: State) -> None:
    """Load a state that comes from a file; raises `StepError` for the state of another engine."""
    own = engine.state()
    for key, array in own.items():
        if key.startswith(("param/", "buffer/")):
            if key not in state:
                raise StepError(f"needs {key} to begin with, got {', '.join(state)}")
            if (array.shape, array.dtype) != (state[key].shape, state[key].dtype):
                got = f"{state[key].dtype} of shape {state[key].shape}"
                raise StepError(f"needs {key} to be {array.dtype} of shape {array.shape}, got {got}")
    if unknown := [key for key in state if key.startswith(("param/", "buffer/")) and key not in own]:
        raise StepError(f"knows no {', '.join(unknown)}")
    try:
        engine.load(state)
    except Exception as error:  # noqa: BLE001  the engine is anybody's, and so is the state
        raise StepError(f"cannot load the state: {type(error).__name__}: {error}") from None


def execution_order(step: Step) -> list[str]:
    """Return the names of `tensors_of` in the order in which a step computes them.

    Within ``backward`` the gradients of a layer's parameters come with that of its input, last layer first. Within
    ``update`` the optimizer's state comes before the parameters, which are moved by it.
    """
    taps, grads = list(step.taps), list(step.grads)
    backward: list[str] = []
    for tap in (name for name in taps if name.startswith("backward/")):
        layer = tap.removeprefix("backward/").removesuffix(".input")
        backward += [f"backward/{name}" for name in grads if layer_of(name) == layer] + [tap]
    rest = [f"backward/{name}" for name in grads if f"backward/{name}" not in backward]
    return [
        *(name for name in taps if name.startswith("data/")),
        *(name for name in taps if name.startswith("forward/")),
        *(["forward/outputs"] if np.size(step.outputs) else []),
        *(name for name in taps if name.startswith("loss/") and name != "loss/loss.value"),
        *(["loss/loss.value"] if np.size(step.loss) else []),
        *backward,
        *rest,
        *(f"update/{key}" for key in sorted(step.updated, key=_place)),
    ]


def _place(key: str) -> int:
    return next((i for i, part in enumerate(("buffer/", "optim/", "param/")) if key.startswith(part)), 3)


def layer_of(tensor: str) -> str:
    """Return the layer that a tensor belongs to: ``0`` for ``0.weight`` and for ``param/0.weight``."""
    return tensor.rpartition("/")[2].rpartition(".")[0]
