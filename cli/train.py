"""``mnistcheck train``: train both implementations, and with ``--fair`` prove them the same."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.exit_codes import ExitCode
from cli.figure import draw_if_possible
from cli.finished_run import read_run
from cli.run_directory import RunDirectory
from cli.run_tables import SIDES, print_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradcheck.faults import GradientScale
    from gradcheck.trajectory.check import Progress
    from nets.datasets.dataset import Dataset
    from nets.presets import Preset
    from nets.training import Pair, Run


class FiniteFloat(click.FloatRange):
    """A positive number that is neither infinite nor NaN."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail with a usage error."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.command()
@click.option("--fair", is_flag=True, help="Compare every step, and prove both the same or say where they part.")
@click.option("--preset", default="fair", show_default=True, help="The experiment.")
@click.option("--dataset", default="auto", show_default=True, help="mnist, digits or auto.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MNISTCHECK_DATA_DIR",
    show_envvar=True,
    help="Folder that holds MNIST/raw/*-ubyte[.gz].",
)
@click.option("--train-size", type=click.IntRange(min=1), help="Training images.  [default: the preset's]")
@click.option("--test-size", type=click.IntRange(min=1), help="Test images.  [default: all]")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images.  [default: the preset's]")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: whole epochs]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.  [default: the preset's]")
@click.option("--lr", type=FiniteFloat(), help="Learning rate.  [default: the preset's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Weights, samples and order.")
@click.option(
    "--dtype", type=click.Choice(["float64", "float32"]), default="float64", show_default=True, help="Of both sides."
)
@click.option("--inject", metavar="FAULT", help="Plant a fault: grad-scale:TENSOR:FACTOR[@STEP], NumPy side only.")
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
    out: Path | None,
    json: bool,
) -> int:
    """Train the NumPy and the PyTorch implementation from the same weights on the same samples.

    With --fair, torch trains freely, and every one of its steps is repeated by NumPy from the same state and compared:
    loss, outputs, every gradient, every updated weight. Beside that NumPy trains on its own, and must stay as close as
    rounding lets it.

    To watch a fault being caught, --inject grad-scale:0.weight:1.0001@1500 multiplies one gradient of the NumPy side
    from step 1,500 on.
    """
    from nets.training import prepare, train_both, train_fair

    if inject and not fair:
        raise click.UsageError("--inject plants a fault for --fair to find; add --fair")
    fault = _parse_fault(inject) if inject else None
    chosen, data = _preset(preset), _dataset(dataset, data_dir)
    try:
        run = prepare(
            chosen,
            data,
            train_size=train_size,
            test_size=test_size,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            dtype=dtype,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _remark_on_size(run, train_size, chosen.train_size)
    if fault is not None:
        _require_effect(fault, run)
    directory = RunDirectory(out) if out else None
    history: list[Progress] = []
    with _progress(run, fair) as show:

        def progress(now: Progress) -> None:
            history.append(now)
            show(now)

        pair = train_fair(run, fault=fault, progress=progress) if fair else train_both(run, progress=progress)
    return _present(run, pair, inject, history, directory, json)


def _present(
    run: Run, pair: Pair, inject: str | None, history: list[Progress], directory: RunDirectory | None, json: bool
) -> int:
    """Print what a run came to, then write it, so that a full disk does not cost the result; return the exit code."""
    from cli.console import print_json, results

    document = _document(run, pair, inject)
    if json:
        print_json(document)
    else:
        print_run(results(), document)
    if directory is not None:
        directory.write(document, history, pair)
        draw_if_possible(read_run(directory.path))
        if not json:
            results().print(f"written to {directory.path}", markup=False, soft_wrap=True)
    if pair.report is not None:
        return ExitCode.of(pair.report.verdict)
    return ExitCode.INCONCLUSIVE if pair.stopped_by else ExitCode.PASS


def _preset(name: str) -> Preset:
    from nets.presets import PRESETS

    if name not in PRESETS:
        raise click.UsageError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def _dataset(name: str, data_dir: Path | None) -> Dataset:
    from cli.console import remarks
    from nets.datasets.catalogue import NAMES as DATASETS
    from nets.datasets.catalogue import load_dataset

    if name not in DATASETS:
        raise click.UsageError(f"there is no dataset {name!r}; there are {', '.join(DATASETS)}")
    dataset = load_dataset(name, data_dir)
    if name == "auto" and dataset.name == "digits":
        remarks().print(
            f"MNIST not found in {data_dir or 'the cache'}: using scikit-learn's bundled digits, scaled to 28 x 28;"
            " --data-dir says where MNIST is",
            style="yellow",
            soft_wrap=True,
        )
    return dataset


def _remark_on_size(run: Run, asked: int | None, usual: int) -> None:
    from cli.console import remarks

    if asked is None and len(run.train) != usual:
        text = f"{run.dataset.name} has too few images for the preset's {usual:,}: training on {len(run.train):,}"
        remarks().print(text, style="yellow", soft_wrap=True)


def _parse_fault(text: str) -> GradientScale:
    from gradcheck.faults import GradientScale

    fault, _, begin = text.partition("@")
    kind, *parts = fault.split(":")
    try:
        if kind != "grad-scale" or len(parts) != 2:
            raise ValueError
        scale, step = float(parts[1]), int(begin) if "@" in text else 0
        if not math.isfinite(scale) or step < 0:
            raise ValueError
    except ValueError:
        raise click.UsageError(
            f"--inject needs grad-scale:TENSOR:FACTOR[@STEP], such as grad-scale:0.weight:1.0001@1500; got {text!r}"
        ) from None
    return GradientScale(parts[0], scale, step)


def _require_effect(fault: GradientScale, run: Run) -> None:
    """Refuse a fault that would never act: on a tensor that is not there, after the end, or too small for the dtype."""
    known = list(run.numpy_engine().params)
    if fault.tensor not in known:
        raise click.UsageError(f"--inject knows no tensor {fault.tensor!r}; there are {', '.join(known)}")
    if fault.begin >= run.steps:
        raise click.UsageError(f"--inject begins at step {fault.begin:,}; the run has steps 0 to {run.steps - 1:,}")
    if run.dtype.type(fault.scale) == 1:
        raise click.UsageError(f"--inject has no effect: a factor of {fault.scale!r} is 1 in {run.dtype}")


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
        proof = trajectory_to_json(report, *SIDES) | {"smallest_detectable_fault": None}
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
