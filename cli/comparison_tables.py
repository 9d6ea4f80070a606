"""A comparison's document as one table and its sentences, for the terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.run_tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

DASH = "-"  # where nothing should be equal to a variant
UPDATES, EQUAL = "updates\nan epoch", "equal (steps compared)"  # columns
GAP = 2  # between columns
ACCURACIES = {"test_accuracy": "test", "train_accuracy": "training"}


def print_comparison(out: Console, document: dict[str, Any]) -> None:
    """Print what was compared, the table, and what is to be said of it."""
    from rich.text import Text

    from cli.console import STYLES

    title, *setting = _told(document)
    out.print(Text(title, "bold"), soft_wrap=True)
    for line in setting:
        out.print(line, markup=False, soft_wrap=True)
    out.print()
    for table in _tables(document, out.width):
        out.print(table)
        out.print()
    for warning in warnings(document):
        out.print(f"warning: {warning}", style=STYLES["inconclusive"], markup=False, soft_wrap=True)
    for pair in document["pairs"]:
        style = STYLES.get(pair["verdict"] or "", "")
        out.print(pair_sentence(pair), style=style, markup=False, soft_wrap=True)


def _tables(document: dict[str, Any], width: int) -> Iterator[Table]:
    """Yield the table, or where it does not fit, accuracies and all else in two."""
    rows = table_rows(document)
    lines = [[line for row in rows for line in row[i].split("\n")] for i in range(len(rows[0]))]
    needed = sum(max(map(len, column)) for column in lines) + GAP * (len(lines) - 1)
    if needed <= width:
        yield _table(rows)
    else:
        split = rows[0].index(UPDATES)
        yield _table([row[:split] for row in rows])
        yield _table([(row[0], *row[split:]) for row in rows])


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
    told = "\n".join(f"- {line}" for line in (*warnings(document), *map(pair_sentence, document["pairs"])))
    return "\n\n".join([f"**{title}**", "  \n".join(setting), table, told])


def heading(document: Mapping[str, Any]) -> list[str]:
    """Return what was compared, and on what, in a line each."""
    variants, data, seeds = document["variants"], document["dataset"], document["seeds"]
    networks = {one["network"] for one in variants}
    title = f"{document['preset']}: {networks.pop()}" if len(networks) == 1 else document["preset"]
    sizes = [f"{_common(variants, 'test_size')} test images", f"{_common(variants, 'train_size')} training"]
    if _common(variants, "validation_size") != "0":
        sizes.insert(1, f"{_common(variants, 'validation_size')} validation")
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    epochs = f"{_common(variants, 'epochs')} epoch{'' if _common(variants, 'epochs') == '1' else 's'}"
    images = f"{', '.join(sizes[:0:-1])} and {sizes[0]}"
    return [
        title,
        f"{data['name']}: {images}, sha256 {data['sha256'][:12]}",
        f"{epochs}, {document['dtype']}, {seed}",
    ]


def _told(document: Mapping[str, Any]) -> list[str]:
    """Return the heading, and of several seeds what the numbers are."""
    *lines, last = heading(document)
    count, level = len(document["seeds"]), document["confidence"]
    if count > 1:
        last += f": means of {count}, with half the width of their {level:.0%} confidence interval"
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
    for field, name in (("epochs", "epochs"), ("train_size", "training\nimages")):
        if len({one[field] for one in variants}) > 1:
            columns[name] = [f"{one[field]:,}" for one in variants]
    columns["seconds"] = [spread(one["seconds"], "{:.1f}") for one in variants]
    equal = {name: _verdict(pair) for pair in document["pairs"] for name in pair["variants"]}
    columns[EQUAL] = [equal.get(one["name"], DASH) for one in variants]
    return [tuple(columns), *zip(*columns.values(), strict=True)]


def pair_sentence(pair: Mapping[str, Any]) -> str:
    """Return the verdict on two variants, what it would have caught, and whether their numbers are equal."""
    from gradcheck.report import describe_verdict, summarise_trajectory

    names, verdict = pair["variants"], pair["verdict"]
    if verdict in ("fail", "inconclusive"):
        worst = next(proof for proof in pair["runs"] if proof["verdict"] == verdict)
        told = summarise_trajectory(worst, SIDES)
        seed = f" (seed {worst['seed']})" if len(pair["runs"]) > 1 else ""
        return f"{' and '.join(names)}{seed}: {told} {_numbers(pair)}"
    if verdict is None:
        return f"{' and '.join(names)} should be equal; their steps were not compared. {_numbers(pair)}"
    seeds = f" from each of {len(pair['runs'])} seeds" if len(pair["runs"]) > 1 else ""
    smallest = pair["smallest_detectable_fault"]
    caught = "no gradient's fault would have been caught"
    if any(proof["sensitivity"] is None for proof in pair["runs"]):
        caught = "no faults were planted, for which its steps take too long"
    if smallest is not None:
        caught = f"the smallest fault that this would have caught is a gradient times 1 + {smallest:.1e}"
    return (
        f"PASS: {describe_verdict(verdict, *names)}: {_steps(pair)}{seeds} agree within rounding noise; {caught}; "
        f"{_horizon(pair)}. {_numbers(pair)}"
    )


def warnings(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is doubtful, each once, with the variants and seeds that it is said of."""
    from gradcheck.report import describe_stop

    told: dict[str, dict[str, list[int]]] = {}
    for one in document["variants"]:
        for done in one["runs"]:
            stop = done["stopped_by"]
            stopped = [describe_stop({**stop, "side": SIDES[one["engine"]]})] if stop else []
            for text in (*done["warnings"], *stopped):
                told.setdefault(text, {}).setdefault(one["name"], []).append(done["seed"])
    for text, variants in told.items():
        names: dict[tuple[int, ...], list[str]] = {}
        for name, seeds in variants.items():
            names.setdefault(tuple(seeds), []).append(name)
        seed = {
            seeds: f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"
            for seeds in names
            if len(document["seeds"]) > 1
        }
        of = "; ".join(", ".join(same) + seed.get(seeds, "") for seeds, same in names.items())
        yield f"{of}: {text}"


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


