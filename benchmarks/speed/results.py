"""What was measured, as a file; what is measured now, beside it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.timing import Row

SCHEMA_VERSION = 1
PATH = Path(__file__).parent.parent / "results.json"

# How much a ratio may grow: by `ALWAYS` of itself, and by so many times the spread of either measurement, that is the
# distance of its quartiles over its median; at most by `MOST`, so that what takes twice as long always fails. Chosen
# from repeated measurements of the same program: docs/performance.md.
ALWAYS, TIMES, MOST = 0.25, 1.0, 0.8


class ResultsError(ValueError):
    """A file of results that cannot be read or compared."""


@dataclass(frozen=True)
class Part:
    """The rows of one part, and the machine on which they were measured."""

    machine: Mapping[str, Any]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Change:
    """A ratio that has grown, or not: from ``before`` to ``now``; it fails above ``allowed``."""

    part: str
    before: Row
    now: Row
    margin: float

    @property
    def allowed(self) -> float:
        """The largest ratio that is no slowdown."""
        return self.before.ratio * (1 + self.margin)

    @property
    def failed(self) -> bool:
        """Whether it takes longer than allowed."""
        return not self.now.ratio <= self.allowed

    def __str__(self) -> str:
        times = f"{self.now.ratio / self.before.ratio:.2f} times"
        spread = f"{self.now.low:.3g} to {self.now.high:.3g}"
        return (
            f"{self.part}: {self.before.name}: ratio {self.now.ratio:.3g} ({spread}), {times} the committed"
            f" {self.before.ratio:.3g}; {self.allowed:.3g} is allowed"
        )


def margin(before: Row, now: Row) -> float:
    """Return by which share of itself a ratio may grow."""
    return min(MOST, ALWAYS + TIMES * max(before.spread, now.spread))


def changes(part: str, before: Part, now: Part) -> Iterator[Change]:
    """Yield how each row has changed that both have."""
    known = {row.name: row for row in before.rows}
    for row in now.rows:
        if row.name in known:
            yield Change(part, known[row.name], row, margin(known[row.name], row))


def unlike(before: Part, now: Part) -> list[str]:
    """Return in what the machines differ, since ratios may, too."""
    keys = dict.fromkeys([*before.machine, *now.machine])
    pairs = ((key, before.machine.get(key), now.machine.get(key)) for key in keys)
    return [f"{key}: {then} then, {here} now" for key, then, here in pairs if then != here]


def read(path: Path = PATH) -> dict[str, Part]:
    """Return what a file holds, by part; nothing of one that is not there."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ResultsError(
                f"{path} has version {document['schema_version']}, this is {SCHEMA_VERSION}: measure again"
            )
        return {
            name: Part(part["machine"], tuple(Row(**row) for row in part["rows"]))
            for name, part in document["parts"].items()
        }
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ResultsError(f"{path} holds no results: {type(error).__name__}: {error}") from error


def write(parts: Mapping[str, Part], path: Path = PATH) -> None:
    """Write a file that is whole or not there, however the process ends."""
    told = {
        name: {"machine": dict(part.machine), "rows": [row.to_json() for row in part.rows]}
        for name, part in parts.items()
    }
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "parts": told}, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def machine() -> dict[str, str]:
    """Return what ratios depend on besides the programs: the processor, the kernels, and the libraries' versions."""
    import numpy as np
    import threadpoolctl
    import torch

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
    blas = " ".join(f"{pool['internal_api']} {pool['version']} {pool['architecture']}" for pool in pools[:1])
    return {
        "processor": _processor(),
        "python": platform.python_version(),
        "numpy": f"{np.__version__}, {blas or 'BLAS unknown'}",
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
