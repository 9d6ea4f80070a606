"""A run on its way, in a file from which it goes on bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gradcheck.files import write_whole
from gradcheck.trajectory.trace import TraceError, read_safetensors, to_safetensors
from nets.training import Training
from nets.weights import CheckpointError

FORMAT = "mnistcheck-checkpoint"
VERSION = 1


def save_checkpoint(path: Path, training: Training) -> None:
    """Write a run as it is between two steps; the file appears whole or not at all. Raises OSError if it cannot."""
    arrays, numbers = training.state()
    about = {"format": FORMAT, "version": VERSION, "run": _of(training), **numbers}
    write_whole(path, to_safetensors(arrays, {"checkpoint": json.dumps(about)}))


def load_checkpoint(path: Path, training: Training) -> None:
    """Let a run that has not begun go on from a checkpoint; raises `CheckpointError` for one of another run."""
    try:
        arrays = read_safetensors(path)
    except TraceError as error:
        raise CheckpointError(str(error)) from None
    about = _about(path)
    for name, value in _of(training).items():
        if about.get("run", {}).get(name) != value:
            raise CheckpointError(
                f"{path} is of another run: its {name} is {about.get('run', {}).get(name)}, not {value}"
            )
    try:
        training.restore(arrays, about)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _of(training: Training) -> dict[str, Any]:
    """Return what a run must have in common with the one that it goes on with, besides its configuration."""
    run = training.run
    return {"data": run.dataset.sha256, "seed": run.seed, "dtype": run.dtype.name, "training images": len(run.train)}


def _about(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get("checkpoint", "")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("run"), dict):
        raise CheckpointError(f"{path} is no checkpoint of mnistcheck train")
    if about.get("version") != VERSION:
        raise CheckpointError(f"{path} has version {about.get('version')!r}; version {VERSION} can be read")
    return about
