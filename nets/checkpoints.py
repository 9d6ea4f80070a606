"""A run on its way, in a file from which it goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradcheck.contract import Array
from gradcheck.files import write_whole
from gradcheck.trajectory.trace import TraceError, read_about, read_safetensors, to_safetensors
from nets.datasets.dataset import digest
from nets.presets import configuration
from nets.run import Run
from nets.training import Training
from nets.weights import CheckpointError

FORMAT = "mnistcheck-checkpoint"
VERSION = 1

# The preset's own, in place of which a run has others.
SIZES = ("train_size", "validation_size", "epochs")


def save_checkpoint(path: Path, training: Training) -> None:
    """Write a run as it is between two steps; the file appears whole or not at all. Raises OSError if it cannot."""
    arrays, numbers = training.state()
    about = {"format": FORMAT, "version": VERSION, "run": identity(training.run), **numbers}
    about["sha256"] = _digest(arrays, about)
    write_whole(path, to_safetensors(arrays, {"checkpoint": json.dumps(about)}))


def load_checkpoint(path: Path, training: Training) -> None:
    """Let a run that has not begun go on from a checkpoint; raises `CheckpointError` for one of another run."""
    try:
        arrays = read_safetensors(path)
        about = read_about(path, "checkpoint", FORMAT, VERSION, "checkpoint of mnistcheck train")
    except TraceError as error:
        raise CheckpointError(str(error)) from None
    if about.pop("sha256", None) != _digest(arrays, about):
        raise CheckpointError(f"{path} is damaged: its numbers are not those that were written")
    kept = about.get("run")
    if not isinstance(kept, dict):
        raise CheckpointError(f"{path} is no checkpoint of mnistcheck train")
    for name, value in identity(training.run).items():
        if kept.get(name) != value:
            raise CheckpointError(f"{path} is of another run: its {name} is {kept.get(name)}, not {value}")
    try:
        training.restore(arrays, about)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def identity(run: Run) -> dict[str, Any]:
    """Return what decides a run, all but its initial weights: two that have it in common take the same steps."""
    sizes = {
        "training images": len(run.train), "validation images": len(run.validation), "test images": len(run.test)
    }  # fmt: skip
    about = {"data": run.dataset.sha256, "seed": run.seed, "dtype": run.dtype.name, **sizes, "steps": run.steps}
    return {**about, **{name: value for name, value in configuration(run.preset).items() if name not in SIZES}}


def _digest(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> str:
    """Return a checksum of all that a checkpoint says."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in sorted(arrays.items())}
    told = json.dumps([about, shapes], sort_keys=True).encode()
    return digest(told, *(arrays[name].tobytes() for name in shapes))
