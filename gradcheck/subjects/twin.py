"""The same values and gradients from a torch twin. The only module of the package that imports torch, and lazily."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.contract import (
    Array,
    Case,
    Context,
    Initializer,
    Key,
    Layer,
    Loss,
    Optimizer,
    Schedule,
    ShapeError,
)
from gradcheck.numerics.functions import Arrays, Function, Pullback, function_of, like
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.schedule import ForeignSchedule

if TYPE_CHECKING:
    import torch


class TwinError(ValueError):
    """A twin refuses what it is given, or draws random numbers of its own, so that nothing can be compared."""


def twin_of(case: Case) -> Function:
    """Return the twin of a case's layer or loss as a `Function`; its parameters are those that it is called with.

    Raises `ShapeError` where the twin's parameters have not the names and shapes of the layer's, and when called
    `TwinError` if it raises, or draws random numbers.
    """
    import torch

    subject: Any = case.subject
    function = function_of(case)
    module = subject.twin() if case.twin is None else copy.deepcopy(case.twin)
    state: dict[str, Array] = subject.buffers() if hasattr(subject, "buffers") else {}
    own = {name: array.shape for name, array in function.variables.items() if name not in function.inputs}
    theirs = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if own != theirs:
        who = type(subject).__name__ if isinstance(subject, (Layer, Loss)) else subject.name
        raise ShapeError(f"{who}'s parameters are {own}, its twin's {theirs}{_hint(function, own, theirs)}")

    def call(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        leaves = {name: torch.tensor(array).requires_grad_() for name, array in variables.items()}
        dtype = next((array.dtype for array in variables.values()), np.dtype(np.float64))
        arguments = [
            leaves[a] if isinstance(a, str) else torch.tensor(a.astype(dtype) if a.dtype.kind == "f" else a)
            for a in function.arguments
        ]
        weights = {name: leaf for name, leaf in leaves.items() if name not in function.inputs}
        module.to(getattr(torch, dtype.name)).train(context.training)
        set_keys(module, context.key)

        def forward() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            buffers = {name: torch.tensor(like(array, np.empty(0, dtype))) for name, array in state.items()}
            try:
                # Torch's advice on its speed, an error to whoever makes warnings errors, is no matter of the layer's.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return torch.func.functional_call(module, weights | buffers, tuple(arguments)), buffers
            except (RuntimeError, ValueError, TypeError) as error:
                raise TwinError(f"the twin raises {type(error).__name__}: {error}") from error

        with torch.random.fork_rng(devices=[]):
            before = torch.random.get_rng_state()
            y, buffers = forward()
            drawn = not torch.equal(before, torch.random.get_rng_state())
        if drawn:
            raise TwinError("the twin draws random numbers of its own; its values cannot be compared")
        for name, tensor in buffers.items():  # functional_call writes what the module makes of its buffers into these
            context.update(name, tensor.numpy())

        def pullback(dy: Array) -> dict[str, Array]:
            if not y.requires_grad:  # it stops every gradient
                return {name: np.zeros_like(array) for name, array in variables.items()}
            grads = torch.autograd.grad(
                y, list(leaves.values()), torch.tensor(dy), retain_graph=True, allow_unused=True
            )
            return {
                name: np.zeros_like(variables[name]) if grad is None else grad.numpy()
                for name, grad in zip(leaves, grads, strict=True)
            }

        return np.asarray(y.detach().numpy()), pullback

    return Function(function.variables, function.arguments, call)


def _hint(function: Function, own: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]]) -> str:
    """Say how a layer's own names could be given as the twin's, if their shapes tell."""
    if not function.foreign or len(own) != len(theirs):
        return ""
    named: dict[str, str] = {}
    left = dict(own)
    for name, shape in theirs.items():
        same = [k for k, s in left.items() if s == shape] or [k for k, s in left.items() if s == shape[::-1]]
        if len(same) != 1:
            return ""
        named[name] = same[0] if left.pop(same[0]) == shape else f"{same[0]}.T"
    return f"; name them with params={named}, and their gradients with grads="


def twin_outputs(case: Case, count: int) -> Array | None:
    """Return the outputs of ``count`` calls of a given twin in training mode, (count, ...), from the case's seed.

    None if there is none, or it draws no random numbers; raises `TwinError` if it raises.
    """
    import torch

    if case.twin is None:
        return None
    module = copy.deepcopy(case.twin)
    module.to(torch.float64).train()
    arguments = [torch.tensor(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in case.inputs]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(case.seed)
        before = torch.random.get_rng_state()
        try:
            first = module(*arguments).numpy()
        except (RuntimeError, ValueError, TypeError) as error:
            raise TwinError(f"the twin raises {type(error).__name__}: {error}") from error
        if torch.equal(before, torch.random.get_rng_state()):
            return None
        return np.array([first, *(module(*arguments).numpy() for _ in range(count - 1))])


def twin_outputs_by_mode(case: Case, modes: Sequence[bool]) -> list[Array] | None:
    """Return the outputs of one copy of a given twin that is told to train (True) or evaluate, in turn, in float64.

    It begins with the parameters and buffers of the case's layer. None if there is none, or it refuses them.
    """
    import torch

    if case.twin is None:
        return None
    module = copy.deepcopy(case.twin).to(torch.float64)
    arrays = {**function_of(case).variables, **case.subject.buffers()}
    arguments = [torch.tensor(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in case.inputs]
    outputs = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                if name in arrays:
                    tensor.copy_(torch.tensor(arrays[name]))
            for training in modes:
                outputs.append(module.train(training)(*arguments).numpy().copy())
        except (RuntimeError, ValueError, TypeError):
            return None
    return outputs


def set_keys(module: torch.nn.Module, key: Key) -> None:
    """Give every module that draws random numbers, and so has an attribute ``key``, the key of its place."""
    for name, inner in module.named_modules():
        if hasattr(inner, "key"):
            inner.key = key.child(name) if name else key


def twin_updates(
    optimizer: Optimizer, params: dict[str, Array], steps: Sequence[tuple[dict[str, Array], float]]
) -> list[dict[str, Array]]:
    """Return the parameters, and the state as ``slot/parameter``, after each of ``steps`` of the optimizer's twin.

    A step is gradients and a rate.
    """
    import torch

    tensors = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in params.items()}
    twin = optimizer.twin(list(tensors.values()), steps[0][1])
    history = []
    for grads, lr in steps:
        for group in twin.param_groups:
            group["lr"] = lr
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name]) if name in grads else None
        twin.step()
        # Not what is there before a tensor's first update, as of Adagrad.
        states = {name: twin.state.get(tensor, {}) for name, tensor in tensors.items()}
        kept = {
            f"{slot}/{name}": value.detach().numpy().copy()
            for name, state in states.items()
            for slot, value in state.items()
            if isinstance(value, torch.Tensor) and state.get("step") != 0
        }
        history.append({name: tensor.detach().numpy().copy() for name, tensor in tensors.items()} | kept)
    return history


def twin_rates(schedule: Schedule, history: Sequence[float]) -> Array:
    """Return the learning rates of epochs 0, 1, ... that the schedule's twin sets, given the loss of each epoch."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.lr)
    scheduler = schedule.twin(optimizer)
    if not hasattr(scheduler, "last_epoch") or not hasattr(scheduler, "optimizer"):
        raise AdapterError(f"the twin returns a {type(scheduler).__name__}; a torch scheduler is needed")
    step: Any = scheduler.step
    follows = "metrics" in inspect.signature(step).parameters
    if follows and isinstance(schedule, ForeignSchedule) and not schedule.takes_history:
        raise AdapterError(
            f"the twin follows a metric, and {schedule.name} is given the epoch alone: let it be called as "
            "schedule(epoch, history), with the losses of the epochs before"
        )
    rates = []
    for loss in history:
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        step(*[loss] * follows)
    return np.array(rates)


def twin_draws(initializer: Initializer, shape: tuple[int, ...], count: int, seed: int) -> Array:
    """Return ``count`` arrays, (count, ...), that the initialiser's twin has filled."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = torch.empty((count, *shape), dtype=torch.float64)
        for tensor in tensors:
            initializer.twin(tensor)
    return np.asarray(tensors.numpy())
