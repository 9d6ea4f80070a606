"""Anybody's schedule of learning rates, as one of the contract: a function, a list, or an object that steps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradcheck.contract import Case, Schedule
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.copies import copy_of
from gradcheck.subjects.held_parameters import Place
from gradcheck.subjects.optimizer_arguments import RATES

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

EPOCHS = (
    *("epoch", "epoch_num", "epoch_idx", "current_epoch", "e", "t", "i", "n", "k", "x"),
    *("step", "step_num", "steps", "current_step", "global_step", "num_updates", "iteration", "iter", "it"),
)
BASES = (
    *("base_lr", "lr_base", "initial_lr", "init_lr", "lr_init", "lr0", "lr_0", "eta0", "alpha0", "learning_rate0"),
    *("initial_learning_rate", "base_learning_rate", "base", "initial", "lr_max", "max_lr", "eta_max", "peak_lr"),
)
TOTALS = (
    *("total", "total_epochs", "epochs", "num_epochs", "n_epochs", "max_epochs", "total_steps", "max_steps"),
    *("num_steps", "n_steps", "total_iters", "max_iter", "T", "T_max", "t_max", "t_total", "num_training_steps"),
)
HISTORIES = ("history", "losses", "loss_history", "val_losses")
LOSSES = ("metric", "metrics", "loss", "val_loss", "validation_loss", "score")

# Methods that may return the rate of an epoch that they are given.
ASKED = (
    "__call__",
    "get_lr",
    "get_rate",
    "get_learning_rate",
    "learning_rate",
    "lr",
    "rate",
    "lr_at",
    "step",
    "update",
)

# Methods that go on by one epoch, and methods that return the rate of now.
STEPS = ("step", "update", "advance", "next")
READ = ("get_lr", "get_last_lr", "get_rate", "get_learning_rate", "lr", "rate", "__call__")
ATTRIBUTES = (*RATES, "current_lr", "current_learning_rate", "last_lr", "_last_lr")
OPTIMIZERS = ("optimizer", "optim", "opt")

TRIAL = 200  # epochs in which a rate is to change, if it is one


class Role(StrEnum):
    """What an argument of a schedule is."""

    EPOCH = "epoch"
    BASE = "base"
    CURRENT = "current"  # a rate, that of the epoch before or that at first
    TOTAL = "total"
    HISTORY = "history"
    LOSS = "loss"  # of the epoch that has ended
    OPTIMIZER = "optimizer"  # whose rate the schedule sets


class Adjusted:
    """An optimizer whose rate a schedule sets, by any of the names that are usual."""

    def __init__(self, lr: float) -> None:
        self.lr = self.learning_rate = self.rate = lr
        self.param_groups = [{"lr": lr, "initial_lr": lr}]

    def settled(self) -> float:
        """Return the rate that was set last, and have it by every name."""
        values = [self.lr, self.learning_rate, self.param_groups[0]["lr"]]
        self.rate = next((value for value in values if value != self.rate), self.rate)
        self.lr = self.learning_rate = self.param_groups[0]["lr"] = self.rate
        return self.rate


class Argument(NamedTuple):
    """An argument of a schedule, and what it is."""

    name: str
    role: Role
    by_name: bool


@dataclass(frozen=True)
class ForeignSchedule(Schedule):
    """A schedule ``schedule(epoch) -> lr`` with other arguments, if it has some, a list of rates, or a stepped object.

    ``method`` is what is called; ``read`` where the rate is after a step, if that does not return it; ``before`` says
    that the rate is read before the step. ``total`` is the number of epochs, where the schedule is to know it.
    Its reference is another one, or else the torch scheduler that ``make_twin`` returns for an optimizer.
    """

    schedule: Any
    make_twin: Callable[[Any], Any] | None = None
    method: str = ""
    arguments: tuple[Argument, ...] = ()
    read: Place | None = None
    before: bool = False
    stepped: bool = False
    total: int | None = None
    follows_rate: bool = True  # of an argument that is a rate: whether it is that of the epoch before
    reference: ForeignSchedule | None = None

    @property
    def name(self) -> str:
        """Return the name of the schedule's class or function."""
        return name_of(self.schedule)

    @property
    def listed(self) -> bool:
        """Return whether the schedule is a list of rates."""
        return isinstance(self.schedule, (list, tuple, np.ndarray))

    @property
    def generated(self) -> bool:
        """Return whether the schedule is a generator of rates."""
        return inspect.isgeneratorfunction(self.schedule)

    @property
    def pure(self) -> bool:
        """Return whether an epoch's rate is asked for alone, whatever came before it."""
        follows = self.takes(Role.CURRENT) and self.follows_rate
        return not (self.stepped or self.generated or follows or self.takes(Role.OPTIMIZER))

    def fresh(self) -> ForeignSchedule:
        """Return the schedule as it was given, with nothing in it that calls may have left."""
        return replace(self, schedule=_own(self.schedule))

    def takes(self, *roles: Role) -> bool:
        """Return whether the schedule has an argument of one of some roles."""
        return any(argument.role in roles for argument in self.arguments)

    @cached_property
    def takes_history(self) -> bool:
        """Return whether the schedule is given losses."""
        return self.takes(Role.HISTORY, Role.LOSS)

    @property
    def reading(self) -> str:
        """Return how the schedule is called, in words."""
        if self.listed:
            return f"{len(self.schedule)} rates, one an epoch"
        names = ", ".join(argument.name for argument in self.arguments)
        called = f"{self.name if self.method in ('', '__call__') else self.method}({names})"
        if self.generated:
            return f"{called}, a generator of one rate an epoch"
        if self.takes(Role.OPTIMIZER):
            return f"{called}, which sets the rate of an optimizer"
        if self.stepped:
            when = "before" if self.before else "after"
            source = f"rate in {self.read} {when} it" if self.read is not None else "rate returned"
            return f"{called} once an epoch, {source}"
        rate = next((argument.name for argument in self.arguments if argument.role is Role.CURRENT), None)
        of = "that of the epoch before" if self.follows_rate else f"{self.lr:g} in every epoch, not that before"
        total = next(
            (f", {argument.name} being {self.total}" for argument in self.arguments if argument.role is Role.TOTAL), ""
        )
        return f"{called}{total}" if rate is None else f"{called}{total}, {rate} being {of}"

    def rates(self, history: Sequence[float]) -> Iterator[float]:
        """Yield the rates of epochs 0, 1, ... in turn, given the loss of each; raises what the schedule raises."""
        if self.listed:
            yield from (float(rate) for rate in self.schedule[: len(history)])
            return
        owner, rate, adjusted = _own(self.schedule), self.lr, Adjusted(self.lr)
        if self.generated:
            yield from (self._number(value) for value, _ in zip(owner(), history, strict=False))
            return
        for epoch, loss in enumerate(history):
            if self.before:
                yield self._number(self._read(owner, None))
                self._call(owner, epoch, history, rate, loss, adjusted)
                continue
            result = self._call(owner, epoch, history, rate, loss, adjusted)
            if self.takes(Role.OPTIMIZER):
                result = adjusted.settled()
            now = self._number(self._read(owner, result) if self.stepped else result)
            rate = now if self.follows_rate else self.lr
            yield now

    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        if self.listed:
            return float(self.schedule[epoch])
        if not self.pure:
            losses = [*history[:epoch], *[0.0] * (epoch + 1 - len(history[:epoch]))]
            return list(self.rates(losses))[-1]
        return self._number(self._call(self.schedule, epoch, history, self.lr, 0.0))  # which may leave something in it

    def _call(
        self,
        owner: Any,
        epoch: int,
        history: Sequence[float],
        rate: float,
        loss: float,
        adjusted: Adjusted | None = None,
    ) -> object:
        given: dict[Role, object] = {
            Role.EPOCH: epoch,
            Role.BASE: self.lr,
            Role.CURRENT: rate,
            Role.TOTAL: self.total,
            Role.HISTORY: history[:epoch] if self.takes_history else (),
            Role.LOSS: loss,
            Role.OPTIMIZER: adjusted,
        }
        values = [given[argument.role] for argument in self.arguments if not argument.by_name]
        keywords = {argument.name: given[argument.role] for argument in self.arguments if argument.by_name}
        called = owner if self.method in ("", "__call__") else getattr(owner, self.method)
        return called(*values, **keywords)

    def _read(self, owner: object, result: object) -> object:
        if self.read is None:
            return result
        found = self.read.read(owner)
        return found() if callable(found) else found

    def _number(self, value: object) -> float:
        if isinstance(value, (list, tuple)) and len(value) == 1:
            (value,) = value  # as get_last_lr() returns it
        if not _is_rate(value):
            raise AdapterError(f"{self.reading} gives {value!r:.60}; the rate of the epoch, a number, is needed")
        return float(value)  # type: ignore[arg-type]  # a number

    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        if self.make_twin is None:
            raise AdapterError(f"{self.name} has no twin")
        made: torch.optim.lr_scheduler.LRScheduler = self.make_twin(optimizer)
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign schedule is tried on what it is given")


