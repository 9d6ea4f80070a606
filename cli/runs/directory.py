"""The folder that a run leaves behind."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.configuration import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradcheck.contract import Array
    from gradcheck.trajectory.check import Progress
    from nets.training import Epoch, Trained, Training

CHECKPOINT, BEST = Path("checkpoint", "last.safetensors"), Path("checkpoint", "best.safetensors")

CASE = "replay.safetensors"  # the step at which a run has failed, to be taken again

# Each side's weights by themselves, in the format that its own people read.
FORMATS = {"numpy": ".npz", "torch": ".pt"}


def require_empty(path: Path, option: str) -> None:
    """Raise a usage error for a folder that has something in it."""
    if path.is_dir() and any(path.iterdir()):
        raise click.UsageError(f"{option} needs a new or empty folder; {path} has something in it")


class RunDirectory:
    """A folder with a run.

    In it are ``config.toml``, ``run.json``, ``metrics.jsonl`` (a line an epoch, or of a fair run a step), weights in
    three formats, and a ``checkpoint`` with the last state and the best weights. It is made, and written to, before the
    run, so that a folder that cannot be written costs no training; each file appears whole or not at all. Raises
    OSError where nothing can be written.
    """

    def __init__(self, path: Path, configuration: str) -> None:
        self.path, self.configuration = path, configuration

    @classmethod
    def new(cls, path: Path, configuration: str) -> RunDirectory:
        """Make the folder of a run; raises a usage error where something is already there."""
        require_empty(path, "--out")
        path.mkdir(parents=True, exist_ok=True)
        (path / "probe").touch()
        (path / "probe").unlink()
        return cls(path, configuration)

    def begin(self) -> None:
        """Write what a run that is stopped is resumed by."""
        from gradcheck.files import write_whole

        write_whole(self.path / FILE, self.configuration.encode())

    def checkpoint(self, training: Training) -> None:
        """Write a run as it is between two steps, and the epochs that it has come through."""
        from gradcheck.files import write_whole
        from nets.checkpoints import save_checkpoint
        from nets.weights import encode

        (self.path / CHECKPOINT).parent.mkdir(exist_ok=True)
        save_checkpoint(self.path / CHECKPOINT, training)
        self._write_metrics(lines_of({name: side.epochs for name, side in training.sides.items()}))
        if best := {name: side.best for name, side in training.sides.items() if side.best}:
            write_whole(self.path / BEST, encode(_together(best)))

    def write(self, document: dict[str, Any], history: Sequence[Progress], trained: Trained) -> None:
        """Write a finished run; ``run.json`` comes last, and says that all is there."""
        from gradcheck.files import write_whole
        from gradcheck.report.json import SCHEMA_VERSION, dump_json
        from nets.training import WEIGHTS
        from nets.weights import encode

        self.begin()
        if trained.report is None:
            self._write_metrics(lines_of(trained.epochs))
        else:
            steps = zip(_each_step(history), _free_run(history, trained), strict=True)
            self._write_metrics({**told, **apart} for told, apart in steps)
        weights = {
            name: {key: array for key, array in engine.state().items() if key.startswith(WEIGHTS)}
            for name, engine in trained.engines.items()
        }
        write_whole(self.path / "weights.safetensors", encode(_together(weights)))
        if trained.best:
            (self.path / BEST).parent.mkdir(exist_ok=True)
            write_whole(self.path / BEST, encode(_together(trained.best)))
        for name, arrays in weights.items():
            own = {key.partition("/")[2]: array for key, array in arrays.items()}
            write_whole(self.path / f"{name}{FORMATS[name]}", encode(own, FORMATS[name]))
        run = dump_json({"schema_version": SCHEMA_VERSION, **document})
        write_whole(self.path / "run.json", f"{run}\n".encode())

    def _write_metrics(self, lines: Iterable[dict[str, Any]]) -> None:
        from gradcheck.files import write_whole
        from gradcheck.report.json import strict

        text = "".join(json.dumps(strict(line)) + "\n" for line in lines)
        write_whole(self.path / "metrics.jsonl", text.encode())


def lines_of(epochs: Mapping[str, Sequence[Epoch]]) -> Iterator[dict[str, Any]]:
    """Yield for each epoch what the sides came to, null for one that was not trained."""
    for same in zip(*epochs.values(), strict=True):
        told = {name: asdict(one) for name, one in zip(epochs, same, strict=True)}
        sides = {name: {key: value for key, value in one.items() if key != "epoch"} for name, one in told.items()}
        yield {"epoch": same[0].epoch, **dict.fromkeys(FORMATS), **sides}


def _together(weights: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Return the sides' weights by side and name."""
    return {
        f"{side}/{key.partition('/')[2]}": array for side, arrays in weights.items() for key, array in arrays.items()
    }


def _each_step(history: Sequence[Progress]) -> Iterator[dict[str, Any]]:
    for now in history:
        yield {
            "step": now.step,
            "numpy_loss": now.loss,
            "torch_loss": now.reference_loss,
            "numpy_accuracy": now.score,
            "torch_accuracy": now.reference_score,
            "rounding_noise": None if math.isnan(now.noise) else now.noise,
        }


def _free_run(history: Sequence[Progress], trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield for each step what its figure shows of free-run; nulls where nothing was compared."""
    from gradcheck.report.json import crossing_to_json

    free = None if trained.report is None else trained.report.free_run
    crossed = defaultdict(list)
    for crossing in free.crossings if free is not None else ():
        crossed[crossing.step].append(crossing_to_json(crossing))
    for now in history:
        envelope = None if free is None or now.step >= len(free.envelope) else float(free.envelope[now.step])
        yield {
            "distance": None if free is None else float(free.distances[now.step]),
            "envelope": envelope,
            "kinks_crossed": crossed[now.step],
        }
