"""``mnistcheck train``: train the implementations, and with ``--fair`` prove them the same."""

from __future__ import annotations

import shlex
import signal
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.commands.replay import keep_failure
from cli.configuration import all_settings, written
from cli.exit_codes import ExitCode
from cli.experiment import prepared_run, require_rates, steps_of, usage_errors
from cli.figures import sketches
from cli.runs.directory import CHECKPOINT, RunDirectory, lines_of
from cli.runs.finished import read_run
from cli.runs.tables import SIDES, print_run
from cli.training_options import training_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from gradcheck.contract import Array
    from gradcheck.trajectory.check import Progress
    from nets.run import Run
    from nets.training import Side, Trained, Training

OF_A_COMPARISON = ("inject", "factor", "shadows", "every", "no_sensitivity")
OF_TRAINING = ("patience", "checkpoint_every")

# What a configuration tells besides the run's own settings.
BESIDES = ("fair", "engine", "dataset", "data_dir", "steps", "init_from", "device", *OF_A_COMPARISON, *OF_TRAINING)

# What may be said when a run is resumed: all else is as it was.
ON_RESUMING = ("resume", "out", "data_dir", "json", "checkpoint_every")


class WithFaults(click.Command):
    """A command whose help ends in the kinds of faults."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what --inject can plant."""
        from nets.injection import KINDS

        with formatter.section("Faults for --inject"):
            formatter.write_dl(
                [(kind.syntax, f"{kind.summary[:1].upper()}{kind.summary[1:]}.") for kind in KINDS.values()]
            )


@click.command(cls=WithFaults)
@training_options
def train(
    fair: bool,
    engine: str,
    inject: str | None,
    factor: float | None,
    shadows: int | None,
    every: int | None,
    no_sensitivity: bool,
    init_from: Path | None,
    patience: int | None,
    device: str,
    out: Path | None,
    checkpoint_every: int | None,
    resume: Path | None,
    print_config: bool,
    json: bool,
    **chosen: object,
) -> int:
    """Train the NumPy and the PyTorch implementation from the same weights on the same samples.

    With --fair, torch trains freely, and every one of its steps is repeated by NumPy from the same state and compared:
    loss, outputs, every gradient, every updated weight. Beside that NumPy trains on its own, and must stay as close as
    rounding lets it.

    To watch a fault being caught, --inject grad-scale:0.weight:1.0001@1500 multiplies one gradient of the NumPy side
    from step 1,500 on. An unknown kind, tensor or layer is answered with the list of valid ones.

    Options that are not given are the preset's. A run with --out that is interrupted goes on with --resume, as if
    nothing had been.
    """
    _require_sense(click.get_current_context(), fair, engine, resume)
    begun = resume is not None and (resume / CHECKPOINT).exists()
    run = prepared_run(chosen, start=None if begun else _start(init_from))
    if fair:
        require_rates(run)
    directory = None
    if print_config:
        click.echo(written(run, _options(run)), nl=False)
        return ExitCode.PASS
    if out:
        make = RunDirectory if resume else RunDirectory.new
        directory = make(out, written(run, _options(run)))
    if not fair:
        with _of_torch(engine != "numpy"):
            training = _training(run, engine, patience, device, resume if begun else None)
            if not _trained_to_the_end(training, directory, checkpoint_every):
                return ExitCode.INTERRUPTED
            trained = training.finish()
        return _present(run, trained, None, [], directory, json)
    from gradcheck.numerics.rounding import FACTOR, SHADOWS
    from nets.injection import faults_of, parse_fault
    from nets.training import train_fair

    try:
        fault = None if inject is None else parse_fault(inject, run)
    except ValueError as error:
        raise click.UsageError(f"--inject: {error}") from None
    history: list[Progress] = []
    with _of_torch(), _progress_of_a_comparison(run) as (show, planting):

        def progress(now: Progress) -> None:
            history.append(now)
            show(now)

        trained = train_fair(
            run,
            fault=fault,
            factor=factor or FACTOR,
            shadows=shadows or SHADOWS,
            every=every or 1,
            sensitivity=not no_sensitivity,
            faults={} if no_sensitivity or fault else faults_of(run),
            progress=progress,
            planting=planting,
        )
    return _present(run, trained, inject, history, directory, json)


