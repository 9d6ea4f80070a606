"""Results as tables in Markdown, between the markers of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.speed.results import Part

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def filled(page: str, parts: Mapping[str, Part]) -> str:
    """Return a page with the table of each part between its markers; parts that were not measured stay."""
    for name, part in parts.items():
        page = between(page, name, "\n".join(table(part)))
    return page


def between(page: str, name: str, text: str) -> str:
    """Return a page with a text between the markers of a name."""
    begin, end = f"<!-- {name}: made by a command -->", f"<!-- end of {name} -->"
    whole = f"{begin}\n\n{text}\n\n{end}"
    changed, count = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: whole, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page needs one place for {name}: {begin} and {end}, it has {count}")
    return changed


def table(part: Part) -> Iterator[str]:
    """Yield the lines of a part: ratios with their quartiles, milliseconds, and whether an aim is met."""
    yield "| | ours / theirs | quartiles | aim | ours, ms | theirs, ms | repeats |"
    yield "|---|---|---|---|---|---|---|"
    for row in part.rows:
        aim = "" if row.aim is None else f"{row.aim:.2g}, {'met' if row.ratio <= row.aim else 'missed'}"
        cells = (
            row.name, _short(row.ratio), f"{_short(row.low)} to {_short(row.high)}", aim, _short(row.ours_ms),
            _short(row.theirs_ms), row.repeats,
        )  # fmt: skip
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    yield f"Measured on: {'; '.join(f'{name} {value}' for name, value in part.machine.items())}."


def _short(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
