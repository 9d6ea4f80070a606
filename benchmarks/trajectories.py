"""What a fair run's verdict is worth: false alarms, tails, horizons, planted faults, the smallest one caught, and cost.

    python benchmarks/trajectories.py --data-dir DIR [--part clean|faults|smallest|cost] [--scale 1.0] [--network NAME]

Prints tables in Markdown, one row a network, and for ``clean`` writes a line a run to ``--log``, so that a run that was
made is not made again. DIR holds MNIST/raw; without it the bundled digits are used, and said to be.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.agreement import Verdict
from gradcheck.contract import Array
from nets.datasets.catalogue import load_dataset
from nets.presets import PRESETS, Preset, convolutional
from nets.training import prepare, train_fair

DTYPES = ("float64", "float32")
SEEDS = range(5)
PROCESSES = 2
TRAIN_SIZE = 10_000

# The tail that is kept of a run: its largest ratios, enough for the share of 99.999 % over all runs of a network.
KEPT = 1000
HISTOGRAM = np.concatenate([[0.0], np.logspace(-4, 4, 801), [math.inf]])


@dataclass(frozen=True)
class Network:
    """A network of the table, its batches, and how many steps its runs take at each."""

    preset: Preset
    batches: tuple[int, int]
    steps: tuple[int, int]


def _networks() -> dict[str, Network]:
    mlp = PRESETS["mlp"]
    cnn = replace(PRESETS["cnn"], network=convolutional(4, 8, 32), architecture="conv 4 - pool - conv 8 - pool - 32-10")
    return {
        "784-128-10 sigmoid MSE": Network(PRESETS["sigmoid-mse"].with_lr(0.05), (1, 32), (12_000, 4_000)),
        "784-30-10 sigmoid lr 3": Network(PRESETS["nielsen"], (1, 10), (20_000, 20_000)),
        "784-128-64-10 ReLU lr .01": Network(mlp, (1, 32), (6_000, 3_000)),
        "784-128-64-10 ReLU lr .1": Network(mlp.with_lr(0.1), (1, 32), (6_000, 3_000)),
        "784-10-10 ReLU Adam": Network(PRESETS["nnmnist"], (1, 10), (20_000, 20_000)),
        "conv-pool-conv-pool-FC Adam": Network(cnn, (1, 10), (2_000, 2_000)),
        "conv BatchNorm Dropout": Network(PRESETS["regularised"], (1, 16), (2_500, 2_500)),
    }


NETWORKS = _networks()


@dataclass(frozen=True)
class Cell:
    """One fair run to make."""

    data_dir: Path | None
    network: str
    batch_size: int
    dtype: str
    seed: int
    steps: int

    def key(self) -> str:
        """Return what tells this run from the others."""
        return f"{self.network}, batch {self.batch_size}, {self.dtype}, seed {self.seed}, {self.steps} steps"

    def run(self) -> dict[str, Any]:
        """Make the run and return what is kept of it."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        dataset = load_dataset("auto", self.data_dir)
        preset = NETWORKS[self.network].preset
        size = min(TRAIN_SIZE, len(dataset.train) // 2)
        run = prepare(
            preset,
            dataset,
            train_size=size,
            batch_size=self.batch_size,
            seed=self.seed,
            dtype=self.dtype,
            steps=self.steps,
        )
        began = time.perf_counter()
        report = train_fair(run).report
        seconds = time.perf_counter() - began
        if report is None:
            raise RuntimeError("a fair run has a report")
        lock, free = report.lock_step, report.free_run
        return {
            "key": self.key(),
            "verdict": str(report.verdict),
            "steps": lock.steps_compared,
            "comparisons": int(lock.ratios.size),
            "informative": lock.informative,
            "uninformative": list(lock.uninformative),
            "histogram": np.histogram(lock.ratios, HISTOGRAM)[0].tolist(),
            "top": np.sort(lock.ratios)[-KEPT:].tolist(),
            "retakes": lock.retakes,
            "second_opinions": lock.second_opinions,
            "crossings": len(lock.crossings),
            "first_divergence": str(report.first_divergence) if report.first_divergence else None,
            "free_run": str(free.verdict),
            "free_worst": free.worst.ratio if free.worst else None,
            "horizon": free.horizon_step,
            "kink": bool(free.crossings),
            "distance": free.max_relative_distance,
            "seconds": seconds,
            "torch_seconds": report.reference_seconds,
            "numpy_seconds": report.seconds,
        }


def clean(cells: Sequence[Cell], log: Path) -> Iterator[str]:
    """Yield a row for each network, batch and dtype, over its seeds."""
    known = {}
    if log.exists():
        known = {line["key"]: line for line in map(json.loads, log.read_text().splitlines())}
    missing = [cell for cell in cells if cell.key() not in known]
    with ProcessPoolExecutor(PROCESSES) as pool, log.open("a") as file:
        futures = [pool.submit(cell.run) for cell in missing]
        for future in as_completed(futures):
            line = future.result()
            known[line["key"]] = line
            print(json.dumps(line), file=file, flush=True)
    columns = "network|batch|dtype|runs x steps|comparisons|not passed|cleared|median|99.9 %|99.999 %|largest"
    yield f"| {' | '.join([*columns.split('|'), 'informative', 'horizon reached'])} |"
    yield f"|{'---|' * 13}"
    everything = []
    for (network, batch, dtype), group in itertools.groupby(cells, lambda c: (c.network, c.batch_size, c.dtype)):
        lines = [known[cell.key()] for cell in group]
        everything += lines
        yield f"| {network} | {batch} | {dtype} | {_row(lines)} |"
    yield f"| all | | | {_row(everything)} |"


def _row(lines: list[dict[str, Any]]) -> str:
    steps = sum(line["steps"] for line in lines)
    count = sum(line["comparisons"] for line in lines)
    bad = sum(line["verdict"] != Verdict.PASS for line in lines)
    cleared = sum(line["retakes"] + line["second_opinions"] for line in lines)
    horizons = sorted(line["horizon"] for line in lines if line["horizon"] is not None)
    reached = f"{len(horizons)} of {len(lines)}"
    where = f"{reached}: {horizons[0]:,} to {horizons[-1]:,}" if horizons else reached
    ratios = " | ".join(f"{_quantile(lines, share):.3f}" for share in (0.5, 0.999, 0.99999, 1.0))
    informative = sum(line["informative"] for line in lines) / count
    runs = f"{len(lines)} x {steps // len(lines):,}"
    return f"{runs} | {count:,} | {bad} | {cleared:,} | {ratios} | {informative:.1%} | {where}"


def _quantile(lines: list[dict[str, Any]], share: float) -> float:
    """Return a ratio at a share: of the ratios kept if it is among them, else by the histogram, to 1 % or so."""
    count = sum(line["comparisons"] for line in lines)
    above = round((1 - share) * count)
    top = np.sort(np.concatenate([line["top"] for line in lines]))[::-1]
    if above < KEPT:
        return float(top[above])
    histogram: Array = np.sum([line["histogram"] for line in lines], axis=0)
    return float(HISTOGRAM[int(np.searchsorted(np.cumsum(histogram), share * count)) + 1])


def _cells(data_dir: Path | None, scale: float, only: str | None) -> list[Cell]:
    return [
        Cell(data_dir, name, batch, dtype, seed, max(2000, round(scale * steps)))
        for name, network in NETWORKS.items()
        if only is None or only in name
        for batch, steps in zip(network.batches, network.steps, strict=True)
        for dtype in DTYPES
        for seed in SEEDS
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(directory) if directory else None)
    parser.add_argument("--part", choices=["clean"], default="clean")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps, which stay 2,000 at least")
    parser.add_argument("--network", help="only those whose name contains this")
    parser.add_argument("--log", type=Path, default=Path("trajectories.jsonl"))
    options = parser.parse_args()
    print(f"dataset: {load_dataset('auto', options.data_dir).name}\n", flush=True)
    for row in clean(_cells(options.data_dir, options.scale, options.network), options.log):
        print(row, flush=True)


if __name__ == "__main__":
    main()