def name_of(schedule: object) -> str:
    """Return the name of a function, or of an object's class."""
    owner = schedule.func if isinstance(schedule, functools.partial) else schedule
    return str(getattr(owner, "__name__", type(owner).__name__))


def read_schedule(schedule: object, lr: float, total: int | None = None) -> ForeignSchedule:
    """Return a schedule as one of the contract; raises `AdapterError` if there is no way to find its rates.

    ``total`` is the number of epochs, for a schedule that is to know it.
    """
    found = ForeignSchedule(lr, _own(schedule), total=total)
    if found.listed:
        rates = list(found.schedule)
        if not rates or not all(map(_is_rate, rates)):
            raise AdapterError(f"a list of rates has one number an epoch, got {rates!r:.60}")
        return found
    if isinstance(schedule, (int, float, str, dict)):
        raise AdapterError(
            f"a schedule is called with an epoch, or is a list of rates; {name_of(schedule)} cannot be called"
        )
    if inspect.isroutine(schedule) or isinstance(schedule, functools.partial):
        return replace(found, arguments=_arguments(schedule, total))  # of a function nothing else can be asked
    problems: list[str] = []
    for method in ASKED:
        asked = _asked(found, method, problems)
        if asked is not None:
            return asked
    stepping = _stepping(found)
    if stepping is not None:
        return stepping
    why = f" ({problems[0]})" if problems else ""
    raise AdapterError(
        f"a schedule is called with an epoch; {name_of(schedule)} cannot be called so{why}, and steps to no rate that "
        f"was found: write a function from the epoch to the rate, lambda epoch: ..."
    )


