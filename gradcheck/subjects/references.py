"""What an optimizer or a schedule is compared with: torch's, by a twin, or another one, read as the first is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.optimizer import ForeignOptimizer
from gradcheck.subjects.optimizer_arguments import Role
from gradcheck.subjects.optimizer_calls import Rate
from gradcheck.subjects.optimizer_reading import read_optimizer
from gradcheck.subjects.schedule import ForeignSchedule, read_schedule
from gradcheck.subjects.schedule import Role as ScheduleRole
from gradcheck.subjects.twin import twin_form, twin_rates

# Torch's optimizers, by what people call theirs; the first that is in the name.
TORCH = ("AdamW", "Adamax", "NAdam", "RAdam", "Adadelta", "Adagrad", "RMSprop", "Adam", "SGD")
MOMENTUM = ("momentum", "nesterov")

# Numbers of a torch scheduler that say for how many epochs it is made.
TOTALS = ("T_max", "total_iters", "total_steps")

COMPARED = 50  # epochs in which it is seen whether an argument is the rate at first or that of the epoch before


def optimizer_with_reference(
    subject: ForeignOptimizer,
    twin: Callable[[list[Any]], Any] | None,
    reference: object | None,
    tensors: tuple[Array, ...],
) -> ForeignOptimizer:
    """Return an optimizer with what it is compared with; raises `AdapterError` unless there is one such."""
    if (twin is None) == (reference is None):
        which = "and not both" if twin is not None else f"as by {_suggested(subject)}"
        raise AdapterError(
            "check_optimizer needs a twin, a function from a list of torch parameters to a torch optimizer, or a "
            f"reference=, a rule f(param, grad, state, lr, t) -> (param, state), {which}"
        )
    if reference is None:
        return replace(subject, make_twin=twin)
    named = dict(zip(subject.names, tensors, strict=True))
    other, _ = read_optimizer(reference, named, np.random.default_rng(0))
    if not subject.rate.known:
        if any(argument.role is Role.RATE and not argument.by_name for argument in other.call.arguments):
            raise AdapterError(
                f"{subject.name}'s learning rate is not found, and {other.name} is to be given it: lr= names it"
            )
        other = replace(other, rate=Rate())
    return replace(subject, reference=other)


def _suggested(subject: ForeignOptimizer) -> str:
    name = subject.name.lower().replace("_", "")
    torch = next((each for each in TORCH if each.lower() in name), "SGD")
    more = ", momentum=0.9" if any(word in name for word in MOMENTUM) and torch == "SGD" else ""
    more += ", nesterov=True" if "nesterov" in name and torch == "SGD" else ""
    return f"twin=lambda params: torch.optim.{torch}(params, lr={subject.base_lr:g}{more})"


def schedule_with_reference(
    schedule: object,
    twin: Callable[[Any], Any] | None,
    reference: object | None,
    lr: float,
    epochs: int | None,
) -> ForeignSchedule:
    """Return a schedule with what it is compared with; raises `AdapterError` unless there is one such."""
    subject = read_schedule(schedule, lr, _total(twin, lr, epochs) if reference is None else epochs)
    if subject.listed and epochs is not None and epochs > len(subject.schedule):
        raise AdapterError(f"there are {len(subject.schedule)} rates in the list, and epochs= asks for {epochs}")
    if (twin is None) == (reference is None):
        which = ", and not both" if twin is not None else ""
        raise AdapterError(
            "check_schedule needs a twin, a function from a torch optimizer to a torch scheduler, or a reference=, "
            f"such as a function from the epoch to the rate{which}"
        )
    if reference is None:
        if not callable(twin):
            came = f"got a {type(twin).__name__}"
            raise AdapterError(
                f"check_schedule needs a twin, a function from a torch optimizer to a torch scheduler, {came}"
            )
        subject = replace(subject, make_twin=twin)
    else:
        subject = replace(subject, reference=read_schedule(reference, lr, epochs))
    return replace(subject, follows_rate=False) if _is_of_first(subject) else subject


def _total(twin: Callable[[Any], Any] | None, lr: float, epochs: int | None) -> int | None:
    """Return for how many epochs the twin is made, if it says so, or else the number that is given."""
    if not callable(twin):
        return epochs
    try:
        numbers = twin_form(ForeignSchedule(lr, None, make_twin=twin))[1]
    except ModuleNotFoundError:  # which the check says
        return epochs
    return next((int(numbers[name]) for name in TOTALS if name in numbers), epochs)


def _is_of_first(subject: ForeignSchedule) -> bool:
    """Return whether an argument that is a rate is the one at first: so more of the rates agree with the reference."""
    if not subject.takes(ScheduleRole.CURRENT):
        return False
    history = [1.0] * COMPARED
    known = list(subject.reference.rates(history)) if subject.reference is not None else twin_rates(subject, history)
    agreeing = []
    for follows in (True, False):
        rates: list[float] = []
        try:
            rates.extend(replace(subject, follows_rate=follows).rates(history))
        except AdapterError:
            raise
        except Exception:  # noqa: BLE001, S110  so taken, it agrees in none
            pass
        agreeing.append(sum(bool(np.isclose(*pair)) for pair in zip(rates, known, strict=False)))
    return agreeing[1] > agreeing[0]
