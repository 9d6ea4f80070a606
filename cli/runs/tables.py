"""A run's document as tables and one sentence, for ``train`` and for ``report``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

KINKS = 3  # that are printed, of those that a document names

# The keys of the two sides in a run's document, and what they are called.
SIDES = {"numpy": "NumPy", "torch": "PyTorch"}


def print_run(out: Console, document: dict[str, Any]) -> None:
    """Print what a run was, what both sides learned and, if they were compared, what that showed."""
    from rich.text import Text

    from cli.console import STYLES, say
    from gradcheck.report.runs import (
        SENSITIVITY,
        SENSITIVITY_COLUMNS,
        describe_other_faults,
        describe_setting,
        describe_stop,
        sensitivity_rows,
        summarise_trajectory,
    )
    from gradcheck.report.steps import describe_crossing

    configuration, data = document["configuration"], document["dataset"]
    out.print(Text.assemble((configuration["network"], "bold"), f", {describe_setting(document)}"))
    validated = f", {configuration['validation_size']:,} validation" if configuration["validation_size"] else ""
    sizes = (
        f"{data['train_size']:,} training{validated} and {data['test_size']:,} test images,"
        f" {configuration['steps']:,} steps"
    )
    out.print(Text(f"{data['name']}: {sizes}, sha256 {data['sha256'][:12]}\n"))
    head, *rows = outcome_rows(document)
    out.print(table(head, rows))
    if document["verdict"] is None and (rows := recall_rows(document)):
        out.print()
        out.print(table(("test accuracy of", *map(str, range(len(rows[0]) - 1))), rows))
    for warning in document["warnings"] or ():
        side = f"{SIDES.get(warning['side'], '')} " if warning["side"] else ""
        say(out, f"warning: {side}{warning['text']}", STYLES["inconclusive"])
    if document["verdict"] is None:
        if configuration["stopped_early"]:
            early = f"\nstopped early, after {configuration['steps_taken']:,} of {configuration['steps']:,} steps"
            out.print(f"{early}: the validation loss got no better")
        if document["stopped_by"]:
            say(out, f"\n{describe_stop(document['stopped_by'])}", STYLES["inconclusive"])
        if all(document[side] for side in SIDES):
            out.print("\nNothing was compared: --fair proves both the same, or says where they part.", soft_wrap=True)
        return
    out.print()
    out.print(_proof(document))
    for name, found in (("lock-step", document["lock_step"]), ("free-run", document["free_run"])):
        for kink in (found["kinks"] or [])[:KINKS]:
            say(out, f"kink crossed by one side in {name}: {describe_crossing(kink['step'] or 0, kink)}", "dim")
    if document["sensitivity"] is not None:
        out.print(f"\n{SENSITIVITY}", style="dim", soft_wrap=True)
        out.print(table(SENSITIVITY_COLUMNS, sensitivity_rows(document["sensitivity"])))
        say(out, describe_other_faults(document["sensitivity"]))
    for note in document.get("notes") or ():
        say(out, f"note: {note['text']}", STYLES["inconclusive"])
    if configuration["batch_size"] == 1 and document["verdict"] == "pass":
        out.print("\nbatch 1 cannot tell a sum over the batch from its mean: --batch-size 2 can", style="dim")
    out.print()
    say(out, summarise_trajectory(document, SIDES), STYLES[document["verdict"]])


def proof_rows(document: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return name, verdict, steps, worst and remark of lock-step and of free-run."""
    from gradcheck.report.runs import describe_free_run, describe_lock_step
    from gradcheck.report.text import noise_units

    factor, lock, free = document["factor"], document["lock_step"], document["free_run"]
    notes = {"lock-step": (lock, describe_lock_step(lock)), "free-run": (free, describe_free_run(free))}
    return [
        (
            name,
            found["verdict"],
            f"{found['steps_compared']:,}",
            f"{noise_units(found['worst']['ratio'], factor)} of {factor:g}" if found["worst"] else "",
            note,
        )
        for name, (found, note) in notes.items()
    ]


def outcome_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a head and, for each side that was trained, name, both accuracies, seconds and, if any, its best epoch."""
    sides = [(name, document[key]) for key, name in SIDES.items() if document[key] is not None]
    rows = [
        (name, f"{side['test_accuracy']:.2%}", f"{side['train_accuracy']:.2%}", f"{side['seconds']:.1f}")
        for name, side in sides
    ]
    head = ("", "test accuracy", "training accuracy", "seconds in its steps")
    if all(side["best_epoch"] is None for _, side in sides):
        return [head, *rows]
    best = [f"{side['best_test_accuracy']:.2%} ({side['best_epoch'] + 1})" for _, side in sides]
    return [(*head, "best epoch"), *((*row, told) for row, told in zip(rows, best, strict=True))]


def recall_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return name and test accuracy of every class, for each side that tells them."""
    told = [(name, document[key] and document[key]["recalls"]) for key, name in SIDES.items()]
    return [
        (name, *("" if recall is None else f"{recall:.0%}" for recall in recalls)) for name, recalls in told if recalls
    ]


def summary_rows(runs: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, ...]]:
    """Return a head and, for each run, its folder, verdict, preset, data, steps and both test accuracies."""
    head = ("run", "verdict", "preset", "data", "steps", *(f"{name}, test" for name in SIDES.values()))
    return [
        head,
        *(
            (
                path,
                document["verdict"] or "not compared",
                document["preset"],
                document["dataset"]["name"],
                f"{document['configuration']['steps']:,}",
                *("" if document[side] is None else f"{document[side]['test_accuracy']:.2%}" for side in SIDES),
            )
            for path, document in runs
        ),
    ]


def print_summary(out: Console, runs: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Print some runs, a line each."""
    head, *rows = summary_rows(runs)
    out.print(table(head, rows))


def _proof(document: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cli.console import STYLES

    proof = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "verdict", "steps", "worst, x rounding noise", ""):
        proof.add_column(column, justify="right" if column == "steps" else "left", no_wrap=column == "verdict")
    for name, verdict, steps, worst, note in proof_rows(document):
        proof.add_row(name, Text(verdict, STYLES[verdict]), steps, worst, Text(note))
    return proof


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] | None = None) -> Table:
    """Return a table of cells as they are, on the right but in the columns ``left``: by default the first."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, pad_edge=False, header_style="bold")
    for column in head:
        on_the_left = column in (head[:1] if left is None else left)
        found.add_column(column, justify="left" if on_the_left else "right", overflow="fold")
    for row in rows:
        found.add_row(*map(Text, row))
    return found
