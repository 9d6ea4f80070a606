"""The options of ``mnistcheck train``, in which a kept run is written down, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.configuration import FILE, from_file, read
from cli.experiment import OPTIONS, FiniteFloat


def resumed(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Take the options of the run that a folder holds: the callback of an eager option."""
    if path is None:
        return None
    if (path / "run.json").exists():
        raise click.UsageError(
            f"{path} is finished; --init-from {path / 'weights.safetensors'} goes on from its weights"
        )
    if not (path / FILE).exists():
        raise click.UsageError(f"{path} holds no run: train --out writes one")
    ctx.default_map = {**read(path / FILE, ctx.command), "out": path}
    return path


WHO = (
    click.option("--fair", is_flag=True, help="Compare every step, and prove both the same or say where they part."),
    click.option(
        "--engine", type=click.Choice(["numpy", "torch", "both"]), default="both", show_default=True, help="Who trains."
    ),
)
HOW = (
    click.option("--test-size", type=click.IntRange(min=1), help="Test images.  [default: all]"),
    click.option(
        "--init-from",
        type=click.Path(path_type=Path),
        metavar="WEIGHTS",
        help="Start from a .safetensors, .npz or .pt file.",
    ),
    click.option(
        "--patience", type=click.IntRange(min=1), help="Stop after so many epochs without a better validation."
    ),
    click.option("--device", default="cpu", show_default=True, help="Where torch trains: cpu, cuda."),
    click.option("--inject", metavar="FAULT", help="Plant a fault, KIND[:ARGUMENTS][@STEP], NumPy side only."),
    click.option("--factor", type=FiniteFloat(), help="Allowance over measured rounding noise.  [default: 8]"),
    click.option("--shadows", type=click.IntRange(1, 1000), help="Nudged runs that measure it.  [default: 3]"),
    click.option("--every", type=click.IntRange(min=1), help="Compare every so many steps in lock-step.  [default: 1]"),
    click.option("--no-sensitivity", is_flag=True, help="Do not plant faults to see what the run would have caught."),
    click.option("--out", type=click.Path(path_type=Path), help="Write the run into this new folder."),
    click.option(
        "--checkpoint-every", type=click.IntRange(min=1), metavar="STEPS", help="In --out.  [default: every epoch]"
    ),
    click.option(
        "--resume",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        is_eager=True,
        callback=resumed,
        help="Go on with the run that was stopped in this folder.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=from_file,
        help="Options from a TOML file, by their names; the command line comes first.",
    ),
    click.option("--print-config", is_flag=True, help="Print all of them as such a file, and stop."),
    click.option("--json", is_flag=True, help="Print one JSON document instead of tables."),
)


def training_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of training, in the order in which its help lists them."""
    for option in reversed((*WHO, *OPTIONS, *HOW)):
        command = option(command)
    return command


def options_in(file: Path, *more: str) -> dict[str, Any]:
    """Return the options that a file gives, and more as typed; raises what click does for what cannot be read."""
    reader = click.Command("train")
    for option in (*WHO, *OPTIONS, *HOW):
        option(reader)
    return reader.make_context("train", ["--config", str(file), *more]).params
