"""What an optimizer keeps, under the names that torch has for it, whatever it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.trajectory.divergence import Moment
from gradcheck.trajectory.engine import below
from gradcheck.trajectory.slots import SLOTS, by_parameter, kinds


def in_torchs_names(name: str, moment: Moment) -> tuple[str, Moment]:
    """Return a step, and the name of one of its tensors, with an optimizer's state named ``optim/exp_avg/0.weight``."""
    params = below("param/", moment.before)
    shown = below("update/optim/", moment.theirs)
    arrays = {**below("optim/", moment.before), **shown}
    if all(key.partition("/")[0] in SLOTS and key.partition("/")[2] in params for key in arrays):
        return name, moment
    called: dict[str, str] = {}
    for param, slots in by_parameter(arrays, params).items():
        of_param = {key: slot for key, slot in slots if param}
        some = set(chain.from_iterable(map(kinds, of_param.values())))
        called |= {f"optim/{key}": f"optim/{_slot(slot, some, arrays[key])}/{param}" for key, slot in of_param.items()}
    counts = [f"optim/{key}" for key in arrays if f"optim/{key}" not in called and kinds(key) == {"step"}]
    called |= dict.fromkeys(counts[:1], "step")
    if len(set(called.values())) < len(called):
        return name, moment

    def renamed(named: Mapping[str, Array | float], prefix: str) -> dict[str, Any]:
        short = {key: key.removeprefix(prefix) for key in named}
        return {f"{prefix}{called[one]}" if one in called else key: named[key] for key, one in short.items()}

    own = renamed(dict.fromkeys([name], 0.0), "update/")
    ours, theirs, allowed = (renamed(side, "update/") for side in (moment.ours, moment.theirs, moment.allowed))
    return next(iter(own)), replace(
        moment, before=renamed(moment.before, ""), ours=ours, theirs=theirs, allowed=allowed
    )


def slots_in_torchs_names(kept: Mapping[str, Array]) -> dict[str, Array]:
    """Return what is kept for one parameter by slot, in float64."""
    some = set(chain.from_iterable(map(kinds, kept)))
    return {_slot(slot, some, array): np.asarray(array, dtype=np.float64) for slot, array in kept.items()}


def _slot(slot: str, of_parameter: set[str], array: Array) -> str:
    """Return what torch calls a slot, which may be the velocity or the mean of squares where it is called v."""
    known = kinds(slot)
    if len(known) > 1:
        squares = "exp_avg_sq" if "exp_avg" in of_parameter else "square_avg"
        likely = "momentum_buffer" if np.any(array < 0) else squares
        known = {likely} & known
    return next(iter(known)) if len(known) == 1 else slot
