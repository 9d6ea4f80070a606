"""What a step of a watched loop shows, and the seam between a loop and who looks on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array
from gradcheck.trajectory.engine import State


@dataclass(frozen=True, eq=False)
class Seen:
    """One step: its ``tensors`` as ``phase/tensor`` in the order in which they were first seen, and its learning rate.

    ``start`` is the state before it where it is not that after the step before: at the first step, or if the loop has
    changed its parameters in between. ``coarse`` has the eps of those tensors that were computed in bfloat16,
    whose arrays are float32 here. ``unseen`` says in sentences what this step has that nothing could see.
    """

    step: int
    tensors: Mapping[str, Array]
    lr: float
    start: Mapping[str, Array]
    coarse: Mapping[str, float]
    unseen: tuple[str, ...] = ()

    def state(self) -> State:
        """Return the state after the step, as ``param/...``, ``buffer/...`` and ``optim/...``."""
        prefix = "update/"
        return {name.removeprefix(prefix): self.tensors[name] for name in self.tensors if name.startswith(prefix)}

    def passes(self) -> frozenset[str]:
        """Return the names of its results, of which there are more the more often the model was called."""
        return frozenset(name for name in self.tensors if name.startswith("forward/"))


Shown = Callable[[], Seen]  # makes a step of the copies of it, which takes longer than the copies


class Enough(BaseException):
    """Ends a loop that is watched once it has shown as many steps as were asked for. It is no error."""


class Onlooker:
    """Looks on while a loop trains; this one changes nothing and keeps nothing.

    Where it has a generator ``rng``, the loop's hooks nudge by one unit in the last place everything that they see
    before the loop goes on with it.
    """

    rng: np.random.Generator | None = None

    def wants(self, step: int) -> bool:
        """Return whether a step is to be shown."""
        del step
        return True

    def end(self) -> None:
        """Take leave: the loop is over."""

    def start(self, state: State) -> State:
        """Take the state before the first step; return what is to be put in its place, {} for nothing."""
        del state
        return {}

    def step(self, shown: Shown) -> State:
        """Take a step that was seen; return what is to be put in place of the state after it, {} for nothing."""
        del shown
        return {}
