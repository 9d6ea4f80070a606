"""A preset's fields as text and numbers, as a configuration file, the command line and a run's document have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from gradcheck.contract import Initializer, Loss, Optimizer, Schedule
from nets.datasets.augmentation import Augmentation
from nets.notation import parse, written
from nets.presets.preset import Preset


def configuration(preset: Preset) -> dict[str, Any]:
    """Return every field that decides a run as text, a number or a truth value."""
    told = {spec.name: getattr(preset, spec.name) for spec in fields(preset) if spec.name not in SAID}
    return {
        name: "none" if value is None else value if isinstance(value, (str, int, float)) else written(value)
        for name, value in told.items()
        if value is not None or name in OPTIONAL
    }


def configured(preset: Preset, given: Mapping[str, Any]) -> Preset:
    """Return a preset with other fields, given as `configuration` tells them: its inverse.

    ``none`` stands for no augmentation, no other loss to tell, and torch's default weights or biases. Raises
    ValueError, in one line, for text that writes nothing of the kind, and for a network that does not take images to
    ten outputs.
    """
    if unknown := given.keys() - {spec.name for spec in fields(Preset)} | given.keys() & set(SAID):
        raise ValueError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(configuration(preset))}")
    changed = {name: field_of(name, value) for name, value in given.items()}
    made = replace(preset, **changed)
    if not 0 <= made.schedule.lr < math.inf:
        raise ValueError(f"schedule: {type(made.schedule).__name__} needs a finite lr of at least 0")
    if "network" in given:
        made.shape  # noqa: B018  which says what is wrong with it
    return made


def field_of(name: str, value: Any) -> Any:  # noqa: ANN401  what the field holds
    """Return what a field holds, from what `configuration` tells of it; raises as `configured` for a part."""
    if name == "network":
        return " ".join(str(value).split())  # in one line, however it was written
    if name not in PARTS:
        return value
    if value == "none" and name in OPTIONAL:
        return None
    try:
        return parse(value, PARTS[name])
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None


PARTS: dict[str, type[Any]] = {
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "weights": Initializer,
    "biases": Initializer,
    "augmentation": Augmentation,
    "reported_loss": Loss,
}
OPTIONAL = ("weights", "biases", "augmentation", "reported_loss")

SAID = ("name", "summary", "reported")  # what is said of a preset and decides nothing
