"""``mnistcheck presets``: the experiments that can be run, what was published of them, and what they come to here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.exit_codes import ExitCode
from cli.experiment import known_preset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nets.presets import Preset


@click.command()
@click.argument("name", required=False)
@click.option("--json", is_flag=True, help="Print one JSON document instead of text.")
def presets(name: str | None, json: bool) -> int:
    """List the presets, or show the preset NAME and its variants in full.

    A name with a colon is a variant, such as the other side of a published comparison. Published figures are
    shown beside ours, which benchmarks/presets.py measured on MNIST, with NumPy and PyTorch from the same weights.
    """
    from cli.console import print_json, results, say
    from nets.presets import PRESETS

    chosen = list(PRESETS.values())
    if name is not None:
        known_preset(name)
        chosen = [preset for preset in chosen if preset.name == name or preset.name.startswith(f"{name}:")]
    if json:
        print_json({"command": "presets", "presets": [_told(preset) for preset in chosen]})
        return ExitCode.PASS
    out = results()
    for i, preset in enumerate(chosen):
        if name is not None and i:
            out.print()
        for line in _lines(preset) if name is not None else _summary(preset):
            say(out, line)
    return ExitCode.PASS


def _told(preset: Preset) -> dict[str, Any]:
    from nets.presets import configuration, measured

    return {
        "name": preset.name,
        "summary": preset.summary,
        "architecture": preset.architecture,
        "parameters": preset.parameter_count,
        **configuration(preset),
        "reported": preset.reported,
        "measured": measured().get(preset.name),
    }


def _summary(preset: Preset) -> list[str]:
    """Return a preset in two lines or three."""
    from cli.runs.tables import SIDES
    from nets.notation import unusual

    rates = "" if len(unusual(preset.schedule)) == 1 else f" {type(preset.schedule).__name__}"
    told = f"{preset.describe()}{rates}, {preset.parameter_count:,} parameters, batch {preset.batch_size:,}"
    lines = [f"{preset.name:<22} {preset.summary}", f"{'':<22} {told}, {preset.epochs:,} epochs"]
    for word, figures in (("reported", preset.reported), ("here", _here(preset))):
        lines += [f"{'':<22} {word}: {_figures(figures, SIDES)}"] if figures else []
    return lines


def _here(preset: Preset) -> dict[str, str]:
    """Return what each side comes to here, in words."""
    from cli.runs.tables import SIDES
    from nets.presets import measured

    found = measured().get(preset.name, {})
    return {
        side: f"{one['test_accuracy']:.2%} ({one['train_accuracy']:.2%} of the training images),"
        f" {one['seconds_an_epoch']:.2g} s an epoch"
        for side, one in found.items()
        if side in SIDES
    }


def _figures(figures: Mapping[str, str], names: Mapping[str, str]) -> str:
    return "; ".join(f"{names[side]} {text}" for side, text in figures.items())


def _lines(preset: Preset) -> list[str]:
    """Return everything about a preset, a line a field."""
    from cli.runs.tables import SIDES

    told = _told(preset)
    del told["reported"], told["measured"]
    figures = [
        (f"{word} {SIDES[side]}", text)
        for word, found in (("reported,", preset.reported), ("here,", _here(preset)))
        for side, text in found.items()
    ]
    heading = [told.pop("name"), f"  {told.pop('summary')}"]
    fields = [(name.replace("_", "-"), f"{value:,}" if type(value) is int else value) for name, value in told.items()]
    return [*heading, *(f"  {name:<18} {_yes(value)}" for name, value in [*fields, *figures])]


def _yes(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
