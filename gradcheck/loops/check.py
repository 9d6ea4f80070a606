"""Whether two training loops are the same program: each step from the same state, and both by themselves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck.loops.divergences import untied, worst_of
from gradcheck.loops.freerun import compare_free
from gradcheck.loops.lockstep import Lockstep, in_lockstep
from gradcheck.loops.pairs import paired
from gradcheck.loops.results import Doubt, Doubts, FreeLoops, LoopsReport
from gradcheck.loops.runs import Loop, Run
from gradcheck.loops.trials import Trial, smallest_errors
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR, SHADOWS
from gradcheck.trajectory.generators import kept
from gradcheck.trajectory.judgement import USEFUL
from gradcheck.trajectory.trace import Trace

STEPS = 20

# In bfloat16 and float16 rounding moves gradients by some per cent. A comparison tells something as long as it would
# show a gradient of half the size.
COARSE = 0.5


def check_loops(
    ours: Loop,
    theirs: Loop | Trace | Sequence[Trace],
    *,
    steps: int = STEPS,
    start: str = "own",
    names: Mapping[str, str | Sequence[str]] | None = None,
    factor: float = FACTOR,
    shadows: int = SHADOWS,
    seed: int = 0,
) -> LoopsReport:
    """Check that two training loops are the same program, in their first ``steps`` steps.

    Each is a function that trains and is given ``watch``: it trains inside ``with watch(model, optimizer):``, as with
    `gradcheck.watch`, or calls ``watch.start(params)`` before the first step and ``watch.step(params=..., ...)`` at the
    end of each (`Watch.step`). Each is called several times, and must begin anew each time::

        def ours(watch):
            model, optimizer = make()
            with watch(model, optimizer):
                train(model, optimizer)

        print(gradcheck.check_loops(ours, theirs))

    Compared are, in this order, the samples; each step from the same state; and the parameters of both when each trains
    by itself. For the second, ours takes its own steps on its own data, but after each its parameters, buffers and
    optimizer's state are overwritten by those of theirs. So every step is judged alone, however chaotic the run. The
    allowance of a tensor is ``factor`` times the largest difference that nudges of one unit in the last place make, in
    ``shadows`` runs of ours; where a tensor exceeds it, more runs are made, of both.

    Tensors are matched by name, value, order and shape, also transposed or split. ``names`` says what ours calls the
    parameters of theirs, where that does not find them: ``{"fc1.weight": "W1", "qkv.weight": ["q", "k", "v"]}``. With
    ``start="theirs"`` ours begins with the parameters of theirs.

    In place of theirs there may be a trace that a program of any language has written, or a trace of each rank of a
    distributed run: ``check_loops(ours, [Trace("rank0"), Trace("rank1")])``. Then ours is compared with these.

    Global generators of Python, NumPy and torch are seeded alike, with ``seed``, before each step of both.

    Raises AdapterError for a loop that raises, that shows no step, or that does not go on from what it is given;
    ValueError for an argument out of range.
    """
    if steps < 1 or shadows < 1 or not 0 < factor < math.inf or start not in ("own", "theirs"):
        raise ValueError(
            f"check_loops needs steps and shadows of at least 1, a finite factor above 0 and start own or theirs, "
            f"got {steps}, {shadows}, {factor} and {start!r}"
        )
    with kept(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        pair = paired(ours, theirs, steps, dict(names or {}), seed)
        lockstep = in_lockstep(pair, start, factor, shadows)
        kinks = [step for step, one in enumerate(lockstep.trials) if one.crossed]
        free = compare_free(pair, lockstep.forced, shadows, kinks) if lockstep.is_clean() else None
        return _report(lockstep, free)


def _report(lockstep: Lockstep, free: FreeLoops | None) -> LoopsReport:
    """Say what was found."""
    pair, forced, trials = lockstep.pair, lockstep.forced, lockstep.trials
    runs = pair.ours.run, pair.theirs.run
    first = lockstep.first or (None if free is None else free.first_failure)
    doubts = _doubts_of_trials(trials, pair.precisions()) | lockstep.doubts
    if first is not None and Doubt.NOT_REPEATED in doubts and first.phase != "update":
        first = None
    doubt = next((doubt for doubt in Doubt if doubt in doubts), None)
    verdict = Verdict.FAIL if first is not None else Verdict.INCONCLUSIVE if doubt is not None else Verdict.PASS
    ratios = [found.ratio for one in trials for name, found in one.judgements.items() if name not in one.exact]
    links = tuple(dict.fromkeys(link for found in forced.links for link in found))
    only_ours = _without(forced.ours, {name for link in links for name in link.ours})
    only_theirs = _without(forced.theirs, {name for link in links for name in link.theirs})
    if first is not None and first.diagnosis is None:
        first = replace(first, diagnosis=untied(links, (only_ours, only_theirs), first.tensor))
    return LoopsReport(
        verdict=verdict,
        doubt=doubt if verdict is Verdict.INCONCLUSIVE else None,
        told=doubts[doubt] if doubt is not None else (),
        steps=forced.count,
        counts=(len(runs[0].steps), len(runs[1].steps)),
        first_divergence=first,
        worst=worst_of(forced, trials),
        ratios=np.array(ratios),
        factor=forced.factor,
        links=links,
        only_ours=only_ours,
        only_theirs=only_theirs,
        unmeasured=tuple(dict.fromkeys(name for one in trials for name in one.unmeasured)),
        loss_scale=forced.scale,
        unseen=(runs[0].steps[0].unseen, runs[1].steps[0].unseen),
        kinks=tuple(step for step, one in enumerate(trials) if one.crossed),
        precisions=pair.precisions(),
        smallest=smallest_errors(trials),
        free=free,
    )


def _doubts_of_trials(trials: Sequence[Trial], precisions: tuple[str, str]) -> Doubts:
    """Return the doubts that too many steps were not judged, or that none of them told anything."""
    doubts: Doubts = {}
    crossed = sum(one.crossed for one in trials)
    if crossed * 2 > len(trials):
        doubts[Doubt.KINKS] = (f"{crossed} of {len(trials)} steps",)
    share = COARSE if {"bfloat16", "float16"} & set(precisions) else USEFUL
    if not any(smallest <= share for smallest in smallest_errors(trials).values()):
        doubts[Doubt.NO_INFORMATION] = ()
    return doubts


def _without(run: Run, known: Collection[str]) -> tuple[str, ...]:
    """Return what a run shows besides what is known."""
    names = dict.fromkeys(name for seen in run.steps for name in seen.tensors)
    return tuple(name for name in names if name not in known and not name.endswith(".unclipped"))
