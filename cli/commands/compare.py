"""``mnistcheck compare``: the variants of an experiment as one table, and whether those that should be equal are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.comparison.log import LOG
from cli.comparison.runs import ComparisonRuns
from cli.exit_codes import ExitCode
from cli.experiment import LAST_SEED, SIZES, known_preset, run_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@click.command()
@run_options
@click.option("--test-size", type=click.IntRange(min=1), help="Test images.  [default: all]")
@click.option(
    "--seeds",
    type=click.IntRange(min=2),
    help="Train from so many seeds, --seed and the next: means, and their 95 % confidence intervals.",
)
@click.option(
    "--fair-steps",
    type=click.IntRange(min=0),
    help="Steps of which it is proved that what should be equal is; 0 for none.  [default: 1,000; of large batches"
    " fewer]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the runs here, and go on with what is kept here.")
@click.option("--json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def compare(
    seeds: int | None, fair_steps: int | None, out: Path | None, json: bool, markdown: bool, **chosen: object
) -> int:
    """Train every variant of an experiment, and show them as one table.

    For sigmoid-mse and sigmoid-bce these are the five published models; for any other preset, NumPy and PyTorch of the
    preset and of each of its variants (see mnistcheck presets NAME). NAME:VARIANT is one variant alone.

    Rows that are the same program in NumPy and PyTorch should be equal. This is proved for the first --fair-steps
    steps, as train --fair does. Where the numbers differ all the same, NumPy is trained again from nudged weights, to
    see whether rounding can explain it.

    With --out, every run that has ended is kept, and the same command goes on from there, also with more --seeds: what
    is shown is all that is kept.
    """
    from cli.comparison.tables import markdown_of, print_comparison
    from cli.console import print_json, results, say

    if json and markdown:
        raise click.UsageError("--json and --markdown are two forms of one result; drop one")
    _require_common(chosen)
    asked = _seeds(chosen, seeds or 1)
    try:
        document = _run_all(ComparisonRuns(chosen, fair_steps, out), asked)
    except KeyboardInterrupt:
        told = "nothing is kept; with --out DIR what has ended would be, and the same command would go on from there"
        if out is not None:
            told = f"what has ended is kept in {out / LOG}: the same command goes on from there"
        _tell(told)
        raise
    try:
        if out is not None:
            _write(out, document)
    finally:
        if json:
            print_json(document)
        elif markdown:
            click.echo(markdown_of(document))
        else:
            print_comparison(results(), document)
    if out is not None and not (json or markdown):
        say(results(), f"written to {out}")
    return ExitCode.PASS if document["verdict"] is None else ExitCode.of(document["verdict"])


def _require_common(options: Mapping[str, Any]) -> None:
    """Raise a usage error for an option that would undo what the variants differ in."""
    from nets.comparison import differing, variants_of

    variants = variants_of(known_preset(options["preset"]).name)
    presets = [known_preset(name) for name in dict.fromkeys(one.preset for one in variants)]
    for field, values in differing(presets).items():
        if options.get(field) is not None and field not in SIZES:
            told = " and ".join(map(str, values))
            raise click.UsageError(
                f"--{field.replace('_', '-')}: the variants of {presets[0].name} differ in it, {told};"
                f" drop it, or compare one of them: --preset {presets[-1].name}"
            )


def _seeds(options: Mapping[str, Any], count: int) -> range:
    first: int = options["seed"]
    if first + count - 1 > LAST_SEED:
        raise click.UsageError(f"--seeds: {count} seeds from {first} on go past the last, {LAST_SEED}; lower --seed")
    return range(first, first + count)


def _run_all(runs: ComparisonRuns, asked: Iterable[int]) -> dict[str, Any]:
    """Return what ``--json`` prints, once everything that is missing has been run; a line is told of each run."""
    from cli.comparison.document import Findings, document_of
    from gradcheck.numerics.rounding import SHADOWS

    found = Findings(runs, sorted({*asked, *runs.kept_seeds()}))
    for seed in found.seeds:
        for variant in runs.variants:
            one, known = runs.trained(variant, seed)
            found.trained[variant.name, seed] = one
            _tell(f"{variant.name}, seed {seed}: {_accuracies(one)}, {one['seconds']:.1f} s", known=known)
        for pair in runs.pairs:
            proof, known = runs.proved(pair, seed)
            if proof is not None:
                found.proofs[pair, seed] = proof
                names = " and ".join(variant.name for variant in pair)
                _tell(f"{names}, seed {seed}: {proof['verdict']}, {proof['steps']:,} steps", known=known)
            for index in range(SHADOWS) if found.are_in_question(pair, seed) else ():
                one, known = runs.shadowed(pair[0], seed, index)
                found.shadows.setdefault((pair, seed), []).append(one)
                _tell(f"{pair[0].name}, nudged, seed {seed}: {_accuracies(one)}", known=known)
    return document_of(found)


def _accuracies(one: Mapping[str, Any]) -> str:
    return f"test {one['test_accuracy']:.2%}, training {one['train_accuracy']:.2%}"


def _tell(text: str, *, known: bool = False) -> None:
    from cli.console import remark

    remark(f"{text} (kept)" if known else text, "dim")


def _write(folder: Path, document: dict[str, Any]) -> None:
    """Write what is shown of a comparison beside its runs, in place of what was shown before."""
    from cli.comparison.tables import markdown_of
    from cli.figures import convergence, sketches
    from gradcheck.files import write_whole
    from gradcheck.report.json import SCHEMA_VERSION, dump_json

    text = dump_json({"schema_version": SCHEMA_VERSION, **document})
    write_whole(folder / "comparison.json", f"{text}\n".encode())
    write_whole(folder / "comparison.md", f"{markdown_of(document)}\n".encode())
    says = "Accuracy and loss of each variant over the epochs."
    sketches.written(folder, [sketches.Sketch("convergence", says, lambda _: convergence.draw(document))])
