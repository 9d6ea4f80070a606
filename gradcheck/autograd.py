"""The same values and gradients from a torch twin. The only module of the package that imports torch, and lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Context, Key, Layer, Loss, Optimizer, Schedule, ShapeError
from gradcheck.functions import Arrays, Function, Pullback, cast, function_of

if TYPE_CHECKING:
    import torch


def twin_of(case: Case) -> Function:
    """Return the twin of a case's layer or loss as a `Function`; its parameters are those that it is called with.

    Raises `ShapeError` where the twin's parameters have not the names and shapes of the layer's.
    """
    import torch

    subject = case.subject
    assert isinstance(subject, (Layer, Loss))  # noqa: S101  narrows the type; function_of has raised otherwise
    function = function_of(case)
    module = subject.twin()
    extra = () if isinstance(subject, Layer) else case.inputs[1:]
    state: dict[str, Array] = subject.buffers() if isinstance(subject, Layer) else {}
    own = {name: array.shape for name, array in function.variables.items() if name != function.main}
    theirs = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if own != theirs:
        raise ShapeError(f"{type(subject).__name__}'s parameters are {own}, its twin's {theirs}")

    def call(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        leaves = {name: torch.tensor(array).requires_grad_() for name, array in variables.items()}
        dtype = variables[function.main].dtype
        others = [torch.tensor(a.astype(dtype) if a.dtype.kind == "f" else a) for a in extra]
        weights = {name: leaf for name, leaf in leaves.items() if name != function.main}
        weights |= {name: torch.tensor(array) for name, array in cast(state, dtype).items()}
        module.train(context.training)
        set_keys(module, context.key)
        y = torch.func.functional_call(module, weights, (leaves[function.main], *others))
        for name in state:  # functional_call writes what the module makes of its buffers into the tensors given to it
            context.update(name, weights[name].numpy())

        def pullback(dy: Array) -> dict[str, Array]:
            grads = torch.autograd.grad(y, list(leaves.values()), torch.tensor(dy), retain_graph=True)
            return {name: grad.numpy() for name, grad in zip(leaves, grads, strict=True)}

        return np.asarray(y.detach().numpy()), pullback

    return Function(function.main, function.variables, call)


def set_keys(module: torch.nn.Module, key: Key) -> None:
    """Give every module that draws random numbers, and so has an attribute ``key``, the key of its place."""
    for name, inner in module.named_modules():
        if hasattr(inner, "key"):
            inner.key = key.child(name) if name else key


def twin_updates(
    optimizer: Optimizer, params: dict[str, Array], steps: list[tuple[dict[str, Array], float]]
) -> list[dict[str, Array]]:
    """Return the parameters after each of ``steps`` (gradients and rate) of the optimizer's twin."""
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
        history.append({name: tensor.detach().numpy().copy() for name, tensor in tensors.items()})
    return history


def twin_rates(schedule: Schedule, epochs: int) -> Array:
    """Return the learning rates of epochs 0, 1, ... that the schedule's twin sets."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.lr)
    scheduler = schedule.twin(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return np.array(rates)
