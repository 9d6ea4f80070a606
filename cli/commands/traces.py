"""``mnistcheck record`` and ``compare-traces``: what the steps of a program leave behind, and two such compared."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.exit_codes import ExitCode
from cli.experiment import FiniteFloat, chosen_preset, prepared_run, require_rates, run_options
from cli.runs.directory import require_empty

if TYPE_CHECKING:
    from gradcheck.trajectory.engine import Engine
    from gradcheck.trajectory.recording import Recording
    from gradcheck.trajectory.reference import ReferenceRounding
    from nets.presets import Preset
    from nets.run import Program

# A step of the default preset is 1.6 MB, and the whole run would be 5 GB.
STEPS = 100

# What a trace that is followed decides.
DECIDED = (
    "dataset", "data_dir", "train_size", "validation_size", "first", "epochs", "batch_size", "drop_last", "schedule",
    "scaling", "augmentation", "validation_of", "test_of", "reported_loss", "lr", "seed", "dtype", "every",
)  # fmt: skip


# What a trace has no use for.
UNUSED = ("reported_loss", "validation_of", "test_of", "validation_size")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(["numpy", "torch"]), default="numpy", show_default=True, help="Who trains.")
@click.option("--along", type=click.Path(path_type=Path), help="Take the steps of this trace, each from its state.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Write every so many steps.")
@click.option("--shadows", type=click.IntRange(min=1), default=24, show_default=True, help="That measure the noise.")
@run_options
def record(
    out: Path,
    engine: str,
    along: Path | None,
    every: int,
    shadows: int,
    steps: int | None,
    **chosen: object,
) -> int:
    """Write what every step of a training run computes into the new folder OUT: a trace, as docs/traces.md describes.

    By itself, an engine trains on a dataset, for 100 steps unless --steps or --epochs say otherwise. With --along, it
    takes the steps of another program's trace: each from the state and on the batch of that trace. compare-traces needs
    the rounding noise of one of the two, so it is recorded, too: NumPy's is measured by shadows; torch cannot be
    nudged, so its noise is measured by fourth differences of every step.
    """
    from gradcheck.trajectory.recording import record as write

    require_empty(out, "OUT")
    shadows = shadows if engine == "numpy" else 0
    if along is not None:
        made = {name: chosen[name] for name in ("preset", "network", "weights", "biases", "loss", "optimizer")}
        return _present(out, _follow(out, engine, chosen_preset({**made, "lr": None}), along, steps, shadows))
    source = click.get_current_context().get_parameter_source
    if unused := [name for name in UNUSED if source(name) is not click.core.ParameterSource.DEFAULT]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise click.UsageError(f"a trace has no validation, no test and no loss but its own; drop {names}")
    run = prepared_run({**chosen, "steps": steps if steps or chosen["epochs"] else STEPS})
    require_rates(run)
    configuration = {
        "preset": run.preset.name,
        "dataset": {"name": run.dataset.name, "sha256": run.dataset.sha256, "train_size": len(run.train)},
        "batch_size": run.preset.batch_size,
        "lr": run.preset.schedule.lr,
    }
    with _one_thread(engine):
        done = write(
            _engine(engine, run),
            run.batches(),
            out,
            program=_name(engine, run),
            every=every,
            shadows=shadows,
            rounding=_rounding(engine, run),
            seed=run.seed,
            configuration=configuration,
        )
    return _present(out, done)


def _follow(out: Path, engine: str, preset: Preset, along: Path, steps: int | None, shadows: int) -> Recording:
    """Record the steps of another trace."""
    from gradcheck.trajectory.recording import record_along
    from gradcheck.trajectory.trace import Trace, TraceError
    from nets.run import DTYPES, Program

    context = click.get_current_context()
    sources = {name: context.get_parameter_source(name) for name in DECIDED}
    if given := [name for name, source in sources.items() if source is click.core.ParameterSource.COMMANDLINE]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"--along takes data, rate, seed and precision from the trace; drop {names}")
    trace = Trace(along)
    if trace.header.dtype not in DTYPES:
        raise TraceError(f"{along} is of dtype {trace.header.dtype!r}; {' and '.join(DTYPES)} can be followed")
    program = Program(preset, trace.header.seed, DTYPES[trace.header.dtype])
    with _one_thread(engine):
        return record_along(
            _engine(engine, program),
            trace,
            out,
            program=_name(engine, program),
            shadows=shadows,
            rounding=_rounding(engine, program),
            limit=steps,
            configuration={"preset": preset.name},
        )


def _engine(name: str, program: Program) -> Engine:
    return program.numpy_engine() if name == "numpy" else program.torch_engine()


def _rounding(name: str, program: Program) -> ReferenceRounding | None:
    """Return what knows how torch rounds."""
    from gradcheck.trajectory.reference import ReferenceRounding

    if name == "numpy":
        return None
    return ReferenceRounding(program.torch_engine(), program.numpy_engine(), program.seed)


def _name(engine: str, program: Program) -> str:
    return f"{engine}: {program.preset.describe()}"


def _one_thread(engine: str) -> AbstractContextManager[object]:
    """Return what gives an engine one BLAS thread, so that the same recording has the same bits everywhere."""
    if engine == "torch":
        from nets.engines.torch_engine import one_thread_each

        return one_thread_each()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _present(out: Path, done: Recording) -> int:
    from cli.console import results, say
    from gradcheck.report.traces import describe_end, describe_recording

    console = results()
    say(console, f"{describe_recording(done)} in {out}")
    if done.stopped_by is None:
        return ExitCode.PASS
    say(console, describe_end(done.stopped_by))
    return ExitCode.INCONCLUSIVE


@click.command("compare-traces")
@click.argument("ours", metavar="A", type=click.Path(path_type=Path))
@click.argument("theirs", metavar="B", type=click.Path(path_type=Path))
@click.option("--factor", type=FiniteFloat(), default=8.0, show_default=True, help="Allowance over rounding noise.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of text.")
def compare_traces(ours: Path, theirs: Path, factor: float, json: bool) -> int:
    """Compare the traces A and B, step by step and in the order of execution, without the programs that wrote them.

    Where A was recorded along B, or B along A, every step is judged as in lock-step. Where both trained by themselves,
    the allowance grows with the run as their rounding noise does, and the comparison ends at the horizon.
    """
    from cli.console import STYLES, print_json, results, say
    from gradcheck.report.json import traces_to_json
    from gradcheck.report.traces import describe_traces, summarise_traces
    from gradcheck.trajectory.trace import Trace
    from gradcheck.trajectory.trace_comparison import compare_traces as compare

    a, b = Trace(ours), Trace(theirs)
    report = compare(a, b, factor=factor)
    if json:
        traces: dict[str, Any] = {
            side: {"path": str(path), "program": trace.header.program}
            for side, path, trace in (("ours", ours, a), ("theirs", theirs, b))
        }
        print_json({"command": "compare-traces", **traces, **traces_to_json(report)})
        return ExitCode.of(report.verdict)
    names, out = (str(ours), str(theirs)), results()
    for line in (*(f"{name}: {trace.header.program}" for name, trace in zip(names, (a, b), strict=True)), ""):
        say(out, line)
    for line in describe_traces(report, *names):
        say(out, line)
    say(out, summarise_traces(report, *names), STYLES[report.verdict])
    return ExitCode.of(report.verdict)
