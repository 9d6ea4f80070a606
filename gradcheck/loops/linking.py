"""Which tensor of ours is which of theirs: of the state, and of all that one step shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.judging import near
from gradcheck.loops.names import CLOSE, Link, parameters, shown, slots
from gradcheck.loops.runs import Run
from gradcheck.loops.seen import Seen
from gradcheck.trajectory.engine import below


def links_of_states(ours: Run, theirs: Run, names: Mapping[str, str | Sequence[str]]) -> list[Link]:
    """Return the links of the states: of ``param/...``, ``optim/...`` and ``buffer/...``."""
    both = bool(ours.before(0) and theirs.before(0))
    mine, other = (run.first() if both else run.evidence() for run in (ours, theirs))
    tolerance = 0.0 if both else CLOSE
    params, buffers = (
        parameters(below(kind, mine), below(kind, other), names, tolerance) for kind in ("param/", "buffer/")
    )
    kept = [link.moved("optim/") for link in slots(ours.slots(), theirs.slots(), params)]
    return [
        *(link.moved("param/") for link in params),
        *(_scaled(link, ours.steps[0], theirs.steps[0]) for link in kept),
        *(link.moved("buffer/") for link in buffers),
    ]


def _scaled(link: Link, ours: Seen, theirs: Seen) -> Link:
    """Return the link of two velocities of which one has the learning rate, or its negative, in it.

    That is so if it holds in the first step, after which each is made of one gradient alone.
    """
    mine, other, rate = ours.state(), theirs.state(), theirs.lr
    if not is_in(link, mine, other):
        return link
    velocity = link.of_theirs(other)
    own = link.of_ours(mine, velocity.shape)
    if not rate > 0 or own.shape != velocity.shape or velocity.dtype.kind != "f" or near(own, velocity):
        return link
    scales = [scale for scale in (-rate, rate, -1 / rate, 1 / rate, -1.0) if near(own / scale, velocity)]
    return replace(link, scale=scales[0]) if scales and np.any(velocity) else link


def links_of_steps(states: list[Link], ours: Sequence[Seen], theirs: Sequence[Seen], scale: float) -> list[list[Link]]:
    """Return the links of each step, in the order in which theirs shows its tensors.

    ``states`` are those of the states; ``scale`` is by how much ours scales its loss. Steps that show tensors of the
    same names have the same links, those that the first of them has.
    """
    known: dict[tuple[str, ...], list[Link]] = {}
    found = []
    for mine, other in zip(ours, theirs, strict=False):
        names = (*mine.tensors, "", *other.tensors)
        if names not in known:
            known[names] = _links_of_a_step(states, mine, other, scale)
        found.append(known[names])
    return found


def _links_of_a_step(states: list[Link], ours: Seen, theirs: Seen, scale: float) -> list[Link]:
    found: list[Link] = []
    for link in states:
        found.append(link.moved("update/"))
        if link.theirs[0].startswith("param/"):
            found += [_gradients(link), _gradients(link, ".unclipped")]
    taken = {name for link in found for name in link.ours}, {name for link in found for name in link.theirs}
    rest = [
        {name: seen.tensors[name] for name in seen.tensors if name not in own and not name.startswith("update/")}
        for seen, own in zip((ours, theirs), taken, strict=True)
    ]
    found += [
        replace(link, scale=scale) if link.theirs[0].startswith(("loss/", "backward/")) else link
        for link in shown(*rest)
    ]
    place = {name: i for i, name in enumerate(theirs.tensors)}
    found = [link for link in found if is_in(link, ours.tensors, theirs.tensors)]
    return sorted(found, key=lambda link: place[link.theirs[0]])


def scale_of_loss(states: list[Link], ours: Sequence[Seen], theirs: Sequence[Seen]) -> float:
    """Return by how much ours' loss is scaled, if its parameters' gradients are not: 1 where that is not so.

    Gradients are divided by the scale before the update; the loss and all gradients on the way are not, of which one at
    least has to show it.
    """
    name = "loss/loss.value"
    losses = [
        (a.tensors[name], b.tensors[name])
        for a, b in zip(ours, theirs, strict=False)
        if name in a.tensors and name in b.tensors
    ]
    ratios = [float(a / b) for a, b in losses if b]
    if not ratios or not all(0 < ratio < math.inf for ratio in ratios):
        return 1.0
    scale = float(round(ratios[0])) if ratios[0] > 1 else 1 / round(1 / ratios[0])
    if scale == 1 or not all(math.isclose(ratio, scale, rel_tol=CLOSE) for ratio in ratios):
        return 1.0
    gradients = [_gradients(link) for link in states if link.theirs[0].startswith("param/")]
    mine, other = ours[0].tensors, theirs[0].tensors
    alike = all(near(*linked(link, mine, other)) for link in gradients if is_in(link, mine, other))
    return scale if alike and _is_on_the_way(scale, mine, other) and not _is_clipped(scale, other) else 1.0


def _is_on_the_way(scale: float, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    """Return whether the gradient of some result is scaled, too."""
    results = [
        name
        for name in ours.keys() & theirs.keys()
        if name.startswith("backward/")
        and name.endswith(("outputs", ".output"))
        and ours[name].shape == theirs[name].shape
    ]
    return any(theirs[name].any() and near(ours[name] / scale, theirs[name]) for name in results)


def _is_clipped(scale: float, theirs: Mapping[str, Array]) -> bool:
    """Return whether something has changed theirs' gradients before the update, other than by the scale."""
    return any(
        name.endswith(".unclipped") and not near(array * scale, theirs[name.removesuffix(".unclipped")])
        for name, array in theirs.items()
    )


def _gradients(link: Link, suffix: str = "") -> Link:
    """Return the link of the gradients of linked parameters."""
    return link.without("param/").moved("backward/", suffix)


def is_in(link: Link, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    """Return whether both sides have all that a link names."""
    return all(name in ours for name in link.ours) and all(name in theirs for name in link.theirs)


def linked(link: Link, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return both sides of a link, ours as theirs has it."""
    other = link.of_theirs(theirs)
    return link.of_ours(ours, other.shape), other