def _require_sense(ctx: click.Context, fair: bool, engine: str, resume: Path | None) -> None:
    """Raise a usage error for options that do not go together."""
    typed = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
    given = [name for name in (*ctx.params, "config") if ctx.get_parameter_source(name) in typed]

    def named(names: list[str]) -> str:
        return ", ".join(f"--{name.replace('_', '-')}" for name in names)

    if resume is not None:
        if others := [name for name in given if name not in ON_RESUMING]:
            raise click.UsageError(f"--resume goes on with a run as it was; drop {named(others)}")
        if ctx.params["out"] != resume:
            raise click.UsageError("--resume goes on in the run's own folder; drop --out")
    wrong = OF_TRAINING if fair else OF_A_COMPARISON
    if others := [name for name in wrong if ctx.params[name]]:
        fix = "for a run that compares nothing; drop --fair" if fair else "for a comparison; add --fair"
        raise click.UsageError(f"{named(others)}: {fix}")
    if fair and engine != "both":
        raise click.UsageError(f"--fair compares both engines; drop --engine {engine}")
    if fair and ctx.params["reported_loss"] not in (None, "none"):
        raise click.UsageError("--reported-loss: no loss is told of a fair run; drop it")
    device = ctx.params["device"]
    if device != "cpu" and (fair or engine == "numpy"):
        why = "--fair compares on the CPU" if fair else "NumPy trains on the CPU"
        raise click.UsageError(f"{why}; drop --device {device}")
    if fair and resume is not None:
        raise click.UsageError(f"{resume} is a fair run, which begins anew: its shadows are not kept")
    if ctx.params["checkpoint_every"] and not ctx.params["out"]:
        raise click.UsageError("--checkpoint-every needs a folder to write to: add --out DIR")


def _start(path: Path | None) -> Mapping[str, Array] | None:
    """Return the weights of a file, of NumPy's side where a run has written both."""
    from gradcheck.trajectory.engine import below
    from nets.weights import read

    if path is None:
        return None
    arrays = read(path)
    return next((own for side in SIDES if (own := below(f"{side}/", arrays))), arrays)


def _options(run: Run) -> dict[str, Any]:
    """Return the options of this call that are not those of `settings`; folders and files by their whole paths."""
    from nets.datasets.catalogue import NAMES

    params = click.get_current_context().params
    given = {name: params[name] for name in BESIDES if params[name] not in (None, False)}
    if "steps" in given:
        given["steps"] = run.steps  # of which epochs may have left fewer
    if given["dataset"] not in NAMES:
        given["dataset"] = Path(given["dataset"])
    return {name: value.absolute() if isinstance(value, Path) else value for name, value in given.items()}


def _of_torch(used: bool = True) -> AbstractContextManager[None]:
    """Return where torch trains without having loaded its compiler; where it does not train, it is not loaded."""
    from nets.engines.eager import uncompiled

    return uncompiled() if used else nullcontext()


def _training(run: Run, engine: str, patience: int | None, device: str, begun: Path | None) -> Training:
    from nets.checkpoints import load_checkpoint
    from nets.training import SIDES as BOTH
    from nets.training import Training

    with usage_errors():
        training = Training(run, BOTH if engine == "both" else (engine,), patience=patience, device=device)
    if begun is not None:
        load_checkpoint(begun / CHECKPOINT, training)
    return training


def _trained_to_the_end(training: Training, directory: RunDirectory | None, every: int | None) -> bool:
    """Train, with a checkpoint now and then; False where a signal has ended it before."""
    from cli.console import remark

    if directory:
        directory.begin()
    with _interruptions(directory) as interrupted, _progress_of_training(training) as show:
        for ends in steps_of(training):
            show(ends)
            stop = interrupted()
            again = f"go on with: mnistcheck train --resume {shlex.quote(str(directory.path))}" if directory else ""
            if directory and (ends or stop or (every and training.step % every == 0)):
                try:
                    directory.checkpoint(training)
                except OSError:
                    kept = "the checkpoint before it, if any, is as it was"
                    remark(f"step {training.step:,} is not kept; {kept}; {again}", None)
                    raise
            if stop and directory and training.step < training.run.steps:
                remark(f"interrupted after step {training.step:,}; {again}", None)
                return False
    return True


