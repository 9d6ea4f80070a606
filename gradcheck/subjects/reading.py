"""What was seen of a foreign object by calling copies of it, before anything is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcheck.subjects.calls import (
    RATE,
    Calls,
)


@dataclass(frozen=True)
class Reading:
    """What was seen of an object by calling copies of it.

    ``inputs`` are the names of the arrays given, and ``silent`` those of them that no gradient was returned of.
    ``params`` and ``grads`` are paths by name: of parameters below the object, of gradients from ``result`` or
    ``object``; of those in ``moved``, the gradient is what backward subtracted over the rate. ``moves`` are paths by
    name of what backward changes, whether it is judged or not. ``unchecked`` are paths of arrays that the output
    depends on and no gradient is kept of, ``perhaps`` what backward left that has the shape of one; ``buffers`` those
    that forward moves. ``evaluates``: why backward after a forward pass in evaluation mode is not judged, empty if it
    is. ``draws``: from which generators; ``unseeded``: two calls from the same state differ. ``adds_up``: parameters
    whose gradients are added to those of the last call. ``keeps``: attributes by which one output depends on the call
    before. ``begun``: the object after a first forward pass that makes its weights; None if there is no such.
    ``grows``: lists and dicts that each call makes longer, and that backward goes through: they are emptied
    before each call, by the method ``resets`` where there is one; ``goes_on``: those of which nothing was found that
    makes a copy that was called give what a new one gives. ``batch``: the axes of the samples, of input and output.
    """

    subject: str
    calls: Calls
    inputs: tuple[str, ...]
    silent: tuple[str, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    grads: Mapping[str, str] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    moves: Mapping[str, str] = field(default_factory=dict)
    rate: float = RATE
    unchecked: tuple[str, ...] = ()
    perhaps: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    evaluates: str = ""
    draws: tuple[str, ...] = ()
    generators: Mapping[str, Any] = field(default_factory=dict, repr=False)
    begun: Any = field(default=None, repr=False)
    unseeded: bool = False
    adds_up: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    resets: str = ""
    grows: tuple[str, ...] = ()
    goes_on: tuple[str, ...] = ()
    batch: tuple[int, int] | None = None
    extents: frozenset[int] = frozenset()
    argument_names: tuple[str, ...] = ()
    chosen: bool = False  # the order of prediction and target, by differences: no name of an argument tells it
    fixed: bool = False  # the pullback of a function does not depend on its inputs
