"""``mnistcheck verify``: check every registered layer, loss, optimizer, schedule and initialiser, or a module's."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from rich.table import Table

    from gradcheck.collection import Collected
    from gradcheck.items import Effort
    from gradcheck.properties import Mode
    from gradcheck.report.results import Finding, Report
    from gradcheck.subjects.attributes import AdapterError
    from gradcheck.trials import Subject

# What a property leaves behind is young. To look at all that the libraries have made, too, would take as long as the
# checks themselves.
YOUNG = 1


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--module", metavar="MODULE", help="Check this module or package, such as my_package.layers.")
@click.option("--examples", type=click.IntRange(min=1), help="Cases a property.  [default: 25]")
@click.option("--mode", type=click.Choice(["auto", "full", "fast"]), default="auto", show_default=True,
              help="Perturb every element, or random directions.")  # fmt: skip
@click.option("--dtype", type=click.Choice(["both", "float64", "float32"]), default="both", show_default=True,
              help="Precisions compared with torch.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to check in.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the cases.")
@click.option("--list", "listing", is_flag=True, help="List what is drawn for each class, and check nothing.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of tables.")
def verify(
    names: tuple[str, ...],
    module: str | None,
    examples: int | None,
    mode: Mode,
    dtype: str,
    jobs: int,
    seed: int,
    listing: bool,
    json: bool,
) -> int:
    """Check layers, losses, optimizers, schedules and initialisers against finite differences and torch.

    Every property is tried on cases that Hypothesis draws; NAME... picks some of the classes, such as Linear. The
    ratio is disagreement over what rounding and truncation allow: above 1 fails.
    """
    from cli.console import STYLES, environment, print_json, remarks, results, say
    from gradcheck.items import Effort
    from gradcheck.numerics.agreement import Verdict
    from gradcheck.properties import DTYPES, Settings
    from gradcheck.report.checks import describe_failure, summarise
    from gradcheck.report.json import finding_to_json
    from gradcheck.subjects.attributes import AdapterError
    from gradcheck.trials import EXAMPLES

    chosen = _choose(names, module)
    if listing:
        return _list(chosen, examples or EXAMPLES, seed, json=json)
    effort = Effort(examples or EXAMPLES, seed, Settings(mode, dtypes=DTYPES if dtype == "both" else (dtype,)))
    tasks = [(each.name, claim) for each in chosen for claim in each.claims()]
    reports: list[Report] = []
    refusals: dict[str, None] = {}
    with _elsewhere(), _interruptible() as interrupted, remarks().status("") as status:

        def progress(name: str, result: Report | AdapterError) -> None:
            gc.collect(YOUNG)
            if interrupted:
                raise KeyboardInterrupt
            if isinstance(result, AdapterError):
                refusals[str(result)] = None
            else:
                reports.append(result)
            status.update(f"{len(reports)} of {len(tasks)}: {name}")

        try:
            _read(chosen)
            _run(tasks, module, names, effort, jobs, progress)
        except AdapterError as error:
            raise click.UsageError(str(error)) from error
    found = [finding for report in reports for finding in report.findings]
    verdict, summary = summarise(found)
    if json:
        print_json(
            {
                "command": "verify",
                "verdict": str(verdict),
                "seed": seed,
                "mode": mode,
                "evaluations": sum(report.evaluations for report in reports),
                "results": [finding_to_json(finding) for finding in found],
                "not_checked": list(refusals),
                "environment": environment(),
            }
        )
    else:
        out = results()
        out.print(_by_property(found) if names else _by_subject(found))
        for subject, note in dict.fromkeys((f.subject, remark) for f in found for remark in f.remarks):
            say(out, f"{subject}: {note}", "yellow")
        for finding in found:
            if finding.verdict is Verdict.FAIL:
                say(out, describe_failure(finding), "red")
                again = f"--module {module}" if module else finding.subject
                again += f" --examples {examples or EXAMPLES} --seed {seed}"
                again += f" --mode {mode}" * (mode != "auto") + f" --dtype {dtype}" * (dtype != "both")
                say(out, f"  see it again: mnistcheck verify {again}", "red")
        out.print(summary, style=STYLES[verdict], soft_wrap=True)
    for line in refusals:
        click.echo(f"Error: not checked: {line}", err=True)
    return ExitCode.USAGE if refusals and verdict is not Verdict.FAIL else ExitCode.of(verdict)


def _run(
    tasks: Sequence[tuple[str, str]],
    module: str | None,
    names: tuple[str, ...],
    effort: Effort,
    jobs: int,
    progress: Callable[[str, Report | AdapterError], None],
) -> None:
    """Check every claim of every subject, in this process or in several, and show each report in order.

    What cannot be checked is shown in the place of its report.
    """
    arguments = [(module, names, name, claim, effort) for name, claim in tasks]
    if jobs == 1:
        for each in arguments:
            progress(each[2], _check(*each))
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # Not forked: a copy of a process with threads, such as that of the status line, may never wake up.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for (name, _), report in zip(tasks, pool.map(_check_elsewhere, *zip(*arguments, strict=True)), strict=True):
                progress(name, report)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(chosen: Iterable[Collected]) -> None:
    """Find out how everything is called, before anything is checked, which takes long.

    Raises `AdapterError` with a line for each thing of which this cannot be found out.
    """
    from gradcheck.subjects.attributes import AdapterError

    lines = []
    for each in chosen:
        try:
            each.read()
        except AdapterError as error:
            lines.append(str(error))
    if lines:
        raise AdapterError("\n".join(lines))


def _check(module: str | None, names: tuple[str, ...], name: str, claim: str, effort: Effort) -> Report | AdapterError:
    from gradcheck.subjects.attributes import AdapterError

    try:
        return next(each for each in _collected(module, names) if each.name == name).check(claim, effort)
    except AdapterError as refusal:  # told when the others have been checked
        return refusal.with_traceback(None)


def _check_elsewhere(
    module: str | None, names: tuple[str, ...], name: str, claim: str, effort: Effort
) -> Report | AdapterError:
    """Return the report as it can be sent to another process: without cases that cannot be, as one of a lambda."""
    import pickle
    from dataclasses import replace

    from gradcheck.report.results import Report

    report = _check(module, names, name, claim, effort)
    if not isinstance(report, Report):
        return type(report)(str(report))  # without what it was raised from, which may not be sent
    try:
        pickle.dumps(report)
    except Exception:  # noqa: BLE001  a case holds the user's object, whose __reduce__ may raise anything
        report = replace(report, findings=tuple(replace(finding, case=None) for finding in report.findings))
    return report


@cache  # a module's own cases() are made once, not for every property
def _collected(module: str | None, names: tuple[str, ...]) -> list[Collected]:
    from gradcheck.collection import Collected, collect
    from gradcheck.subjects.attributes import AdapterError

    if module is None:
        from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES

        parts: tuple[Subject, ...] = (*LAYERS, *LOSSES, *OPTIMIZERS, *SCHEDULES, *INITIALIZERS)
        return [Collected.of(each) for each in parts]
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return collect(module, names)
    except AdapterError as error:
        raise click.UsageError(str(error)) from error
    except Exception as error:  # the module is the user's, and so is whatever it raises
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise click.UsageError(f"there is no module {module} here or on the path of {sys.executable}") from error
        raise click.UsageError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error


def _choose(names: tuple[str, ...], module: str | None) -> list[Collected]:
    known = {each.name: each for each in _collected(module, names)}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"nothing is named {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


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


def _list(subjects: list[Collected], examples: int, seed: int, *, json: bool) -> int:
    """Print the hyper-parameters that the cases of each class draw."""
    from cli.console import print_json, results
    from gradcheck.collection import domain
    from gradcheck.report.values import describe_values
    from gradcheck.subjects.attributes import AdapterError

    with _elsewhere():
        try:
            domains = {each.name: domain(each.drawn, examples, seed) for each in subjects if each.drawn is not None}
        except AdapterError as error:
            raise click.UsageError(str(error)) from error
    told = {
        subject: {name: describe_values(values) for name, values in drawn.items()} for subject, drawn in domains.items()
    }
    if json:
        print_json({"command": "verify", "seed": seed, "drawn": told})
        return ExitCode.PASS
    table = _bare_table("subject", "drawn", "values")
    for subject, drawn in told.items():
        for place, (name, words) in enumerate(drawn.items()):
            table.add_row("" if place else subject, name, words)
        if not drawn:
            table.add_row(subject, "", "none")
    results().print(table)
    return ExitCode.PASS


def _bare_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines whose first column is never broken."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if column in right else "left", no_wrap=place == 0)
    return table


def _by_subject(found: list[Finding]) -> Table:
    """Return a table with a row for each class: how much was tried, and the worst of it."""
    from itertools import groupby

    from cli.console import STYLES
    from gradcheck.numerics.agreement import judge, largest

    table = _bare_table(
        "subject", "properties", "examples", "worst ratio", "verdict", right=("properties", "examples", "worst ratio")
    )
    for subject, of_subject in groupby(found, key=lambda finding: finding.subject):
        group = list(of_subject)
        worst = largest(*(finding.worst for finding in group))
        verdict = judge([finding.verdict for finding in group])
        table.add_row(
            subject,
            str(len(group)),
            f"{sum(finding.examples for finding in group):,}",
            f"{worst.ratio:.3g}" if worst else "",
            f"[{STYLES[verdict]}]{verdict}[/]",
        )
    return table


def _by_property(found: list[Finding]) -> Table:
    """Return a table with a row for each property of each class."""
    from cli.console import STYLES
    from gradcheck.report.text import sentence

    table = _bare_table("subject", "property", "examples", "worst ratio", "verdict", right=("examples", "worst ratio"))
    last = ""
    for finding in found:
        ratio = "" if finding.worst is None else f"{finding.worst.ratio:.3g}"
        table.add_row(
            "" if finding.subject == last else finding.subject,
            sentence(finding.property),
            str(finding.examples),
            ratio,
            f"[{STYLES[finding.verdict]}]{finding.verdict}[/]",
        )
        last = finding.subject
    return table
