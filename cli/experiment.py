"""Which run a command is about: the options that say so, and the run that they ask for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from nets.datasets.catalogue import Source
    from nets.datasets.dataset import Dataset
    from nets.presets import Preset
    from nets.training import Run


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


DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MNISTCHECK_DATA_DIR",
    show_envvar=True,
    help="Folder that holds MNIST/raw/*-ubyte[.gz].",
)
OPTIONS = (
    click.option("--preset", default="fair", show_default=True, help="The experiment."),
    click.option("--dataset", default="auto", show_default=True, help="auto, mnist, digits, openml or a path."),
    DATA_DIR,
    click.option("--train-size", type=click.IntRange(min=1), help="Training images.  [default: the preset's]"),
    click.option("--epochs", type=click.IntRange(min=1), help="Passes over them.  [default: the preset's]"),
    click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: all; of record, 100]"),
    click.option("--batch-size", type=click.IntRange(min=1), help="Images a step.  [default: the preset's]"),
    click.option("--lr", type=FiniteFloat(), help="Learning rate.  [default: the preset's]"),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights and order."),
    click.option(
        "--dtype",
        type=click.Choice(["float64", "float32"]),
        default="float64",
        show_default=True,
        help="The precision.",
    ),
)


def run_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that decide a run."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def prepared_run(
    preset: str,
    dataset: str,
    data_dir: Path | None,
    *,
    train_size: int | None,
    epochs: int | None,
    steps: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    dtype: str,
    test_size: int | None = None,
) -> Run:
    """Return the run that options ask for; raises a usage error where there is none."""
    from nets.training import prepare

    chosen, data = known_preset(preset), _dataset(dataset, data_dir)
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
    return run


def known_preset(name: str) -> Preset:
    """Return the preset of that name, or raise a usage error."""
    from nets.presets import PRESETS

    if name not in PRESETS:
        raise click.UsageError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def known_source(name_or_path: str, data_dir: Path | None) -> Source:
    """Return where a dataset is, or raise a usage error for what is neither a name nor a path."""
    from nets.datasets.catalogue import find_dataset
    from nets.datasets.dataset import DataError

    try:
        return find_dataset(name_or_path, data_dir)
    except DataError:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _dataset(name: str, data_dir: Path | None) -> Dataset:
    from cli.console import remarks

    dataset = known_source(name, data_dir).load()
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
