"""Whether the smallest fault that a run says it catches is caught: in that run, from another seed, by other kernels.

    python benchmarks/smallest_fault.py [--data-dir DIR] [--keep sizes.json] [--seeds 2] [--preset NAME ...]

Runs of every preset in both precisions say which size of which gradient they catch (but for nnmnist:scratch, whose
batch is all of the training images). That size, and a hundredth of it, are planted and counted. `--keep` writes the
sizes to a file, or takes them from one that is there:

    python -m tests.kernels -- python benchmarks/smallest_fault.py --keep sizes.json

so plants under every kernel what was found under the first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from gradcheck.trajectory.faults import GradientScale
from nets.datasets.catalogue import load_dataset
from nets.presets import PRESETS
from nets.run import Run, prepare
from nets.training import train_fair

STEPS, STEPS_OF_VARIANTS = 30, 6  # variants, and what convolves, take large batches or are slow
PROCESSES = 2
HUNDREDTH = 0.01


class Cell(NamedTuple):
    """One run."""

    preset: str
    dtype: str
    seed: int
    data_dir: Path | None

    @property
    def name(self) -> str:
        """Return what the file of sizes calls it."""
        return f"{self.preset} {self.dtype} {self.seed}"

    def run(self, other: bool = False) -> Run:
        """Return the run, or one of another seed: other weights, another order, other shadows."""
        slow = ":" in self.preset or self.preset in ("cnn", "mlp-wide")
        return prepare(
            PRESETS[self.preset],
            load_dataset("auto", self.data_dir),
            train_size=300,
            test_size=40,
            steps=STEPS_OF_VARIANTS if slow else STEPS,
            dtype=self.dtype,
            seed=self.seed + 1000 * other,
        )


Found = dict[str, Any]  # tensor, size and step, of the smallest and of the largest of a run's sizes


def found_in(cell: Cell) -> list[Found] | None:
    """Return what a run says that it catches, None where it does not pass."""
    report = train_fair(cell.run()).report
    if not report or report.sensitivity is None:
        return None
    ones = sorted((one for one in report.sensitivity.by_tensor.values() if one), key=lambda one: one.size)
    return [{"tensor": one.tensor, "size": one.size, "step": one.step} for one in ones[:: max(1, len(ones) - 1)]]


def fails(run: Run, tensor: str, size: float, begin: int = 0) -> bool:
    """Return whether lock-step fails with a gradient off by a size."""
    report = train_fair(run, fault=GradientScale(tensor, 1 + size, begin=begin), sensitivity=False).report
    if report is None:
        raise ValueError("a fair run has a report")
    return bool(report.lock_step.failed_steps)


def planted(cell: Cell, found: list[Found]) -> list[dict[str, bool]]:
    """Return, for each size, in which runs it is caught."""
    return [
        {
            "this run": fails(cell.run(), one["tensor"], one["size"], one["step"]),
            "another seed": fails(cell.run(other=True), one["tensor"], one["size"]),
            "this run, a hundredth": fails(cell.run(), one["tensor"], HUNDREDTH * one["size"]),
            "another seed, a hundredth": fails(cell.run(other=True), one["tensor"], HUNDREDTH * one["size"]),
        }
        for one in found
    ]


def measured(cell: Cell, known: list[Found] | None) -> tuple[list[Found] | None, list[dict[str, bool]]]:
    """Return the sizes of a cell, those known or those of the run, and in which runs they are caught."""
    found = known or found_in(cell)
    return found, planted(cell, found) if found else []


def main() -> int:
    """Print a row a run, and the sums; end in 1 if a run does not pass or misses the size that it has found itself."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(directory) if directory else None)
    parser.add_argument("--keep", type=Path, help="a file of sizes, read if it is there, else written")
    parser.add_argument("--seeds", type=int, default=2, help="of each preset that is not slow")
    parser.add_argument("--preset", action="append", help="only these")
    options = parser.parse_args()
    cells = [
        Cell(name, dtype, seed, options.data_dir)
        for name in options.preset or PRESETS
        if name != "nnmnist:scratch"
        for dtype in ("float64", "float32")
        for seed in range(1 if ":" in name or name in ("cnn", "mlp-wide") else options.seeds)
    ]
    kept: dict[str, list[Found]] = {}
    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    totals: Counter[str] = Counter()
    print("| preset | dtype | seed | gradient | times 1 + | in step | caught in |\n|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(PROCESSES) as pool:
        rows = pool.map(measured, cells, [known.get(cell.name) for cell in cells])
        for cell, (found, caught) in zip(cells, rows, strict=True):
            head = f"| {cell.preset} | {cell.dtype} | {cell.seed}"
            if found is None:
                totals["not passed"] += 1
                print(f"{head} | | | | this run does not pass |", flush=True)
                continue
            kept[cell.name] = found
            for one, runs in zip(found, caught, strict=True):
                where = [name for name, is_caught in runs.items() if is_caught]
                totals.update(["sizes", *where])
                print(
                    f"{head} | {one['tensor']} | {one['size']:.1e} | {one['step']} | {', '.join(where)} |", flush=True
                )
    if options.keep and not known:
        options.keep.write_text(json.dumps(kept))
    names = ("this run", "another seed", "this run, a hundredth", "another seed, a hundredth", "not passed")
    print(f"\n{totals['sizes']} sizes of {len(kept)} runs; caught in {', '.join(f'{n}: {totals[n]}' for n in names)}")
    missed = totals["this run"] < totals["sizes"] and not known  # what other kernels have found is no promise of these
    return int(missed or totals["not passed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
