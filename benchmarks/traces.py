"""What the verdicts of compare-traces are worth: false alarms by the number of shadows that a trace was recorded with.

    python benchmarks/traces.py --data-dir DIR [--seeds 4]

Records torch, NumPy by itself and NumPy along torch, and compares; prints a table in Markdown. DIR holds MNIST/raw;
without it the bundled digits are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR
from gradcheck.trajectory.recording import record, record_along
from gradcheck.trajectory.reference import ReferenceRounding
from gradcheck.trajectory.trace import Trace
from gradcheck.trajectory.trace_comparison import TraceReport, compare_traces
from nets.datasets.catalogue import load_dataset
from nets.datasets.dataset import Dataset
from nets.engines.torch_engine import one_thread_each
from nets.presets import PRESETS
from nets.run import DTYPES, Run, prepare

KINDS = ("free", "along")
SHADOWS = (3, 24)
STEPS = {"cnn": 6, "regularised": 20, "mlp": 40}  # the slow ones
MOST_STEPS = 60


def compared(run: Run, shadows: int, folder: Path) -> dict[str, TraceReport]:
    """Return the comparison with torch of both kinds of recording."""
    theirs = run.torch_engine()
    rounding = ReferenceRounding(theirs, run.numpy_engine(), run.seed)
    record(theirs, run.batches(), folder / "torch", program="torch", shadows=0, rounding=rounding, seed=run.seed)
    record(run.numpy_engine(), run.batches(), folder / "free", program="NumPy", shadows=shadows, seed=run.seed)
    record_along(run.numpy_engine(), Trace(folder / "torch"), folder / "along", program="NumPy", shadows=shadows)
    return {kind: compare_traces(Trace(folder / kind), Trace(folder / "torch")) for kind in KINDS}


def rows(dataset: Dataset, seeds: int) -> Iterator[str]:
    """Yield a row for each preset, dtype, number of shadows and kind of recording."""
    yield "| preset | dtype | shadows | recorded | comparisons | 99.9 % | largest | runs accused | inconclusive |"
    yield f"|{'---|' * 9}"
    for name in PRESETS:
        for dtype in DTYPES:
            for shadows in SHADOWS:
                found: dict[str, list[TraceReport]] = {kind: [] for kind in KINDS}
                for seed in range(seeds):
                    run = prepare(PRESETS[name], dataset, seed=seed, dtype=dtype, steps=STEPS.get(name, MOST_STEPS))
                    with TemporaryDirectory() as folder:
                        for kind, result in compared(run, shadows, Path(folder)).items():
                            found[kind].append(result)
                for kind, results in found.items():
                    ratios = np.concatenate([report.ratios for report in results])
                    verdicts = [report.verdict for report in results]
                    ends = [f"{verdicts.count(end)} of {seeds}" for end in (Verdict.FAIL, Verdict.INCONCLUSIVE)]
                    tail, top = np.quantile(ratios, 0.999), ratios.max()
                    numbers = f"{ratios.size:,} | {FACTOR * tail:.1f} | {FACTOR * top:.1f} | {' | '.join(ends)}"
                    yield f"| {name} | {dtype} | {shadows} | {kind} | {numbers} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    dataset = load_dataset("auto", arguments.data_dir)
    print(f"{dataset.name}; ratios in units of rounding noise, {FACTOR:g} allowed\n")
    with one_thread_each():
        for row in rows(dataset, arguments.seeds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
