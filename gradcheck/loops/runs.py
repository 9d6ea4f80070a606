"""Runs of a loop: as it is, from another loop's states, nudged; each from the same random numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.seen import Enough, Onlooker, Seen, Shown
from gradcheck.loops.stored import StoredSteps
from gradcheck.loops.watch import Watch
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.engine import STATE, State
from gradcheck.trajectory.generators import seed_all
from gradcheck.trajectory.trace import Trace

Loop = Callable[[Any], object]
States = Callable[[int, Mapping[str, Array]], State]  # what to put in place of the state after a step, -1 for the start


class Run(Onlooker):
    """Looks on for a number of steps, and then ends the loop.

    After each step, ``states`` says what to put in place of the state after it. ``take``, if given, takes each step;
    otherwise they are kept. Global generators of random numbers are put back before every step.
    """

    def __init__(
        self,
        steps: int,
        seed: int,
        states: States = lambda *_: {},
        rng: np.random.Generator | None = None,
        take: Callable[[Seen], None] | None = None,
    ) -> None:
        self.count, self.seed, self.states, self.rng = steps, seed, states, rng
        self.steps = StoredSteps()
        self.take = take or self.steps.append
        self.begin: State = {}
        self.by_hooks = False

    def start(self, state: State) -> State:
        self.begin = state
        _put_back(self.seed, 0)
        return self.states(-1, state)

    def step(self, shown: Shown) -> State:
        seen = shown()
        self.take(seen)
        if seen.step + 1 >= self.count:
            raise Enough
        _put_back(self.seed, seen.step + 1)
        return self.states(seen.step, seen.state())

    def before(self, step: int) -> State:
        """Return the state before a step, as far as the loop has shown it."""
        seen = self.steps[step]
        if step:
            return dict(seen.start) or self.steps[step - 1].state()
        return {**self.begin, **seen.start}

    def first(self) -> State:
        """Return the state before the first step; in place of what was not shown of it, what was after it."""
        return {**self.steps[0].state(), **self.before(0)}

    def evidence(self) -> State:
        """Return the state after the first step, with the gradients in it in place of the parameters.

        Without the start, these tell best which parameter is which: an update may have no more than their sign.
        """
        tensors = self.steps[0].tensors
        own = {name: tensors.get(f"backward/{name.removeprefix('param/')}") for name in self.steps[0].state()}
        return self.steps[0].state() | {name: grad for name, grad in own.items() if grad is not None}

    def moved(self) -> list[str]:
        """Return the parameters that are trained: those that have moved since they were first seen."""
        first, last = self.first(), self.steps[-1].state()
        single = len(self.steps) == 1 and not self.before(0)  # then nothing shows what has moved
        names = [name for name in first if name.startswith("param/")]
        return [name for name in names if single or not np.array_equal(first[name], last.get(name, first[name]))]

    def slots(self) -> dict[str, int]:
        """Return, in order, the names of what an optimizer kept, each with the step after which it was first there."""
        found: dict[str, int] = {}
        prefix = "update/optim/"
        for step, seen in enumerate(self.steps):
            named = [name.removeprefix(prefix) for name in seen.tensors if name.startswith(prefix)]
            found |= {name: step for name in named if name not in found}
        return found


class Given:
    """What a loop is given as ``watch``: called with a model and an optimizer, or told of every step."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.watch = Watch(run)
        self.start, self.step = self.watch.start, self.watch.step

    def __call__(self, model: object = None, optimizer: object = None) -> Watch:
        if optimizer is not None:
            self.run.by_hooks = True
            return Watch(self.run, model, optimizer)
        self.watch.model = model
        return self.watch


def recorded(traces: Sequence[Trace], steps: int, seed: int) -> Run:
    """Return the first steps of a trace, or of one of each rank of a distributed run, as if a loop had shown them.

    Of several ranks the second and later ones' tensors are named as those of further passes, ``data/x@1``; the loss is
    the mean, as gradients are. Parameters and gradients are those of the first. Raises AdapterError for an empty trace,
    and where the ranks have other parameters after a step.
    """
    run = Run(steps, seed)
    for ranks in islice(zip(*(trace.steps() for trace in traces), strict=False), steps):
        shown = [one.tensors() for one in ranks]
        states = {name for name in shown[0] if name.startswith("update/param/")}
        for one in shown if len(shown) > 1 else ():  # of the mean of the ranks' losses
            backward = [name for name in one if name.startswith("backward/") and _of_a_pass(name, states)]
            one |= {name: one[name] / one[name].dtype.type(len(shown)) for name in backward}
        tensors = dict(shown[0])
        for rank, other in enumerate(shown[1:], 1):
            if apart := [name for name in sorted(states) if not np.array_equal(tensors[name], other.get(name))]:
                what = apart[0].removeprefix("update/param/")
                raise AdapterError(f"rank {rank} has another {what} than rank 0 after step {ranks[0].entry.step}")
            passes = {name: array for name, array in other.items() if name not in tensors or _of_a_pass(name, states)}
            tensors |= {f"{name}@{rank}": array for name, array in passes.items()}
        if losses := [other["loss/loss.value"] for other in shown if "loss/loss.value" in other]:
            tensors["loss/loss.value"] = np.mean(losses)
        start = {key: array for key, array in ranks[0].before().items() if key.startswith(STATE)}
        run.steps.append(Seen(len(run.steps), tensors, ranks[0].entry.lr, start, {}))
    if not run.steps:
        raise AdapterError(f"{traces[0].folder} has no steps")
    return run


def _of_a_pass(name: str, states: Collection[str]) -> bool:
    """Return whether a tensor is one of the samples of a rank, not of the parameters, which all ranks share."""
    return name.startswith(("data/", "forward/")) or (
        name.startswith("backward/")
        and name.endswith((".output", ".input", "outputs", ".prediction"))
        and f"update/param/{name.removeprefix('backward/')}" not in states
    )


def take(loop: Loop, run: Run, who: str, *, quiet: bool) -> Run:
    """Let a loop train until the run has enough; raises AdapterError where it raises, or shows no step."""
    _put_back(run.seed, 0)
    shown = [0]
    inner = run.take

    def counted(seen: Seen) -> None:
        shown[0] += 1
        inner(seen)

    run.take = counted
    try:
        with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
            loop(Given(run))
    except Enough:
        pass
    except Exception as error:  # the loop is the user's, and so is whatever it raises
        raise AdapterError(f"{who} raises {type(error).__name__} after {shown[0]} steps: {error}") from error
    if not shown[0]:
        raise AdapterError(
            f"{who} showed no step: train inside `with watch(model, optimizer):`, or call watch.step(params=..., ...)"
            " at the end of each step, where watch is the argument that the function is given"
        )
    return run


def _put_back(seed: int, step: int) -> None:
    """Seed the global generators for a step."""
    seed_all(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