def _own(schedule: Any) -> Any:
    """Return a copy of a schedule, so that what calls leave in it is not the user's; or itself, if it has none."""
    try:
        return copy_of(schedule, np.float64)
    except Exception:  # noqa: BLE001  a generator, say, cannot be copied
        return schedule


def _asked(found: ForeignSchedule, method: str, problems: list[str]) -> ForeignSchedule | None:
    """Return the schedule as called by a method that takes an epoch and returns a rate, or None if there is none."""
    called = getattr(found.schedule, method, None)
    if not callable(called):
        return None
    try:
        candidate = replace(found, method=method, arguments=_arguments(called, found.total))
    except AdapterError as error:
        problems.append(str(error))
        return None
    if not candidate.takes(Role.EPOCH):
        return None
    try:
        copy = copy_of(candidate.schedule, np.float64)
        if _is_rate(candidate._call(copy, 1, (1.0, 1.0), found.lr, 1.0)):
            return candidate
    except Exception as error:  # noqa: BLE001  told, if no method answers
        problems.append(f"{method}(1) raises {type(error).__name__}: {error}".replace("\n", " "))
    return None


def _stepping(found: ForeignSchedule) -> ForeignSchedule | None:
    """Return the schedule as an object that steps, with a rate that changes in its first epochs, or at least exists."""
    candidates = []
    for method in STEPS:
        called = getattr(found.schedule, method, None)
        if not callable(called):
            continue
        try:
            arguments = _arguments(called, found.total)
        except AdapterError:
            continue
        for read in (*_sources(found.schedule), None):
            candidate = replace(found, method=method, arguments=arguments, read=read, stepped=True)
            early = read is not None and not candidate.takes(Role.EPOCH) and _is_rate(_unwrapped(found.schedule, read))
            candidate = replace(candidate, before=early)
            rates = _rates_of(candidate)
            if rates:
                candidates.append((len(set(rates)) > 1, candidate))
    changing = [candidate for changes, candidate in candidates if changes]
    return next(iter(changing), candidates[0][1] if candidates else None)


