"""Options from a TOML file, and a run's options as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nets.run import Run

FILE = "config.toml"  # in a run's directory


def from_file(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take defaults from a TOML file: the callback of an eager option."""
    if path is not None:
        ctx.default_map = {**(ctx.default_map or {}), **read(path, ctx.command)}


def read(path: Path, command: click.Command) -> dict[str, Any]:
    """Return a command's options from a TOML file; raises FileError for none, UsageError for what is no option."""
    import tomllib

    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise click.FileError(str(path), f"it is not TOML: {str(error).splitlines()[0]}") from None
    known = {option.name: option for option in command.params if not option.is_eager}
    given = {key.replace("-", "_"): value for key, value in found.items()}
    if unknown := [key for key in found if key.replace("-", "_") not in known]:
        names = ", ".join(sorted(str(name).replace("_", "-") for name in known))
        raise click.UsageError(f"{path}: there is no {', '.join(unknown)}; there are {names}")
    if table := next((key for key, value in given.items() if isinstance(value, dict)), None):
        raise click.UsageError(f"{path}: {table} needs a value, not a table")
    return {key: _typed(value, known[key]) for key, value in given.items()}


def _typed(value: object, option: click.Parameter) -> object:
    """Return a value as it would be typed, which click then judges: 1.5 is no seed, nor is true."""
    if isinstance(value, bool) and option.type is click.BOOL:
        return value
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def written(run: Run, options: Mapping[str, Any]) -> str:
    """Return a run, with a command's other ``options``, as a file that `read` reads."""
    import tomli_w

    told = all_settings(run, options)
    text = {key.replace("_", "-"): str(value) if isinstance(value, Path) else value for key, value in told.items()}
    return tomli_w.dumps({key: value for key, value in text.items() if value is not None})


def all_settings(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a run, with a command's other ``options``: its steps, or else its epochs."""
    told = {**settings(run), **options}
    return {name: value for name, value in told.items() if name != "epochs" or "steps" not in options}


def settings(run: Run) -> dict[str, Any]:
    """Return what decides a run, by the names of options, with the sizes that it really has."""
    from nets.presets import configuration

    preset = run.preset
    return {
        "preset": preset.name,
        **configuration(preset),
        "train_size": len(run.train),
        "validation_size": len(run.validation),
        "test_size": len(run.test),
        "seed": run.seed,
        "dtype": run.dtype.name,
    }
