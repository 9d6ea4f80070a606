"""``mnistcheck verify``: check every registered layer, loss, optimizer and schedule."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.table import Table

    from gradcheck.checks import PropertyResult, Subject


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--examples", type=click.IntRange(min=1), help="Cases a property.  [default: 25]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the cases.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of tables.")
def verify(names: tuple[str, ...], examples: int | None, seed: int, json: bool) -> int:
    """Check layers, losses, optimizers and schedules against finite differences and torch.

    Every property is tried on cases that Hypothesis draws; NAME... picks some of the classes, such as Linear. The
    ratio is disagreement over what rounding and truncation allow: above 1 fails.
    """
    from cli.console import STYLES, environment, print_json, remarks, results
    from gradcheck.agreement import Verdict
    from gradcheck.checks import EXAMPLES, check_all, properties_of
    from gradcheck.report import describe_failure, result_to_json, summarise

    subjects = _choose(names)
    total = sum(len(properties_of(subject)) for subject in subjects)
    with _elsewhere(), _interruptible() as interrupted, remarks().status("") as status:
        done = 0

        def progress(result: PropertyResult) -> None:
            nonlocal done
            gc.collect()
            if interrupted:
                raise KeyboardInterrupt
            done += 1
            status.update(f"{done} of {total}: {result.subject}")

        found = check_all(subjects, examples=examples or EXAMPLES, seed=seed, progress=progress)
    verdict, summary = summarise(found)
    if json:
        print_json(
            {
                "command": "verify",
                "verdict": str(verdict),
                "seed": seed,
                "results": [result_to_json(result) for result in found],
                "environment": environment(),
            }
        )
    else:
        out = results()
        out.print(_table(found))
        for result in found:
            if result.verdict is Verdict.FAIL:
                out.print(describe_failure(result), style="red", markup=False, soft_wrap=True)
        out.print(summary, style=STYLES[verdict], soft_wrap=True)
    return ExitCode.of(verdict)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Yield a list that an interrupt leaves a mark in, and leave garbage to be collected between properties.

    Python loses an exception that comes inside a callback of the garbage collector, and Hypothesis has such a callback.
    """
    marks: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        marks.append(number)
        signal.default_int_handler(number, frame)

    previous = signal.signal(signal.SIGINT, interrupt)
    gc.disable()
    try:
        yield marks
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Keep the files that Hypothesis writes for itself out of the user's folder, unless they have chosen a place."""
    with TemporaryDirectory() as folder:
        os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", folder)
        yield


def _choose(names: tuple[str, ...]) -> list[Subject]:
    from nets import LAYERS, LOSSES, OPTIMIZERS, SCHEDULES

    subjects: list[Subject] = [*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES]
    known = {subject.__name__: subject for subject in subjects}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"nothing is named {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else subjects


def _table(found: list[PropertyResult]) -> Table:
    from rich.table import Table

    from cli.console import STYLES
    from gradcheck.report import sentence

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("subject", no_wrap=True)
    table.add_column("property")
    table.add_column("examples", justify="right")
    table.add_column("worst ratio", justify="right")
    table.add_column("verdict", no_wrap=True)
    last = ""
    for result in found:
        ratio = "" if result.worst is None else f"{result.worst.ratio:.3g}"
        table.add_row(
            "" if result.subject == last else result.subject,
            sentence(result.property),
            str(result.examples),
            ratio,
            f"[{STYLES[result.verdict]}]{result.verdict}[/]",
        )
        last = result.subject
    return table
