"""The same values and gradients from a torch twin. The only module of the package that imports torch, and lazily."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
from gradcheck.subjects.optimizer import ForeignOptimizer
from gradcheck.subjects.schedule import ForeignSchedule
from gradcheck.subjects.twin_parameters import Slot, fill_slots, mismatch, slots_of

if TYPE_CHECKING:
    import torch


class TwinError(ValueError):
    """A twin refuses what it is given, or draws random numbers of its own, so that nothing can be compared."""


def import_torch() -> None:
    """Import torch, which takes seconds."""
    import torch  # noqa: F401  for the time that it takes


def twin_of(case: Case) -> Function:
    """Return the twin of a case's layer or loss as a `Function`; its parameters are those that it is called with.

    Of several outputs it is the first that has the shape of ours. Raises `ShapeError` where a native layer's own twin
    has not parameters of the same names and shapes, `AdapterError` where a twin that was given has not, and when called
    `TwinError` if it raises, or draws random numbers.
    """
    import torch

    subject: Any = case.subject
    function = function_of(case)
    module = subject.twin() if case.twin is None else copy.deepcopy(case.twin)
    state: dict[str, Array] = subject.buffers() if hasattr(subject, "buffers") else {}
    own = {name: array.shape for name, array in function.variables.items() if name not in function.inputs}
    slots = _slots(subject, function, own, module, case.twin_params)

    def call(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
        leaves = {name: torch.tensor(array).requires_grad_() for name, array in variables.items()}
        dtype = next((array.dtype for array in variables.values()), np.dtype(np.float64))
        arguments = [
            leaves[a] if isinstance(a, str) else torch.tensor(a.astype(dtype) if a.dtype.kind == "f" else a)
            for a in function.arguments
        ]
        module.to(getattr(torch, dtype.name)).train(context.training)
        weights = fill_slots(module, slots, {name: leaf for name, leaf in leaves.items() if name in own})
        set_keys(module, context.key)

        def forward() -> tuple[Any, dict[str, torch.Tensor]]:
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
            result, buffers = forward()
            drawn = not torch.equal(before, torch.random.get_rng_state())
        if drawn:
            raise TwinError("the twin draws random numbers of its own; its values cannot be compared")
        for name, tensor in buffers.items():  # functional_call writes what the module makes of its buffers into these
            context.update(name, tensor.numpy())
        y = _output(result, lambda: function.call(variables, replace(context, updates=None))[0].shape)

        def pullback(dy: Array) -> dict[str, Array]:
            if not y.requires_grad:  # it stops every gradient
                return {name: np.zeros_like(array) for name, array in variables.items()}
            # Of the sum, and not of y with dy: to compare the shapes of these torch imports its compiler, for seconds.
            total = (y * torch.tensor(dy)).sum()
            grads = torch.autograd.grad(total, list(leaves.values()), retain_graph=True, allow_unused=True)
            return {
                name: np.zeros_like(variables[name]) if grad is None else grad.numpy()
                for name, grad in zip(leaves, grads, strict=True)
            }

        return np.asarray(y.detach().numpy()), pullback

    return Function(function.variables, function.arguments, call)


def mode_of_twin(case: Case) -> bool | None:
    """Return whether a layer that has no modes computes what a given twin does in training (True) or evaluation.

    Batch normalisation that always takes its statistics from the batch is a twin's training mode. None if there is no
    such twin, if it was put into evaluation, if it refuses the input, or if both of its modes are as near, as they
    mostly are one.
    """
    if case.twin is None or not case.twin.training or case.subject.has_modes:
        return None
    function = function_of(case)
    apart = []
    for training in (False, True):
        one = replace(case, training=training)
        try:
            y = function.call(function.variables, one.context())[0]
            theirs = twin_of(one).call(function.variables, one.context())[0]
        except ImportError:
            raise
        except Exception:  # noqa: BLE001  it is judged as it is, and the properties report what it raises
            return None
        apart.append(float(np.abs(y - theirs).max(initial=0.0)) if y.shape == theirs.shape else np.inf)
    return None if apart[0] == apart[1] else bool(apart[1] < apart[0])


def _output(result: Any, shape: Callable[[], tuple[int, ...]]) -> torch.Tensor:
    """Return the output of a module; of several, as of an LSTM's (y, (h, c)), the first that fits the shape of ours.

    Axes of one element, such as that of an LSTM's layers, count for nothing where no output has the very shape.
    """
    outputs = list(_tensors(result))
    if not outputs:
        raise TwinError(f"the twin returns a {type(result).__name__}, and no tensor")
    if len(outputs) == 1:
        return outputs[0]
    wanted = shape()
    same = [tensor for tensor in outputs if tuple(tensor.shape) == wanted]
    alike = [tensor.reshape(wanted) for tensor in outputs if _long_axes(tuple(tensor.shape)) == _long_axes(wanted)]
    return next(iter(same or alike or outputs))


def _long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    """Yield the floating-point tensors in tuples, lists and dicts, in their order."""
    if isinstance(result, (tuple, list)):
        for each in result:
            yield from _tensors(each)
    elif isinstance(result, Mapping):
        yield from _tensors(list(result.values()))
    elif hasattr(result, "requires_grad") and result.is_floating_point():
        yield result


def _slots(
    subject: Any,
    function: Function,
    own: dict[str, tuple[int, ...]],
    module: torch.nn.Module,
    given: Mapping[str, str],
) -> dict[str, Slot]:
    """Return where in the twin's parameters each of a layer's own belongs; raises unless that fills them all."""
    theirs = {name: tuple(p.shape) for name, p in module.named_parameters()}
    who = type(subject).__name__ if isinstance(subject, (Layer, Loss)) else subject.name
    if given:
        zero = {name for name, p in module.named_parameters() if not p.detach().any()}
        return slots_of(who, own, theirs, given, zero)
    if own == theirs:
        return {name: Slot(name) for name in own}
    if not function.foreign:
        raise ShapeError(f"{who}'s parameters are {own}, its twin's {theirs}")
    raise AdapterError(f"{who}'s parameters are not its twin's: {mismatch(own, theirs)}")


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
            first = _first(module(*arguments))
        except (RuntimeError, ValueError, TypeError) as error:
            raise TwinError(f"the twin raises {type(error).__name__}: {error}") from error
        if torch.equal(before, torch.random.get_rng_state()):
            return None
        return np.array([first, *(_first(module(*arguments)) for _ in range(count - 1))])


def _first(result: Any) -> Array:
    return np.asarray(next(_tensors(result)).numpy())


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
    twin = _torch_optimizer(optimizer, list(tensors.values()), steps[0][1])
    sets_rate = not isinstance(optimizer, ForeignOptimizer) or optimizer.sets_rate
    history = []
    for grads, lr in steps:
        for group in twin.param_groups:
            group["lr"] = lr if sets_rate else group["lr"]
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


def twin_rule(optimizer: Optimizer, params: dict[str, Array], lr: float) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the hyper-parameters of the optimizer's twin, its rate among them; None of several groups."""
    import torch

    twin = _torch_optimizer(optimizer, [torch.nn.Parameter(torch.tensor(array)) for array in params.values()], lr)
    if len(twin.param_groups) != 1:
        return None
    options = {name: value for name, value in twin.param_groups[0].items() if name != "params"}
    if "betas" in options:
        options["beta1"], options["beta2"] = options["betas"]
    name = type(twin).__name__
    options["decoupled"] = "by the rate" if options.get("decoupled_weight_decay", name == "AdamW") else ""
    return name, options


