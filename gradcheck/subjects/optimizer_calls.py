"""An optimizer that runs as people call it: which method, with which arguments, and where its rate is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Gradients, ShapeError
from gradcheck.subjects.copies import copy_of
from gradcheck.subjects.held_parameters import Place
from gradcheck.subjects.optimizer_arguments import Argument, Role
from gradcheck.subjects.optimizer_containers import Container, Own, OwnAndGradients, Packed, Separate

# Called before and after each step, where an object has them.
BEFORE = ("pre_update_params", "pre_update", "pre_step")
AFTER = ("post_update_params", "post_update", "post_step")


@dataclass(frozen=True)
class Rate:
    """Where an optimizer's learning rate is: in an argument, at places below it, or at a key of its state."""

    places: tuple[Place, ...] = ()
    key: str = ""
    argument: str = ""
    base: float | None = None

    @property
    def known(self) -> bool:
        """Return whether the rate can be set."""
        return bool(self.places or self.key or self.argument)

    def __str__(self) -> str:
        if self.argument:
            return f"rate given as {self.argument}"
        if self.key:
            return f"rate in the state's {self.key}"
        return f"rate in {self.places[0]}" if self.places else "rate not found, and left as it is"


@dataclass(frozen=True)
class Call:
    """One way to call an optimizer: the method, its arguments, and what the tensors are given in.

    ``method`` is empty for a function. ``initial`` is what a state is before the first step: an empty dict, zeros or
    None. With ``own`` every tensor, or layer, has a copy of the optimizer for itself. What comes back may be something
    else than the parameters, which then is ``ignored``.
    """

    method: str
    arguments: tuple[Argument, ...]
    container: Container
    initial: str = "{}"
    own: bool = False
    ignored: bool = False

    def function(self, owner: Any) -> Callable[..., Any]:
        """Return what is called."""
        called: Callable[..., Any] = owner if self.method in ("", "__call__") else getattr(owner, self.method)
        return called

    def words(self, name: str) -> str:
        """Return the call as it is written, and what the tensors are in."""
        called = name if self.method in ("", "__call__") else self.method
        return f"{called}({', '.join(argument.name for argument in self.arguments)}) on {self.container.words}"

    @property
    def states(self) -> tuple[Argument, ...]:
        """Return the arguments that are states."""
        return tuple(argument for argument in self.arguments if argument.role is Role.STATE)


