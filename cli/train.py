"""``mnistcheck train``: train both implementations, and with ``--fair`` prove them the same."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.exit_codes import ExitCode
from cli.experiment import FiniteFloat, prepared_run, run_options
from cli.figure import draw_if_possible
from cli.finished_run import read_run
from cli.replay import keep_failure
from cli.run_directory import RunDirectory
from cli.run_tables import SIDES, print_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcheck.trajectory.check import Progress
    from nets.training import Pair, Run


class WithFaults(click.Command):
    """A command whose help ends in the kinds of faults."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's own
        """Write what --inject can plant."""
        from nets.injection import KINDS

        with formatter.section("Faults for --inject"):
            formatter.write_dl(
                [(kind.syntax, f"{kind.summary[:1].upper()}{kind.summary[1:]}.") for kind in KINDS.values()]
            )


@click.command(cls=WithFaults)
@click.option("--fair", is_flag=True, help="Compare every step, and prove both the same or say where they part.")
@run_options
@click.option("--inject", metavar="FAULT", help="Plant a fault, KIND[:ARGUMENTS][@STEP], NumPy side only.")
@click.option("--factor", type=FiniteFloat(), help="Allowance over measured rounding noise.  [default: 8]")
@click.option("--shadows", type=click.IntRange(1, 1000), help="Nudged runs that measure it.  [default: 3]")
@click.option("--every", type=click.IntRange(min=1), help="Compare every so many steps in lock-step.  [default: 1]")
@click.option("--no-sensitivity", is_flag=True, help="Do not plant faults to see what the run would have caught.")
@click.option("--test-size", type=click.IntRange(min=1), help="Test images.  [default: all]")
@click.option("--out", type=click.Path(path_type=Path), help="Write the run into this new folder.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of tables.")
def train(
    fair: bool,
    preset: str,
    dataset: str,
    data_dir: Path | None,
    train_size: int | None,
    test_size: int | None,
    epochs: int | None,
    steps: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    dtype: str,
    inject: str | None,
    factor: float | None,
    shadows: int | None,
    every: int | None,
    no_sensitivity: bool,
    out: Path | None,
    json: bool,
) -> int:
    """Train the NumPy and the PyTorch implementation from the same weights on the same samples.

    With --fair, torch trains freely, and every one of its steps is repeated by NumPy from the same state and compared:
    loss, outputs, every gradient, every updated weight. Beside that NumPy trains on its own, and must stay as close as
    rounding lets it.

    To watch a fault being caught, --inject grad-scale:0.weight:1.0001@1500 multiplies one gradient of the NumPy side
    from step 1,500 on. Of all faults, the tensors and layers are named where you name one that is not there.
    """
    from gradcheck.trajectory.noise import FACTOR, SHADOWS
    from nets.injection import faults_of, parse_fault
    from nets.training import train_both, train_fair

    if inject is not None and not fair:
        raise click.UsageError("--inject plants a fault for --fair to find; add --fair")
    if not fair and (factor or shadows or every or no_sensitivity):
        raise click.UsageError("--factor, --shadows, --every and --no-sensitivity are of a comparison; add --fair")
    run = prepared_run(
        preset,
        dataset,
        data_dir,
        train_size=train_size,
        test_size=test_size,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        dtype=dtype,
    )
    try:
        fault = None if inject is None else parse_fault(inject, run)
    except ValueError as error:
        raise click.UsageError(f"--inject: {error}") from None
    directory = RunDirectory(out) if out else None
    history: list[Progress] = []
    with _progress(run, fair) as show:

        def progress(now: Progress) -> None:
            history.append(now)
            show(now)

        if fair:
            pair = train_fair(
                run,
                fault=fault,
                factor=factor or FACTOR,
                shadows=shadows or SHADOWS,
                every=every or 1,
                sensitivity=not no_sensitivity,
                faults={} if no_sensitivity or fault else faults_of(run),
                progress=progress,
            )
        else:
            pair = train_both(run, progress=progress)
    return _present(run, pair, inject, history, directory, json)


def _present(
    run: Run, pair: Pair, inject: str | None, history: list[Progress], directory: RunDirectory | None, json: bool
) -> int:
    """Print what a run came to, then write it, so that a full disk does not cost the result; return the exit code."""
    from cli.console import print_json, results

    kept = keep_failure(run, pair.report, inject, directory.path if directory else None)
    document = _document(run, pair, inject) | {"replay": kept and str(kept)}
    if json:
        print_json(document)
    else:
        print_run(results(), document)
    if directory is not None:
        directory.write(document, history, pair)
        draw_if_possible(read_run(directory.path))
        if not json:
            results().print(f"written to {directory.path}", markup=False, soft_wrap=True)
    if kept and not json:
        results().print(
            f"see that step again: mnistcheck replay {shlex.quote(str(kept))}", markup=False, soft_wrap=True
        )
    if pair.report is not None:
        return ExitCode.of(pair.report.verdict)
    return ExitCode.INCONCLUSIVE if pair.stopped_by else ExitCode.PASS


@contextmanager
def _progress(run: Run, fair: bool) -> Iterator[Callable[[Progress], None]]:
    """Show a bar on a terminal and nothing elsewhere; yields what to call at every step."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from cli.console import remarks

    animated = sys.stderr.isatty()
    columns = [
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.description}"),
    ]
    with Bar(
        *columns, TimeRemainingColumn(compact=True), console=remarks(), transient=True, disable=not animated
    ) as bar:
        task = bar.add_task("", total=run.steps)
        worst = 0.0

        def show(now: Progress) -> None:
            nonlocal worst
            worst = max(worst, now.noise)
            noise = f"  {now.noise:4.1f} x rounding noise (worst {worst:.1f})" if fair else ""
            text = f"loss {now.loss:.4f} NumPy  {now.reference_loss:.4f} PyTorch{noise}"
            bar.update(task, completed=now.step + 1, description=text)

        yield show


def _document(run: Run, pair: Pair, inject: str | None) -> dict[str, Any]:
    """Return what ``--json`` prints and ``run.json`` holds."""
    from cli.console import environment
    from gradcheck.report import stop_to_json, trajectory_to_json

    report = pair.report
    proof: dict[str, Any] = {"verdict": None, "stopped_by": pair.stopped_by and stop_to_json(pair.stopped_by)}
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
            "steps": run.steps,
            "batch_size": preset.batch_size,
            "lr": preset.schedule.lr,
            "seed": run.seed,
            "dtype": run.dtype.name,
            "inject": inject,
        },
        "numpy": asdict(pair.numpy),
        "torch": asdict(pair.torch),
        "environment": environment() | {"blas_threads": 1},
    }
