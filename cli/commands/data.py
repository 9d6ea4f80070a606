"""``mnistcheck data``: which data there is, fetching it, whether it is what was published, and a look at it."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.exit_codes import ExitCode
from cli.experiment import DATA_DIR, known_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nets.datasets.dataset import Dataset, Samples

CODES = {"pass": ExitCode.PASS, "fail": ExitCode.MISSING, "inconclusive": ExitCode.INCONCLUSIVE}
PARTS = ("train", "validation", "test")
FETCHED = ("mnist", "openml")


@click.group()
def data() -> None:
    """List, fetch, verify and look at the data.

    Nothing but fetch asks the network for anything.
    """


@data.command("list")
@DATA_DIR
@click.option("--json", is_flag=True, help="Print one JSON document.")
def list_(data_dir: Path | None, json: bool) -> int:
    """List the datasets that have names, where they are, and the formats that are read."""
    from cli.console import print_json, results, say
    from nets.datasets.catalogue import FORMATS, HOW, NAMES, SIZES

    rows = []
    for name, (train_size, test_size) in SIZES.items():
        place = _place(name, data_dir)
        rows.append(
            {
                "name": name,
                "what": NAMES[name],
                "train_size": train_size,
                "test_size": test_size,
                "found": place,
                "get": None if place else HOW[name],
            }
        )
    if json:
        formats = [{"format": name, "what": what} for name, what in FORMATS.items()]
        print_json({"command": "data list", "datasets": rows, "formats": formats, "auto": NAMES["auto"]})
        return ExitCode.PASS
    lines = []
    for row in rows:
        sizes = f"{row['train_size']:,} images" + (f" and {row['test_size']:,} to test on" if row["test_size"] else "")
        where = f"found: {row['found']}" if row["found"] else f"not here: {row['get']}"
        lines.append(f"{row['name']:<8}{row['what']}; {sizes}\n{'':<8}{where}")
    lines.append(f"{'auto':<8}{NAMES['auto']}")
    lines.append("\n--dataset also takes a path, to any of these formats, which are told by their content:")
    lines += [f"{name:<8}{what}" for name, what in FORMATS.items()]
    say(results(), "\n".join(lines))
    return ExitCode.PASS


@data.command()
@click.argument("name", type=click.Choice(FETCHED))
@DATA_DIR
def fetch(name: str, data_dir: Path | None) -> int:
    """Download MNIST, into the cache or into --data-dir, where --dataset auto finds it.

    mnist: the published files (11 MB), compared with their SHA-256, into MNIST/raw. openml: the same images as OpenML
    has them, through scikit-learn; reading them takes a minute and 1 GB of memory, once.
    """
    from cli.console import results, say
    from nets.datasets import catalogue, download, mnist, openml

    root = data_dir or catalogue.cache_dir()
    if name == "openml":
        text = f"written to {openml.fetch_openml(root)}"
    else:
        with _progress() as progress:
            fetched = download.fetch_mnist(root, download.MIRRORS, progress)
        where = mnist.raw_folder(root)
        text = f"fetched {len(fetched)} files into {where}" if fetched else f"MNIST is in {where} already, as published"
    say(results(), text)
    return ExitCode.PASS


@data.command()
@click.argument("name_or_path", default="auto")
@DATA_DIR
@click.option("--json", is_flag=True, help="Print one JSON document.")
def verify(name_or_path: str, data_dir: Path | None, json: bool) -> int:
    """Compare a dataset, by name or path, with the published SHA-256 digests.

    Digests are of uncompressed bytes. A format that packs MNIST's arrays in its own way is compared array by array.
    The exit code is 0 if all is as published, 4 if anything is missing or damaged, and 3 if nothing is published to
    compare with.
    """
    from cli.console import STYLES, print_json, results, say
    from nets.datasets.verification import UNPUBLISHED, verdict_of, verify_source

    source = known_source(name_or_path, data_dir)
    checked = verify_source(source)
    verdict = verdict_of(checked)
    if json:
        files = [asdict(one) for one in checked]
        print_json({"command": "data verify", "dataset": source.name, "verdict": verdict, "files": files})
        return CODES[verdict]
    console = results()
    for one in checked:
        say(console, f"{one.what}\n  {one.sha256 or '-'}\n  {one.note}")
    sentence = {
        "pass": f"PASS: {source.name} is as published",
        "fail": f"FAIL: {source.name} is not as published",
        "inconclusive": f"INCONCLUSIVE: {source.name} could be read, but {UNPUBLISHED}",
    }[verdict]
    say(console, sentence, STYLES[verdict])
    return CODES[verdict]


@data.command()
@click.argument("name_or_path", default="auto")
@DATA_DIR
@click.option("--part", type=click.Choice(PARTS), default="train", show_default=True, help="Which images.")
@click.option("--labels", metavar="DIGITS", help="Only images of these digits, such as 4,9.")
@click.option("--count", type=click.IntRange(1, 400), default=25, show_default=True, help="How many images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which are drawn.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="samples.png", show_default=True,
              help="The file to write, .png or .svg.")  # fmt: skip
def show(
    name_or_path: str, data_dir: Path | None, part: str, labels: str | None, count: int, seed: int, out: Path
) -> int:
    """Draw some images of a dataset, by name or path, with their labels."""
    import numpy as np

    from cli.console import results, say
    from cli.figures.samples import form_of, render
    from gradcheck.files import write_whole

    form = form_of(out)
    digits = _digits(labels)
    dataset = known_source(name_or_path, data_dir).load()
    samples = _part(dataset, part)
    chosen = np.flatnonzero(np.isin(samples.labels, digits))
    if len(chosen) < count:
        of = f" of {labels}" if labels else ""
        raise click.UsageError(f"{dataset.name} has {len(chosen):,} {part} images{of}; asked for {count}")
    chosen = np.random.default_rng(seed).permutation(chosen)[:count]
    title = f"{Path(dataset.name).name}, {part}: {count} of {len(samples):,}, seed {seed}"
    write_whole(out, render(samples[chosen], chosen, dataset.black, title, form))
    say(results(), f"written to {out}")
    return ExitCode.PASS


def _place(name: str, data_dir: Path | None) -> str | None:
    """Return where a dataset is, or None if it is nowhere."""
    from nets.datasets.catalogue import find_dataset
    from nets.datasets.dataset import DataError
    from nets.datasets.mnist import raw_folder

    if name == "digits":
        return "in scikit-learn" if importlib.util.find_spec("sklearn") else None
    try:
        source = find_dataset(name, data_dir)
    except DataError:
        return None
    return str(raw_folder(source.path) if source.kind == "mnist" else source.path)


def _part(dataset: Dataset, part: str) -> Samples:
    """Return the training, validation or test samples of a dataset, or raise a usage error if it has none."""
    samples: dict[str, Any] = {name: getattr(dataset, name) for name in PARTS}
    if samples[part] is None:
        there = " and ".join(name for name in PARTS if samples[name] is not None)
        raise click.UsageError(f"{dataset.name} has no {part} images of its own; it has {there}")
    found: Samples = samples[part]
    return found


def _digits(text: str | None) -> list[int]:
    """Return the digits that a list like 4,9 names; all of them for None."""
    if text is None:
        return list(range(10))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) == 1 for part in parts):
        raise click.UsageError(f"--labels {text!r} is no list of digits such as 4,9")
    return [int(part) for part in parts]


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Show what has come on a terminal, and nothing elsewhere; yields what to call with file and bytes."""
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from cli.console import remarks

    columns = TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=remarks(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None)
        current = ""

        def progress(file: str, size: int) -> None:
            nonlocal current
            if file != current:
                bar.reset(task, description=file)
                current = file
            bar.update(task, completed=size)

        yield progress
