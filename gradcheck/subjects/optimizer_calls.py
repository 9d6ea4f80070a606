"""The ways in which people's optimizers are called: with all tensors at once, with one of them, or with nothing."""

from __future__ import annotations

import functools
import inspect
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Gradients, ShapeError
from gradcheck.subjects.copies import fresh
from gradcheck.subjects.held_parameters import Held, Place

RATES = ("lr", "learning_rate", "learningrate", "alpha", "eta", "rate", "step_size", "stepsize", "lrate")
COUNTS = ("t", "step", "steps", "iteration", "iterations", "iter", "it", "i", "timestep", "n_iter", "global_step")
STATES = ("state", "states", "config", "cache", "memory", "opt_state", "optim_state", "optim_config")
KEPT = ("m", "v", "s", "h", "u", "velocity", "velocities", "vel", "momentum_buffer", "mean", "square", "mt", "vt")
NAMES = ("name", "key", "k", "param_name", "key_name", "layer_name", "id", "idx", "index")
NUMBERS = ("i", "j", "l", "n")  # of a tensor or a layer, where they come first
UNITS = ("layer", "module")
MANY_UNITS = ("layers", "model", "net", "network", "nn")
GRADIENTS = ("g", "gs", "dw", "dws", "db", "dx", "d", "delta", "dtheta", "dp", "dv")

# Called before and after each step, where an object has them.
BEFORE = ("pre_update_params", "pre_update", "pre_step")
AFTER = ("post_update_params", "post_update", "post_step")


class Role(StrEnum):
    """What an argument of an optimizer is."""

    PARAMS = "params"
    GRADS = "grads"
    RATE = "rate"
    COUNT = "count"  # of the steps, from 1
    STATE = "state"  # what is returned beside the parameters, and given back in the next step
    NAME = "name"
    UNKNOWN = "unknown"


class Argument(NamedTuple):
    """One argument: its name, its role, whether it has to be given, and whether it is given by name."""

    name: str
    role: Role
    required: bool = True
    by_name: bool = False
    default: Any = None


HIDDEN = (Argument("params", Role.PARAMS), Argument("grads", Role.GRADS))


