"""What is said below a comparison's table: what was published, what is doubtful, and what was proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCURACIES = {"test_accuracy": "test", "train_accuracy": "training"}


def published(document: Mapping[str, Any]) -> list[str]:
    """Return what was published of each preset; of all but the first, what was not published of that as well."""
    first, *_ = names = [one["preset"] for one in document["variants"]]
    told = {
        name: {
            side: text
            for side, text in document["reported"].get(name, {}).items()
            if name == first or text != document["reported"].get(first, {}).get(side)
        }
        for name in dict.fromkeys(names)
    }
    lines = {name: "; ".join(f"{SIDES[side]} {text}" for side, text in sides.items()) for name, sides in told.items()}
    lines = {name: line for name, line in lines.items() if line}
    return [
        f"published: {line}" if list(lines) == [first] else f"published, {name}: {line}" for name, line in lines.items()
    ]


def warnings(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is doubtful, each once, with the variants and seeds that it is said of."""
    from gradcheck.report.runs import describe_stop

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


def pair_sentence(pair: Mapping[str, Any]) -> str:
    """Return the verdict on two variants, what it would have caught, and whether their numbers are equal or why not."""
    from gradcheck.report.runs import describe_verdict, summarise_trajectory

    names, verdict, proved = pair["variants"], pair["verdict"], pair["proved"]
    if proved in ("fail", "inconclusive"):
        worst = next(proof for proof in pair["runs"] if proof["verdict"] == proved)
        told = summarise_trajectory(worst, SIDES)
        seed = f" (seed {worst['seed']})" if len(pair["runs"]) > 1 else ""
        return f"{' and '.join(names)}{seed}: {told} {_numbers(pair)}"
    told = "" if verdict is None else f"{verdict.upper()}: "
    if proved is None:
        return f"{told}{' and '.join(names)} should be equal; their steps were not compared. {_numbers(pair)}"
    told += f"{describe_verdict(proved, *names)} in {_steps(pair)}, which agree within rounding noise"
    return f"{told}; {_caught(pair)}; {_horizon(pair)}. {_numbers(pair)}"


def _steps(pair: Mapping[str, Any]) -> str:
    count, seeds = len(pair["runs"]), pair["seeds"]
    of_seeds = (
        "" if seeds == 1 else f" from each of {count} seeds" if count == seeds else f" from {count} of {seeds} seeds"
    )
    if pair["steps"] == pair["of_steps"]:
        return f"all {pair['of_steps']:,} steps{of_seeds}"
    return f"the first {pair['steps']:,} of {pair['of_steps']:,} steps{of_seeds}"


def _caught(pair: Mapping[str, Any]) -> str:
    smallest = pair["smallest_detectable_fault"]
    if smallest is not None:
        return f"the smallest fault that this would have caught is a gradient times 1 + {smallest:.1e}"
    if any(proof["sensitivity"] is None for proof in pair["runs"]):
        return "no faults were planted, for which its steps take too long"
    return "no gradient's fault would have been caught"


def _horizon(pair: Mapping[str, Any]) -> str:
    reached = [step for step in pair["horizon_steps"] if step is not None]
    if not reached:
        return "the horizon, from which rounding alone parts any two runs, was not reached"
    seeds = "" if len(pair["horizon_steps"]) == 1 else f" in {len(reached)} of {len(pair['horizon_steps'])} seeds"
    return f"the horizon, from which rounding alone parts any two runs, is step {min(reached):,}{seeds}"


def _numbers(pair: Mapping[str, Any]) -> str:
    """Return whether the numbers in the table are equal, and of where they differ most, whether rounding can be why."""
    if pair["printed_equal"]:
        return "Their accuracies are equal to the last digit printed."
    doubtful = [one for one in pair["differences"] if one["explained"] is False]
    one = max(doubtful or pair["differences"], key=lambda one: max(one["apart"].values()))
    seed = f", from seed {one['seed']}," if pair["seeds"] > 1 else ","
    told = f"Their accuracies differ{seed} by {_points(one['apart'])}"
    if one["explained"] is None:
        return f"{told}."
    if one["rounding"] is None:
        return f"{told}, and every step agrees: rounding has parted them."
    extent = f"differ by up to {_points(one['rounding'])}" if any(one["rounding"].values()) else "do not differ"
    nudged = f"runs of NumPy alone that start one rounding apart {extent}"
    if one["explained"]:
        return f"{told}; rounding can do that: {nudged}."
    more = "compares their steps" if pair["proved"] is None else "compares more steps"
    return f"{told}; rounding does not explain that: {nudged}. --fair-steps N {more}, to find where they part."


def _points(apart: Mapping[str, float]) -> str:
    told = " and ".join(f"{100 * apart[name]:.2g} points of {word}" for name, word in ACCURACIES.items())
    return f"{told} accuracy"