class Running:
    """A copy of an optimizer that moves some parameters, step by step, with all that it keeps between steps."""

    def __init__(self, optimizer: object, call: Call, rate: Rate, dtype: DTypeLike) -> None:
        self.optimizer, self.call, self.rate, self.dtype = optimizer, call, rate, dtype
        self.owners: dict[str, Any] = {}
        self.kept: dict[str, list[Any]] = {}
        self.count: dict[str, int] = {}
        self.rates: dict[int, float] = {}  # that were set last, by the identity of what they were set in
        self.given: dict[str, float] = {}  # rates that were put last into the states
        self.made: dict[str, Any] = {}  # objects that hold parameters, on which an optimizer may leave something
        self.manner = ""  # how the last step has moved the parameters
        self.widened = False  # whether some of them came back in a higher precision than they were given in

    def step(self, params: dict[str, Array], grads: Gradients, lr: float | None) -> None:
        """Move the parameters that have a gradient, in place."""
        container = self.call.container
        units = container.units([name for name in params if not container.each or name in grads])
        owners = [self._owner(unit) for unit in units]
        distinct = list({id(owner): owner for owner in owners}.values())
        for owner in distinct:
            if lr is not None and self.rates.get(id(owner)) != lr:  # else it may have changed its rate itself
                for place in self.rate.places:
                    place.write(owner, lr)
                self.rates[id(owner)] = lr
            _call_hook(owner, BEFORE)
        for unit, owner in zip(units, owners, strict=True):
            self._step(owner, {name: params[name] for name in unit}, {n: grads[n] for n in unit if n in grads}, lr)
        for owner in distinct:
            _call_hook(owner, AFTER)

    def _owner(self, unit: list[str]) -> Any:
        key = unit[0] if self.call.own else ""
        if key not in self.owners:
            self.owners[key] = copy_of(self.optimizer, self.dtype)
        return self.owners[key]

    def _step(self, owner: Any, params: dict[str, Array], grads: Gradients, lr: float | None) -> None:
        container, before = self.call.container, {name: array.copy() for name, array in params.items()}
        if isinstance(container, (Own, OwnAndGradients)):
            _put(owner, container, params, grads)
        packed = container.pack(params, grads, self.made)
        result = self._called(owner, next(iter(params)), params, packed, lr)
        after = self._returned(next(iter(params)), result, list(params))
        self.manner = "returned"
        if after is None:
            after = _got(owner, container, params) if isinstance(container, (Own, OwnAndGradients)) else packed.after()
            replaced = any(array is not params[name] for name, array in after.items())
            self.manner = "replaced" if replaced and packed.params is not None else "in place"
        for name, array in after.items():
            if np.shape(array) != before[name].shape:
                raise ShapeError(f"{name} of shape {before[name].shape} comes back in shape {np.shape(array)}")
            self.widened |= np.asarray(array).dtype.itemsize > params[name].dtype.itemsize
            params[name][...] = array

    def _called(self, owner: Any, unit: str, params: dict[str, Array], packed: Packed, lr: float | None) -> object:
        count = self.count[unit] = self.count.get(unit, 0) + 1
        kept = self.kept.setdefault(unit, [self._initial(params) for _ in self.call.states])
        if self.rate.key and isinstance(kept[0], dict) and lr is not None and self.given.get(unit) != lr:
            kept[0][self.rate.key] = self.given[unit] = lr
        states = iter(kept)
        values: list[Any] = []
        keywords: dict[str, Any] = {}
        for argument in self.call.arguments:
            value: Any = {
                Role.PARAMS: packed.params,
                Role.GRADS: packed.grads,
                Role.RATE: lr,
                Role.COUNT: count,
                Role.NAME: unit,
            }.get(argument.role)
            if argument.role is Role.STATE:
                value = next(states)
            value = packed.named.get(argument.name, value)
            if argument.role is Role.RATE and value is None:
                continue
            if argument.by_name:
                keywords[argument.name] = value
            else:
                values.append(value)
        return self.call.function(owner)(*values, **keywords)

    def _initial(self, params: dict[str, Array]) -> object:
        if self.call.initial == "zeros":
            return self.call.container.zeros(params)
        return {} if self.call.initial == "{}" else None

    def _returned(self, unit: str, result: object, names: list[str]) -> dict[str, Any] | None:
        """Return the parameters that came back, and keep the states that came back beside them."""
        if self.call.ignored:
            if self.call.states and result is not None:
                self.kept[unit][0] = result
            return None
        container, states = self.call.container, self.kept[unit]
        after = container.returned(result, names)
        rest: Sequence[Any] = ()
        if after is not None and isinstance(container, Separate) and isinstance(result, (tuple, list)):
            rest = result[len(container.couples) :]
        elif after is None and isinstance(result, (tuple, list)) and len(result) > 1:
            after = container.returned(result[0], names)
            rest = result[1:] if after is not None else ()
        elif after is None and states and isinstance(result, Mapping):
            rest = (result,)  # the state alone
        states[: len(rest)] = rest[: len(states)]
        return after


def _put(owner: object, container: Container, params: dict[str, Array], grads: Gradients) -> None:
    """Write parameters and gradients where an optimizer holds them."""
    if isinstance(container, Own):
        for held, (name, array) in zip(container.held, params.items(), strict=True):
            grad = grads.get(name)
            number = isinstance(held.param.read(owner), float)
            held.grad.write(owner, float(grad) if number and grad is not None else grad)
            _write_into(held.param, owner, array)
    elif isinstance(container, OwnAndGradients):
        for place, array in zip(container.places, params.values(), strict=True):
            _write_into(place, owner, array)


def _write_into(place: Place, owner: object, array: Array) -> None:
    """Put values into the array at a place, which others may hold, too, or in the place of a number."""
    current = place.read(owner)
    if isinstance(current, np.ndarray):
        current[...] = array
    else:
        place.write(owner, float(array))


def _got(owner: object, container: Container, params: dict[str, Array]) -> dict[str, Array]:
    if isinstance(container, Own):
        places = [held.param for held in container.held]
    else:
        places = list(container.places) if isinstance(container, OwnAndGradients) else []
    return {name: np.asarray(place.read(owner)) for name, place in zip(params, places, strict=True)}


def _call_hook(owner: object, names: Sequence[str]) -> None:
    for name in names:
        hook = getattr(owner, name, None)
        if callable(hook):
            hook()
            return