def _torch_optimizer(optimizer: Optimizer, tensors: list[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    twin = optimizer.twin(tensors, lr)
    if not hasattr(twin, "param_groups"):
        raise AdapterError(
            f"the twin returns a {type(twin).__name__}; a torch optimizer is needed, as by twin=lambda params: "
            "torch.optim.SGD(params, lr=0.1). A rule in NumPy is given as reference="
        )
    return twin


def twin_rates(schedule: Schedule, history: Sequence[float]) -> Array:
    """Return the learning rates of epochs 0, 1, ... that the schedule's twin sets, given the loss of each epoch.

    There are fewer than losses where the twin ends before, as one for a number of steps does.
    """
    optimizer, scheduler = _torch_scheduler(schedule)
    follows = follows_losses(scheduler)
    if follows and isinstance(schedule, ForeignSchedule) and not schedule.takes_history:
        raise AdapterError(
            f"the twin follows a metric, and {schedule.name} is given the epoch alone: let it be called as "
            "schedule(epoch, history), with the losses of the epochs before"
        )
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice, an error to whoever makes warnings errors
        optimizer.step()  # without which torch warns; the rates do not depend on it
        for loss in history:
            rates.append(float(optimizer.param_groups[0]["lr"]))
            try:
                scheduler.step(*[loss] * follows)
            except ValueError:  # after the last of its steps, as of OneCycleLR
                if len(rates) == 1:
                    raise
                break
    return np.array(rates)


def twin_follows_losses(schedule: Schedule) -> bool:
    """Return whether the schedule's twin is told the loss of every epoch."""
    return follows_losses(_torch_scheduler(schedule)[1])


def follows_losses(scheduler: Any) -> bool:
    """Return whether a torch scheduler is told the loss of every epoch."""
    return "metrics" in inspect.signature(scheduler.step).parameters


def twin_form(schedule: Schedule) -> tuple[str, dict[str, Any], int]:
    """Return the name of the schedule's twin, its numbers by name, and the epoch in which it begins.

    Of several in turn, that is the last.
    """
    scheduler, begin = _last(_torch_scheduler(schedule)[1])
    numbers = {k: v for k, v in vars(scheduler).items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return type(scheduler).__name__, numbers, begin


def twin_end(schedule: Schedule) -> int | None:
    """Return the epoch in which the rate of the schedule's twin has fallen as far as it is to fall, or None.

    A cosine rises again after that; a power, or a line that falls, is not defined beyond.
    """
    scheduler, begin = _last(_torch_scheduler(schedule)[1])
    kind = type(scheduler).__name__
    falls = kind == "LinearLR" and scheduler.end_factor < scheduler.start_factor
    if kind == "CosineAnnealingLR":
        return begin + int(scheduler.T_max)
    return begin + int(scheduler.total_iters) if falls or kind == "PolynomialLR" else None


def _last(scheduler: Any) -> tuple[Any, int]:
    """Return the last of torch schedulers that follow one another, and the epoch in which it begins."""
    if type(scheduler).__name__ != "SequentialLR":
        return scheduler, 0
    last, begin = _last(scheduler._schedulers[-1])  # there is no other way to them
    return last, begin + int(scheduler._milestones[-1])


def _torch_scheduler(schedule: Schedule) -> tuple[torch.optim.Optimizer, Any]:
    """Return a torch optimizer with the schedule's rate, and the twin that sets it."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice, an error to whoever makes warnings errors
        scheduler = schedule.twin(optimizer)
    if not hasattr(scheduler, "last_epoch") or not hasattr(scheduler, "optimizer"):
        raise AdapterError(
            f"the twin returns a {type(scheduler).__name__}; a torch scheduler is needed, as by twin=lambda optimizer: "
            "torch.optim.lr_scheduler.StepLR(optimizer, 10). A schedule in Python is given as reference="
        )
    return optimizer, scheduler


def twin_draws(initializer: Initializer, shape: tuple[int, ...], count: int, seed: int) -> Array:
    """Return ``count`` arrays, (count, ...), that the initialiser's twin has filled."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = torch.empty((count, *shape), dtype=torch.float64)
        for tensor in tensors:
            initializer.twin(tensor)
    return np.asarray(tensors.numpy())