def arguments_of(function: Callable[..., Any]) -> list[Argument]:
    """Return the arguments of a function that a call fills, by role; those with a default and no role are left out.

    One whose signature is hidden takes parameters and gradients.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return list(HIDDEN)
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters) and len(parameters) <= 2:
        return list(HIDDEN)
    given = [p for p in parameters if p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)]
    required = [p.name for p in given if p.default is inspect.Parameter.empty]
    roles = dict(zip(required, _roles(required), strict=True))
    found = []
    for p in given:
        role = roles.get(p.name) or _role_by_name(p.name, required)
        if p.name in roles:
            found.append(Argument(p.name, role, by_name=p.kind is inspect.Parameter.KEYWORD_ONLY))
        elif role in (Role.RATE, Role.COUNT, Role.STATE, Role.NAME):
            found.append(Argument(p.name, role, required=False, by_name=True, default=p.default))
    return found


def _roles(names: Sequence[str]) -> list[Role]:
    """Return the roles of required arguments: by name; of the others the first is parameters, the next gradients."""
    roles = [_role_by_name(name, names) for name in names]
    if Role.UNKNOWN in roles[1:] and names[0] in NUMBERS:
        roles[0] = Role.NAME
    for role in (Role.PARAMS, Role.GRADS):
        if role not in roles and Role.UNKNOWN in roles:
            roles[roles.index(Role.UNKNOWN)] = role
    if Role.PARAMS not in roles and Role.GRADS in roles and names[0] in KEPT:  # as in update(v, dv)
        roles[0] = Role.PARAMS
    return roles


def _role_by_name(name: str, others: Sequence[str]) -> Role:
    plain = name.lower().strip("_")
    if "grad" in plain or plain in GRADIENTS or (plain[:1] == "d" and plain[1:].lstrip("_") in map(str.lower, others)):
        return Role.GRADS
    table = {Role.RATE: RATES, Role.COUNT: COUNTS, Role.STATE: STATES + KEPT, Role.NAME: NAMES}
    return next((role for role, usual in table.items() if plain in usual), Role.UNKNOWN)


class Packed(NamedTuple):
    """Parameters and gradients as a call takes them, and how to find the parameters again after it."""

    params: Any
    grads: Any
    after: Callable[[], dict[str, Array]]


class Container(ABC):
    """What parameters and gradients are given in."""

    words: str
    each = False  # whether there is a call for every tensor, or for every layer

    def units(self, names: Sequence[str]) -> list[list[str]]:
        """Return the names of the tensors of each call."""
        return [[name] for name in names] if self.each else [list(names)]

    @abstractmethod
    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        """Return the tensors as they are given; ``made`` keeps objects that are made for that from step to step."""

    @abstractmethod
    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        """Return the parameters that a call has returned, or None if it is not them that it returned."""

    def zeros(self, params: Mapping[str, Array]) -> Any:
        """Return zeros in place of every gradient."""
        return self.pack(params, {name: np.zeros_like(array) for name, array in params.items()}, {}).grads


@dataclass(frozen=True)
class Dicts(Container):
    """A dict of parameters and a dict of gradients, whose keys may begin with a d."""

    prefix: str = ""

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        return f"dicts, gradients by {self.prefix} and the name" if self.prefix else "dicts"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = dict(params)
        return Packed(own, {f"{self.prefix}{name}": grad for name, grad in grads.items()}, lambda: own)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        known = isinstance(result, Mapping) and result and all(name in names for name in result)
        return {str(name): array for name, array in result.items()} if known and isinstance(result, Mapping) else None


class Lists(Container):
    """A list of parameters and a list of gradients."""

    words = "lists"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = list(params.values())
        return Packed(own, [grads.get(name) for name in params], lambda: dict(zip(params, own, strict=True)))

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        fits = isinstance(result, (list, tuple)) and len(result) == len(names) and all(map(_is_number, result))
        return dict(zip(names, result, strict=True)) if fits and isinstance(result, (list, tuple)) else None


@dataclass(frozen=True)
class Pairs(Lists):
    """A list of (gradient, parameter) or (parameter, gradient), in the place of the gradients."""

    gradient_first: bool

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        return f"a list of ({'gradient, parameter' if self.gradient_first else 'parameter, gradient'})"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        own = list(params.values())
        couples = [(p, grads.get(name)) for name, p in params.items()]
        given = [couple[::-1] for couple in couples] if self.gradient_first else couples
        return Packed(given, given, lambda: dict(zip(params, own, strict=True)))


class Parameter:
    """A parameter as an object, with its value in ``data`` and its gradient in ``grad``."""

    def __init__(self, name: str, data: Array) -> None:
        self.name, self.data, self.shape, self.requires_grad = name, data, data.shape, True
        self.grad: Array | None = None


class Objects(Lists):
    """A list of objects with ``data`` and ``grad``."""

    words = "a list of objects with data and grad"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        for name, array in params.items():
            one = made.setdefault(name, Parameter(name, array))
            one.data, one.grad = array, grads.get(name)
        given = [made[name] for name in params]
        return Packed(given, given, lambda: {name: made[name].data for name in params})


class Single(Container):
    """One parameter and its gradient a call."""

    words, each = "one tensor a call", True

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        ((name, array),) = params.items()
        return Packed(array, grads[name], lambda: {name: array})

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return {names[0]: result} if _is_number(result) else None


@dataclass(frozen=True)
class Layers(Container):
    """Objects with parameters and gradients in attributes, one a call or a list of all; tensors are named ``0.W``."""

    naming: tuple[tuple[str, str], ...]  # the attributes of each parameter and of its gradient
    each: bool = False

    @property
    def words(self) -> str:  # type: ignore[override]  # of two sorts
        names = ", ".join(f"{param} and {grad}" for param, grad in self.naming)
        return f"{'one layer a call' if self.each else 'a list of layers'}, with {names}"

    def units(self, names: Sequence[str]) -> list[list[str]]:
        layers = list(dict.fromkeys(name.partition(".")[0] for name in names))
        groups = [[name for name in names if name.partition(".")[0] == layer] for layer in layers]
        return groups if self.each else [list(names)]

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        beside = dict(self.naming)
        for name, array in params.items():
            number, _, attribute = name.partition(".")
            layer = made.setdefault(number, types.SimpleNamespace())
            setattr(layer, attribute, array)
            setattr(layer, beside[attribute], grads.get(name))
        layers = [made[number] for number in dict.fromkeys(name.partition(".")[0] for name in params)]
        given = layers[0] if self.each else layers

        def after() -> dict[str, Array]:
            places = {name: name.partition(".") for name in params}
            return {name: getattr(made[number], attribute) for name, (number, _, attribute) in places.items()}

        return Packed(given, given, after)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return None


@dataclass(frozen=True)
class Own(Container):
    """Nothing: the optimizer holds its parameters, and their gradients where ``held`` says."""

    held: tuple[Held, ...]
    words = "what it holds"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        return Packed(None, None, dict)

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return None


@dataclass(frozen=True)
class OwnAndGradients(Container):
    """A list or dict of gradients of the parameters that the optimizer holds."""

    places: tuple[Place, ...]
    words = "the gradients of what it holds"

    def pack(self, params: Mapping[str, Array], grads: Gradients, made: dict[str, Any]) -> Packed:
        keys = [place.path[-1][0] for place in self.places]
        numbered = all(isinstance(key, int) for key in keys)
        given = [grads.get(name) for name in params]
        return Packed(
            None, given if numbered else {k: g for k, g in zip(keys, given, strict=True) if g is not None}, dict
        )

    def returned(self, result: object, names: Sequence[str]) -> dict[str, Any] | None:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, (np.ndarray, np.floating, float)) and np.asarray(value).dtype.kind == "f"


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
    None. With ``own`` every tensor, or layer, has a copy of the optimizer for itself.
    """

    method: str
    arguments: tuple[Argument, ...]
    container: Container
    initial: str = "{}"
    own: bool = False

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
            if lr is not None:
                for place in self.rate.places:
                    place.write(owner, lr)
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
        if self.rate.key and isinstance(kept[0], dict) and lr is not None:
            kept[0][self.rate.key] = lr
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
        after = self.call.container.returned(result, names)
        if after is None and isinstance(result, (tuple, list)) and len(result) > 1:
            after = self.call.container.returned(result[0], names)
            if after is not None:
                states = self.kept[unit]
                states[: len(result) - 1] = result[1 : 1 + len(states)]
        elif after is None and self.call.states and isinstance(result, Mapping):
            self.kept[unit][0] = result  # the state alone
        return after