def _verdict(pair: Mapping[str, Any]) -> str:
    steps = "all" if pair["steps"] == pair["of_steps"] else f"{pair['steps']:,} of"
    return "not compared" if pair["verdict"] is None else f"{pair['verdict']} ({steps} {pair['of_steps']:,})"


def _steps(pair: Mapping[str, Any]) -> str:
    if pair["steps"] == pair["of_steps"]:
        return f"all {pair['of_steps']:,} steps"
    return f"the first {pair['steps']:,} of {pair['of_steps']:,} steps"


def _horizon(pair: Mapping[str, Any]) -> str:
    reached = [step for step in pair["horizon_steps"] if step is not None]
    if not reached:
        return "the horizon, from which rounding alone parts any two runs, was not reached"
    seeds = "" if len(pair["horizon_steps"]) == 1 else f" in {len(reached)} of {len(pair['horizon_steps'])} seeds"
    return f"the horizon, from which rounding alone parts any two runs, is step {min(reached):,}{seeds}"


def _numbers(pair: Mapping[str, Any]) -> str:
    """Return whether the numbers in the table are equal, and if not, why, where that was shown."""
    apart = pair["largest_differences"]
    if pair["printed_equal"]:
        return "Their accuracies are equal to the last digit printed."
    told = " and ".join(f"{100 * apart[name]:.2g} points of {word}" for name, word in ACCURACIES.items() if apart[name])
    if pair["verdict"] == "pass" and pair["parted_by_rounding"]:
        return f"Their accuracies differ, by {told} accuracy: rounding has parted two chaotic runs."
    unknown = "" if pair["verdict"] == "fail" else "; the steps compared do not say why"
    return f"Their accuracies differ, by {told} accuracy{unknown}."
