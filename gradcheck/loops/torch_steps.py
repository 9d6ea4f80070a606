"""One step of a loop of torch, from the copies that were made of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.seen import Seen
from gradcheck.loops.torch_copies import Copies, as_arrays, is_coarse, to_array
from gradcheck.loops.torch_model import Watched
from gradcheck.loops.torch_state import StateCopy
from gradcheck.trajectory.engine import State

if TYPE_CHECKING:
    import torch

EPS_OF_BFLOAT16 = 2.0**-7
KINDS = ("buffer/", "optim/", "param/")  # the parameters last, since they follow from the others


@dataclass(eq=False)
class Step:
    """What is kept of a step while it lasts, besides what its `Passes` show.

    ``trained`` says what the gradients are called that the optimizer uses, ``gradients`` are these as it got them.
    Those that were ``changed`` after `backward` were before that what ``after_backward`` has, over ``scale``. ``start``
    is the state before the step, if it is not that after the last one. ``unscaled`` is the loss before a scaler has
    scaled it. Gradients are ``pending`` that no optimizer has got yet.
    """

    start: StateCopy | None = None
    losses: list[torch.Tensor] = field(default_factory=list)
    trained: frozenset[str] = frozenset()
    after_backward: Copies | None = None
    scale: float = 1.0
    gradients: Copies | None = None
    changed: frozenset[str] = frozenset()
    rates: list[float] = field(default_factory=list)
    unscaled: torch.Tensor | None = None
    pending: bool = False


def seen(
    model: Watched, index: int, step: Step, shown: list[tuple[str, torch.Tensor]], after: StateCopy, nudges: State
) -> Seen:
    """Return what a step shows: what its passes did, its loss, gradients, and the state ``after`` it without nudges."""
    passes: dict[str, Array] = {}
    for name, tensor in shown:  # a gradient as often as there are backward passes through its result: they add up
        array = to_array(tensor)
        passes[name] = passes[name] + array if name in passes else array
    tensors = {name: array for name, array in passes.items() if not name.startswith("backward/")}
    if step.losses:
        losses = [to_array(loss).reshape(()) for loss in step.losses]
        total = np.sum([loss.astype(np.float64) for loss in losses])
        tensors["loss/loss.value"] = np.asarray(total).astype(losses[0].dtype)
    tensors |= passes | _gradients(step)
    state = {key: array - nudges[key] if key in nudges else array for key, array in after.arrays().items()}
    tensors |= {f"update/{key}": state[key] for key in sorted(state, key=_place)}
    several = len(set(step.rates)) > 1
    tensors |= {f"data/lr{place}": np.asarray(rate) for place, rate in enumerate(step.rates if several else ())}
    return Seen(
        index,
        tensors,
        step.rates[0] if step.rates else math.nan,
        step.start.arrays() if step.start is not None else {},
        dict.fromkeys(_coarse(step, shown, after), EPS_OF_BFLOAT16),
        unseen(model, step.trained, tensors),
    )


def changed(before: Copies, after: Copies, scale: float) -> frozenset[str]:
    """Return the names of gradients that are not what they were before, over ``scale``."""
    once, now = before.tensors(), after.tensors()
    return frozenset(name for name in now if name in once and not now[name].equal(once[name] / scale))


def _gradients(step: Step) -> dict[str, Array]:
    """Return the gradients as the optimizer got them, each after what it was before it was changed."""
    found: dict[str, Array] = {}
    before = as_arrays(step.after_backward) if step.changed and step.after_backward is not None else {}
    for name, array in (as_arrays(step.gradients) if step.gradients is not None else {}).items():
        if name in step.changed:
            found[f"{name}.unclipped"] = before[name] / before[name].dtype.type(step.scale)
        found[name] = array
    return found


def _coarse(step: Step, shown: list[tuple[str, torch.Tensor]], after: StateCopy) -> Iterator[str]:
    """Yield the names of what was computed in bfloat16."""
    yield from (name for name, tensor in shown if is_coarse(tensor))
    yield from ("loss/loss.value" for loss in step.losses if is_coarse(loss))
    yield from step.gradients.coarse() if step.gradients is not None else ()
    yield from (f"update/{key}" for key in after.params.coarse())  # what is kept in it need not be computed in it


def _place(key: str) -> int:
    return next(place for place, kind in enumerate(KINDS) if key.startswith(kind))


def unseen(model: Watched, trained: Collection[str], shown: Collection[str]) -> tuple[str, ...]:
    """Return in sentences what could not be seen in a step."""
    found = []
    silent = [name for name in model.modules if f"forward/{name}.output" not in shown]
    if model.compiled:
        found.append("the modules inside a compiled model, whose hooks torch does not run; its results are seen")
    if silent:
        found.append(f"the results of {', '.join(silent)}: not called as modules in this step")
    if not model.roots:
        found.append("inputs and results: no module was given")
    elif not any(name.startswith(("data/", "forward/input")) and name[5] != "y" for name in shown):
        found.append("the model's inputs: it was not called as model(x)")
    if not any(name.startswith("data/y") for name in shown):
        found.append("the targets: the loss is none of torch's own, or has none")
    if "loss/loss.value" not in shown:
        found.append("the loss: backward was not called on a single number")
    without = [name for name in model.params if (key := f"backward/{name}") in trained and key not in shown]
    if without:
        found.append(f"gradients of {', '.join(without)}: there are none")
    return tuple(found)
