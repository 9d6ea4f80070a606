"""What a comparison has come to, as one JSON document: all that is shown of it is made of this."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cli.comparison_runs import ComparisonRuns, Pair
    from nets.comparison import Variant

    Found = Mapping[str, Sequence[dict[str, Any]]]  # what came of each seed, by the variant's name

# The numbers of a variant; accuracies are fractions.
NUMBERS = ("test_accuracy", "train_accuracy", "generalisation_gap", "seconds")


def document_of(
    runs: ComparisonRuns, seeds: Sequence[int], found: Found, proofs: Mapping[Pair, Sequence[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the document of what variants came to and of what was proved of pairs, each from every seed."""
    from cli.console import environment
    from gradcheck.agreement import worst
    from nets.intervals import CONFIDENCE

    pairs = [
        {**_pair(pair, found, proofs.get(pair, ())), "of_steps": runs.runs[pair[0].preset].steps} for pair in runs.pairs
    ]
    verdicts = [pair["verdict"] for pair in pairs if pair["verdict"] is not None]
    if any(one["stopped_by"] for each in found.values() for one in each):
        verdicts.append("inconclusive")
    return {
        "command": "compare",
        "verdict": worst(verdicts),
        "preset": runs.variants[0].preset,
        "dataset": {"name": runs.data.name, "sha256": runs.data.sha256},
        "dtype": runs.options["dtype"],
        "seeds": list(seeds),
        "confidence": CONFIDENCE,
        "variants": [_variant(runs, one, found) for one in runs.variants],
        "pairs": pairs,
        "environment": environment() | {"blas_threads": 1},
    }


def _variant(runs: ComparisonRuns, variant: Variant, found: Found) -> dict[str, Any]:
    from nets.comparison import weight_scale
    from nets.intervals import interval, paired_difference

    run, each, first = runs.runs[variant.preset], found[variant.name], found[runs.variants[0].name]
    tests = [[one["test_accuracy"] for one in several] for several in (each, first)]
    return {
        **asdict(variant),
        "network": run.preset.describe(),
        "loss": type(run.preset.told_loss()).__name__,
        "train_size": len(run.train),
        "validation_size": len(run.validation),
        "test_size": len(run.test),
        "epochs": -(-run.steps // run.steps_per_epoch),
        "steps": run.steps,
        "updates_per_epoch": run.steps_per_epoch,
        "batch_size": run.preset.batch_size,
        "weight_scale": weight_scale(run.preset.weights) if variant.start is None else None,
        **{name: asdict(interval([_number(one, name) for one in each])) for name in NUMBERS},
        "difference_to_first": asdict(paired_difference(*tests)) if each is not first and len(each) > 1 else None,
        "runs": list(each),
    }


def _number(one: Mapping[str, Any], name: str) -> float:
    value: float = one["train_accuracy"] - one["test_accuracy"] if name == "generalisation_gap" else one[name]
    return value


def _pair(pair: Pair, found: Found, proofs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from gradcheck.agreement import worst

    ours, theirs = (found[one.name] for one in pair)
    differences = {
        name: max(abs(mine[name] - yours[name]) for mine, yours in zip(ours, theirs, strict=True))
        for name in ("test_accuracy", "train_accuracy")
    }
    printed = [[[f"{one[name]:.2%}" for name in differences] for one in each] for each in (ours, theirs)]
    unequal = [i for i, (mine, yours) in enumerate(zip(*printed, strict=True)) if mine != yours]
    horizons = [proof["free_run"]["horizon_step"] for proof in proofs]
    caught = [proof["smallest_detectable_fault"] for proof in proofs]
    return {
        "variants": [one.name for one in pair],
        "verdict": worst(proof["verdict"] for proof in proofs),
        "steps": proofs[0]["steps"] if proofs else 0,
        "smallest_detectable_fault": max(caught) if caught and None not in caught else None,
        "horizon_steps": horizons,
        "largest_differences": differences,
        "printed_equal": not unequal,
        "parted_by_rounding": bool(proofs) and all(horizons[i] is not None for i in unequal),
        "runs": list(proofs),
    }
