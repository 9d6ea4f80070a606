"""The log of a comparison's runs: a folder's own, or none of it where it holds another comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.runs.directory import require_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nets.run_log import RunLog

LOG = "runs.jsonl"

# What decides a run and is not called as the option that decides it.
OPTIONS = {
    "data": "--dataset (its checksum)",
    "training images": "--train-size",
    "validation images": "--validation-size",
    "test images": "--test-size",
    "steps": "--epochs or --steps (in steps)",
    "schedule": "--lr or --schedule",
}
LIBRARIES = ("mnistcheck", "numpy", "torch")  # whose versions decide what a run comes to


def opened(folder: Path, keys: Sequence[Mapping[str, Any]]) -> RunLog:
    """Return the log of a folder; raises a usage error unless that is new, empty, or holds the comparison of ``keys``.

    It is written to at once, so that a folder that cannot be costs no training.
    """
    from nets.run_log import RunLog

    path = folder / LOG
    if not path.is_file():
        require_empty(folder, "--out")
        folder.mkdir(parents=True, exist_ok=True)
    path.open("a").close()
    log = RunLog(path)
    for kept, _ in log.items():
        if found := min((_differences(kept, key) for key in keys), key=len):
            name, (theirs, ours) = next(iter(found.items()))
            told = f"{_option(name)} is {theirs} there, not {ours}"
            raise click.UsageError(f"--out: {folder} holds another comparison: {told}")
    return log


def _differences(kept: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    """Return in what two runs differ besides the seed, the shadow and, of a proof, how many steps it looks at."""
    skipped = {"seed", "shadow", *(["steps"] if kept.get("engine") == key["engine"] == "both" else [])}
    kept, key = ({**one, "start": _without_seed(one.get("start"))} for one in (kept, key))
    names = [name for name in {**key, **kept} if name not in skipped]
    return {name: (kept.get(name), key.get(name)) for name in names if kept.get(name) != key.get(name)}


def _without_seed(start: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if start is None else {name: value for name, value in start.items() if name != "seed"}


def _option(name: str) -> str:
    return name if name in LIBRARIES else OPTIONS.get(name, f"--{name.replace('_', '-')}")