@contextmanager
def _interruptions(directory: RunDirectory | None) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, and a request to terminate, wait for the end of a step; the second Ctrl-C does not wait.

    Without a folder there is nothing to wait for.
    """
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    if directory is None:
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _present(
    run: Run, trained: Trained, inject: str | None, history: list[Progress], directory: RunDirectory | None, json: bool
) -> int:
    """Write what a run came to, and print it; neither a full disk nor a reader that has gone costs the other."""
    from cli.console import print_json, results, say

    kept = keep_failure(run, trained.report, inject, directory.path if directory else None)
    document = _document(run, trained, inject, history) | {"replay": kept and str(kept)}
    try:
        if directory is not None:
            directory.write(document, history, trained)
            sketches.written(directory.path, [*sketches.of_proof(read_run(directory.path))])
    finally:
        if json:
            print_json(document)
        else:
            print_run(results(), document)
    if directory is not None and not json:
        say(results(), f"written to {directory.path}")
    if kept and not json:
        say(results(), f"see that step again: mnistcheck replay {shlex.quote(str(kept))}")
    if trained.report is not None:
        return ExitCode.of(trained.report.verdict)
    return ExitCode.INCONCLUSIVE if trained.stopped_by else ExitCode.PASS


@contextmanager
def _progress_of_a_comparison(run: Run) -> Iterator[tuple[Callable[[Progress], None], Callable[[int, int], None]]]:
    from cli.console import bar

    with bar(run.steps) as update:
        worst = 0.0

        def show(now: Progress) -> None:
            nonlocal worst
            worst = max(worst, now.noise)
            noise = f"{now.noise:4.1f} x rounding noise (worst {worst:.1f})"
            update(now.step + 1, f"loss {now.loss:.4f} NumPy  {now.reference_loss:.4f} PyTorch  {noise}")

        yield show, lambda done, total: update(done, "planting faults, to see which are caught", "fault", total)


@contextmanager
def _progress_of_training(training: Training) -> Iterator[Callable[[bool], None]]:
    """Show a bar on a terminal, and there and elsewhere a line an epoch."""
    from cli.console import bar, remark
    from gradcheck.report.runs import describe_epoch

    epochs = -(-training.run.steps // training.run.steps_per_epoch)
    with bar(training.run.steps) as update:

        def show(ends: bool) -> None:
            losses = (f"{side.last_loss:.4f} {SIDES[name]}" for name, side in training.sides.items())
            update(training.step, f"loss {'  '.join(losses)}")
            if ends:
                (line,) = _last_line(training.sides)
                remark(describe_epoch(line, epochs, SIDES), "dim")

        yield show


def _last_line(sides: Mapping[str, Side]) -> list[dict[str, Any]]:
    return list(lines_of({name: side.epochs[-1:] for name, side in sides.items()}))


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _document(run: Run, trained: Trained, inject: str | None, history: list[Progress]) -> dict[str, Any]:
    """Return what ``--json`` prints and ``run.json`` holds."""
    from cli.console import environment
    from gradcheck.report.json import stop_to_json, trajectory_to_json
    from nets.cautions import doubts

    report = trained.report
    stop = trained.stopped_by and {**stop_to_json(trained.stopped_by), "side": trained.stopped_side}
    proof: dict[str, Any] = {"verdict": None, "stopped_by": stop}
    if report is not None:
        proof = trajectory_to_json(report, *SIDES)
    preset = run.preset
    return {
        "command": "train",
        **proof,
        "preset": preset.name,
        "dataset": {
            "name": run.dataset.name,
            "sha256": run.dataset.sha256,
            "train_size": len(run.train),
            "test_size": len(run.test),
        },
        "configuration": {
            "network": preset.describe(),
            "parameters": preset.parameter_count,
            "steps": run.steps,
            "steps_taken": len(history) if report is not None else trained.steps,
            "stopped_early": trained.stopped_early,
            "validation_size": len(run.validation),
            "batch_size": preset.batch_size,
            "lr": preset.schedule.lr,
            "seed": run.seed,
            "dtype": run.dtype.name,
            "inject": inject,
        },
        "settings": {name: _plain(value) for name, value in all_settings(run, _options(run)).items()},
        **{side: asdict(trained.outcomes[side]) if side in trained.outcomes else None for side in SIDES},
        "epochs": list(lines_of(trained.epochs)) if trained.epochs else None,
        "warnings": [
            {"kind": str(doubt.caution), "side": doubt.side, "text": doubt.text}
            for doubt in doubts(run, trained.outcomes, told=report is None)
        ],
        "environment": environment() | {"blas_threads": 1},
    }
