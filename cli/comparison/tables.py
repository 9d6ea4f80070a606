"""A comparison's document as one table, for the terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.comparison.sentences import pair_sentence, published, warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

DASH = "-"  # where nothing should be equal to a variant
UPDATES, EQUAL = "updates\nan epoch", "equal (steps compared)"  # columns
GAP = 2  # between columns


def print_comparison(out: Console, document: dict[str, Any]) -> None:
    """Print what was compared, the table, and what is to be said of it."""
    from rich.text import Text

    from cli.console import STYLES, say

    title, *setting = _told(document)
    out.print(Text(title, "bold"), soft_wrap=True)
    for line in setting:
        say(out, line)
    out.print()
    for table in _tables(document, out.width):
        out.print(table)
        out.print()
    for line in published(document):
        say(out, line)
    for warning in warnings(document):
        say(out, f"warning: {warning}", STYLES["inconclusive"])
    for pair in document["pairs"]:
        style = STYLES.get(pair["verdict"] or "", "")
        say(out, pair_sentence(pair), style)


def _tables(document: dict[str, Any], width: int) -> Iterator[Table]:
    """Yield the table, or where it does not fit, as many as its columns need, each with the variants' names."""
    first, *columns = zip(*table_rows(document), strict=True)
    shown = [first]
    for column in columns:
        if len(shown) > 1 and sum(map(_width, [*shown, column])) + GAP * len(shown) > width:
            yield _table(list(zip(*shown, strict=True)))
            shown = [first]
        shown.append(column)
    yield _table(list(zip(*shown, strict=True)))


def _width(column: Iterable[str]) -> int:
    return max(len(line) for cell in column for line in cell.split("\n"))


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cli.console import STYLES

    head, *below = rows
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in head:
        table.add_column(name, justify="left" if name in (head[0], EQUAL) else "right", vertical="bottom")
    for row in below:
        table.add_row(*(Text(cell, STYLES.get(cell.partition(" ")[0], "")) for cell in row))
    return table


def markdown_of(document: dict[str, Any]) -> str:
    """Return the same as Markdown."""
    title, *setting = _told(document)
    head, *rows = table_rows(document)
    head = tuple(column.replace("\n", " ") for column in head)
    marks = ("---", *["---:"] * (len(head) - 2), "---")
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))
    lines = (*published(document), *warnings(document), *map(pair_sentence, document["pairs"]))
    told = "\n".join(f"- {line}" for line in lines)
    return "\n\n".join([f"**{title}**", "  \n".join(setting), table, told])


def heading(document: Mapping[str, Any]) -> list[str]:
    """Return what was compared, and on what, in a line each."""
    variants, data, seeds = document["variants"], document["dataset"], document["seeds"]
    networks = {one["network"] for one in variants}
    title = f"{document['preset']}: {networks.pop()}" if len(networks) == 1 else document["preset"]
    sizes = [f"{_common(variants, 'test_size')} test images", f"{_common(variants, 'train_size')} training"]
    if _common(variants, "validation_size") != "0":
        sizes.insert(1, f"{_common(variants, 'validation_size')} validation")
    unit = _unit(variants)
    count = _common(variants, unit)
    images = f"{', '.join(sizes[:0:-1])} and {sizes[0]}"
    return [
        title,
        f"{data['name']}: {images}, sha256 {data['sha256'][:12]}",
        f"{count} {unit.removesuffix('s') if count == '1' else unit}, {document['dtype']}, {_seeds(seeds)}",
    ]


def _told(document: Mapping[str, Any]) -> list[str]:
    """Return the heading, and of several seeds what the numbers are."""
    *lines, last = heading(document)
    count, level = len(document["seeds"]), document["confidence"]
    if count > 1:
        decided = document["decided_by_seed"]
        last += (
            f": means of {count}, with half the width of their {level:.0%} confidence interval over what a seed decides"
            f" ({', '.join(decided)}){'' if 'test images' in decided else ', on one test set'}"
        )
    return [*lines, last]


def table_rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a head, of up to two lines, and a row a variant; accuracies in per cent, their gap in points."""
    variants = document["variants"]
    several = len(document["seeds"]) > 1
    columns: dict[str, list[str]] = {
        "variant": [one["name"] for one in variants],
        "test\naccuracy": [percent(one["test_accuracy"]) for one in variants],
        "training\naccuracy": [percent(one["train_accuracy"]) for one in variants],
        "gap,\npoints": [points(one["generalisation_gap"]) for one in variants],
    }
    if several:
        differences = [one["difference_to_first"] for one in variants]
        columns["test, above\nthe first"] = [points(one) if one else "" for one in differences]
    columns |= {
        UPDATES: [f"{one['updates_per_epoch']:,}" for one in variants],
        "batch": [f"{one['batch_size']:,}" for one in variants],
        "weight\nscale": [one["weight_scale"] or "NumPy's" for one in variants],
    }
    for field, name in ((_unit(variants), _unit(variants)), ("train_size", "training\nimages")):
        if len({one[field] for one in variants}) > 1:
            columns[name] = [f"{one[field]:,}" for one in variants]
    columns["seconds"] = [spread(one["seconds"], "{:.1f}") for one in variants]
    equal = {name: _verdict(pair) for pair in document["pairs"] for name in pair["variants"]}
    columns[EQUAL] = [equal.get(one["name"], DASH) for one in variants]
    return [tuple(columns), *zip(*columns.values(), strict=True)]


def percent(number: Mapping[str, Any]) -> str:
    """Return a fraction, with its interval if it has one, in per cent."""
    return f"{spread(number, '{:.2f}', 100)}%"


def points(number: Mapping[str, Any]) -> str:
    """Return a difference of fractions, with its interval if it has one, in percentage points."""
    return spread(number, "{:+.2f}", 100)


def spread(number: Mapping[str, Any], form: str, scale: float = 1) -> str:
    """Return a number and, if it has one, half the width of its confidence interval."""
    mean = form.format(scale * number["mean"])
    if number["half_width"] is None:
        return mean
    return f"{mean} \N{PLUS-MINUS SIGN} {form.replace('+', '').format(scale * number['half_width'])}"


def _common(variants: Sequence[Mapping[str, Any]], field: str) -> str:
    return " or ".join(f"{value:,}" for value in dict.fromkeys(one[field] for one in variants))


def _unit(variants: Sequence[Mapping[str, Any]]) -> str:
    """Return in what the length of the runs is told: epochs, unless some run ends within one."""
    return "epochs" if all(one["steps"] % one["updates_per_epoch"] == 0 for one in variants) else "steps"


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds[-1] - seeds[0] < len(seeds):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"


def _verdict(pair: Mapping[str, Any]) -> str:
    steps = "all" if pair["steps"] == pair["of_steps"] else f"{pair['steps']:,} of"
    if pair["verdict"] is None or not pair["runs"]:
        return pair["verdict"] or "not compared"
    return f"{pair['verdict']} ({steps} {pair['of_steps']:,})"
