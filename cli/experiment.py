"""Which run a command is about: the options that say so, and the run that they ask for."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradcheck.contract import Array
    from nets.datasets.catalogue import Source
    from nets.datasets.dataset import Dataset
    from nets.presets import Preset
    from nets.run import Run
    from nets.training import Training


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


# Those that stand in for a field of the preset, by its name; all else that decides a run comes after them.
FIELDS = (
    click.option("--train-size", type=click.IntRange(min=1), help="Training images."),
    click.option("--validation-size", type=click.IntRange(min=0), help="Images looked at after each epoch."),
    click.option("--first/--drawn", default=None, help="The first images in their order, or drawn ones."),
    click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images."),
    click.option("--batch-size", type=click.IntRange(min=1), help="Images a step."),
    click.option("--drop-last/--keep-last", default=None, help="Leave out an epoch's last batch if it is smaller."),
    click.option("--network", metavar="LAYERS", help="As Linear(784, 30), Tanh(), Linear(30, 10)."),
    click.option("--weights", metavar="RULE", help="Initial ones, as Normal(0, 0.1); none for torch's default."),
    click.option("--biases", metavar="RULE", help="Initial ones, likewise."),
    click.option("--loss", metavar="LOSS", help="As CrossEntropyLoss(label_smoothing=0.1)."),
    click.option("--reported-loss", metavar="LOSS", help="The loss printed, if it is not the one trained on; none."),
    click.option("--optimizer", metavar="RULE", help="As SGD(momentum=0.9)."),
    click.option("--schedule", metavar="RULE", help="Of the rate, as StepLR(0.1, step_size=10)."),
    click.option("--scaling", metavar="HOW", help="unit, standard, or MEAN,DEVIATION of pixels in [0, 1]."),
    click.option("--augmentation", metavar="HOW", help="As Augmentation(shift=2, rotation=10); none."),
    click.option(
        "--validation-of",
        type=click.Choice(["validation", "test", "train"]),
        help="Validate on these; others than validation images are a published fault.",
    ),
    click.option("--test-of", type=click.Choice(["test", "train"]), help="Test on these, likewise."),
)

LAST_SEED = 2**53  # up to here every JSON reader has the same whole numbers

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MNISTCHECK_DATA_DIR",
    show_envvar=True,
    help="Folder that holds MNIST/raw/*-ubyte[.gz].",
)

OPTIONS = (
    click.option("--preset", default="fair", show_default=True, help="The experiment: mnistcheck presets lists them."),
    click.option("--dataset", default="auto", show_default=True, help="auto, mnist, digits, openml or a path."),
    DATA_DIR,
    *FIELDS,
    click.option("--lr", type=FiniteFloat(), help="Learning rate, at the schedule's start."),
    click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: all; of record, 100]"),
    click.option(
        "--seed", type=click.IntRange(0, LAST_SEED), default=0, show_default=True, help="Of weights and order."
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float64", "float32"]),
        default="float64",
        show_default=True,
        help="The precision.",
    ),
)


# What is decided beside the fields of the preset.
OF_A_RUN = ("steps", "seed", "dtype", "test_size")
SIZES = ("train_size", "validation_size", "epochs")  # given as fields of the preset, and not its own


@contextmanager
def usage_errors(*others: type[ValueError]) -> Iterator[None]:
    """Raise a usage error for a ValueError, but for ``others``, which the data or a file is to blame for."""
    try:
        yield
    except others:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def run_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that decide a run; what is not given is the preset's."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def prepared_run(options: Mapping[str, Any], start: Mapping[str, Array] | None = None) -> Run:
    """Return the run that `run_options`, and a test size if there is one, ask for; raises a usage error.

    ``options`` may hold others, which are not looked at.
    """
    from nets.weights import CheckpointError

    chosen = chosen_preset(options)
    try:
        run = run_of(chosen, chosen_dataset(options["dataset"], options["data_dir"]), options, start)
    except CheckpointError as error:
        raise CheckpointError(f"--init-from: {error}") from None
    remark_on_size(run, chosen)
    return run


def run_of(chosen: Preset, data: Dataset, options: Mapping[str, Any], start: Mapping[str, Array] | None = None) -> Run:
    """Return a preset's run with the sizes, steps, seed and dtype of ``options``; raises a usage error."""
    from nets.run import prepare
    from nets.weights import CheckpointError

    given = {name: options[name] for name in (*SIZES, *OF_A_RUN) if name in options}
    with usage_errors(CheckpointError):
        return prepare(chosen, data, start=start, **given)


def steps_of(training: Training) -> Iterator[bool]:
    """Take the steps of a run, as it does; raises a usage error for a batch that cannot be taken."""
    from gradcheck.trajectory.engine import StepError

    try:
        yield from training.steps()
    except StepError as error:  # as of batch norm, which needs more than the one image of a last batch
        raise click.UsageError(error.message) from None


def require_rates(run: Run) -> None:
    """Raise a usage error for a schedule that follows validation losses, which only plain training takes."""
    from nets.training import require_fair

    with usage_errors():
        require_fair(run)


def chosen_preset(options: Mapping[str, Any]) -> Preset:
    """Return the preset that `run_options` ask for, with the fields that they give; raises a usage error."""
    from nets.presets import Preset, configured

    preset = known_preset(options["preset"])
    own = (spec.name for spec in fields(Preset))
    with usage_errors():
        preset = configured(preset, {name: options[name] for name in own if options.get(name) is not None})
    return preset if options["lr"] is None else preset.with_lr(options["lr"])


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

    with usage_errors(DataError):
        return find_dataset(name_or_path, data_dir)


def chosen_dataset(name: str, data_dir: Path | None) -> Dataset:
    """Return a dataset, and say where it stands in for MNIST; raises a usage error for one that there is not."""
    from cli.console import remark

    dataset = known_source(name, data_dir).load()
    if name == "auto" and dataset.name == "digits":
        remark(
            f"MNIST not found in {data_dir or 'the cache'}: using scikit-learn's bundled digits, scaled to 28 x 28;"
            " --data-dir says where MNIST is"
        )
    return dataset


def remark_on_size(run: Run, asked: Preset) -> None:
    """Say where the data has fewer images than the preset asks for."""
    from cli.console import remark

    if len(run.train) != asked.train_size:
        few = f"{run.dataset.name} has too few images for the preset's {asked.train_size:,}"
        remark(f"{few}: training on {len(run.train):,}")
