"""One training step in torch, on the twins of a NumPy network, loss and optimizer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradcheck.contract import EVALUATION, Array, Context, Layer, Loss, Optimizer, Tap, untapped
from gradcheck.subjects.twin import set_keys
from gradcheck.trajectory.engine import Engine, State, Step
from gradcheck.trajectory.torch_engine import load_tensors
from nets.weights import to_torch

if TYPE_CHECKING:
    import torch


class DeviceError(ValueError):
    """Torch has no such device here."""


class TorchEngine(Engine):
    """Trains the twin of ``model``, from ``model``'s weights and in their precision, by autograd and torch's optimizer.

    With ``context.tap``, the output of every module and the gradient of its input are shown under the names that
    the NumPy layers give them. On another ``device`` than the CPU, what a step shows is copied from there, and what is
    large, gradients and states, only where there is a tap. Raises `DeviceError` for a device that is not there.
    """

    def __init__(self, model: Layer, loss: Loss, optimizer: Optimizer, device: str = "cpu") -> None:
        import torch

        _require_device(device)
        self.parts, self.device = (model, loss, optimizer), device
        self.dtype = next((array.dtype for array in model.parameters().values()), np.dtype(np.float64))
        self.module = model.twin().to(getattr(torch, self.dtype.name))
        to_torch(model, self.module)
        self.module.to(device)
        self.loss = loss.twin().to(device, getattr(torch, self.dtype.name))
        self.params = dict(self.module.named_parameters())
        self.optimizer = optimizer.twin(list(self.params.values()), lr=0.0)
        self.steps = 0
        self._shown: _Shown | None = None  # while a pass is observed
        for name, module in self.module.named_modules():
            if name:
                module.register_forward_pre_hook(self._input_of(name))
                module.register_forward_hook(self._output_of(name))

    def __deepcopy__(self, memo: dict[int, object]) -> TorchEngine:
        # The hooks of a copied module would still show its taps to the original.
        other = TorchEngine(self.parts[0].astype(self.dtype), *self.parts[1:], self.device)
        other.load(self.state())
        return other

    def state(self) -> State:
        return {key: np.array(array) for key, array in self._state().items()}

    def load(self, state: Mapping[str, Array]) -> None:
        import torch

        self.steps = int(state["step"])
        load_tensors(self.module, self.params, state)
        # A new one, with what it has before its first step: Adagrad has state then.
        self.optimizer = self.parts[2].twin(list(self.params.values()), lr=0.0)
        for key, array in state.items():
            if key.startswith("optim/"):
                _, slot, name = key.split("/")
                # torch keeps the count of steps on the CPU, wherever the parameters are.
                where = "cpu" if slot == "step" else self.device
                self.optimizer.state[self.params[name]][slot] = torch.tensor(array, device=where)

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        import torch

        tapped = context.tap is not untapped
        self.module.train(context.training)
        set_keys(self.module, context.key)
        inputs, targets = torch.tensor(x, device=self.device), torch.tensor(y, device=self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        if tapped:
            loss, outputs = self._observed(inputs, targets, context.tap)
        else:
            outputs = self.module(inputs)
            loss = self.loss(outputs, targets)
            loss.backward()
        shown = tapped or self.device == "cpu"
        grads = {name: _array(p.grad) for name, p in self.params.items() if shown and p.grad is not None}
        self.optimizer.step()
        self.steps += 1
        return Step(_array(loss), _array(outputs), grads, self._state() if shown else {})

    def _observed(self, inputs: torch.Tensor, targets: torch.Tensor, tap: Tap) -> tuple[torch.Tensor, torch.Tensor]:
        """Return loss and outputs; show what flows forth and, in one backward pass, back; set the gradients."""
        import torch

        tap("data/x", _array(inputs))
        tap("data/y", _array(targets))
        # So that the first module's input has a gradient to show; indices have none.
        inputs.requires_grad_(inputs.is_floating_point())
        self._shown = shown = _Shown(tap, [])
        try:
            outputs = self.module(inputs)
        finally:
            self._shown = None
        loss = self.loss(outputs, targets)
        shown.inputs.append(("loss.prediction", outputs))
        sought = [tensor for _, tensor in reversed(shown.inputs)]
        found = torch.autograd.grad(loss, [*sought, *self.params.values()], allow_unused=True)
        for (name, _), grad in zip(reversed(shown.inputs), found, strict=False):
            if grad is not None:
                tap(f"backward/{name}", _array(grad))
        for param, grad in zip(self.params.values(), found[len(sought) :], strict=True):
            param.grad = grad
        return loss, outputs

    def evaluate(self, x: Array, context: Context = EVALUATION) -> Array:
        import torch

        self._shown = None if context.tap is untapped else _Shown(context.tap, [])
        self.module.eval()
        set_keys(self.module, context.key)
        try:
            with torch.no_grad():
                return _array(self.module(torch.tensor(x, device=self.device)))
        finally:
            self._shown = None

    def _state(self) -> State:
        # What is there before a tensor's first update, as of Adagrad, says nothing yet.
        states = {name: self.optimizer.state.get(param, {}) for name, param in self.params.items()}
        slots = {
            f"optim/{slot}/{name}": _array(value)
            for name, state in states.items()
            for slot, value in state.items()
            if value is not None and state.get("step") != 0
        }
        return {
            **{f"param/{name}": _array(param) for name, param in self.params.items()},
            **{f"buffer/{name}": _array(buffer) for name, buffer in self.module.named_buffers()},
            **slots,
            "step": np.asarray(self.steps),
        }

    def _input_of(
        self, name: str
    ) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...] | None]:
        def hook(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            if self._shown is None or not args[0].requires_grad:
                return None
            # An alias of its own, so that the gradient is what flows back from this module alone.
            alias = args[0].view_as(args[0])
            self._shown.inputs.append((f"{name}.input", alias))
            return (alias, *args[1:])

        return hook

    def _output_of(self, name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(_: torch.nn.Module, __: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if self._shown is not None:
                self._shown.tap(f"forward/{name}.output", _array(output))

        return hook


class _Shown(NamedTuple):
    """Who observes a pass, and the tensors whose gradients are to be shown, by name, in the order of the pass."""

    tap: Tap
    inputs: list[tuple[str, torch.Tensor]]


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Give NumPy's BLAS, and torch if it is loaded, one thread each, so that neither is measured against more."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        if "torch" not in sys.modules:
            yield
            return
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _array(tensor: torch.Tensor) -> Array:
    return tensor.numpy(force=True)


def _require_device(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=name).numpy(force=True)  # torch knows devices that hold no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        raise DeviceError(f"device {name!r} is not to be had here ({reason}); there is {' and '.join(there)}") from None