def _put(owner: object, container: Container, params: dict[str, Array], grads: Gradients) -> None:
    """Write parameters and gradients where an optimizer holds them."""
    if isinstance(container, Own):
        for held, (name, array) in zip(container.held, params.items(), strict=True):
            _write_into(held.param, owner, array)
            held.grad.write(owner, grads.get(name))
    elif isinstance(container, OwnAndGradients):
        for place, array in zip(container.places, params.values(), strict=True):
            _write_into(place, owner, array)


def _write_into(place: Place, owner: object, array: Array) -> None:
    """Put values into the array at a place, which others may hold, too."""
    np.asarray(place.read(owner))[...] = array


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


def copy_of(owner: Any, dtype: DTypeLike, copied: dict[int, Any] | None = None) -> Any:
    """Return a copy, in a precision, of an object or a function; what a function has closed over is copied, too."""
    copied = {} if copied is None else copied
    if id(owner) in copied:
        return copied[id(owner)]
    if isinstance(owner, functools.partial):
        function, keywords = copy_of(owner.func, dtype, copied), fresh(owner.keywords, dtype)
        return functools.partial(function, *fresh(owner.args, dtype), **keywords)
    if isinstance(owner, types.MethodType):
        return types.MethodType(owner.__func__, copy_of(owner.__self__, dtype, copied))
    if not isinstance(owner, types.FunctionType):
        return copied.setdefault(id(owner), fresh(owner, dtype))
    cells = tuple(types.CellType() for _ in owner.__closure__ or ())
    made = types.FunctionType(
        owner.__code__, owner.__globals__, owner.__name__, fresh(owner.__defaults__, dtype), cells
    )
    made.__kwdefaults__, made.__dict__ = fresh(owner.__kwdefaults__, dtype), fresh(owner.__dict__, dtype)
    copied[id(owner)] = made
    for cell, original in zip(cells, owner.__closure__ or (), strict=True):
        cell.cell_contents = copy_of(original.cell_contents, dtype, copied)
    return made
