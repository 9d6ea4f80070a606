"""An engine of any torch module, loss and optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.contract import EVALUATION, Array, Context
from gradcheck.subjects.attributes import AdapterError, raised
from gradcheck.trajectory.engine import Engine, State, Step
from gradcheck.trajectory.torch_modules import showing, unwrapped

if TYPE_CHECKING:
    import torch

Results = Any  # of a module: a tensor, or tensors in dicts, lists and tuples
Slots = dict[str, Any]  # what an optimizer keeps of a parameter: tensors and numbers


class TorchEngine(Engine):
    """Trains ``module`` by ``optimizer``, one of torch's or like them, on ``loss(module(x), y)``.

    The module stays as it is. Hooks, there only during a step, show and nudge ``forward/NAME.output`` and
    ``backward/NAME.output``, the gradient of it, of every module that holds parameters or no modules, by its name in
    `named_modules`; a second call in a step is ``NAME.output@1``. Further there are ``backward/loss.prediction``, the
    gradient of the module's result, and ``backward/PARAMETER``, as the optimizer gets it. Of several results
    ``forward/outputs`` is the first.

    The state is that of `named_parameters`, `named_buffers` and the optimizer: ``optim/SLOT/PARAMETER``. Not shown are
    slots that are zero before the first step, since most are made in it, and the number of steps of a parameter where
    it is that of the engine. A step sets the rate of the optimizer's first group to ``lr``; other groups keep their
    ratio to it. It trains in the modes of the modules as they are, and `evaluate` in evaluation mode.

    Raises `AdapterError` for an optimizer of other parameters, or that needs a closure, and for numbers that NumPy has
    not, such as bfloat16.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: Callable[[Any, torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        import torch

        self.module, self.loss, self.optimizer = module, loss, optimizer
        self.inner, compiled = unwrapped(module)
        self.params = dict(self.inner.named_parameters())
        self.showing = showing(self.inner, compiled=compiled)
        self._require_own_parameters()
        for name, tensor in [*self.params.items(), *self.inner.named_buffers()]:
            if tensor.dtype == torch.bfloat16 or tensor.is_complex():
                raise AdapterError(
                    f"TorchEngine: {name} is {tensor.dtype}, which NumPy has not; compare with gradcheck.check_loops"
                )
        self.kinds = self._kinds()
        self.ratios = self._ratios()
        self.steps = max((int(slots["step"]) for slots in optimizer.state.values() if "step" in slots), default=0)
        shown = self._state()
        self.unshown = {
            name: {slot: copy.deepcopy(value) for slot, value in slots.items() if f"optim/{slot}/{name}" not in shown}
            for name, slots in self._slots()
        }

    @property
    def opaque(self) -> bool:
        return True

    def state(self) -> State:
        return {key: np.array(array) for key, array in self._state().items()}

    def load(self, state: Mapping[str, Array]) -> None:
        self.steps = int(state["step"])
        load_tensors(self.inner, self.params, state)
        slots = copy.deepcopy(self.unshown)
        for key, array in state.items():
            if key.startswith("optim/"):
                _, slot, name = key.split("/", 2)
                slots[name] = slots.get(name, {}) | {slot: self._slot(slot, array)}
        self.optimizer.state.clear()
        for name, of_parameter in slots.items():
            if of_parameter and "step" in self.kinds and f"optim/step/{name}" not in state:
                of_parameter["step"] = self._slot("step", np.asarray(self.steps))
            if of_parameter:
                self.optimizer.state[self.params[name]] = of_parameter

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = group["lr"].new_tensor(ratio * lr) if hasattr(group["lr"], "new_tensor") else ratio * lr
        for param in self.params.values():
            param.grad = None
        x, y = context.tapped("data", "x", x), context.tapped("data", "y", y)
        with self._shown(context):
            results = _mapped(self.module(self._tensor(x)), _Root(context))
            loss = self.loss(results, self._tensor(y))
            loss.backward()  # type: ignore[no-untyped-call]
        grads = {name: self._gradient(name, context) for name in reversed(self.params)}
        self.optimizer.step()
        self.steps += 1
        shown = {name: grad for name, grad in grads.items() if grad is not None}
        return Step(_array(loss).reshape(()), _outputs(results), shown, self._state())

    def evaluate(self, x: Array, context: Context = EVALUATION) -> Array:
        import torch

        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad(), self._shown(context):
                return _outputs(self.module(self._tensor(x)))
        finally:
            for module, training in modes:
                module.training = training

    def _require_own_parameters(self) -> None:
        known = {id(param) for param in self.params.values()}
        groups = [group["params"] for group in self.optimizer.param_groups]
        if foreign := sum(id(param) not in known for group in groups for param in group):
            raise AdapterError(
                f"TorchEngine: of the optimizer's parameters {foreign} are not the module's; make the optimizer of "
                "module.parameters(), and put a loss that has parameters into the module"
            )

    def _kinds(self) -> Slots:
        """Return an example of each slot, as a step of a copy with gradients of zero makes it."""
        import torch

        params, optimizer = copy.deepcopy((list(self.params.values()), self.optimizer))
        for param in params:
            param.grad = torch.zeros_like(param) if param.requires_grad else None
        try:
            optimizer.step()
        except Exception as error:  # noqa: BLE001  the optimizer is anybody's
            raise AdapterError(
                f"TorchEngine: optimizer.step() raises {raised(error)}; compare with gradcheck.check_loops"
            ) from None
        return {
            slot: value.new_empty(()) if isinstance(value, torch.Tensor) else value
            for slots in optimizer.state.values()
            for slot, value in slots.items()
        }

    def _ratios(self) -> list[float]:
        """Return the rates of the optimizer's groups, over that of the first."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if len(set(rates)) == 1:
            return [1.0] * len(rates)
        if not rates[0]:
            raise AdapterError(f"TorchEngine: the first group has a rate of 0, others have not: {rates}")
        return [rate / rates[0] for rate in rates]

    def _slots(self) -> Iterator[tuple[str, Slots]]:
        return ((name, self.optimizer.state.get(param, {})) for name, param in self.params.items())

    def _state(self) -> State:
        """Return the state; its arrays are the tensors' own."""
        shown = {f"param/{name}": _array(param) for name, param in self.params.items()}
        shown |= {f"buffer/{name}": _array(buffer) for name, buffer in self.inner.named_buffers()}
        for name, slots in self._slots():
            for slot, value in slots.items():
                if not hasattr(value, "detach") and not isinstance(value, (bool, int, float)):
                    continue
                array = _array(value)
                counts = slot == "step" and array == self.steps
                if not counts and (self.steps or array.any()):
                    shown[f"optim/{slot}/{name}"] = array
        return shown | {"step": np.asarray(self.steps)}

    def _slot(self, slot: str, array: Array) -> Any:  # noqa: ANN401  a tensor or a number
        import torch

        kind = self.kinds.get(slot)
        if isinstance(kind, (bool, int, float)):
            return type(kind)(array.item())
        device = kind.device if kind is not None else next(iter(self.params.values())).device
        return torch.tensor(array, dtype=kind.dtype if slot == "step" and kind is not None else None, device=device)

    def _tensor(self, array: Array) -> torch.Tensor:
        import torch

        return torch.tensor(array, device=next(iter(self.params.values())).device)

    def _gradient(self, name: str, context: Context) -> Array | None:
        """Return the gradient of a parameter, and give the optimizer what its tap returns."""
        grad = self.params[name].grad
        if grad is None:
            return None
        if grad.is_sparse:  # the optimizer needs it as it is
            return _array(grad.to_dense())
        array = np.array(_array(grad))
        given = context.tapped("backward", name, array)
        if given is not array:
            self.params[name].grad = grad.new_tensor(given)
        return given

    @contextmanager
    def _shown(self, context: Context) -> Iterator[None]:
        """Show the results of the modules, and go on with what the taps return, for the time of a step."""
        calls: dict[str, int] = {}

        def result_of(name: str) -> Callable[..., Results]:
            def hook(module: torch.nn.Module, args: object, results: Results) -> Results:
                del module, args
                return _mapped(results, partial(_through, context, calls, f"{name}.output"))

            return hook

        handles = [module.register_forward_hook(result_of(name)) for name, module in self.showing.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Root:
    """Shows the gradient of the first result of the module, whatever else is computed from it."""

    def __init__(self, context: Context) -> None:
        self.context, self.first = context, True

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self.first or not tensor.is_floating_point():
            return tensor
        self.first = False
        if not tensor.requires_grad:
            return tensor
        alias = tensor.view_as(tensor)
        alias.register_hook(partial(_gradient_through, self.context, "loss.prediction"))  # type: ignore[no-untyped-call]
        return alias


def _through(context: Context, calls: dict[str, int], name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a result of a module as its tap returns it; what is computed from it has the gradient of the result."""
    if not tensor.is_floating_point():
        return tensor
    count = calls[name] = calls.get(name, -1) + 1
    own = f"{name}@{count}" if count else name
    if tensor.requires_grad:
        tensor.register_hook(partial(_gradient_through, context, own))  # type: ignore[no-untyped-call]
    array = np.array(_array(tensor))
    given = context.tapped("forward", own, array)
    if given is array:
        return tensor
    moved = tensor.clone()
    moved.data.copy_(moved.new_tensor(given))
    return moved


def _gradient_through(context: Context, name: str, gradient: torch.Tensor) -> torch.Tensor:
    array = np.array(_array(gradient))
    given = context.tapped("backward", name, array)
    return gradient if given is array else gradient.new_tensor(given)


def _mapped(results: Results, change: Callable[[torch.Tensor], torch.Tensor]) -> Results:
    """Return the results of a module with every tensor changed."""
    if hasattr(results, "detach"):
        return change(results)
    if isinstance(results, dict):  # and what is derived from it, as in transformers
        for key in results:
            results[key] = _mapped(results[key], change)
        return results
    if isinstance(results, (tuple, list)):
        inner = [_mapped(one, change) for one in results]
        return type(results)(*inner) if hasattr(results, "_fields") else type(results)(inner)
    return results


def _outputs(results: Results) -> Array:
    """Return the first result of a module."""
    found: list[Array] = []

    def take(tensor: torch.Tensor) -> torch.Tensor:
        found.append(np.array(_array(tensor)))
        return tensor

    _mapped(results, take)
    return found[0] if found else np.empty(0)


def _array(value: Any) -> Array:  # noqa: ANN401  a tensor or a number
    return value.numpy(force=True) if hasattr(value, "detach") else np.asarray(value)


def load_tensors(module: torch.nn.Module, params: Mapping[str, torch.Tensor], state: Mapping[str, Array]) -> None:
    """Put the parameters and buffers of a state into a module's."""
    import torch

    with torch.no_grad():
        for name, param in params.items():
            param.copy_(torch.as_tensor(state[f"param/{name}"]))
        for name, buffer in module.named_buffers():
            buffer.copy_(torch.as_tensor(state[f"buffer/{name}"]))
