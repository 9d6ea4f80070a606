"""What the commands write with: results to stdout, progress and remarks to stderr."""

from __future__ import annotations

import platform
import sys
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
PARTS = ("mnistcheck", "numpy", "torch", "scikit-learn", "hypothesis")


def results() -> Console:
    """Return the console of stdout."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def remarks() -> Console:
    """Return the console of stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(out: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: brackets in it are no markup, and a long line is the terminal's to wrap."""
    out.print(text, style=style, markup=False, soft_wrap=True)


def remark(text: str, style: str | None = "yellow") -> None:
    """Print a line to stderr, with what a terminal would obey, as of a file's name, escaped."""
    from nets.datasets.dataset import printable

    say(remarks(), printable(text), style)


@contextmanager
def bar(total: int) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal and nothing elsewhere.

    Yields what to call with the steps taken and a text, and, where no steps are taken any more, of what else how many.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.fields[unit]}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.description}"),
    ]
    animated = sys.stderr.isatty()
    with Bar(
        *columns, TimeRemainingColumn(compact=True), console=remarks(), transient=True, disable=not animated
    ) as shown:
        task = shown.add_task("", total=total, unit="step")

        def update(done: int, text: str, unit: str = "step", of: int = total) -> None:
            shown.update(task, completed=done, description=text, unit=unit, total=of)

        yield update


def print_json(document: dict[str, Any]) -> None:
    """Print one strict JSON document to stdout."""
    from gradcheck.report.json import SCHEMA_VERSION, dump_json

    click.echo(dump_json({"schema_version": SCHEMA_VERSION, **document}))


def environment() -> dict[str, Any]:
    """Return what a result may depend on: the platform and the versions of the parts."""
    versions: dict[str, str | None] = {}
    for part in PARTS:
        try:
            versions[part] = metadata.version(part)
        except metadata.PackageNotFoundError:
            versions[part] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv[1:],
        "versions": versions,
    }
