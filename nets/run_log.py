"""What was finished, a JSON line each, so that nothing is done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gradcheck.report.json import strict
from nets.datasets.dataset import DataError, digest


class RunLog:
    """Results by what decides them; in a file that grows by a line as each is finished, or without one in memory.

    A last line that is cut off, as by a kill, was not finished: it is removed. Raises DataError for any other line that
    is not as it was written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._found: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._read(path)

    def items(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield what decides each result, and the result."""
        return ((json.loads(key), found) for key, found in self._found.items())

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result that ``key`` decides; None where it is not there."""
        return self._found.get(_text(key))

    def add(self, key: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a result, on the disk before this returns it as `find` will; numbers that are not finite are text."""
        line = {"key": key, "found": found}
        content = _text({**line, "sha256": digest(_text(line).encode())})
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(f"{content}\n")
                file.flush()
                os.fsync(file.fileno())
        self._found[_text(key)] = kept = json.loads(content)["found"]
        return dict(kept)

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                line = json.loads(text)
                sha256 = line.pop("sha256")
                self._found[_text(line["key"])] = dict(line["found"])
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
                sha256 = None
            if sha256 is None or sha256 != digest(_text(line).encode()):
                raise DataError(f"{path}, line {number}, is not as it was written: remove it, and its run is made anew")
        if whole != content:
            os.truncate(path, len(whole))


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(strict(dict(value)), sort_keys=True, allow_nan=False)
