"""What a fair run's verdict is worth: false alarms, tails, horizons, planted faults, and the smallest one caught.

    python benchmarks/trajectories.py --data-dir DIR [--part clean|faults|smallest] [--scale 1.0] [--network NAME]

Prints tables in Markdown. ``clean`` takes 1.2 million steps, an hour and a half on two cores, and writes a line a run
to ``--log``, so that a run that was made is not made again; the other parts take minutes. DIR holds MNIST/raw; without
it the bundled digits are used, and said to be.
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

from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from nets.datasets.catalogue import load_dataset
from nets.injection import KINDS, parse_fault
from nets.presets import PRESETS, Preset
from nets.run import prepare
from nets.training import train_fair

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


SMALL = (
    "Conv2d(1, 4, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(4, 8, 3, padding=1), ReLU(), MaxPool2d(2), "
    "Flatten(), Linear(392, 32), ReLU(), Linear(32, 10)"
)


def _networks() -> dict[str, Network]:
    mlp = PRESETS["mlp"]
    cnn = replace(PRESETS["cnn"], network=SMALL)
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
        report = train_fair(run, sensitivity=False).report
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


# Every kind of fault on three networks, those that the network has: with the tensors that kinds ask for.
FAULTED = {
    "784-128-64-10 ReLU lr .01": ("2.weight", "4.bias", "2"),
    "784-10-10 ReLU Adam": ("2.weight", "0.bias", "1"),
    "conv BatchNorm Dropout": ("0.weight", "1.bias", "1"),
}
BEGINS = (0, 500)


def faults(data_dir: Path | None) -> Iterator[str]:
    """Yield a row for each kind of fault and network: the step at which it is caught, where, and what it is called."""
    yield "| fault | network | planted at 0: caught at | planted at 500: caught at | place | diagnosis |"
    yield f"|{'---|' * 6}"
    cells = [(name, kind) for kind in KINDS for name in FAULTED]
    with ProcessPoolExecutor(PROCESSES) as pool:
        rows = pool.map(_faulted, *zip(*cells, strict=True), itertools.repeat(data_dir))
        for (name, kind), row in zip(cells, rows, strict=True):
            yield f"| {kind} | {name} | {row} |"


def _faulted(name: str, kind: str, data_dir: Path | None) -> str:
    """Plant a fault into a run and return when it was caught, where and why."""
    weight, bias, layer = FAULTED[name]
    preset = NETWORKS[name].preset
    run = prepare(
        preset,
        load_dataset("auto", data_dir),
        train_size=1000 if kind == "lr-epoch" else TRAIN_SIZE // 2,
        test_size=100,
        batch_size=16,
        steps=520 if kind != "dropout-on" else 620,
    )
    index = ",".join("0" * run.numpy_engine().params[weight].ndim)
    written = {
        "grad-scale": f":{weight}:1.0001",
        "grad-sign": f":{weight}",
        "grad-transpose": f":{weight}",
        "grad-zero": f":{weight}[{index}]",
        "grad-stale": f":{weight}",
        "bias-mean": f":{bias}",
        "cast": f":{layer}",
    }
    caught, place, diagnosis = [], "", ""
    for begin in BEGINS:
        try:
            fault = parse_fault(f"{kind}{written.get(kind, '')}@{begin}", run)
        except ValueError as error:
            return f"refused: {error} | | |"
        report = train_fair(replace(run, steps=min(run.steps, begin + 120)), fault=fault, sensitivity=False).report
        found = None if report is None else report.first_divergence
        caught.append(f"{found.step}" if found else "not caught")
        if found:
            place = f"{found.phase} {found.tensor}"
            diagnosis = found.diagnosis or "none"
    return f"{' | '.join(caught)} | {place} | {diagnosis}"


def smallest(data_dir: Path | None) -> Iterator[str]:
    """Yield the smallest relative fault caught of the sharpest and of the bluntest gradient of each network."""
    yield "| network | batch | dtype | sharpest gradient | of other steps | bluntest gradient | of other steps |"
    yield f"|{'---|' * 7}"
    cells = [(name, batch, dtype) for name, net in NETWORKS.items() for batch in net.batches for dtype in DTYPES]
    with ProcessPoolExecutor(PROCESSES) as pool:
        rows = pool.map(_smallest, *zip(*cells, strict=True), itertools.repeat(data_dir))
        for (name, batch, dtype), row in zip(cells, rows, strict=True):
            yield f"| {name} | {batch} | {dtype} | {row} |"


def _smallest(name: str, batch: int, dtype: str, data_dir: Path | None) -> str:
    data, preset = load_dataset("auto", data_dir), NETWORKS[name].preset
    run = prepare(preset, data, train_size=1000, test_size=100, batch_size=batch, steps=500, dtype=dtype)
    report = train_fair(run).report
    found = None if report is None else report.sensitivity
    if found is None:
        return "no verdict | | |"
    sizes = sorted((one for one in found.by_tensor.values() if one), key=lambda one: one.size)
    blind = [tensor for tensor, one in found.by_tensor.items() if one is None]
    ends = (f"{one.tensor}: {one.size:.0e} | {one.share:.0%}" for one in (sizes[0], sizes[-1]))
    return " | ".join(ends) + (f"; never: {', '.join(blind)}" if blind else "")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(directory) if directory else None)
    parser.add_argument("--part", choices=["clean", "faults", "smallest"])
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps, which stay 2,000 at least")
    parser.add_argument("--network", help="only those whose name contains this")
    parser.add_argument("--log", type=Path, default=Path("trajectories.jsonl"))
    options = parser.parse_args()
    print(f"dataset: {load_dataset('auto', options.data_dir).name}\n", flush=True)
    parts: dict[str, Iterator[str]] = {
        "faults": faults(options.data_dir),
        "smallest": smallest(options.data_dir),
        "clean": clean(_cells(options.data_dir, options.scale, options.network), options.log),
    }
    for name, rows in parts.items():
        if options.part in (None, name):
            print(f"{name}\n", flush=True)
            for row in rows:
                print(row, flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()
