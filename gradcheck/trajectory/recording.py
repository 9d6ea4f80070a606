"""Traces of an engine's steps, recorded by itself or along another trace."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.rounding import spread
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
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.trace import Header, Trace, TraceError, TraceWriter

# As many as lock-step takes of a step that it measures twice: a trace cannot be measured again.
SHADOWS_OF_A_RECORD = 24


@dataclass(frozen=True)
class Recording:
    """What was written: the number of steps and of bytes, and the tensor that was not finite and ended the run."""

    steps: int
    size: int
    stopped_by: NonFinite | None = None


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

    The noise is how far ``shadows`` of the engine have drifted from it, each trained by itself and nudged at every
    step, so it grows with the run. An engine that cannot be nudged has 0 shadows; its noise is what ``rounding``, if
    given, measures in each step by itself. A loss that is not finite ends the run.
    """
    around = [copy.deepcopy(engine) for _ in range(shadows)]
    noise = "free" if shadows else "step" if rounding else None
    writer = TraceWriter(folder, _header(engine, program, seed, noise, None, configuration))
    rng, steps = stream("recorded shadows", seed), 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for index, batch in enumerate(batches):
            context, recorded = Context(training=True, key=Key(seed, index)), index % every == 0
            before = engine.state() if recorded and (index == 0 or every > 1 or rounding) else {}
            step = observed(engine, batch, context)
            shadowed = [tensors_of(observed(shadow, batch, context, rng)) for shadow in around]
            if recorded:
                tensors = _tensors(step)
                spreads = _noise(tensors, shadowed) if shadows else _known(rounding, tensors, before, batch, context)
                writer.write(index, batch.lr, tensors, spreads, before if index == 0 or every > 1 else {})
                steps += 1
            if not np.isfinite(step.loss).all():
                return Recording(steps, writer.size, first_non_finite(index, step))
    return Recording(steps, writer.size)


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

    The noise is the spread of ``shadows`` nudged steps from the same state, or what ``rounding`` measures in each step.
    At most ``limit`` steps are taken. Raises `TraceError` for a trace without the states before its steps, or that the
    engine cannot follow.
    """
    shadow, steps = copy.deepcopy(engine), 0
    noise = "step" if shadows or rounding else None
    writer = TraceWriter(folder, _header(engine, program, trace.header.seed, noise, trace.digest(), configuration))
    rng = stream("recorded shadows", trace.header.seed)
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
                shadowed = (_shadowed(shadow, before, batch, context, rng) for _ in range(shadows))
                spreads = _noise(tensors, shadowed) if shadows else _known(rounding, tensors, before, batch, context)
            except StepError as error:
                raise TraceError(f"{where}: the engine {error}") from None
            writer.write(context.key.step, batch.lr, tensors, spreads, {})
            steps += 1
    return Recording(steps, writer.size)


def _known(
    rounding: ReferenceRounding | None, tensors: Mapping[str, Array], before: State, batch: Batch, context: Context
) -> dict[str, float]:
    """Return the rounding noise of a step as ``rounding`` measures it, {} without one."""
    names = [name for name, array in tensors.items() if not exact(name, array)]
    return rounding.by_differences(dict.fromkeys(names, math.inf), before, batch, context) if rounding else {}


def _shadowed(
    shadow: Engine, before: State, batch: Batch, context: Context, rng: np.random.Generator
) -> Mapping[str, Array]:
    shadow.load(before)
    return tensors_of(observed(shadow, batch, context, rng))


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
