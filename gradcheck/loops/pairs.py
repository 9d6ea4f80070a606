"""Two loops that can be run again and again, and which tensor of one's state is which of the other's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck.loops.forcing import own_states, require_hold, states_of_theirs
from gradcheck.loops.linking import links_of_states
from gradcheck.loops.names import Link
from gradcheck.loops.runs import Loop, Run, States, recorded, take
from gradcheck.loops.seen import Seen
from gradcheck.trajectory.trace import Trace


@dataclass(frozen=True)
class Side:
    """One of two loops, and ``run``, in which it trained by itself.

    From ``states`` it goes on wherever a step is judged. The ``loop`` of a trace is None: it cannot be run again.
    """

    name: str
    loop: Loop | None
    run: Run
    states: States

    def again(
        self,
        steps: int,
        states: States | None = None,
        rng: np.random.Generator | None = None,
        shown: Callable[[Seen], None] | None = None,
    ) -> Run:
        """Run the loop again for so many steps, quietly; see `Run`. A trace stays what it is."""
        if self.loop is None:
            return self.run
        return take(self.loop, Run(steps, self.run.seed, states or self.states, rng, shown), self.name, quiet=True)


@dataclass(frozen=True)
class Pair:
    """Two loops, and the ``links`` of their states."""

    ours: Side
    theirs: Side
    links: list[Link]

    @property
    def count(self) -> int:
        """The number of steps that both take."""
        return min(len(self.ours.run.steps), len(self.theirs.run.steps))

    def precisions(self) -> tuple[str, str]:
        """Return the lowest precision that each shows."""
        return _precision(self.ours.run.steps[0]), _precision(self.theirs.run.steps[0])


def paired(
    ours: Loop,
    theirs: Loop | Trace | Sequence[Trace],
    steps: int,
    names: Mapping[str, str | Sequence[str]],
    seed: int,
) -> Pair:
    """Let both loops train by themselves for so many steps, and link their states; ``names`` are those given."""
    if callable(theirs):
        other = take(theirs, Run(steps, seed), "theirs", quiet=False)
    else:
        other = recorded([theirs] if isinstance(theirs, Trace) else theirs, steps, seed)
    own = take(ours, Run(steps, seed), "ours", quiet=False)
    require_hold(ours, own)
    links = links_of_states(own, other, names)
    return Pair(
        Side("ours", ours, own, states_of_theirs(other, links)),
        Side("theirs", theirs if callable(theirs) else None, other, own_states(other)),
        links,
    )


def _precision(seen: Seen) -> str:
    if seen.coarse:
        return "bfloat16"
    kinds = {array.dtype for array in seen.tensors.values() if array.dtype.kind == "f" and array.ndim}
    return min(kinds, key=lambda dtype: dtype.itemsize, default=np.dtype(float)).name
