"""One line around a training loop, and every step of it is seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gradcheck.contract import PHASES, Array
from gradcheck.loops.seen import Onlooker, Seen, Shown
from gradcheck.loops.torch_hooks import TorchHooks
from gradcheck.numerics.rounding import nudged
from gradcheck.trajectory.engine import STATE, State, below
from gradcheck.trajectory.trace import Header, TraceWriter
from gradcheck.trajectory.trees import Tree, arrays, filled


class Watch:
    """Shows the steps of one loop to an onlooker: by torch's hooks inside ``with``, or by a call of `step` for each."""

    def __init__(self, onlooker: Onlooker, model: Any = None, optimizer: Any = None) -> None:  # noqa: ANN401  of any library
        self.onlooker, self.index = onlooker, 0
        self.optimizers = _several(optimizer)
        self.hooks: TorchHooks | None = None
        self.model = model
        self.state_before: State = {}
        self.moved: dict[str, Array] = {}

    def __enter__(self) -> Self:
        if self.optimizers:
            self.hooks = TorchHooks(self.model, self.optimizers, self.onlooker)
            self.hooks.attach()
        elif self.model is not None:
            self.start(self.model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.hooks is not None:
            self.hooks.detach()
        self.onlooker.end()

    def start(self, params: Tree, state: Tree = None) -> tuple[Tree, Tree]:
        """Show the state before the first step, for a loop that calls `step`; return what `step` returns."""
        self.state_before = _state(params, state)
        return self._go_on(params, state, self.onlooker.start(self.state_before))

    def step(
        self,
        *,
        params: Tree,
        grads: Tree = None,
        state: Tree = None,
        loss: object = None,
        data: Tree = None,
        taps: Mapping[str, object] | None = None,
        lr: float | None = None,
    ) -> tuple[Tree, Tree]:
        """Show one step of a loop in NumPy, JAX or anything else, at its end.

        ``params`` are the parameters after the step and ``state`` what else is carried from step to step, such as an
        optimizer's moments: arrays in nested dicts, lists, tuples, named tuples or dataclasses, named by their paths.
        ``grads`` has the paths of ``params``. ``data`` are inputs and targets, ``(x, y)`` or a dict. ``taps`` are other
        arrays by name, in the order of execution: results of layers, or ``"backward/..."``.

        Returns ``(params, state)`` to go on from. Where two loops are compared, they are overwritten by those of the
        other loop: NumPy arrays in place, so that a loop that goes on with its own arrays need not use what is
        returned. JAX arrays cannot be written to, so there it must: ``params, state = watch.step(...)``.
        """
        index, self.index = self.index, self.index + 1
        after = _state(params, state)
        if self.onlooker.wants(index):
            shown = {f"data/{name}": array for name, array in _data(data).items()}
            for name, array in arrays(dict(taps or {})).items():
                shown[name if name.startswith(tuple(f"{phase}/" for phase in PHASES)) else f"forward/{name}"] = array
            if loss is not None and (value := arrays(loss).get("")) is not None:
                shown["loss/loss.value"] = value.reshape(())
            shown |= {f"backward/{name}": array for name, array in reversed(arrays(grads).items())}
            unmoved = {key: array - self.moved[key] if key in self.moved else array for key, array in after.items()}
            shown |= {f"update/{key}": array for key, array in reversed(unmoved.items())}
            seen = Seen(index, shown, math.nan if lr is None else float(lr), self.state_before, {}, _unseen(shown))
            self.state_before = {}
            after |= (forced := self.onlooker.step(lambda: seen))
            return self._go_on(params, state, forced)
        self.state_before = after
        return params, state

    def _go_on(self, params: Tree, state: Tree, forced: State) -> tuple[Tree, Tree]:
        """Overwrite the state by what the onlooker returned, and nudge the parameters if it has a generator."""
        values = {**_state(params, state), **forced}
        self.moved = {}
        if self.onlooker.rng is not None:
            for key in [key for key in values if key.startswith("param/")]:
                self.moved[key] = nudged(values[key], self.onlooker.rng) - values[key]
                values[key] = values[key] + self.moved[key]
        elif not forced:
            return params, state
        return filled(params, below("param/", values)), filled(state, below("optim/", values))


def watch(
    model: Any = None,  # noqa: ANN401  a module, or a tree of arrays of any library
    optimizer: Any = None,  # noqa: ANN401  one of torch's, or several
    *,
    out: str | Path | None = None,
    every: int = 1,
    limit: int | None = None,
    program: str | None = None,
) -> Watch:
    """Watch a training loop, which stays as it is; return a context manager around it.

    ::

        with gradcheck.watch(model, optimizer, out="ours"):
            train(...)

    A loop of torch is seen by hooks of ``model`` and ``optimizer`` (or several of them); see `TorchHooks`. A loop of
    NumPy, JAX or anything else has one line more, at the end of each step: `Watch.step`.

    Every ``every``-th step is seen, and at most ``limit`` of them; the loop goes on all the same. They are written as a
    trace into the new folder ``out``, as docs/traces.md says, under the name ``program``; without ``out`` they are kept
    in memory, ``watch.onlooker.steps``. Raises ValueError for ``every`` or ``limit`` below 1, FileExistsError if there
    is a trace in the folder.
    """
    if every < 1 or (limit is not None and limit < 1):
        raise ValueError(f"watch needs every and limit of at least 1, got {every} and {limit}")
    if out is None:
        return Watch(Keeping(every, limit), model, optimizer)
    return Watch(Writing(Path(out), program or Path(out).name, every, limit), model, optimizer)


class Keeping(Onlooker):
    """Keeps the steps in memory."""

    def __init__(self, every: int = 1, limit: int | None = None) -> None:
        self.every, self.limit = every, limit
        self.kept: list[Shown | Seen] = []

    def wants(self, step: int) -> bool:
        return step % self.every == 0 and (self.limit is None or step < self.limit * self.every)

    @property
    def steps(self) -> list[Seen]:
        """The steps so far."""
        made = [one if isinstance(one, Seen) else one() for one in self.kept]
        self.kept = list[Shown | Seen](made)
        return made

    def step(self, shown: Shown) -> State:
        self.kept.append(shown)
        return {}


class Writing(Keeping):
    """Writes the steps as a trace."""

    def __init__(self, folder: Path, program: str, every: int, limit: int | None) -> None:
        super().__init__(every, limit)
        self.folder, self.program = folder, program
        self.writer: TraceWriter | None = None

    def step(self, shown: Shown) -> State:
        seen = shown()
        if self.writer is None:
            params = [array for name, array in seen.tensors.items() if name.startswith("update/param/")]
            dtype = next((array.dtype.name for array in params if array.dtype.kind == "f"), "float64")
            self.writer = TraceWriter(self.folder, Header(self.program, dtype, configuration={"unseen": seen.unseen}))
        start = {key: array for key, array in seen.start.items() if key.startswith(STATE)}
        self.writer.write(seen.step, 0.0 if math.isnan(seen.lr) else seen.lr, seen.tensors, {}, start)
        return {}


def _several(optimizer: Any) -> tuple[Any, ...]:  # noqa: ANN401  one or several
    if optimizer is None:
        return ()
    return tuple(optimizer) if isinstance(optimizer, Iterable) else (optimizer,)


def _state(params: Tree, state: Tree) -> State:
    """Return copies of parameters and other state by key; a single array is called ``value``."""
    return {
        **{f"param/{path or 'value'}": array for path, array in arrays(params).items()},
        **{f"optim/{path or 'value'}": array for path, array in arrays(state).items()},
    }


def _data(data: Tree) -> dict[str, Array]:
    """Return inputs and targets by name: of a tuple ``x``, ``y``, then numbers."""
    named = {"0": "x", "1": "y", "": "x"}
    return {named.get(path, path): array for path, array in arrays(data).items()}


def _unseen(shown: Mapping[str, Array]) -> tuple[str, ...]:
    """Return what a call of `Watch.step` did not give."""
    wanted = {"data/": "data", "loss/": "loss", "backward/": "grads", "forward/": "taps", "update/optim/": "state"}
    missing = [name for prefix, name in wanted.items() if not any(key.startswith(prefix) for key in shown)]
    return (f"{', '.join(missing)}: not given to watch.step",) if missing else ()
