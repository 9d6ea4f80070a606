"""``mnistcheck compare-loops``: two training loops as they are, from two files."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import click

from cli.exit_codes import ExitCode


@click.command("compare-loops")
@click.argument("ours", metavar="OURS")
@click.argument("theirs", metavar="THEIRS...", nargs=-1, required=True)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Compare so many steps.")
@click.option("--start", type=click.Choice(["own", "theirs"]), default="own", show_default=True,
              help="Begin OURS with its own parameters, or with those of THEIRS.")  # fmt: skip
@click.option("--names", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE.toml",
              help="What OURS calls the parameters of THEIRS: lines such as \"fc1.weight\" = \"W1\".")  # fmt: skip
@click.option("--shadows", type=click.IntRange(min=1), default=3, show_default=True, help="Runs that measure rounding.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the global generators.")
@click.option("--json", is_flag=True, help="Print one JSON document.")
def compare_loops(
    ours: str,
    theirs: tuple[str, ...],
    steps: int,
    start: str,
    names: Path | None,
    shadows: int,
    seed: int,
    json: bool,
) -> int:
    """Compare two training loops step by step: FILE.py:FUNCTION or MODULE:FUNCTION each.

    THEIRS may also be a folder with a trace, or those of all ranks of a distributed run.

    The function trains, and is given one argument, watch. It trains inside `with watch(model, optimizer):`, or calls
    watch.start(params) before the first step and watch.step(params=..., grads=..., ...) at the end of each. It is
    called several times and must begin anew each time. Each step of OURS is judged from the state of THEIRS before
    it; then both train by themselves.
    """
    from cli.console import STYLES, print_json, results, say
    from gradcheck.loops.check import check_loops
    from gradcheck.report.loops import describe_loops, loops_to_json, summarise_loops
    from gradcheck.subjects.attributes import AdapterError
    from gradcheck.trajectory.trace import Trace

    traces = [Trace(folder) for folder in theirs if Path(folder).is_dir()]
    if len(theirs) > 1 and len(traces) < len(theirs):
        raise click.UsageError(f"THEIRS is one function, or folders with traces, got {' '.join(theirs)}")
    options: dict[str, Any] = {"steps": steps, "start": start, "names": _names(names), "shadows": shadows, "seed": seed}
    try:
        report = check_loops(_function(ours), traces or _function(theirs[0]), **options)
    except AdapterError as error:
        raise click.UsageError(str(error)) from None
    if json:
        print_json({"command": "compare-loops", "ours": ours, "theirs": list(theirs), **loops_to_json(report)})
        return ExitCode.of(report.verdict)
    out = results()
    for line in describe_loops(report):
        say(out, line)
    say(out, summarise_loops(report), STYLES[report.verdict])
    return ExitCode.of(report.verdict)


def _function(text: str) -> Callable[[Any], object]:
    """Return the function that ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION`` names."""
    where, _, name = text.rpartition(":")
    if not where:
        raise click.UsageError(f"needs FILE.py:FUNCTION or MODULE:FUNCTION, got {text}")
    try:
        module = _of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except Exception as error:  # the file is the user's, and so is whatever it raises
        raise click.UsageError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise click.UsageError(f"{where} has no function {name}")
    return cast("Callable[[Any], object]", function)


def _of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(str(path))
    sys.path.insert(0, str(path.parent.resolve()))  # its neighbours, as if it were run
    name = str(path.resolve())  # two files may have one stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle and dataclasses look for it
    spec.loader.exec_module(module)
    return module


def _names(path: Path | None) -> dict[str, str | list[str]]:
    """Return the names of ours by those of theirs that a TOML file gives."""
    if path is None:
        return {}
    import tomllib

    try:
        names = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} is not TOML: {error}") from None
    if wrong := [key for key, value in names.items() if not _is_name(value)]:
        raise click.UsageError(f'{path} needs lines such as "fc1.weight" = "W1", got another value of {wrong[0]}')
    return names


def _is_name(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
