"""Which part of a torch twin's parameters each parameter of a layer is, such as one gate of an LSTM's fused weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.subjects.attributes import AdapterError

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, tuple[int, ...]]

WRITTEN = re.compile(r"(?P<name>[\w.]+?)(?P<index>\[[^\[\]]*\])?(?P<turned>\.T)?")
PART = re.compile(r"(?P<begin>-?\d*):(?P<end>-?\d*)")
ALIKE = 0.5  # of two names, by the share of what they have in common


@dataclass(frozen=True)
class Slot:
    """A part of a parameter: some of its indices, if ``index`` says which, and with its axes reversed if ``turned``."""

    name: str
    index: tuple[int | slice, ...] = ()
    turned: bool = False

    @classmethod
    def of(cls, text: str) -> Slot:
        """Return the slot that is written as ``weight_ih_l0[0:3].T``."""
        found = WRITTEN.fullmatch(text.replace(" ", ""))
        parts = [] if found is None or not found["index"] else found["index"][1:-1].split(",")
        index = [_part(part) for part in parts]
        if found is None or None in index:
            raise AdapterError(f"twin_params has {text!r}; a part of the twin's is written as 'weight_ih_l0[0:3].T'")
        return cls(found["name"], tuple(part for part in index if part is not None), bool(found["turned"]))

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the part, as the layer has it."""
        part = np.empty(whole)[self.index]
        return (part.T if self.turned else part).shape


def _part(text: str) -> int | slice | None:
    """Return an index or a slice as it is written, or None if it is neither."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    found = PART.fullmatch(text)
    return None if found is None else slice(*(int(end) if end else None for end in (found["begin"], found["end"])))


def slots_of(who: str, own: Shapes, theirs: Shapes, given: Mapping[str, str], zero: Collection[str]) -> dict[str, Slot]:
    """Return the slot of each parameter of a layer, by what ``given`` says or by its own name.

    Raises `AdapterError` for a slot that is not there, or of another shape, for elements of the twin's that two slots
    share, and for such as none has, unless the twin's parameter is one that is ``zero``.
    """
    if unknown := [name for name in given if name not in own]:
        raise AdapterError(f"twin_params names {', '.join(unknown)}, and {who}'s parameters are {', '.join(own)}")
    slots = {name: Slot.of(given.get(name, name)) for name in own}
    filled = {name: np.zeros(shape, dtype=bool) for name, shape in theirs.items()}
    for name, slot in slots.items():
        if slot.name not in theirs:
            raise AdapterError(f"{who}'s {name} is the twin's {slot.name}, which there is not: {_written(theirs)}")
        place = filled[slot.name]
        try:
            shape, taken = slot.shape(place.shape), bool(place[slot.index].any())
        except IndexError as error:
            raise AdapterError(f"{given.get(name, name)} is no part of {_written({slot.name: place.shape})}") from error
        if shape != own[name]:
            turned = "; .T turns it" if shape == own[name][::-1] else ""
            raise AdapterError(f"{who}'s {name} has shape {own[name]}, {given.get(name, name)} has {shape}{turned}")
        if taken:
            raise AdapterError(f"{who}'s {name} is {given.get(name, name)}, a part of which another parameter is, too")
        place[slot.index] = True
    left = [name for name, place in filled.items() if not place.all() and name not in zero]
    if left:
        raise AdapterError(
            f"no parameter of {who}'s is {', '.join(left)} of its twin, or not all of it: say which in twin_params=, "
            f"or set it to 0, twin.{left[0]}.data.zero_()"
        )
    return slots


def fill_slots(
    module: torch.nn.Module, slots: Mapping[str, Slot], leaves: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return a module's parameters with a layer's own in their places, so that gradients flow back to these."""
    weights: dict[str, torch.Tensor] = {}
    kept = dict(module.named_parameters())
    for name, leaf in leaves.items():
        slot = slots[name]
        turned = leaf.permute(*range(leaf.ndim)[::-1]) if slot.turned else leaf
        if not slot.index:
            weights[slot.name] = turned
            continue
        if slot.name not in weights:
            weights[slot.name] = kept[slot.name].detach().clone()
        weights[slot.name][slot.index] = turned
    return weights


def mismatch(own: Shapes, theirs: Shapes) -> str:
    """Return in one line which parameters have no counterpart, and how to name them."""
    alone = {name: shape for name, shape in own.items() if theirs.get(name) != shape}
    left = {name: shape for name, shape in theirs.items() if own.get(name) != shape}
    told = f"it has {_written(alone) or 'no others'}, the twin {_written(left) or 'no others'}"
    if not own:
        return f"{told}; name its own with params= and their gradients with grads="
    if not alone:
        return f"{told}; make the twin without what the layer has not, as by bias=False, or name that with params="
    named = _renamed(alone, left)
    if named:
        kept = {name: name for name in own if name not in alone}
        return f"{told}; name them with params={kept | named}, and their gradients with grads="
    parts = dict(_parts(alone, left))
    if len(parts) == len(alone):
        filled = {part.partition("[")[0] for part in parts.values()}
        rest = ", ".join(name for name in left if name not in filled)
        zero = f", with {rest} set to 0" if rest else ""
        return f"{told}; say which part of the twin's each is, such as twin_params={parts}{zero}"
    return f"{told}; {_nearest(alone, left)}say which of the twin's each is, with twin_params={{...}}"


def _renamed(alone: Shapes, left: Shapes) -> dict[str, str]:
    """Return the names of a twin with those of a layer, if shapes, or else names, say which belong together."""
    if len(alone) != len(left):
        return {}
    named: dict[str, str] = {}
    waiting = dict(alone)
    for name, shape in left.items():
        same = [k for k, s in waiting.items() if s == shape] or [k for k, s in waiting.items() if s == shape[::-1]]
        near = same if len(same) == 1 else difflib.get_close_matches(name, same, 1, ALIKE)
        if not near:
            return {}
        named[name] = near[0] if waiting.pop(near[0]) == shape else f"{near[0]}.T"
    return named


def _parts(alone: Shapes, left: Shapes) -> Iterator[tuple[str, str]]:
    """Yield slots along the first axis of the twin's parameters that those of a layer fill, in the layer's order.

    A square is turned if those before it are.
    """
    waiting = dict(alone)
    marks: tuple[str, ...] = ("", ".T")
    for name, shape in left.items():
        begin = 0
        for own, part in list(waiting.items()):
            for mark in marks:
                turned = part[::-1] if mark else part
                fits = bool(turned) and turned[1:] == shape[1:] and begin + turned[0] <= shape[0]
                if fits and shape[0] % turned[0] == 0 and prod(turned) < prod(shape):
                    yield own, f"{name}[{begin}:{begin + turned[0]}]{mark}"
                    begin += turned[0]
                    marks = (mark, *(other for other in marks if other != mark)) if len(part) > 1 else marks
                    del waiting[own]
                    break


def _nearest(alone: Shapes, left: Shapes) -> str:
    """Return which names are alike, and whether one is the other transposed."""
    found = []
    for name, shape in left.items():
        same = [k for k, s in alone.items() if s in (shape, shape[::-1])]
        near = difflib.get_close_matches(name, same or list(alone), 1, ALIKE) or same[:1]
        if near:
            turned = " transposed" if alone[near[0]] == shape[::-1] != shape else ""
            found.append(f"{name} may be {near[0]}{turned}")
    return f"{', '.join(found)}; " if found else ""


def _written(shapes: Shapes) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
