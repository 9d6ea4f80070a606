"""Traces of an engine's steps, recorded by itself or along another trace."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.rounding import FACTOR, spread
from gradcheck.streams import stream
from gradcheck.trajectory.check import NonFinite, first_non_finite
from gradcheck.trajectory.engine import (
    Batch,
    Engine,
    State,
    Step,
    StepError,
    execution_order,
    load,
    observed,
    tensors_of,
)
from gradcheck.trajectory.judgement import exact
from gradcheck.trajectory.probing import TRIED, Note, drawn, require_engine, tried
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.shadows import Errors, Shadows, shadow_from_nudged_state, unmoved
from gradcheck.trajectory.trace import Header, Trace, TraceError, TraceWriter

# As many as lock-step takes of a step that it measures twice: a trace cannot be measured again.
SHADOWS_OF_A_RECORD = 24


@dataclass(frozen=True)
class Recording:
    """What was written: the number of steps and of bytes, and the tensor that was not finite and ended the run.

    ``notes`` are what was found out about the engine before.
    """

    steps: int
    size: int
    stopped_by: NonFinite | None = None
    notes: tuple[Note, ...] = ()


def record(
    engine: Engine,
    batches: Iterable[Batch],
    folder: str | Path,
    *,
    program: str,
    every: int = 1,
    shadows: int = SHADOWS_OF_A_RECORD,
    rounding: ReferenceRounding | None = None,
    seed: int = 0,
    configuration: Mapping[str, Any] | None = None,
) -> Recording:
    """Train ``engine`` on ``batches`` and write every so many steps into an empty folder.

    Before, copies of the engine are tried, as `check_trajectory` does. The noise is how far ``shadows`` of the engine
    have drifted from it, each trained by itself and nudged at every step (`Shadows`), so it grows with the run. An
    engine that cannot be nudged has 0 shadows; its noise is what ``rounding``, if given, measures in each step by
    itself. A loss that is not finite ends the run. Raises `AdapterError` for what is no engine or cannot be copied.
    """
    require_engine(engine, "ours")
    given = drawn(batches)
    first = list(islice(given, TRIED))
    side = tried(engine, "ours", first, seed)
    engine = side.engine
    around = Shadows(engine, shadows, FACTOR, stream("recorded shadows", seed))
    noise = "free" if shadows else "step" if rounding else None
    writer = TraceWriter(folder, _header(engine, program, seed, noise, None, configuration))
    steps, stopped = 0, None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for index, batch in enumerate(chain(first, given)):
            context, recorded = Context(training=True, key=Key(seed, index)), index % every == 0
            before = engine.state() if recorded and (index == 0 or every > 1 or rounding) else {}
            if shadows:
                around.look(engine, batch, context)
            step = observed(engine, batch, context)
            shadowed = [tensors_of(shadow) for shadow in around.step(batch, context, Errors({}))]
            if recorded:
                tensors = _tensors(step)
                spreads = _noise(tensors, shadowed) if shadows else _known(rounding, tensors, before, batch, context)
                writer.write(index, batch.lr, tensors, spreads, before if index == 0 or every > 1 else {})
                steps += 1
            if not np.isfinite(step.loss).all():
                stopped = first_non_finite(index, step)
                break
    return Recording(steps, writer.size, stopped, side.notes)


def record_along(
    engine: Engine,
    trace: Trace,
    folder: str | Path,
    *,
    program: str,
    shadows: int = SHADOWS_OF_A_RECORD,
    rounding: ReferenceRounding | None = None,
    limit: int | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> Recording:
    """Take the steps of ``trace`` with ``engine``, each from the state before it, and write them into an empty folder.

    Before, copies of the engine are tried, as `check_trajectory` does. The noise is the spread of ``shadows`` nudged
    steps from the same state, or what ``rounding`` measures in each step. At most ``limit`` steps are taken. Raises
    `AdapterError` for what is no engine or cannot be copied, `TraceError` for a trace without the states before its
    steps, or that the engine cannot follow.
    """
    require_engine(engine, "ours")
    seed = trace.header.seed
    side = tried(engine, "ours", [one.batch(one.tensors()) for one in islice(trace.steps(), TRIED)], seed)
    engine = side.engine
    around, steps = _Around(engine, shadows, stream("recorded shadows", seed), hidden=side.hides), 0
    noise = "step" if shadows or rounding else None
    writer = TraceWriter(folder, _header(engine, program, seed, noise, trace.digest(), configuration))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for one in islice(trace.steps(), limit):
            before, batch, context = one.before(), one.batch(one.tensors()), one.context()
            where = f"{trace.folder}, step {one.entry.step}"
            if not before:
                raise TraceError(f"{where} has no before/..., and no step before it: from where is not said")
            try:
                load(engine, before)
                step = observed(engine, batch, context)
                tensors = _tensors(step)
                shadowed = map(tensors_of, around.steps(step, before, batch, context))
                spreads = _noise(tensors, shadowed) if shadows else _known(rounding, tensors, before, batch, context)
            except StepError as error:
                raise TraceError(f"{where}: the engine {error}") from None
            writer.write(context.key.step, batch.lr, tensors, spreads, {})
            steps += 1
    return Recording(steps, writer.size, notes=side.notes)


class _Around:
    """Copies of ``engine`` that take its steps nudged, each from the state before it, as in lock-step.

    One copy takes them all, unless the engine has ``hidden`` state, which each then carries along.
    """

    def __init__(self, engine: Engine, count: int, rng: np.random.Generator, *, hidden: bool) -> None:
        self.engines = [copy.deepcopy(engine) for _ in range(count if hidden else min(count, 1))]
        self.count, self.rng, self.untapped = count, rng, engine.opaque

    def steps(self, step: Step, before: State, batch: Batch, context: Context) -> Iterator[Step]:
        """Yield nudged steps, each valid until the next; if nudged taps move nothing, inputs and parameters are."""
        for index in range(self.count):
            shadow = self.engines[index % len(self.engines)]
            if not self.untapped:
                shadow.load(before)
                nudged = observed(shadow, batch, context, self.rng)
                self.untapped = len(self.engines) == 1 and unmoved(step.grads, [nudged.grads])
            if self.untapped:
                nudged, _ = shadow_from_nudged_state(shadow, before, batch, context, self.rng)
            yield nudged


def _known(
    rounding: ReferenceRounding | None, tensors: Mapping[str, Array], before: State, batch: Batch, context: Context
) -> dict[str, float]:
    """Return the rounding noise of a step as ``rounding`` measures it, {} without one."""
    names = [name for name, array in tensors.items() if not exact(name, array)]
    return rounding.by_differences(dict.fromkeys(names, math.inf), before, batch, context) if rounding else {}


def _header(
    engine: Engine,
    program: str,
    seed: int,
    noise: str | None,
    along: str | None,
    configuration: Mapping[str, Any] | None,
) -> Header:
    dtype = next((array.dtype for key, array in engine.state().items() if key.startswith("param/")), np.dtype(float))
    return Header(program, dtype.name, seed, noise, along, dict(configuration or {}))


def _tensors(step: Step) -> dict[str, Array]:
    shown = tensors_of(step)
    return {name: shown[name] for name in execution_order(step)}


def _noise(tensors: Mapping[str, Array], shadowed: Iterable[Mapping[str, Array]]) -> dict[str, float]:
    """Return the spread of the shadows around each tensor that need not be equal."""
    return spread({name: array for name, array in tensors.items() if not exact(name, array)}, shadowed)
