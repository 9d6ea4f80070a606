"""The log of runs: what was finished is found again, what was not is not, and nothing else is believed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nets.datasets.dataset import DataError
from nets.run_log import RunLog

KEY = {"preset": "fair", "seed": 0, "lr": 0.1, "start": None}
FOUND = {"accuracy": 0.1 + 0.2, "epochs": [{"loss": 1e-300}], "stopped_by": None}


def test_what_was_added_is_found_by_whoever_opens_the_file_next(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    log = RunLog(path)
    assert log.find(KEY) is None
    assert log.add(KEY, FOUND) == FOUND
    log.add({**KEY, "seed": 1}, {"accuracy": 0.5})
    for opened in (log, RunLog(path)):
        assert opened.find(dict(reversed(KEY.items()))) == FOUND
        assert opened.find({**KEY, "seed": 1}) == {"accuracy": 0.5}
        assert opened.find({**KEY, "lr": 0.2}) is None
        assert [key for key, _ in opened.items()] == [KEY, {**KEY, "seed": 1}]


def test_the_file_is_strict_json_a_line_a_result(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    kept = RunLog(path).add(KEY, {"loss": math.nan, "rate": math.inf})
    assert kept == {"loss": "nan", "rate": "inf"}
    (line,) = path.read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["found"] == kept
    assert RunLog(path).find(KEY) == kept


def test_a_line_that_was_cut_off_is_no_result_and_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    RunLog(path).add(KEY, FOUND)
    whole = path.read_bytes()
    other = {**KEY, "seed": 1}
    for size in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:size])
        log = RunLog(path)
        assert log.find(KEY) == FOUND
        log.add(other, {"accuracy": 0.5})
        assert RunLog(path).find(other) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        b"{}\n",
        b"[]\n",
        b"no JSON\n",
        b"\n",
        b"\xff\n",
        b'{"key": {}, "found": {}, "sha256": "00"}\n',
        b"[" * 9999 + b"\n",
    ],
)
def test_a_line_that_was_never_written_so_is_refused_with_its_number(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    RunLog(path).add(KEY, FOUND)
    path.write_bytes(path.read_bytes() + content)
    with pytest.raises(DataError, match="line 2, is not as it was written: remove it, and its run is made anew"):
        RunLog(path)


def test_a_number_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    RunLog(path).add(KEY, {"accuracy": 0.25})
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(DataError, match="line 1"):
        RunLog(path)


def test_without_a_file_results_are_kept_as_long_as_the_log() -> None:
    log = RunLog()
    log.add(KEY, FOUND)
    assert log.find(KEY) == FOUND
    assert RunLog().find(KEY) is None
