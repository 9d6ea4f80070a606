"""What a fair run's verdicts are worth: false alarms, the tail of the ratios, the smallest fault caught, chaos.

    python benchmarks/fair_run.py --data-dir DIR [--seeds 10] [--steps 3000] [--part clean|smallest|chaos]

Prints tables in Markdown. DIR holds MNIST/raw; without it the bundled digits are used, and said to be.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradcheck.faults import GradientScale
from gradcheck.trajectory.check import TrajectoryReport
from nets.datasets.catalogue import load_dataset
from nets.presets import PRESETS
from nets.training import prepare, train_fair

DTYPES = ("float64", "float32")
PROCESSES = 2


@dataclass(frozen=True)
class Cell:
    """One fair run to make."""

    data_dir: Path | None
    preset: str
    seed: int
    dtype: str
    steps: int
    fault: GradientScale | None = None

    def run(self) -> TrajectoryReport:
        """Make the run and return its proof."""
        dataset = load_dataset("auto", self.data_dir)
        run = prepare(PRESETS[self.preset], dataset, seed=self.seed, dtype=self.dtype, steps=self.steps)
        report = train_fair(run, fault=self.fault).report
        if report is None:
            raise RuntimeError("a fair run has a report")
        return report


def clean(data_dir: Path | None, preset: str, seeds: int, steps: int) -> Iterator[str]:
    """Yield a row for each seed and dtype, and one for all comparisons of a dtype."""
    yield "| preset | dtype | seed | verdict | free-run | horizon | distance | cleared | median | 99.9 % | largest |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for dtype in DTYPES:
        cells = [Cell(data_dir, preset, seed, dtype, steps) for seed in range(seeds)]
        everything = []
        for cell, report in zip(cells, _run(cells), strict=True):
            lock, free = report.lock_step, report.free_run
            everything.append(lock.ratios)
            horizon = "not reached" if free.horizon_step is None else f"{free.horizon_step:,}"
            cleared = lock.retakes + lock.second_opinions
            yield (
                f"| {preset} | {dtype} | {cell.seed} | {report.verdict} | {free.verdict} | {horizon}"
                f" | {free.max_relative_distance:.1e} | {cleared} | {_tail(lock.ratios)} |"
            )
        ratios = np.concatenate(everything)
        yield f"| {preset} | {dtype} | all: {ratios.size:,} comparisons | | | | | | {_tail(ratios)} |"


def smallest(data_dir: Path | None, steps: int) -> Iterator[str]:
    """Yield, for each parameter and dtype, the share of steps on which gradients scaled by 1 + fault are caught."""
    tensors = ("0.weight", "0.bias", "2.weight", "2.bias")
    sizes = {
        "float64": [a * 10.0**-k for k in (15, 14, 13, 12) for a in (1, 2, 5)],
        "float32": [a * 10.0**-k for k in (7, 6, 5, 4) for a in (1, 2, 5)],
    }
    yield "| dtype | tensor | share of steps on which a relative fault is caught |"
    yield "|---|---|---|"
    for dtype, tensor in itertools.product(DTYPES, tensors):
        cells = [Cell(data_dir, "fair", 0, dtype, steps, GradientScale(tensor, 1 + size)) for size in sizes[dtype]]
        shares = [len(report.lock_step.failed_steps) / report.lock_step.steps_compared for report in _run(cells)]
        caught = [f"{size:.0e}: {share:.1%}" for size, share in zip(sizes[dtype], shares, strict=True) if share]
        yield f"| {dtype} | {tensor} | {', '.join(caught)} |"


def _tail(ratios: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return " | ".join(f"{value:.3f}" for value in np.quantile(ratios, [0.5, 0.999, 1.0]))


def _run(cells: list[Cell]) -> Iterator[TrajectoryReport]:
    with ProcessPoolExecutor(PROCESSES) as pool:
        yield from pool.map(Cell.run, cells)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(directory) if directory else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--part", choices=["clean", "smallest", "chaos"])
    options = parser.parse_args()
    print(f"dataset: {load_dataset('auto', options.data_dir).name}, {options.steps:,} steps a run\n", flush=True)
    parts = {
        "clean": clean(options.data_dir, "fair", options.seeds, options.steps),
        "smallest": smallest(options.data_dir, min(300, options.steps)),
        "chaos": clean(options.data_dir, "nielsen", min(3, options.seeds), options.steps),
    }
    for name, rows in parts.items():
        if options.part in (None, name):
            print(f"{name}\n", flush=True)
            for row in rows:
                print(row, flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()
