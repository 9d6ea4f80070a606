"""One training step in NumPy."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from gradcheck.contract import EVALUATION, Array, Context, Gradients, Into, Kinks, Layer, Loss, Optimizer, pulled
from gradcheck.trajectory.engine import Batch, Engine, State, Step, StepError, below
from gradcheck.trajectory.faults import Fault, Planted
from nets.layers.containers import kinks_along
from nets.optimizers.flat_arrays import FlatArrays


class NumpyEngine(Engine):
    """Trains a copy of ``model``, its attribute. A planted fault is really made: a wrong gradient is learnt from.

    The parameters that the layers hold are views of one array, and updates are in place: a pullback sees those that
    come after its forward pass, and is worth nothing from the next step on. The gradients are views of another, which
    the next step overwrites.
    """

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer) -> None:
        _require_own(model.parameters() | model.buffers())
        self.params, self.grads = FlatArrays(model.parameters()), FlatArrays(model.parameters())
        self.buffers = {name: array.copy() for name, array in model.buffers().items()}
        self.model = model.replace_arrays(self.params | self.buffers)
        self._lasting = {
            **{f"param/{name}": array for name, array in self.params.items()},
            **{f"buffer/{name}": array for name, array in self.buffers.items()},
        }
        self.loss, self.optimizer, self.plant = loss, optimizer, Planted(Fault())
        self.steps = 0

    def __deepcopy__(self, memo: dict[int, object]) -> NumpyEngine:
        other = NumpyEngine(self.model, self.loss, copy.deepcopy(self.optimizer, memo))
        other.plant, other.steps = copy.deepcopy(self.plant, memo), self.steps
        return other

    def planted(self, fault: Fault) -> NumpyEngine:
        """Return a copy of this engine that makes the fault, in place of one that it makes already."""
        other = copy.deepcopy(self)
        other.plant = Planted(fault)
        return other

    def state(self) -> State:
        return {key: np.array(array) for key, array in self._state().items()}

    def load(self, state: Mapping[str, Array]) -> None:
        self.steps = int(state["step"])
        for name, array in self.params.items():
            array[...] = state[f"param/{name}"]
        for name, array in self.buffers.items():
            array[...] = state[f"buffer/{name}"]
        self.optimizer.state = {key: array.copy() for key, array in below("optim/", state).items()}

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        if context.updates is None:
            context = context.tapped_by(context.tap)
        index, fault = context.key.step, self.plant.fault
        x, y, lr = fault.batch(index, Batch(x, y, lr))
        context = self.plant.context(context)
        x, y = context.tapped("data", "x", x), context.tapped("data", "y", y)
        outputs, backward = self.model.forward(x, context)
        of_loss = context.child("loss")
        loss, loss_backward = self.loss.forward(outputs, y, of_loss)
        if np.shape(loss):
            raise StepError(f"needs a loss of one number, got shape {np.shape(loss)}: reduce it", "loss/loss.value")
        loss = of_loss.tapped("loss", "value", loss)
        doutputs = of_loss.tapped("backward", "prediction", loss_backward(np.ones((), loss.dtype)))
        _, grads = pulled(backward, doutputs, Into(self.grads), needed=False)
        grads = self.plant.gradients(index, grads, len(x))
        for name, grad in grads.items():
            if name in self.params and grad.shape != self.params[name].shape:
                shapes = f"has shape {grad.shape}, its parameter {self.params[name].shape}"
                raise StepError(shapes, f"backward/{name}")
        fault.update(index, self.optimizer, self.params, self._at_once(grads), lr)
        for name, array in (context.updates or {}).items():
            self.buffers[name][...] = array
        self.steps += 1
        return Step(loss, outputs, grads, self._state())

    def kinks(self, x: Array, taps: Mapping[str, Array]) -> dict[str, Kinks]:
        return dict(kinks_along(self.model, x, taps))

    def evaluate(self, x: Array, context: Context = EVALUATION) -> Array:
        return self.model.forward(x, self.plant.context(context))[0]

    def _at_once(self, grads: Gradients) -> Gradients:
        """Return gradients as views of one array, if every parameter has one."""
        if grads.keys() != self.grads.keys():
            return grads
        for name, array in self.grads.items():
            if grads[name] is not array:
                array[...] = grads[name]
        return self.grads

    def _state(self) -> State:
        return {
            **self._lasting,
            **{f"optim/{key}": array for key, array in self.optimizer.state.items()},
            "step": np.asarray(self.steps),
        }


def _require_own(arrays: Mapping[str, Array]) -> None:
    """Raise ValueError where two names are of one array, as of a layer used twice: each gets a copy here."""
    first: dict[int, str] = {}
    for name, array in arrays.items():
        other = first.setdefault(id(array), name)
        if other != name:
            raise ValueError(f"NumpyEngine needs arrays of their own, got one for {other} and {name}: make two layers")
