"""The folder that a run leaves behind."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradcheck.trajectory.check import Progress
    from nets.training import Pair


def require_empty(path: Path, option: str) -> None:
    """Raise a usage error for a folder that has something in it."""
    if path.is_dir() and any(path.iterdir()):
        raise click.UsageError(f"{option} needs a new or empty folder; {path} has something in it")


class RunDirectory:
    """A new folder with ``run.json``, ``metrics.jsonl`` (a line a step) and ``weights.safetensors``.

    It is made, and written to, before the run, so that a folder that cannot be written costs no training; each file
    appears whole or not at all. Raises a usage error where something is already there, OSError where nothing can be
    written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_empty(path, "--out")
        path.mkdir(parents=True, exist_ok=True)
        (path / "probe").touch()
        (path / "probe").unlink()

    def write(self, document: dict[str, Any], history: Sequence[Progress], pair: Pair) -> None:
        """Write a finished run."""
        from gradcheck.files import write_whole
        from gradcheck.report import SCHEMA_VERSION, dump_json, strict
        from nets.weights import encode

        lines = ({**told, **apart} for told, apart in zip(_each_step(history), _free_run(history, pair), strict=True))
        metrics = "".join(json.dumps(strict(line)) + "\n" for line in lines)
        write_whole(self.path / "metrics.jsonl", metrics.encode())
        arrays = {
            f"{side}/{key.partition('/')[2]}": array
            for side, engine in (("numpy", pair.numpy_engine), ("torch", pair.torch_engine))
            for key, array in engine.state().items()
            if key.startswith(("param/", "buffer/"))
        }
        write_whole(self.path / "weights.safetensors", encode(arrays))
        run = dump_json({"schema_version": SCHEMA_VERSION, **document})
        write_whole(self.path / "run.json", f"{run}\n".encode())


def _each_step(history: Sequence[Progress]) -> Iterator[dict[str, Any]]:
    for now in history:
        yield {
            "step": now.step,
            "numpy_loss": now.loss,
            "torch_loss": now.reference_loss,
            "rounding_noise": None if math.isnan(now.noise) else now.noise,
        }


def _free_run(history: Sequence[Progress], pair: Pair) -> Iterator[dict[str, Any]]:
    """Yield for each step what its figure shows of free-run; nulls where nothing was compared."""
    from gradcheck.report import crossing_to_json

    free = None if pair.report is None else pair.report.free_run
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
