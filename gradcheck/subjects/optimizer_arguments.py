"""What the arguments of an optimizer are, by their names: parameters, gradients, a rate, a count, a state, a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

RATES = ("lr", "learning_rate", "alpha", "eta", "rate", "step_size", "lrate", "l_rate")
COUNTS = ("t", "step", "steps", "iteration", "iterations", "iter", "it", "i", "timestep", "n_iter", "global_step")
STATES = ("state", "states", "config", "cache", "memory", "opt_state", "optim_state", "optim_config")
KEPT = ("m", "v", "s", "h", "u", "velocity", "velocities", "vel", "momentum_buffer", "mean", "square", "mt", "vt")
NAMES = ("name", "key", "k", "id", "idx", "index")
NUMBERS = ("i", "j", "l", "n")  # of a tensor or a layer, where they come first
GRADIENTS = ("g", "gs", "dw", "dws", "db", "dx", "d", "delta", "dtheta", "dp", "dv")


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
    for place, name in enumerate(names):
        if roles[place] is Role.UNKNOWN and _gradient_of(name, names) is not None:
            roles[place] = Role.PARAMS
    for role in (Role.PARAMS, Role.GRADS):
        if role not in roles and Role.UNKNOWN in roles:
            roles[roles.index(Role.UNKNOWN)] = role
    if Role.PARAMS not in roles and Role.GRADS in roles and names[0] in KEPT:  # as in update(v, dv)
        roles[0] = Role.PARAMS
    return roles


def _role_by_name(name: str, others: Sequence[str]) -> Role:
    plain = name.lower().strip("_")
    of_another = plain[:1] == "d" and plain[1:].lstrip("_") in map(str.lower, others)
    if "grad" in plain or "nabla" in plain or plain in GRADIENTS or of_another:
        return Role.GRADS
    if is_rate_name(name):
        return Role.RATE
    if plain in NAMES or plain.endswith(tuple(f"_{each}" for each in NAMES)):
        return Role.NAME
    table = {Role.COUNT: COUNTS, Role.STATE: STATES + KEPT}
    return next((role for role, usual in table.items() if plain in usual), Role.UNKNOWN)


def is_rate_name(name: str) -> bool:
    """Return whether a name is a usual one of a learning rate, however it is written."""
    return name.lower().replace("_", "") in [rate.replace("_", "") for rate in RATES]


def couples_of(arguments: Sequence[Argument]) -> tuple[tuple[str, str], ...]:
    """Return the arguments that are parameters, each with its gradient's, as of f(w, b, dw, db), if there are two."""
    names = [argument.name for argument in arguments if argument.required]
    params = [argument.name for argument in arguments if argument.role is Role.PARAMS]
    found = tuple((name, other) for name in params if (other := _gradient_of(name, names)) is not None)
    return found if len(found) == len(params) > 1 else ()


def _gradient_of(name: str, names: Sequence[str]) -> str | None:
    """Return the name of the argument that is the gradient of another, by the other's name or its first letter."""
    plain = name.lower()
    stems = (plain, plain[0])
    usual = [text for stem in stems for text in (f"d{stem}", f"d_{stem}", f"grad_{stem}", f"{stem}_grad")]
    usual += [f"{mark}_{stem}" for stem in stems for mark in ("nabla", "grads", "g")]
    return next((other for other in names if other.lower() in usual and other != name), None)