def _rates_of(candidate: ForeignSchedule) -> list[float]:
    """Return the rates of the first epochs, fewer if the schedule ends, and none if it does not begin."""
    rates: list[float] = []
    try:
        rates.extend(candidate.rates([1.0] * 2))
        rates = list(candidate.rates([1.0] * TRIAL))
    except Exception:  # noqa: BLE001, S110  it ends here, or does not begin
        pass
    return rates


def _sources(schedule: object) -> list[Place]:
    """Return where an object may show its rate: a method without arguments, an attribute, or one of its optimizer."""
    found = []
    for name in READ:
        method = getattr(schedule, name, None)
        if callable(method) and not _needed(method) and name != "__call__":
            found.append(Place(((name, True),)))
    found += [Place(((name, True),)) for name in ATTRIBUTES if hasattr(schedule, name)]
    for holder in OPTIMIZERS:
        optimizer = getattr(schedule, holder, None)
        found += [
            Place(((holder, True), (name, True))) for name in ATTRIBUTES if _is_rate(getattr(optimizer, name, None))
        ]
        groups = getattr(optimizer, "param_groups", None)
        if isinstance(groups, list) and groups:
            found.append(Place(((holder, True), ("param_groups", True), (0, False), ("lr", False))))
    return found


def _unwrapped(schedule: object, place: Place) -> object:
    try:
        value = place.read(schedule)
        value = value() if callable(value) else value
    except Exception:  # noqa: BLE001  what cannot be read is no rate
        return None
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _needed(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variable]


def _arguments(function: Any, total: int | None) -> tuple[Argument, ...]:
    """Return the arguments that a schedule is given; raises `AdapterError` if it needs one that is not known."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return (Argument("epoch", Role.EPOCH, by_name=False),)
    needed = _needed(function)
    found: list[Argument] = []
    for p in parameters:
        if p.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        role, roles = _role(p.name), [one.role for one in found]
        optional = p.name not in needed
        if optional and role is not Role.HISTORY and (role is not Role.EPOCH or Role.EPOCH in roles):
            continue
        if role is Role.LOSS and Role.EPOCH in roles:
            role = Role.HISTORY
        role = role or _left(p.name, roles, function, needed)
        found.append(Argument(p.name, role, optional or p.kind is inspect.Parameter.KEYWORD_ONLY))
    if any(one.role is Role.TOTAL for one in found) and total is None:
        name = next(one.name for one in found if one.role is Role.TOTAL)
        raise AdapterError(f"{_written(function, needed)} is to know {name}: say it with epochs=")
    if not found and any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return (Argument("epoch", Role.EPOCH, by_name=False),)
    return tuple(found)


def _left(name: str, roles: Sequence[Role], function: object, needed: Sequence[str]) -> Role:
    """Return the role of an argument whose name tells nothing: the first is the epoch, another the losses so far."""
    if Role.EPOCH not in roles and not any(_role(other) is Role.EPOCH for other in needed):
        return Role.EPOCH
    if roles == [Role.EPOCH] and needed[-1] == name:
        return Role.HISTORY
    raise AdapterError(
        f"{_written(function, needed)} has an argument {name} that is not known: give a function of the epoch, "
        f"as lambda epoch: {name_of(function)}(...)"
    )


def _written(function: object, needed: Sequence[str]) -> str:
    return f"{name_of(function)}({', '.join(needed)})"


def _role(name: str) -> Role | None:
    plain = name if name in TOTALS else name.lower().strip("_")
    table = {
        Role.TOTAL: TOTALS,
        Role.EPOCH: EPOCHS,
        Role.BASE: BASES,
        Role.CURRENT: (*RATES, "current_lr", "current_learning_rate", "prev_lr", "last_lr"),
        Role.HISTORY: HISTORIES,
        Role.LOSS: LOSSES,
        Role.OPTIMIZER: OPTIMIZERS,
    }
    return next((role for role, names in table.items() if plain in names), None)


def _is_rate(value: object) -> bool:
    number = isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, bool)
    return number or (isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "fiu")
