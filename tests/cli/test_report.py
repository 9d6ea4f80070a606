"""A finished run, shown again: its figure, its page, and what is said of a folder that is damaged."""

from __future__ import annotations

import base64
import functools
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from cli.figures import drawing
from cli.figures.drawing import WIDE, rendered
from cli.figures.sketches import of_learning, of_proof
from cli.figures.trajectory import COLUMNS, draw
from cli.main import run
from cli.runs.finished import DOCUMENT_LIMIT, read_run, repetition
from cli.runs.kept import read_kept_run
from gradcheck.report.runs import FIGURE
from tests.long import later

pytestmark = pytest.mark.usefixtures("undrawn")

ARGS = (
    "train", "--fair", "--dataset", "digits", "--steps", "40", "--test-size", "50", "--no-sensitivity",
    "--network", "Linear(784, 8), Sigmoid(), Linear(8, 10)",
)  # fmt: skip
FAULT = "grad-scale:2.bias:0.999@25"
EPS = float(np.finfo(np.float64).eps)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the folders of a run that passes, of one that fails, and of one that compares nothing."""
    folder = tmp_path_factory.mktemp("runs")
    plain = [arg for arg in ARGS if arg not in ("--fair", "--no-sensitivity")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "rendered", lambda _, *forms: [b"<svg></svg>\n" for _ in forms])
        assert run([*ARGS, "--out", str(folder / "clean")]) == 0
        assert run([*ARGS, "--inject", FAULT, "--out", str(folder / "faulty")]) == 1
        assert run([*plain, "--out", str(folder / "unfair")]) == 0
    return folder


@pytest.fixture(scope="module")
def reported(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the run that passes, with its report as drawn, which takes longer than all else here."""
    folder = Path(shutil.copytree(runs / "clean", tmp_path_factory.mktemp("reported") / "clean"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "rendered", rendered)
        assert run(["report", str(folder)]) == 0
    return folder


@pytest.fixture
def kept(runs: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that passes, without a report."""
    return Path(shutil.copytree(runs / "clean", tmp_path / "kept", ignore=shutil.ignore_patterns("report.html")))


def change(folder: Path, edit: Callable[[Any], object]) -> None:
    """Change the document of a run."""
    document = json.loads((folder / "run.json").read_text())
    edit(document)
    (folder / "run.json").write_text(json.dumps(document))


def change_lines(folder: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the metrics of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    edit(lines)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def reach_a_horizon(folder: Path, step: int) -> None:
    """Make a run one that has crossed a kink and reached its horizon at ``step``, at distance zero before."""

    def lines(metrics: list[dict[str, Any]]) -> None:
        for line in metrics[step:]:
            line["envelope"] = None
        metrics[0]["distance"] = metrics[1]["distance"] = 0.0
        kink = {"layer": "1", "index": [0, 3], "gap": 1e-16, "noise": 2e-16}
        if step < len(metrics):
            metrics[step]["kinks_crossed"] = [kink | {"explained": True}]
            metrics[-1]["kinks_crossed"] = [kink | {"explained": False}] * 7
            metrics[-1]["distance"], metrics[-1]["rounding_noise"] = "inf", "inf"

    change(folder, lambda document: document["free_run"].update(horizon_step=step, steps_compared=step))
    change_lines(folder, lines)


def marked(axes: Axes, name: str) -> Any:  # noqa: ANN401  whatever artist it is
    """Return the one artist of a name."""
    (found,) = (artist for artist in axes.get_children() if artist.get_gid() == name)
    return found


def xs(line: Line2D) -> list[float]:
    """Return the different x of a line."""
    return sorted(set(np.asarray(line.get_xdata(), float)))


class Page(HTMLParser):
    """The elements of a page, seen to be closed in order, and its text."""

    VOID = frozenset({"meta", "br", "img", "source"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if not {"style", "script"}.intersection(self.open) else ""


def test_the_figure_shows_the_numbers_of_the_run(runs: Path) -> None:
    finished = read_run(runs / "clean")
    assert finished.curves is not None
    upper, lower = draw(finished).axes
    steps = np.arange(1, 41)
    for name, values in (("distance", finished.curves.distance), ("envelope", finished.curves.envelope)):
        assert np.array_equal(marked(upper, name).get_xdata(), steps)
        assert np.array_equal(marked(upper, name).get_ydata(), np.where(values > 0, values, np.nan), equal_nan=True)
    band = marked(upper, "allowed")
    assert isinstance(band, PolyCollection)
    corners = np.asarray(band.get_paths()[0].vertices)
    for step, spread in zip(steps, finished.curves.envelope, strict=True):
        at = corners[corners[:, 0] == step][:, 1]
        assert at.max() == max(8 * spread, EPS)
        assert math.isclose(at.min(), max(spread, upper.get_ylim()[0]))
    assert np.array_equal(marked(lower, "noise").get_ydata(), np.maximum(finished.curves.noise, lower.get_ylim()[0]))
    assert set(marked(lower, "factor").get_ydata()) == {8}
    assert marked(upper, "title").get_text() == "PASS: NumPy and PyTorch are the same program"
    told = upper.get_title(loc="left")
    assert "784-8-10 Sigmoid, CrossEntropyLoss, SGD 0.05" in told
    assert "digits, batch 1, float64, seed 0, 40 steps" in told
    assert not {"horizon", "beyond", "divergence", "failures"} & {artist.get_gid() for artist in upper.get_children()}


def test_the_figure_marks_horizon_and_kinks(kept: Path) -> None:
    reach_a_horizon(kept, 30)
    upper, lower = draw(read_run(kept)).axes
    assert xs(marked(upper, "horizon")) == xs(marked(lower, "horizon")) == [31]
    assert marked(upper, "beyond").get_x() == 31
    texts = {text.get_text() for text in upper.texts}
    assert FIGURE["horizon"].format(step=30) in texts
    assert xs(marked(upper, "equal")) == [1, 2]
    assert (xs(marked(upper, "explained")), xs(marked(upper, "unexplained"))) == ([31], [40])
    assert xs(marked(lower, "failures")) == [40]
    for axes in (upper, lower):
        assert all(0 < limit < math.inf for limit in axes.get_ylim())


def test_the_figure_marks_the_first_divergence(runs: Path) -> None:
    upper, lower = draw(read_run(runs / "faulty")).axes
    assert xs(marked(upper, "divergence")) == xs(marked(lower, "divergence")) == [26]
    assert "first divergence: step 25,\nbackward, 2.bias" in {text.get_text() for text in upper.texts}
    assert xs(marked(lower, "failures")) == list(range(26, 41))
    assert marked(upper, "title").get_text() == "FAIL: NumPy and PyTorch are not the same program"


def test_a_long_run_shows_the_worst_of_each_column(kept: Path) -> None:
    def lengthen(lines: list[dict[str, Any]]) -> None:
        lines[:] = [lines[0] | {"step": step, "rounding_noise": 1.0} for step in range(4 * COLUMNS)]
        lines[3001]["rounding_noise"] = 7.5

    change(kept, lambda document: document["configuration"].update(steps=4 * COLUMNS))
    change(kept, lambda document: document["free_run"].update(steps_compared=4 * COLUMNS))
    change_lines(kept, lengthen)
    noise = marked(draw(read_run(kept)).axes[1], "noise")
    assert len(noise.get_xdata()) <= COLUMNS + 1
    assert noise.get_xdata()[np.argmax(noise.get_ydata())] == 3002


@pytest.mark.parametrize("horizon", later([0, 39, 1], 1))
def test_any_run_can_be_drawn(kept: Path, horizon: int) -> None:
    reach_a_horizon(kept, horizon)
    assert rendered(lambda: draw(read_run(kept)), "svg")[0].endswith(b"</svg>\n")


def asked_for(figure: str) -> list[str]:
    """Return what a figure would have a browser fetch or run."""
    return re.findall(r'href="(?!#|data:image/png;base64,)|url\((?!#)|@import|<script', figure)


def test_both_sides_may_be_equal_all_along(kept: Path) -> None:
    change_lines(kept, lambda lines: [line.update(distance=0, envelope=0, rounding_noise=0) for line in lines])
    drawn = rendered(lambda: draw(read_run(kept)), "svg")[0].decode()
    assert drawn.endswith("</svg>\n")
    assert asked_for(drawn) == []


@pytest.mark.long
@pytest.mark.parametrize(("lr", "code"), later([("1e308", 3), ("1e306", 0)], 1))
def test_a_run_that_overflows_is_drawn_too(tmp_path: Path, lr: str, code: int) -> None:
    assert run([*ARGS, "--lr", lr, "--out", str(tmp_path / "run")]) == code
    assert (tmp_path / "run" / "trajectory.svg").exists()
    assert run(["report", str(tmp_path / "run")]) == 0
    finished = read_run(tmp_path / "run")
    for sketch in (*of_proof(finished), *of_learning(finished)):
        assert rendered(functools.partial(sketch.draw, WIDE), "svg")[0].endswith(b"</svg>\n")


def test_the_message_of_an_error_may_hold_anything(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "faulty", tmp_path / "faulty")
    message = "raises ValueError: one line\n\x1b[2Jand another" + "x" * 2000
    change(tmp_path / "faulty", lambda document: document["first_divergence"].update(message=message))
    assert run(["report", str(tmp_path / "faulty")]) == 0
    text = Page((tmp_path / "faulty" / "report.html").read_text()).text
    assert "NumPy raises ValueError: one line  [2Jand another" in text


def test_a_report_prints_what_the_run_did(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(kept)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "784-8-10 Sigmoid, CrossEntropyLoss, SGD 0.05, batch 1, float64, seed 0"
    assert lines[-2] == "PASS: NumPy and PyTorch are the same program: all of 40 steps agree within rounding noise."
    assert "".join(lines[-1:]) == f"written to {kept / 'report.html'}"
    assert run(["report", str(kept), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((kept / "run.json").read_text())


def test_the_exit_code_is_not_the_verdict(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(runs / "faulty")]) == 0
    assert "FAIL: NumPy and PyTorch are not the same program. They part at step 25, backward, 2.bias[" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("folder", ["kept", pytest.param("reported", marks=pytest.mark.long)])
def test_the_page_tells_it_all_and_asks_for_nothing(folder: str, request: pytest.FixtureRequest) -> None:
    reported: Path = request.getfixturevalue(folder)
    assert (reported / "report.html").exists() or run(["report", str(reported)]) == 0
    source = (reported / "report.html").read_text()
    page = Page(source)
    assert "PASS: NumPy and PyTorch are the same program." in page.text
    assert "All of 40 steps agree within rounding noise." in page.text
    document = json.loads((reported / "run.json").read_text())
    for told in (document["dataset"]["sha256"], document["environment"]["versions"]["torch"], "lock-step", "free-run"):
        assert told in page.text
    assert page.text.index("PASS") < page.text.index("lock-step")
    tags = [tag for tag, _ in page.seen]
    assert (tags.count("img"), tags.count("source")) == (5, 5)
    assert not {"script", "link", "svg", "iframe", "object", "base"} & set(tags)
    addresses = [
        str(value) for _, attrs in page.seen for key, value in attrs.items() if key in {"href", "src", "srcset"}
    ]
    figures = [address.removeprefix("data:image/svg+xml;base64,") for address in addresses]
    for figure, address in zip(figures, addresses, strict=True):
        assert figure != address
        source = source.replace(figure, "")
        assert asked_for(base64.b64decode(figure).decode()) == []
    assert re.findall(r"https?:|//[a-z]|url\(|@import", source) == []


def test_the_page_of_a_run_that_fails_tells_where(runs: Path) -> None:
    assert run(["report", str(runs / "faulty")]) == 0
    failed = Page((runs / "faulty" / "report.html").read_text()).text
    assert "FAIL: NumPy and PyTorch are not the same program." in failed
    assert (
        "They part at step 25, backward, 2.bias. 2.bias's gradient is 0.999 times the reference's everywhere." in failed
    )
    found = json.loads((runs / "faulty" / "run.json").read_text())["first_divergence"]
    for told in (f"2.bias[{found['index'][0]}]", repr(found["numpy"]), repr(found["torch"]), "8 allowed"):
        assert told in failed
    assert f"mnistcheck replay {runs / 'faulty' / 'replay.safetensors'}" in failed
    assert shlex.join(repetition(read_run(runs / "faulty").document)) in failed


@pytest.mark.long
def test_the_command_of_a_page_repeats_the_run(runs: Path, tmp_path: Path) -> None:
    one, again = runs / "faulty", tmp_path / "again"
    assert run([*repetition(read_run(one).document)[1:], "--out", str(again)]) == 1
    assert (again / "metrics.jsonl").read_bytes() == (one / "metrics.jsonl").read_bytes()
    figures = [rendered(functools.partial(draw, read_run(folder)), "svg") for folder in (one, again)]
    assert figures[0] == figures[1]


def test_what_a_page_may_add(kept: Path) -> None:
    reach_a_horizon(kept, 30)
    one = {"size": 2e-14, "step": 1812, "steps": 8, "share_of_steps": 0.75}
    found = {"by_tensor": {"0.weight": one, "2.bias": None}, "caught": ["cast:0"], "missed": ["<b>label-shift</b>"]}
    change(kept, lambda document: document.update(sensitivity=found))
    assert run(["report", str(kept)]) == 0
    text = Page((kept / "report.html").read_text()).text
    for told in ("Faults that this run catches", "2.0e-14", "1,812", "6 of 8", "none"):
        assert told in text
    assert "Of 2 other faults these were not caught: <b>label-shift</b>" in text
    assert (
        "step 30, layer 1, sample 0, unit [3]: 1.0e-16 apart, 0.5 x what rounding moves its layer by, which explains"
        in text
    )
    assert "which does not explain it" in text
    assert "and 3 more, in metrics.jsonl" in text


def test_a_diagnosis_is_told_if_there_is_one(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "faulty", tmp_path / "faulty")
    change(tmp_path / "faulty", lambda document: document["first_divergence"].update(diagnosis="0.999 times"))
    assert run(["report", str(tmp_path / "faulty")]) == 0
    assert (
        "They part at step 25, backward, 2.bias. 0.999 times."
        in Page((tmp_path / "faulty" / "report.html").read_text()).text
    )


def test_hostile_strings_stay_text(kept: Path) -> None:
    hostile = "<script>alert('$\\frac{')</script>[bold]{{ 7*7 }}-->"
    change(kept, lambda document: document["configuration"].update(network=hostile))
    change(kept, lambda document: document["dataset"].update(name=hostile, sha256=hostile))
    change(kept, lambda document: document["environment"]["versions"].update({hostile: hostile}))
    (kept / "trajectory.svg").write_text(f"<svg>{hostile}</svg>")
    assert run(["report", str(kept)]) == 0
    assert rendered(lambda: draw(read_run(kept)), "svg")[0].endswith(b"</svg>\n")
    page = Page((kept / "report.html").read_text())
    assert "script" not in {tag for tag, _ in page.seen}
    assert page.text.count(hostile) >= 3


@pytest.mark.long
def test_hostile_strings_are_printed_as_they_are(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(kept, lambda document: document["configuration"].update(network="[bold]net[/]"))
    change(kept, lambda document: document["lock_step"].update(uninformative=["[/]"]))
    assert run(["report", str(kept)]) == 0
    out = capsys.readouterr().out
    assert "[bold]net[/]" in out
    assert "[/]" in out


@pytest.mark.long
def test_an_old_run_has_no_figure_and_says_so(kept: Path) -> None:
    for name in ("trajectory.svg", "trajectory.png"):
        (kept / name).unlink()

    def age(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            for name in ("distance", "envelope", "kinks_crossed"):
                del line[name]

    change_lines(kept, age)
    change(kept, lambda document: document["free_run"].pop("first_failure"))
    assert run(["report", str(kept)]) == 0
    page = Page((kept / "report.html").read_text())
    assert "No figure: this run was written by a version that did not keep the numbers behind one." in page.text
    assert not (kept / "trajectory.svg").exists()
    with pytest.raises(ValueError, match="a figure needs a run with curves"):
        draw(read_run(kept))


@pytest.mark.long
def test_a_run_that_compared_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not (runs / "unfair" / "trajectory.svg").exists()
    assert run(["report", str(runs / "unfair")]) == 0
    assert "Nothing was compared: --fair proves both the same" in capsys.readouterr().out
    text = Page((runs / "unfair" / "report.html").read_text()).text
    assert "Nothing was compared." in text
    assert "No figure" not in text


@pytest.mark.long
def test_runs_that_stopped_and_runs_that_could_not_tell(runs: Path, kept: Path, tmp_path: Path) -> None:
    stop = {"step": 39, "layer": "0", "tensor": "0.weight"}
    change(kept, lambda document: document.update(stopped_by=stop, verdict="inconclusive"))
    assert run(["report", str(kept)]) == 0
    assert "Stopped at step 39, where 0.weight is not finite" in Page((kept / "report.html").read_text()).text
    change(kept, lambda document: document.update(stopped_by=None))
    assert run(["report", str(kept)]) == 0
    assert "40 steps were compared, and none could tell" in Page((kept / "report.html").read_text()).text
    shutil.copytree(runs / "unfair", tmp_path / "unfair")
    change(tmp_path / "unfair", lambda document: document.update(stopped_by=stop))
    assert run(["report", str(tmp_path / "unfair")]) == 0
    assert "The run stopped at step 39" in Page((tmp_path / "unfair" / "report.html").read_text()).text


def put_a_folder(kept: Path) -> None:
    """Put a folder in the place of a run's document."""
    (kept / "run.json").unlink()
    (kept / "run.json").mkdir()


def nested(depth: int) -> str:
    """Return JSON that is nested deeply."""
    return "[" * depth + "]" * depth


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no run.json": (lambda kept: (kept / "run.json").unlink(), "run.json is missing: a finished run has one"),
    "a folder for run.json": (put_a_folder, "run.json is missing"),
    "no metrics": (lambda kept: (kept / "metrics.jsonl").unlink(), "metrics.jsonl is missing: a finished run has one"),
    "cut off": (
        lambda kept: (kept / "run.json").write_text((kept / "run.json").read_text()[:500]),
        "run.json is not JSON, or was cut off: ",
    ),
    "empty": (lambda kept: (kept / "run.json").write_text(""), "run.json is not JSON, or was cut off"),
    "not text": (lambda kept: (kept / "run.json").write_bytes(b"\xff\xfe\x00\x81"), "run.json is not JSON"),
    "nested": (lambda kept: (kept / "run.json").write_text(nested(10**6)), "run.json is not JSON"),
    "nested less": (
        lambda kept: change(kept, lambda document: document.update(more=json.loads(nested(500)))),
        "run.json is nested more than 20 deep: no run writes such a file",
    ),
    "a version's name that is no text": (
        lambda kept: change(kept, lambda document: document["environment"]["versions"].update({"\ud800": "1"})),
        "run.json: environment.versions, a name, must be printable text of at most 1000 characters, got ",
    ),
    "a list for a fault": (
        lambda kept: change(kept, lambda document: document.update(smallest_detectable_fault=[1])),
        "run.json: smallest_detectable_fault must be a number, got a list",
    ),
    "a long number": (lambda kept: (kept / "run.json").write_text("1" * 10**5), "run.json is not JSON"),
    "large": (
        lambda kept: (kept / "run.json").write_text(" " * (DOCUMENT_LIMIT + 1)),
        "run.json has more than 16,777,216 bytes: no run writes as many",
    ),
    "a list": (lambda kept: (kept / "run.json").write_text("[1]"), "run.json: needs an object, got a list"),
    "a later version": (
        lambda kept: change(kept, lambda document: document.update(schema_version=2)),
        "run.json: schema_version must be 1, which is what is read here; got 2",
    ),
    "no version": (
        lambda kept: change(kept, lambda document: document.pop("schema_version")),
        "run.json: schema_version must be 1, which is what is read here; got null",
    ),
    "a version that is true": (
        lambda kept: change(kept, lambda document: document.update(schema_version=True)),
        "schema_version must be 1, which is what is read here; got true",
    ),
    "no proof": (
        lambda kept: change(kept, lambda document: document.pop("lock_step")),
        "run.json: lock_step is missing; it must be an object",
    ),
    "a text for an object": (
        lambda kept: change(kept, lambda document: document.update(free_run="far")),
        'run.json: free_run must be an object, got "far"',
    ),
    "a text for a count": (
        lambda kept: change(kept, lambda document: document["lock_step"].update(steps_compared="40")),
        'run.json: lock_step.steps_compared must be a whole number from 0 on, got "40"',
    ),
    "a count below 0": (
        lambda kept: change(kept, lambda document: document["configuration"].update(seed=-1)),
        "run.json: configuration.seed must be a whole number from 0 on, got -1",
    ),
    "another verdict": (
        lambda kept: change(kept, lambda document: document.update(verdict="passed")),
        'run.json: verdict must be pass, fail or inconclusive, got "passed"',
    ),
    "a constant that is not JSON": (
        lambda kept: change(kept, lambda document: document["numpy"].update(seconds=math.nan)),
        "run.json: numpy.seconds must be a number, got NaN",
    ),
    "no factor": (
        lambda kept: change(kept, lambda document: document.update(factor=0)),
        "run.json: factor must be a number above 0, got 0",
    ),
    "a number for a list": (
        lambda kept: change(kept, lambda document: document["lock_step"].update(uninformative=3)),
        "run.json: lock_step.uninformative must be a list, got 3",
    ),
    "a peak that is no number": (
        lambda kept: change(kept, lambda document: document["numpy"]["peaks"].__setitem__(3, "high")),
        'run.json: numpy.peaks[3] must be a number, got "high"',
    ),
    "a control character": (
        lambda kept: change(kept, lambda document: document["dataset"].update(name="\x1b[2Jx")),
        "run.json: dataset.name must be printable text of at most 1000 characters, got ",
    ),
    "a number for a flag": (
        lambda kept: change_lines(
            kept, lambda lines: lines[2]["kinks_crossed"].append({"layer": "1", "index": [0], "gap": 0, "noise": 0,
                                                                  "explained": 1})
        ),
        "metrics.jsonl, line 3: kinks_crossed[0].explained must be true or false, got 1",
    ),
    "a cut line": (
        lambda kept: (kept / "metrics.jsonl").write_bytes((kept / "metrics.jsonl").read_bytes()[:-20]),
        "metrics.jsonl, line 40 is not JSON, or was cut off",
    ),
    "fewer lines": (
        lambda kept: change_lines(kept, lambda lines: lines.pop()),
        "metrics.jsonl has 39 lines, where the run has 40 steps",
    ),
    "a line twice": (
        lambda kept: change_lines(kept, lambda lines: lines.insert(5, lines[4])),
        "metrics.jsonl, line 6: step must be 5, got 4: steps are missing or doubled",
    ),
    "a distance left out": (
        lambda kept: change_lines(kept, lambda lines: lines[7].pop("distance")),
        "metrics.jsonl needs a distance in every line and an envelope in the first 40, those that run.json says",
    ),
    "an envelope left out": (
        lambda kept: change_lines(kept, lambda lines: lines[7].update(envelope=None)),
        "metrics.jsonl needs a distance in every line and an envelope in the first 40, those that run.json says",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_line(kept: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    harm, message = DAMAGE[damage]
    harm(kept)
    assert run(["report", str(kept)]) == 4
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith(f"Error: {kept}/")
    assert message in line
    assert (output.out, (kept / "report.html").exists()) == ("", False)


def test_a_run_that_did_not_keep_its_largest_outputs_is_read(kept: Path) -> None:
    assert all(len(read_run(kept).document[side]["peaks"]) == 10 for side in ("numpy", "torch"))
    change(kept, lambda document: [document[side].pop("peaks") for side in ("numpy", "torch")])
    assert all(read_run(kept).document[side]["peaks"] is None for side in ("numpy", "torch"))


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path / "nowhere")]) == 4
    expected = f"Error: {tmp_path / 'nowhere'} is no run's folder: train --out DIR writes one\n"
    assert capsys.readouterr().err == expected


@pytest.mark.usefixtures("drawn")
def test_without_matplotlib_one_line_says_how_to_get_it(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    remark = "no figure is drawn without Matplotlib: pip install 'mnistcheck[figures]'\n"
    assert run(["report", str(kept)]) == 0
    assert capsys.readouterr().err == remark
    assert "No figure: drawing one needs Matplotlib" in Page((kept / "report.html").read_text()).text
    assert run([*ARGS, "--out", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().err == remark
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "config.toml",
        "metrics.jsonl",
        "numpy.npz",
        "run.json",
        "torch.pt",
        "weights.safetensors",
    ]


@pytest.mark.long
def test_without_jinja_one_line_says_how_to_get_it(
    kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run(["report", str(kept)]) == 4
    output = capsys.readouterr()
    assert output == ("", "Error: this command needs Jinja2: pip install 'mnistcheck[report]'\n")


def test_several_runs_are_one_page(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")  # room for the paths of folders
    folders = [str(runs / name) for name in ("clean", "faulty", "unfair")]
    assert run(["report", *folders]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == ["run", *folders, "written"]
    assert [line.split()[1] for line in out.splitlines()] == ["verdict", "pass", "fail", "not", "to"]
    page = Page((tmp_path / "report.html").read_text())
    assert "3 runs: 1 pass, 1 fail, 1 not compared" in page.text
    links = [attrs["href"] for tag, attrs in page.seen if tag == "a"]
    articles = [f"#{attrs['id']}" for tag, attrs in page.seen if tag == "article"]
    assert links == articles == ["#run-1", "#run-2", "#run-3"]
    assert [tag for tag, _ in page.seen].count("h1") == 1
    assert page.text.index("PASS: NumPy") < page.text.index("FAIL: NumPy") < page.text.index("Nothing was compared.")


@pytest.mark.long
def test_several_runs_are_one_document(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(runs / name) for name in ("clean", "faulty")]
    assert run(["report", *folders, "--out", str(tmp_path / "two.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == [json.loads((Path(folder) / "run.json").read_text()) for folder in folders]


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_the_same_run_gives_the_same_files_whatever_was_there(reported: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(reported, tmp_path / "again"))
    names = ("trajectory", "learning", "confusion", "mistakes", "weights")
    figures = {name: [again / f"{name}.{form}" for form in ("svg", "png")] for name in names}
    assert all(png.read_bytes().startswith(b"\x89PNG") for _, png in figures.values())
    for path in (again / "report.html", *figures["trajectory"], figures["learning"][1]):
        path.unlink()
    figures["confusion"][0].write_text("<svg></svg>")
    assert run(["report", str(again)]) == 0
    for path in (path for pair in figures.values() for path in pair):
        assert path.read_bytes() == (reported / path.name).read_bytes()
    page, first = ((folder / "report.html").read_text() for folder in (again, reported))
    assert page == first.replace(str(reported), str(again))


def test_a_folder_that_cannot_be_written_has_a_page_elsewhere(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradcheck import files

    def refused(path: Path, content: bytes) -> None:
        if path.is_relative_to(kept):
            raise PermissionError(13, "Permission denied", str(path))
        write(path, content)

    write = files.write_whole
    monkeypatch.setattr(files, "write_whole", refused)
    (kept / "learning.svg").unlink(missing_ok=True)
    assert run(["report", str(kept), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().err == f"{kept}: the figures are not written: Permission denied\n"
    assert Page((tmp_path / "page.html").read_text()).text.startswith("\n")


@pytest.mark.parametrize("name", ["run.json", "page", "weights.safetensors"])
def test_a_page_is_written_over_nothing_else(kept: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(kept), "--out", str(kept / name)]) == 2
    assert f"--out {kept / name} is no page: a name that ends in .html is needed" in capsys.readouterr().err
    assert read_run(kept).document["verdict"] == "pass"


def test_the_surest_mistakes_are_listed(kept: Path) -> None:
    assert run(["report", str(kept)]) == 0
    found = read_kept_run(read_run(kept))
    labels, given = found.run.test.labels, found.predictions["numpy"]
    wrong = sorted(np.flatnonzero(given.argmax(axis=1) != labels), key=lambda place: -given[place].max())
    page = Page((kept / "report.html").read_text()).text
    assert f"NumPy takes {len(wrong)} of 50 test images for what they are not." in page
    text = "".join(page.split())
    listed = [
        f"#{found.run.test.numbers[place]}{labels[place]}{given[place].argmax()}{given[place].max():.2%}"
        for place in wrong[:8]
    ]
    places = [text.index(one) for one in listed]
    assert places == sorted(places)


def test_a_run_that_has_not_ended_is_to_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoint").mkdir()
    assert run(["report", str(tmp_path)]) == 4
    expected = (
        f"Error: {tmp_path} holds a run that has not ended: mnistcheck train --resume {tmp_path} goes on with it\n"
    )
    assert capsys.readouterr().err == expected


@pytest.mark.long
def test_a_prediction_is_drawn_over_no_figure_of_a_report(kept: Path) -> None:
    assert run(["report", str(kept)]) == 0
    drawn = {path: path.read_bytes() for path in kept.iterdir()}
    for arguments in (["0"], ["--grid", "2"], ["--misclassified", "2"]):
        assert run(["predict", str(kept), *arguments]) == 0
    assert {path: path.read_bytes() for path in drawn} == drawn
