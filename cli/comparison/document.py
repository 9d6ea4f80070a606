"""What a comparison has come to, as one JSON document: all that is shown of it is made of this."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cli.comparison.runs import ComparisonRuns, Pair
    from nets.comparison import Variant

# The numbers of a variant; accuracies are fractions.
NUMBERS = ("test_accuracy", "train_accuracy", "generalisation_gap", "seconds")


@dataclass
class Findings:
    """What came of each seed: of every variant, by its name, and of pairs, whatever was proved and nudged."""

    runs: ComparisonRuns
    seeds: Sequence[int]
    trained: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    proofs: dict[tuple[Pair, int], dict[str, Any]] = field(default_factory=dict)
    shadows: dict[tuple[Pair, int], list[dict[str, Any]]] = field(default_factory=dict)

    def of(self, variant: Variant) -> list[dict[str, Any]]:
        """Return what a variant came to from each seed."""
        return [self.trained[variant.name, seed] for seed in self.seeds]

    def differ(self, pair: Pair, seed: int) -> bool:
        """Return whether two that should be equal are told with different accuracies."""
        mine, yours = (self.trained[one.name, seed] for one in pair)
        return any(f"{mine[name]:.2%}" != f"{yours[name]:.2%}" for name in ("test_accuracy", "train_accuracy"))

    def is_proved_throughout(self, pair: Pair, seed: int) -> bool:
        """Return whether every step of two runs was compared, and agrees."""
        proof = self.proofs.get((pair, seed))
        return proof is not None and proof["verdict"] == "pass" and proof["steps"] == self.steps(pair)

    def are_in_question(self, pair: Pair, seed: int) -> bool:
        """Return whether two runs differ though nothing is known to be wrong: rounding may be why, or may not."""
        ended = all(self.trained[one.name, seed]["stopped_by"] is None for one in pair)
        proof = self.proofs.get((pair, seed))
        suspect = proof is not None and proof["verdict"] != "pass"
        return self.differ(pair, seed) and ended and not suspect and not self.is_proved_throughout(pair, seed)

    def steps(self, pair: Pair) -> int:
        """Return how many steps the two take."""
        return self.runs.runs[pair[0].preset].steps


def document_of(found: Findings) -> dict[str, Any]:
    """Return the document of a comparison."""
    from cli.console import environment
    from gradcheck.numerics.agreement import worst
    from nets.comparison import decided_by_seed
    from nets.intervals import CONFIDENCE

    runs = found.runs
    pairs = [_pair(pair, found) for pair in runs.pairs]
    verdicts = [pair["verdict"] for pair in pairs if pair["verdict"] is not None]
    if any(one["stopped_by"] for one in found.trained.values()):
        verdicts.append("inconclusive")
    return {
        "command": "compare",
        "verdict": worst(verdicts),
        "preset": runs.variants[0].preset,
        "dataset": {"name": runs.data.name, "sha256": runs.data.sha256},
        "dtype": runs.options["dtype"],
        "seeds": list(found.seeds),
        "decided_by_seed": list(dict.fromkeys(part for run in runs.runs.values() for part in decided_by_seed(run))),
        "confidence": CONFIDENCE,
        "reported": {name: preset.reported for name, preset in runs.presets.items() if preset.reported},
        "variants": [_variant(found, one) for one in runs.variants],
        "pairs": pairs,
        "environment": environment() | {"blas_threads": 1},
    }


def _variant(found: Findings, variant: Variant) -> dict[str, Any]:
    from nets.comparison import weight_scale
    from nets.intervals import interval, paired_difference

    run, each, first = found.runs.runs[variant.preset], found.of(variant), found.of(found.runs.variants[0])
    tests = [[one["test_accuracy"] for one in several] for several in (each, first)]
    is_first = variant == found.runs.variants[0]
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
        "difference_to_first": asdict(paired_difference(*tests)) if not is_first and len(each) > 1 else None,
        "runs": each,
    }


def _number(one: Mapping[str, Any], name: str) -> float:
    value: float = one["train_accuracy"] - one["test_accuracy"] if name == "generalisation_gap" else one[name]
    return value


def _pair(pair: Pair, found: Findings) -> dict[str, Any]:
    from gradcheck.numerics.agreement import worst
    from nets.shadows import apart

    proofs = [found.proofs[pair, seed] for seed in found.seeds if (pair, seed) in found.proofs]
    every = [apart(mine, yours) for mine, yours in zip(*map(found.of, pair), strict=True)]
    differences = [_difference(pair, seed, found) for seed in found.seeds if found.differ(pair, seed)]
    caught = [proof["smallest_detectable_fault"] for proof in proofs]
    proved = worst([proof["verdict"] for proof in proofs])
    unexplained = ["inconclusive" for one in differences if one["explained"] is False]
    return {
        "variants": [one.name for one in pair],
        "verdict": worst([*unexplained, *([] if proved is None else [proved])]),
        "proved": proved,
        "seeds": len(found.seeds),
        "steps": min((proof["steps"] for proof in proofs), default=0),
        "of_steps": found.steps(pair),
        "smallest_detectable_fault": max(caught) if caught and None not in caught else None,
        "horizon_steps": [proof["free_run"]["horizon_step"] for proof in proofs],
        "largest_differences": {name: max(one[name] for one in every) for name in every[0]},
        "printed_equal": not differences,
        "differences": differences,
        "runs": proofs,
    }


def _difference(pair: Pair, seed: int, found: Findings) -> dict[str, Any]:
    """Return by how much two runs differ, and whether rounding explains it; None where something else may."""
    from nets.shadows import apart, may_be_rounding, spread

    mine, yours = (found.trained[one.name, seed] for one in pair)
    shadows, run = found.shadows.get((pair, seed), []), found.runs.runs[pair[0].preset]
    rounding = spread([mine, *shadows]) if shadows else None
    explained = True if found.is_proved_throughout(pair, seed) else None
    if rounding is not None:
        images = {"test_accuracy": len(run.test), "train_accuracy": len(run.train)}
        explained = may_be_rounding(apart(mine, yours), rounding, images)
    return {
        "seed": seed, "apart": apart(mine, yours), "rounding": rounding, "explained": explained, "shadows": shadows
    }  # fmt: skip
