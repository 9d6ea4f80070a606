"""``mnistcheck data``: what it prints, writes and exits with."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.main import run
from tests.nets.digits_written import NAMES, WRITTEN, as_csv, as_idx, drawn

DIGITS = drawn()


@pytest.fixture(autouse=True)
def _nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MNISTCHECK_DATA_DIR", raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))


def document(capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401  any JSON
    """Return the document that was printed."""
    return json.loads(capsys.readouterr().out)


def test_what_there_is_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    WRITTEN["idx"](raw, DIGITS)
    assert run(["data", "list", "--data-dir", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"found: {raw}" in text
    assert "not here: mnistcheck data fetch openml" in text
    assert run(["data", "list", "--json"]) == 0
    listed = document(capsys)
    assert (listed["schema_version"], listed["command"]) == (1, "data list")
    assert {one["name"]: one["found"] for one in listed["datasets"]} == {
        "mnist": None, "digits": "in scikit-learn", "openml": None,
    }  # fmt: skip
    assert [one["format"] for one in listed["formats"]] == ["idx", "csv", "pickle", "npz"]


def test_real_mnist_is_as_published(mnist_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "verify", "mnist", "--data-dir", str(mnist_dir), "--json"]) == 0
    verified = document(capsys)
    assert (verified["verdict"], [one["verdict"] for one in verified["files"]]) == ("pass", ["pass"] * 4)


def test_real_mnist_is_as_published_in_another_format(
    mnist_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nets.datasets.catalogue import load_dataset

    real = load_dataset("mnist", mnist_dir)
    assert real.test is not None
    labels = real.train.labels.copy()
    labels[1234] = (labels[1234] + 1) % 10
    arrays: Any = {"x_train": real.train.images, "x_test": real.test.images, "y_test": real.test.labels}
    for y_train, code, verdict in ((real.train.labels, 0, "pass"), (labels, 4, "fail")):
        np.savez(tmp_path / "mnist.npz", y_train=y_train, **arrays)
        assert run(["data", "verify", str(tmp_path / "mnist.npz"), "--json"]) == code
        verified = document(capsys)
        assert [one["verdict"] for one in verified["files"]] == ["inconclusive", "pass", verdict, "pass", "pass"]


@pytest.mark.parametrize("form", ["idx", "csv", "npz", "pickle-2"])
def test_what_nobody_published_is_inconclusive(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = WRITTEN[form](tmp_path, DIGITS)
    assert run(["data", "verify", str(path)]) == 3
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].startswith("INCONCLUSIVE: ")
    assert "nothing is published to compare it with" in printed.out
    assert printed.err == ""


def test_damaged_and_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    WRITTEN["idx-gz"](raw, DIGITS)
    (raw / f"{NAMES[1]}.gz").unlink()
    (raw / f"{NAMES[2]}.gz").write_bytes(gzip.compress(as_idx(DIGITS.x_test), mtime=0)[:-10])
    assert run(["data", "verify", "mnist", "--data-dir", str(tmp_path), "--json"]) == 4
    notes = [one["note"] for one in document(capsys)["files"]]
    assert notes[:2] == ["not as published", "missing"]
    assert notes[2].startswith("cannot be read: Compressed file ended")
    assert run(["data", "verify", "mnist", "--data-dir", str(tmp_path)]) == 4
    assert capsys.readouterr().out.splitlines()[-1] == "FAIL: mnist is not as published"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["verify", "mnist"], 4, "Error: MNIST is not in "),
        (["verify", "openml"], 4, "Error: OpenML's MNIST is not in "),
        (["verify", "cifar"], 2, "there is no dataset 'cifar'; there are auto, mnist, digits, openml, and paths"),
        (["verify", "no/such.csv"], 4, "Error: there is no file or folder no/such.csv"),
        (["fetch", "digits"], 2, "'digits' is not one of 'mnist', 'openml'"),
        (["show", "digits", "--part", "test"], 2, "digits has no test images of its own; it has train"),
        (["show", "digits", "--labels", "4,x"], 2, "--labels '4,x' is no list of digits such as 4,9"),
        (["show", "digits", "--labels", "7", "--count", "200"], 2, "digits has 179 train images of 7; asked for 200"),
        (["show", "digits", "--out", "digits.gif"], 2, "--out digits.gif is no .png or .svg file"),
        (["show", "digits", "--out", "no/such/folder.png"], 4, "Error: no/such: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_and_missing_data_are_one_line(
    args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", *args]) == code
    printed = capsys.readouterr()
    assert message in printed.err.splitlines()[-1]
    assert printed.out == ""


def test_fetching_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pooch")
    monkeypatch.setattr("nets.datasets.download.MIRRORS", ["http://127.0.0.1:9/"])
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert run(["data", "fetch", "mnist", "--data-dir", str(tmp_path / "here")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "Error: train-images-idx3-ubyte.gz could not be fetched: http://127.0.0.1:9/ cannot be reach"
    )
    assert list((tmp_path / "here").iterdir()) == []


def test_what_is_there_is_not_fetched_again(mnist_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "fetch", "mnist", "--data-dir", str(mnist_dir)]) == 0
    assert capsys.readouterr().out == f"MNIST is in {mnist_dir / 'MNIST' / 'raw'} already, as published\n"


def test_images_are_drawn_alike_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = WRITTEN["pickle-2"](tmp_path, DIGITS)
    show = ["data", "show", str(path), "--count", "3"]
    for name, extra in (("a.png", []), ("b.png", []), ("c.png", ["--seed", "1"]), ("d.svg", ["--part", "validation"])):
        assert run([*show, "--out", str(tmp_path / name), *extra]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"written to {tmp_path / 'd.svg'}"
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a.startswith(b"\x89PNG")
    assert a == b != c
    assert "<svg" in (tmp_path / "d.svg").read_text(encoding="utf-8")


def test_the_labels_are_those_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_samples: list[Any] = []

    def keep(samples: Any, numbers: Any, *_: object) -> bytes:  # noqa: ANN401  what is drawn
        drawn_samples.append((samples, numbers))
        return b""

    monkeypatch.setattr("cli.figures.samples.render", keep)
    path, wanted = WRITTEN["csv"](tmp_path, DIGITS), int(DIGITS.y[0])
    count = int((DIGITS.y == wanted).sum())
    options = ["--labels", str(wanted), "--count", str(count), "--out", str(tmp_path / "a.png")]
    assert run(["data", "show", str(path), *options]) == 0
    samples, numbers = drawn_samples[0]
    assert set(samples.labels) == {wanted}
    assert np.array_equal(samples.images, DIGITS.x[numbers])


def test_a_run_takes_its_digits_from_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = WRITTEN["csv"](tmp_path, DIGITS)
    options = ["--train-size", "8", "--steps", "2", "--no-sensitivity", "--json"]
    assert run(["train", "--fair", "--dataset", str(path), *options]) == 0
    told = document(capsys)["dataset"]
    assert (told["name"], told["train_size"], told["test_size"]) == (str(path), 8, 4)


def test_a_damaged_file_ends_a_run_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.csv"
    path.write_bytes(as_csv(DIGITS.x, DIGITS.y) + b"7,1,2\n")
    assert run(["train", "--fair", "--dataset", str(path)]) == 4
    assert capsys.readouterr().err == (f"Error: {path}, line 13 has 3 cells, not 785: a label and 784 pixels\n")


@pytest.mark.parametrize("part", ["matplotlib", "pooch"])
def test_without_a_part_the_extra_is_named(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, part, None)
    args = ["show", "digits", "--out", str(tmp_path / "a.png")] if part == "matplotlib" else ["fetch", "mnist"]
    assert run(["data", *args]) == 4
    said, extra = {"matplotlib": ("Matplotlib", "figures"), "pooch": ("pooch", "data")}[part]
    assert capsys.readouterr().err == f"Error: this command needs {said}: pip install 'mnistcheck[{extra}]'\n"
