"""What the published experiments come to here, beside what was reported of them.

    python benchmarks/presets.py --data-dir DIR [--part table|spread|fair] [--preset NAME] [--log presets.jsonl]

``table`` trains both engines of every preset and its variants for all its epochs, which takes an hour on one core;
``spread`` is `nielsen` from ten seeds, ``fair`` the verdict on 300 steps of each in both precisions. A line a run goes
to the log, so that what was run is not run again. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from nets.cautions import doubts
from nets.checkpoints import identity
from nets.datasets.catalogue import load_dataset
from nets.datasets.dataset import Dataset
from nets.presets import PRESETS
from nets.run import DTYPES, prepare
from nets.run_log import RunLog
from nets.training import SIDES, Training, train_fair

SEEDS = range(10)
MEASURED = Path(str(resources.files("nets.presets"))) / "measured.json"
FAIR_STEPS = 300


def trained(name: str, data: Dataset, seed: int, log: RunLog) -> dict[str, Any]:
    """Train a preset for all its epochs, or return what the log says of it."""
    run = prepare(PRESETS[name], data, seed=seed)
    key = {"preset": name, **identity(run)}
    if (found := log.find(key)) is not None:
        return found
    training = Training(run)
    for _ in training.steps():
        pass
    done = training.finish()
    told = {
        "epochs": len(done.epochs["numpy"]),
        **{side: asdict(outcome) for side, outcome in done.outcomes.items()},
        "warnings": [f"{doubt.side or 'run'}: {doubt.text}" for doubt in doubts(run, done.outcomes)],
    }
    return log.add(key, told)


def table(data: Dataset, names: list[str], log: RunLog) -> Iterator[str]:
    """Yield a row for every preset: what was reported, and both engines' accuracies and seconds."""
    yield "| preset | epochs | reported | NumPy: test | train | s an epoch | PyTorch: test | train | s an epoch |"
    yield f"|{'---|' * 9}"
    warnings = []
    for name in names:
        found = trained(name, data, 0, log)
        cells = [
            f"{found[side]['test_accuracy']:.2%} | {found[side]['train_accuracy']:.2%} |"
            f" {found[side]['seconds'] / found['epochs']:.3g}"
            for side in SIDES
        ]
        reported = "; ".join(f"{side}: {text}" for side, text in PRESETS[name].reported.items()) or "-"
        yield f"| {name} | {found['epochs']} | {reported} | {' | '.join(cells)} |"
        warnings += [f"- {name}, {text}" for text in found["warnings"]]
    yield ""
    yield from warnings


def keep(data: Dataset, log: RunLog) -> None:
    """Write what the log says of seed 0 where ``mnistcheck presets`` reads it."""
    ours = {"seed": 0, "data": data.sha256}
    found = {key["preset"]: line for key, line in log.items() if ours.items() <= key.items()}
    told = {
        name: {
            "epochs": found[name]["epochs"],
            **{
                side: {
                    "test_accuracy": found[name][side]["test_accuracy"],
                    "train_accuracy": found[name][side]["train_accuracy"],
                    "seconds_an_epoch": round(found[name][side]["seconds"] / found[name]["epochs"], 4),
                }
                for side in SIDES
            },
        }
        for name in PRESETS
        if name in found
    }
    MEASURED.write_text(json.dumps(told, indent=2) + "\n")


def spread(data: Dataset, log: RunLog) -> Iterator[str]:
    """Yield what `nielsen` comes to from each seed, after one epoch and after all, and which classes it has lost."""
    yield "| seed | after one epoch: NumPy | not recalled | after all: NumPy | PyTorch | not recalled |"
    yield f"|{'---|' * 6}"
    for seed in SEEDS:
        first = Training(prepare(PRESETS["nielsen"], data, seed=seed, epochs=1), ("numpy",))
        for _ in first.steps():
            pass
        began = asdict(first.finish().outcomes["numpy"])
        found = trained("nielsen", data, seed, log)
        ours, theirs = (found[side] for side in SIDES)
        ends = f"{ours['test_accuracy']:.2%} | {theirs['test_accuracy']:.2%} | {_lost(ours)}"
        yield f"| {seed} | {began['test_accuracy']:.2%} | {_lost(began)} | {ends} |"


def _lost(outcome: dict[str, Any]) -> str:
    return ", ".join(str(digit) for digit, recall in enumerate(outcome["recalls"]) if recall == 0) or "-"


def fair(data: Dataset, names: list[str]) -> Iterator[str]:
    """Yield the verdict on each preset in both precisions."""
    yield "| preset | dtype | verdict | steps | worst, x rounding noise | horizon | smallest fault caught |"
    yield f"|{'---|' * 7}"
    for name in names:
        for dtype in DTYPES:
            run = prepare(PRESETS[name], data, steps=FAIR_STEPS, test_size=1000, dtype=dtype)
            report = train_fair(run).report
            if report is None:
                raise AssertionError("a fair run has a report")
            lock, free = report.lock_step, report.free_run
            worst = f"{report.factor * lock.worst.ratio:.1f}" if lock.worst else "-"
            smallest = report.sensitivity and report.sensitivity.smallest
            yield (
                f"| {name} | {dtype} | {report.verdict} | {lock.steps_compared} | {worst} |"
                f" {'not reached' if free.horizon_step is None else free.horizon_step} |"
                f" {f'{smallest.size:.0e}' if smallest else '-'} |"
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    directory = os.environ.get("MNISTCHECK_DATA_DIR")
    parser.add_argument("--data-dir", type=Path, default=Path(directory) if directory else None)
    parser.add_argument("--part", choices=["table", "spread", "fair"])
    parser.add_argument("--preset", help="only this one")
    parser.add_argument("--log", type=Path, default=Path("presets.jsonl"))
    parser.add_argument("--keep", action="store_true", help="write nets/presets/measured.json, for mnistcheck presets")
    options = parser.parse_args()
    data = load_dataset("mnist" if options.keep else "auto", options.data_dir)
    log = RunLog(options.log)
    names = [options.preset] if options.preset else list(PRESETS)
    parts = {
        "table": table(data, names, log),
        "spread": spread(data, log),
        "fair": fair(data, names),
    }
    print(f"dataset: {data.name}\n", flush=True)
    for name, rows in parts.items():
        if options.part in (None, name):
            for row in rows:
                print(row, flush=True)
            print(flush=True)
    if options.keep:
        keep(data, log)


if __name__ == "__main__":
    main()
