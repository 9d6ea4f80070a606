"""Names and numbers as they are written wherever something is reported, and the type of a JSON document."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

Json = Any


def element(tensor: str, index: Sequence[int]) -> str:
    """Return an element's name, ``bias[2]``; a scalar has no index."""
    return f"{tensor}[{', '.join(map(str, index))}]" if len(index) else tensor


def sentence(claim: str) -> str:
    """Return a property's name as words."""
    return claim.replace("_", " ")


def noise_units(ratio: float, factor: float) -> str:
    """Return a ratio in units of rounding noise."""
    noise = ratio * factor
    return f"{noise:.1f}" if noise < 1000 else f"{noise:.1e}"


def share(ratio: float) -> str:
    """Return a ratio, of a disagreement and its allowance, as a number of few digits."""
    if not math.isfinite(ratio):
        return "not finite"
    return f"{ratio:.2g}" if ratio < 1000 else f"{ratio:.0e}"


def describe_ratios(comparisons: int, median: float, tail: float, largest: float) -> str:
    """Return where the ratios of some comparisons lie, as shares of what is allowed."""
    where = f"median {share(median)}, 99.9 % up to {share(tail)}, largest {share(largest)}"
    return f"{comparisons:,} comparisons, as shares of the allowance: {where}"


LIST = 100  # columns of a list of names


def wrapped(text: str) -> str:
    """Return text in lines that fit the terminal, if it is shown on one: what follows each is indented below it."""
    if not sys.stdout.isatty():
        return text
    return "\n".join(_folded(line, shutil.get_terminal_size().columns) for line in text.split("\n"))


def listed(head: str, names: Sequence[str]) -> str:
    """Return names behind a head, in lines of a hundred columns."""
    return _folded(f"{head}: {'; '.join(names)}", LIST)


PAGE = 80  # columns of a page of text


def page(lines: Iterable[str]) -> str:
    """Return lines as a page: none is longer than its columns, unless a word is."""
    return "\n".join(_folded(line, PAGE) for line in lines)


def _folded(line: str, columns: int) -> str:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
