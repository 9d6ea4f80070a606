"""Traces and replays in words."""

from __future__ import annotations

from gradcheck.report.json import quantiles
from gradcheck.report.steps import describe_divergence
from gradcheck.report.text import describe_ratios
from gradcheck.trajectory.check import NonFinite
from gradcheck.trajectory.recording import Recording
from gradcheck.trajectory.replay import Replay, Replayed
from gradcheck.trajectory.trace_comparison import Obstacle, TraceReport

OBSTACLES = {
    "other_states": "one was recorded along a trace that is not the other, so they took their steps from other states",
    "other_start": "they do not start from the same state",
    "no_noise": (
        "neither has recorded rounding noise for what both have, and they differ by no more than rounding may explain; "
        "record one of them with mnistcheck record"
    ),
    "no_step": "they have no step in common",
    "no_tensor": "they have no tensor in common, but what they were given",
    "no_information": "nothing compared could tell right from wrong: no gradient or update was above rounding noise",
    "horizon": "rounding alone parts any two runs from their first step in common",
}


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def describe_recording(done: Recording) -> str:
    """Return what a recording has left."""
    megabytes = done.size / 1e6
    size = f"{megabytes:,.1f} MB" if megabytes >= 1 else f"{1e3 * megabytes:,.1f} kB"
    return f"{_steps(done.steps)}, {size}"


def describe_end(stop: NonFinite) -> str:
    """Return why a recording ended before its end."""
    return f"ended at step {stop.step:,}, where {stop.tensor} is not finite; lower the learning rate."


def describe_traces(report: TraceReport, ours: str, theirs: str) -> list[str]:
    """Return how two traces were judged, what one of them lacks, and the tail of the comparisons."""
    lines = [
        f"only in {name}: {', '.join(names)}"
        for name, names in ((ours, report.only_ours), (theirs, report.only_theirs))
        if names
    ]
    if report.unmeasured:
        lines.append(f"not compared where they differ, for want of recorded noise: {', '.join(report.unmeasured)}")
    if not report.ratios.size:
        return lines
    if report.lock_step:
        lines.append("judged as in lock-step: both took every step from the same state, so each is judged by itself")
    else:
        lines.append(
            "judged as in free-run: each trained by itself, so the allowance grows with the run, and only its first"
            " step is judged as sharply as in lock-step; record one along the other to judge every step so"
        )
    if report.horizon_step is not None:
        lines.append(f"horizon at step {report.horizon_step:,}: from there rounding alone parts any two runs")
    ratios = describe_ratios(report.ratios.size, *quantiles(report.ratios, [0.5, 0.999, 1.0]))
    lines.append(f"{_steps(report.steps_compared)}, {ratios}")
    if report.uninformative:
        lines.append(f"never above rounding noise, so untested: {', '.join(report.uninformative)}")
    return lines


def next_of_traces(report: TraceReport) -> list[str]:
    """Return what to do next about two traces, in lines."""
    if report.obstacle in (Obstacle.NO_NOISE, Obstacle.OTHER_STATES):
        return [
            "Record one along the other: gradcheck.trajectory.recording.record_along(engine, Trace(folder), out, "
            "program=...), or mnistcheck record --along, which records noise too (docs/traces.md)."
        ]
    return ["Mend the first difference, and record again."] if report.first_divergence else []


def summarise_traces(report: TraceReport, ours: str, theirs: str) -> str:
    """Return the sentence that ends a comparison of two traces."""
    if report.first_divergence is not None:
        where = describe_divergence(report.first_divergence, report.factor, ours, theirs)
        return f"FAIL: {ours} and {theirs} are not of the same program. They part at {where}."
    if report.obstacle is not None:
        return f"INCONCLUSIVE: {ours} and {theirs} cannot be compared: {OBSTACLES[report.obstacle]}."
    same = f"PASS: {ours} and {theirs} are of the same program"
    if report.horizon_step is not None:
        told = f"{_steps(report.steps_compared)} before the horizon, all within rounding noise"
        return f"{same} as far as can be told: {told}."
    return f"{same}: all of {_steps(report.steps_compared)} agree within rounding noise."


def describe_replay(case: Replay, result: Replayed, ours: str, theirs: str) -> list[str]:
    """Return what a case was, where it failed and fails, and whether the reference is still the same."""
    made = ", ".join(f"{name} {value}" for name, value in case.configuration.items() if value is not None)
    what = "training step" if case.moment.context.training else "evaluation before training step"
    lines = [f"{what} {case.moment.context.key.step:,}: {made}" if made else f"{what} {case.moment.context.key.step:,}"]
    lines.append(f"then: {describe_divergence(case.divergence, case.factor, ours, theirs)}")
    if result.divergence is not None:
        lines.append(f"now:  {describe_divergence(result.divergence, case.factor, ours, theirs)}")
    changed = result.reference_changed
    if changed is None:
        lines.append(f"{theirs} was not asked again: what it gave then is what counts")
    elif changed:
        lines.append(f"{theirs} itself gives other bits now, first in {changed[0]}; what it gave then is what counts")
    else:
        lines.append(f"{theirs} still gives the same bits")
    return lines


def summarise_replay(case: Replay, result: Replayed, ours: str, theirs: str) -> str:
    """Return the sentence that ends a replay."""
    step = f"step {case.moment.context.key.step:,}"
    if result.divergence is None and result.hidden:
        return (
            f"INCONCLUSIVE: {step} does not fail now, but {ours} carries over what its state does not show, of which "
            "only the step before was taken again; train again to be sure."
        )
    if result.divergence is None:
        return f"PASS: {step} agrees within rounding noise now."
    old, new = case.divergence, result.divergence
    same = all(getattr(old, name) == getattr(new, name) for name in ("phase", "tensor", "index", "ours", "theirs"))
    return f"FAIL: {ours} and {theirs} still part at {step}{', with the very same values' if same else ''}."
