"""Where an optimizer keeps its learning rate: found by the names that are usual, or by the one that is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.held_parameters import Place
from gradcheck.subjects.optimizer import name_of
from gradcheck.subjects.optimizer_arguments import RATES, Role, is_rate_name
from gradcheck.subjects.optimizer_calls import Call, Rate, Running

# Dicts below an optimizer that may hold its rate.
OPTIONS = ("config", "hyperparameters", "hyperparams", "hparams", "defaults", "options", "optim_config", "settings")

# A rate that a step works with, beside the one that the optimizer was made with.
CURRENT = ("current_learning_rate", "current_lr")


def rates_of(optimizer: object, call: Call, lr: str | None) -> list[Rate]:
    """Return where the rate may be, the likeliest first: in an argument, or in attributes with usual names.

    ``lr`` is the name of the attribute, the argument or the key of the state, if it is given; raises `AdapterError` if
    there is none of that name.
    """
    argument = next((argument for argument in call.arguments if argument.role is Role.RATE), None)
    if argument is not None and lr in (None, argument.name):
        held = _places(optimizer)
        base = argument.default if _is_rate(argument.default) else _number(optimizer, held[0]) if held else None
        return [Rate(argument=argument.name, base=None if base is None else float(base))]
    if lr is None:
        return [_at(optimizer, places) for places in _places(optimizer)] or [Rate()]
    if call.states and not hasattr(optimizer, lr.partition(".")[0]):
        return [Rate(key=lr)]
    try:
        return [_at(optimizer, [Place.of(optimizer, lr)])]
    except AdapterError as error:
        raise AdapterError(f"{error}: name the one that holds its learning rate with lr=") from None


def rate_of_state(running: Running) -> Rate:
    """Return the rate that a function has put into its state, by its usual names."""
    state = next((kept[0] for kept in running.kept.values() if kept), None)
    key = next((key for key in RATES if isinstance(state, dict) and _is_rate(state.get(key))), None)
    return Rate() if key is None or not isinstance(state, dict) else Rate(key=key, base=float(state[key]))


def _places(optimizer: object) -> list[list[Place]]:
    """Return the places of the rate by its usual names: an attribute, each group's rate, a key of a dict of options."""
    attributes = [name for name in _attributes(optimizer) if is_rate_name(name)]
    attributes.sort(key=lambda name: [rate.replace("_", "") for rate in RATES].index(name.lower().replace("_", "")))
    partners = [Place(((name, True),)) for name in CURRENT if _is_rate(getattr(optimizer, name, None))]
    found = [[Place(((name, True),)), *partners] for name in attributes]
    groups = getattr(optimizer, "param_groups", None)
    if isinstance(groups, list) and groups and all(isinstance(group, dict) and "lr" in group for group in groups):
        found.append([Place((("param_groups", True), (i, False), ("lr", False))) for i in range(len(groups))])
    for name, below in getattr(optimizer, "__dict__", {}).items():  # such as a schedule of its own
        if hasattr(below, "__dict__") and not callable(getattr(below, "forward", None)):
            inside = [each for each in _attributes(below) if each in vars(below)]
            found += [[Place(((name, True), (each, True)))] for each in inside]
    for options in OPTIONS:
        held = getattr(optimizer, options, None)
        keys = [key for key in RATES if isinstance(held, dict) and _is_rate(held.get(key))]
        found += [[Place(((options, True), (key, False)))] for key in keys]
    return found


def _attributes(optimizer: object) -> list[str]:
    """Return the names of an object's numbers, in its own attributes and in its class's."""
    classes = [name for kind in type(optimizer).__mro__ for name in vars(kind)]
    names = dict.fromkeys([*getattr(optimizer, "__dict__", {}), *classes])
    return [name for name in names if is_rate_name(name) and _is_rate(getattr(optimizer, name, None))]


def _at(optimizer: object, places: Sequence[Place]) -> Rate:
    base = _number(optimizer, places[0])
    if base is None:
        raise AdapterError(f"{name_of(optimizer)}'s {places[0]} is no number; lr= names its learning rate")
    return Rate(tuple(places), base=base)


def _number(optimizer: object, place: list[Place] | Place) -> float | None:
    value = (place if isinstance(place, Place) else place[0]).read(optimizer)
    return float(value) if _is_rate(value) else None  # type: ignore[arg-type]  # a number


def _is_rate(value: object) -> bool:
    number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    return number or (isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind == "f")
