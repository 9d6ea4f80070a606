"""The runs that a comparison is made of: each is made once, however often the comparison is stopped."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.comparison.log import LIBRARIES, opened
from cli.experiment import chosen_dataset, chosen_preset, remark_on_size, run_of, steps_of, usage_errors
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck.contract import Array
    from nets.comparison import Variant
    from nets.run import Run
    from nets.training import Training

WEIGHTS = "weights"

# What is proved of a pair unless told otherwise: seconds, beside the minutes that training may take. Of batches of
# thousands of images fewer steps are as telling.
FAIR_STEPS, FAIR_IMAGES, LEAST_STEPS = 1000, 200_000, 10

# Into batches of more images no faults are planted: that takes some hundred steps, which would take an hour.
MOST_PLANTED = 5000

Pair = tuple["Variant", "Variant"]


class ComparisonRuns:
    """Trains variants and proves pairs, or finds what a folder says of them; without a folder nothing is kept.

    Raises a usage error for options that cannot be, and for a folder with something else in it; `DataError` where its
    log is damaged.
    """

    def __init__(self, options: Mapping[str, Any], fair_steps: int | None, folder: Path | None) -> None:
        from cli.console import environment
        from nets.comparison import pairs_of, variants_of
        from nets.run_log import RunLog

        self.options, self.fair_steps, self.folder = options, fair_steps, folder
        self.variants = variants_of(options["preset"])
        self.pairs = pairs_of(self.variants)
        self.presets = {one.preset: chosen_preset({**options, "preset": one.preset}) for one in self.variants}
        self.data = chosen_dataset(options["dataset"], options["data_dir"])
        versions = environment()["versions"]
        self.versions = {name: versions[name] for name in LIBRARIES}
        self.weights: dict[tuple[str, int], dict[str, Array]] = {}
        self.runs = {name: self._run(name, options["seed"]) for name in self.presets}
        for name, run in self.runs.items():
            remark_on_size(run, self.presets[name])
            if fair_steps != 0:
                _require_rates(run)
        self.log = RunLog() if folder is None else opened(folder, self._keys())

    def kept_seeds(self) -> set[int]:
        """Return the seeds from which every variant is known."""
        seeds = {key["seed"] for key, _ in self.log.items()}
        return {seed for seed in seeds if all(self.log.find(self._key(one, seed)) for one in self.variants)}

    def trained(self, variant: Variant, seed: int) -> tuple[dict[str, Any], bool]:
        """Return what a variant comes to from a seed, and whether that was known before."""
        key = self._key(variant, seed)
        found = self.log.find(key)
        if found is not None and (not self._begins_what_is_missing(variant, seed) or self._has(variant, seed, found)):
            return found, True
        run = self._run(variant.preset, seed)
        if variant.start is not None:
            run = replace(run, start=self.weights[variant.start, seed])
        return self.log.add(key, self._train(variant, run)), False

    def shadowed(self, variant: Variant, seed: int, index: int) -> tuple[dict[str, Any], bool]:
        """Return what a variant comes to from weights that are nudged, and whether that was known before."""
        from gradcheck.numerics.rounding import SHADOWS
        from nets.shadows import shadow

        key = {**self._key(variant, seed), "shadow": index}
        found = self.log.find(key)
        if found is not None:
            return found, True
        nudged = replace(variant, name=f"{variant.name}, nudged ({index + 1} of {SHADOWS})")
        return self.log.add(key, self._train(nudged, shadow(self._run(variant.preset, seed), index))), False

    def proved(self, pair: Pair, seed: int) -> tuple[dict[str, Any] | None, bool]:
        """Return what a fair run of a pair's first steps shows, and whether that was known before.

        What is known of more steps than are asked for stands in for them. None where none are asked for.
        """
        run = self._run(pair[0].preset, seed)
        part = replace(run, steps=self._fair_steps(run))
        key = self._key_of_proof(pair, seed)
        known = self._longest(key)
        if known is not None and known["steps"] >= part.steps:
            return known, True
        if not part.steps:
            return None, True
        return self.log.add(key, _proof(part, f"{' and '.join(one.name for one in pair)} are one program")), False

    def _longest(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the proof of the most steps that there is."""
        alike = [found for kept, found in self.log.items() if {**kept, "steps": key["steps"]} == key]
        return max(alike, key=lambda found: int(found["steps"]), default=None)

    def _train(self, variant: Variant, run: Run) -> dict[str, Any]:
        from cli.console import bar
        from gradcheck.report.json import stop_to_json
        from nets.cautions import doubts
        from nets.training import Training

        with usage_errors():
            training = Training(run, (variant.engine,))
        with bar(run.steps) as update:
            for _ in steps_of(training):
                update(training.step, f"training {variant.name}, seed {run.seed}")
        done = training.finish()
        return {
            "seed": run.seed,
            **asdict(done.outcomes[variant.engine]),
            "steps": done.steps,
            "epochs": [asdict(one) for one in done.epochs[variant.engine]],
            "stopped_by": done.stopped_by and stop_to_json(done.stopped_by),
            "warnings": [doubt.text for doubt in doubts(run, done.outcomes)],
            "weights": self._keep_weights(variant, training) if self._begins_another(variant) else None,
        }

    def _begins_another(self, variant: Variant) -> bool:
        return any(one.start == variant.name for one in self.variants)

    def _keep_weights(self, variant: Variant, training: Training) -> str:
        """Keep trained weights for another variant to start from, and return their checksum."""
        from gradcheck.files import write_whole
        from nets.datasets.dataset import digest
        from nets.training import WEIGHTS as PREFIXES
        from nets.weights import encode

        state = training.sides[variant.engine].engine.state()
        arrays = {key.partition("/")[2]: array for key, array in state.items() if key.startswith(PREFIXES)}
        self.weights[variant.name, training.run.seed] = arrays
        content = encode(arrays)
        if self.folder is not None:
            path = self._path(variant, training.run.seed)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)
        return digest(content)

    def _begins_what_is_missing(self, variant: Variant, seed: int) -> bool:
        others = (one for one in self.variants if one.start == variant.name)
        return any(self.log.find(self._key(one, seed)) is None for one in others)

    def _has(self, variant: Variant, seed: int, found: Mapping[str, Any]) -> bool:
        """Return whether a variant's trained weights are at hand."""
        from nets.datasets.dataset import digest
        from nets.weights import decode

        path = self._path(variant, seed)
        if (variant.name, seed) in self.weights:
            return True
        if not path.is_file() or digest(content := path.read_bytes()) != found["weights"]:
            return False
        self.weights[variant.name, seed] = decode(content)
        return True

    def _path(self, variant: Variant, seed: int) -> Path:
        folder = (self.folder or Path()) / WEIGHTS
        return folder / f"{variant.preset.replace(':', '-')}-{variant.engine}-{seed}.safetensors"

    def _run(self, preset: str, seed: int) -> Run:
        return run_of(self.presets[preset], self.data, {**self.options, "seed": seed})

    def _key(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Return all that decides what a variant comes to."""
        start = next((self._key(one, seed) for one in self.variants if one.name == variant.start), None)
        return {**self._identity(variant.preset, seed), "engine": variant.engine, "start": start}

    def _key_of_proof(self, pair: Pair, seed: int) -> dict[str, Any]:
        identity = self._identity(pair[0].preset, seed)
        return {**identity, "engine": "both", "steps": self._fair_steps(self.runs[pair[0].preset])}

    def _fair_steps(self, run: Run) -> int:
        usual = min(FAIR_STEPS, max(LEAST_STEPS, FAIR_IMAGES // run.preset.batch_size))
        return min(run.steps, usual if self.fair_steps is None else self.fair_steps)

    def _identity(self, preset: str, seed: int) -> dict[str, Any]:
        from nets.checkpoints import identity

        return {"preset": preset, **identity(self.runs[preset]), "seed": seed, **self.versions}

    def _keys(self) -> list[dict[str, Any]]:
        """Return what decides the runs of one seed."""
        seed = self.options["seed"]
        return [
            *(self._key(one, seed) for one in self.variants),
            *(self._key_of_proof(pair, seed) for pair in self.pairs),
        ]


def _require_rates(run: Run) -> None:
    from nets.training import require_fair

    try:
        require_fair(run)
    except ValueError as error:
        raise click.UsageError(f"{error}; with --fair-steps 0 no steps are compared") from None


def _proof(part: Run, claim: str) -> dict[str, Any]:
    """Return what a fair run shows, told as the proof of a claim."""
    from cli.console import bar
    from gradcheck.report.json import trajectory_to_json
    from nets.training import train_fair

    with bar(part.steps) as update:
        report = train_fair(
            part,
            sensitivity=part.preset.batch_size <= MOST_PLANTED,
            progress=lambda now: update(now.step + 1, f"proving that {claim}, seed {part.seed}"),
        ).report
    return {"seed": part.seed, "steps": part.steps, **trajectory_to_json(report, *SIDES)}
