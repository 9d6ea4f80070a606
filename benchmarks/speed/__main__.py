"""All speeds, as ratios: python -m benchmarks.speed [--only NAME] [--repeats N] [--check] [--results FILE].

Measures each part, and after it writes benchmarks/results.json and the tables of docs/performance.md; with another
FILE, that file alone. With ``--check`` nothing is written: the ratios are compared with those of the file, and the
command fails if one has grown beyond its margin. Progress goes to stderr. Ends in 0, in 1 if a ratio has grown, in 2
for a file that cannot be compared with.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from benchmarks.speed import fair_runs, layer_checks, results, starts, steps, tables, watching
from benchmarks.speed.results import Change, Part, ResultsError
from benchmarks.speed.timing import Pair, Row, measured
from nets.datasets.catalogue import load_dataset
from nets.datasets.dataset import Dataset
from nets.engines.torch_engine import one_thread_each


@cache
def data() -> Dataset:
    """Return MNIST where it is found, else the bundled digits."""
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    return load_dataset("auto", Path(directory) if directory else None)


# What is measured, how often each side runs, and after how many seconds it runs no more.
PARTS: dict[str, tuple[Callable[[], Iterator[Pair]], int, float]] = {
    "steps": (lambda: steps.pairs(data()), 11, 5.0),
    "fair-runs": (lambda: fair_runs.pairs(data()), 5, 4.0),
    "once": (lambda: fair_runs.once(data()), 3, 10.0),
    "checks": (layer_checks.pairs, 5, 5.0),
    "watching": (watching.pairs, 7, 5.0),
    "starts": (starts.pairs, 5, 20.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"of {', '.join(PARTS)}, or a part of a row's name"
    )
    parser.add_argument("--repeats", type=int, help="of each side, in place of the part's own")
    parser.add_argument("--check", action="store_true", help="compare with the results of the file, and write nothing")
    parser.add_argument("--results", type=Path, default=results.PATH)
    options = parser.parse_args(arguments)
    try:
        known = results.read(options.results)
    except ResultsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    only = options.only or []
    names = [name for name in PARTS if name in only] or list(PARTS)
    rows = [one for one in only if one not in PARTS]
    if options.check and not known:
        print(f"Error: there is nothing in {options.results} to compare with: run make bench", file=sys.stderr)
        return 2
    with one_thread_each():
        where = results.machine() | {"dataset": data().name}
        found: list[Change] = []
        for name in names:
            part = Part(where, tuple(_rows(name, rows, options.repeats)))
            if options.check:
                found += _compared(name, known.get(name, Part({}, ())), part)
                continue
            kept = {row.name: row for row in known[name].rows} if rows and name in known else {}
            known[name] = Part(where, tuple((kept | {row.name: row for row in part.rows}).values()))
            if known[name].rows:
                results.write(known, options.results)
                if options.results == results.PATH:
                    _fill(results.read(options.results))  # with the digits that are committed
                print("\n".join([f"{name}\n", *tables.table(part), ""]), flush=True)
    return _told(found) if options.check else 0


def _rows(name: str, rows: list[str], repeats: int | None) -> Iterator[Row]:
    """Measure the pairs of a part, or those whose names have one of some texts in them."""
    pairs, usual, limit = PARTS[name]
    began = time.monotonic()
    for pair in pairs():
        if rows and not any(text in pair.name for text in rows):
            continue
        row = measured(pair, repeats or usual, limit)
        print(f"{time.monotonic() - began:5.0f} s  {name}: {row.name}: {row.ratio:.3g}", file=sys.stderr, flush=True)
        yield row


def _compared(name: str, before: Part, now: Part) -> list[Change]:
    """Return how the rows have changed; those that seem slower are measured again, and the better of both counts."""
    for line in results.unlike(before, now):
        print(f"{name}: measured elsewhere: {line}", file=sys.stderr)
    found = list(results.changes(name, before, now))
    slower = [change.now.name for change in found if change.failed]
    if not slower:
        return found
    again = {row.name: row for row in _rows(name, slower, None)}
    rows = tuple(min(row, again.get(row.name, row), key=lambda one: one.ratio) for row in now.rows)
    return list(results.changes(name, before, Part(now.machine, rows)))


def _told(found: list[Change]) -> int:
    """Print what has grown, and return the exit code."""
    slower = [change for change in found if change.failed]
    for change in slower:
        print(change)
    print(f"{len(found)} ratios compared, {len(slower)} have grown beyond their margin")
    return 1 if slower or not found else 0


def _fill(parts: Mapping[str, Part]) -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    tables.PAGE.write_text(tables.filled(page, parts), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
