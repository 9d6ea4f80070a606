"""A page of Markdown, made of what the case studies find."""

from __future__ import annotations

import argparse
import inspect
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent, fill

from gradcheck import Report
from nets.datasets.catalogue import load_dataset
from nets.datasets.dataset import DataError, Dataset

WIDTH = 120  # of lines
SECONDS = 300.0  # that a check may take: enough on any machine, so that all print the same
BAD_DATA, NOBODY_READS = 4, 130  # exit codes, as the command line's


@dataclass(frozen=True)
class Study:
    """What cases are shown on. ``quick`` asks for a glance, of fewer images, steps and seeds."""

    dataset: Dataset
    quick: bool = False

    def of(self, whole: int, glance: int) -> int:
        """Return how many to take."""
        return glance if self.quick else whole


Story = Callable[[Study], Iterator[str]]


def tell(*stories: Story) -> None:
    """Print what cases find, on the data and at the length that the command line asks for."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules["__main__"]))
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="holds MNIST/raw; without it, bundled digits")
    parser.add_argument("--quick", action="store_true", help="a glance, of few images, steps and seeds")
    options = parser.parse_args()
    try:
        dataset = load_dataset("mnist" if options.data_dir else "digits", options.data_dir)
    except DataError as error:
        parser.exit(BAD_DATA, f"{error}\n")
    if not options.data_dir:
        sys.stderr.write("no --data-dir: on scikit-learn's bundled digits\n")
    study = Study(dataset, options.quick)
    try:
        for story in stories:
            for block in story(study):
                _print(f"{_wrapped(block)}\n\n")
        _print(f"{_wrapped(setting(study))}\n")
    except BrokenPipeError:  # as by `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python would still flush at exit goes nowhere
        sys.exit(NOBODY_READS)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def setting(study: Study) -> str:
    """Return what the numbers are of."""
    glance = ", a glance: --quick" if study.quick else ""
    data = f"Data: {study.dataset.name}, SHA-256 `{study.dataset.sha256}`{glance}."
    return f"{data} float64, NumPy {version('numpy')}, PyTorch {version('torch')}."


def headline(published: str, words: str) -> str:
    """Return the heading of a case: what was published, and what the checker says of it."""
    return f"## {published}\n\n> {words}"


def code(*parts: type | Callable[..., object]) -> str:
    """Return the source of classes or functions as a block."""
    return _block("python", "\n\n\n".join(dedent(inspect.getsource(part)).rstrip() for part in parts))


def quoted(*texts: object) -> str:
    """Return the checker's words, letter by letter, as a block."""
    return _block("text", "\n".join(map(str, texts)))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table, its first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, as ``1 epoch`` or ``2 epochs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def spread(shares: Sequence[float]) -> str:
    """Return the mean of shares in percent, and their range if there are several."""
    mean = f"{statistics.mean(shares):.1%}"
    return mean if len(shares) == 1 else f"{mean} ({min(shares):.1%} to {max(shares):.1%})"


def named(report: Report) -> str:
    """Return why a report failed, as it says itself."""
    return next((finding.diagnosis for finding in report.failures if finding.diagnosis), "cause unknown")


def _wrapped(block: str) -> str:
    """Return a paragraph in lines; what is none stays as it is."""
    if block.startswith(("```", "|", "#")):
        return block
    return fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
