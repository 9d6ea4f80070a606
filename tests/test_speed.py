"""What `make bench` writes and `make bench-check` says of it, on numbers that are made up."""

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.speed import __main__ as command
from benchmarks.speed import results, tables
from benchmarks.speed.results import Part, ResultsError
from benchmarks.speed.timing import Pair, Row, measured

PAGE = "before\n<!-- made-up: made by a command -->\n<!-- end of made-up -->\nafter\n"


def row(ratio: float, spread: float = 0.0, name: str = "a step") -> Row:
    return Row(name, ratio, ratio * (1 - spread / 2), ratio * (1 + spread / 2), 1e3 * ratio, 1e3, 1, 5)


def grown(before: Row, now: Row) -> bool:
    (change,) = results.changes("made-up", Part({}, (before,)), Part({}, (now,)))
    return change.failed


@pytest.mark.parametrize("spread", [0.0, 0.1, 10.0])
def test_what_takes_twice_as_long_fails_however_wide_the_spread(spread: float) -> None:
    assert grown(row(2.0, spread), row(4.0, spread))


@pytest.mark.parametrize(("before", "now"), [(2.0, 2.0), (2.0, 2.2), (2.0, 0.5), (0.3, 0.33)])
def test_what_takes_about_as_long_or_less_passes(before: float, now: float) -> None:
    assert not grown(row(before), row(now))


def test_the_margin_grows_with_the_spread_of_either_side() -> None:
    assert grown(row(2.0), row(2.6))
    assert not grown(row(2.0, 0.3), row(2.6))
    assert not grown(row(2.0), row(2.6, 0.3))


def test_a_ratio_that_is_not_a_number_fails() -> None:
    assert grown(row(2.0), row(float("nan")))


def test_a_ratio_is_the_median_of_calls_side_by_side() -> None:
    ours = cycle([9.0, 2.0, 4.0, 6.0])  # the first is dropped
    found = measured(Pair("made-up", lambda: next(ours), lambda: 2.0, units=2), repeats=3, limit=5.0)
    assert (found.ratio, found.low, found.high) == (2.0, 1.5, 2.5)
    assert (found.ours_ms, found.theirs_ms, found.repeats) == (2000.0, 1000.0, 3)


@pytest.fixture(autouse=True)
def _garbage_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect no garbage before each call: that of all other tests takes a second."""
    monkeypatch.setattr("benchmarks.speed.timing.gc.collect", lambda: 0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return the command, with a page of its own and one part, in which ours takes as long as is said."""
    monkeypatch.setattr(tables, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(results, "machine", lambda: {"processor": "made-up"})
    monkeypatch.setattr(command, "data", lambda: SimpleNamespace(name="digits"))
    monkeypatch.setattr(results, "PATH", tmp_path / "results.json")
    tables.PAGE.write_text(PAGE, encoding="utf-8")

    def bench(ours: float, *options: str) -> int:
        def pairs() -> Iterator[Pair]:
            yield Pair("a step", lambda: ours, lambda: 1.0, aim=1.5)
            yield Pair("a check", lambda: 1.0, lambda: 1.0)

        monkeypatch.setattr(command, "PARTS", {"made-up": (pairs, 2, 5.0)})
        return command.main(options)

    return bench


def test_a_slowdown_is_named_and_ends_in_1(bench: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(1.0) == 0
    assert bench(1.1, "--check") == 0
    capsys.readouterr()
    assert bench(2.0, "--check") == 1
    assert capsys.readouterr().out.splitlines() == [
        "made-up: a step: ratio 2 (2 to 2), 2.00 times the committed 1; 1.25 is allowed",
        "2 ratios compared, 1 have grown beyond their margin",
    ]


def test_a_check_writes_nothing(bench: Callable[..., int], tmp_path: Path) -> None:
    bench(1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bench(2.0, "--check")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_results_and_the_table_are_written_together(bench: Callable[..., int], tmp_path: Path) -> None:
    bench(2.0)
    page = tables.PAGE.read_text(encoding="utf-8")
    assert "| a step | 2 | 2 to 2 | 1.5, missed | 2000 | 1000 | 2 |" in page
    assert page == tables.filled(PAGE, results.read(tmp_path / "results.json"))


def test_a_file_of_ones_own_changes_no_page(bench: Callable[..., int], tmp_path: Path) -> None:
    bench(2.0, "--results", str(tmp_path / "own.json"))
    assert list(results.read(tmp_path / "own.json")) == ["made-up"]
    assert tables.PAGE.read_text(encoding="utf-8") == PAGE


def test_rows_that_are_measured_alone_leave_the_others(bench: Callable[..., int], tmp_path: Path) -> None:
    bench(1.0)
    bench(3.0, "--only", "step")
    (part,) = results.read(tmp_path / "results.json").values()
    assert {one.name: one.ratio for one in part.rows} == {"a step": 3.0, "a check": 1.0}


def test_without_results_there_is_nothing_to_compare_with(
    bench: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(1.0, "--check") == 2
    assert "nothing in" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"schema_version": 1, "parts": {"steps": {}}})])
def test_a_file_without_results_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ResultsError, match="holds no results"):
        results.read(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema_version": 0, "parts": {}}), encoding="utf-8")
    with pytest.raises(ResultsError, match="has version 0, this is 1: measure again"):
        results.read(path)


def test_other_machines_are_named() -> None:
    then, now = Part({"numpy": "Haswell", "python": "3.11"}, ()), Part({"numpy": "SkylakeX", "python": "3.11"}, ())
    assert results.unlike(then, now) == ["numpy: Haswell then, SkylakeX now"]


def test_the_page_shows_the_results_that_are_committed() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page, results.read()) == page
