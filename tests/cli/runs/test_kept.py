"""A run's folder as the network and the data that it was, and what a report says where these cannot be had."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.main import run
from cli.runs.finished import read_run
from cli.runs.kept import read_kept_run
from nets.datasets.digits import load_digits
from nets.weights import encode, read

pytestmark = pytest.mark.usefixtures("undrawn")

ARGS = ("train", "--dataset", "digits", "--train-size", "60", "--steps", "20", "--seed", "3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of both sides, and with one of NumPy alone, standardised and in float32."""
    folder = tmp_path_factory.mktemp("runs")
    assert run([*ARGS, "--out", str(folder / "both")]) == 0
    other = ("--engine", "numpy", "--scaling", "standard", "--dtype", "float32")
    assert run([*ARGS, *other, "--out", str(folder / "numpy")]) == 0
    return folder


@pytest.fixture
def kept(runs: Path, tmp_path: Path) -> Path:
    """Return a copy of the run of both sides, without figures."""
    return Path(shutil.copytree(runs / "both", tmp_path / "kept", ignore=shutil.ignore_patterns("*.svg", "*.png")))


@pytest.mark.parametrize("name", ["both", "numpy"])
def test_a_kept_run_says_again_what_the_run_did(runs: Path, name: str) -> None:
    finished = read_run(runs / name)
    found = read_kept_run(finished)
    labels = found.run.test.labels
    for side in found.network.sides:
        accuracy = (found.predictions[side].argmax(axis=1) == labels).mean()
        assert accuracy == finished.document[side]["test_accuracy"]
    assert found.network.agreement(found.run.inputs(found.run.test[:4]))
    ink = found.run.test.images[:4] / 16
    assert np.array_equal(found.inputs(ink), found.run.inputs(found.run.test[:4]))


def test_images_keep_their_numbers_in_the_source(runs: Path) -> None:
    test, source = read_kept_run(read_run(runs / "both")).run.test, load_digits().train
    assert len(set(test.numbers.tolist())) == len(test)
    assert np.array_equal(test.images, source.images[test.numbers])
    assert np.array_equal(test.labels, source.labels[test.numbers])


def test_a_side_that_was_not_trained_has_the_others_weights(runs: Path) -> None:
    network = read_kept_run(read_run(runs / "numpy")).network
    assert network.sides == ("numpy",)
    ours, theirs = (network.engines[side].state() for side in ("numpy", "torch"))
    for key in ours:
        assert np.array_equal(ours[key], theirs[key])


def other_network(folder: Path) -> None:
    arrays = read(folder / "weights.safetensors")
    arrays["numpy/0.weight"] = arrays["numpy/0.weight"][:, :9]
    (folder / "weights.safetensors").write_bytes(encode(arrays))


def other_names(folder: Path) -> None:
    arrays = {name.removeprefix("numpy/"): array for name, array in read(folder / "weights.safetensors").items()}
    (folder / "weights.safetensors").write_bytes(encode({name.replace("/", "."): one for name, one in arrays.items()}))


def other_configuration(folder: Path) -> None:
    (folder / "config.toml").write_text('preset = "nothing"\n')


def other_data(folder: Path) -> None:
    document = json.loads((folder / "run.json").read_text())
    document["dataset"]["sha256"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(document))


def data_that_is_gone(folder: Path) -> None:
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace('dataset = "digits"', 'dataset = "/nowhere/digits.csv"'))


def fewer_images(folder: Path) -> None:
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("train-size = 60", "train-size = 6000"))


def weights_negated(folder: Path) -> None:
    arrays = {name: -array for name, array in read(folder / "weights.safetensors").items()}
    (folder / "weights.safetensors").write_bytes(encode(arrays))


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights missing": (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors cannot be read"),
    "weights cut off": (
        lambda folder: (folder / "weights.safetensors").write_bytes(b"\x10"),
        "weights.safetensors: these bytes are not a safetensors file",
    ),
    "weights of another network": (other_network, "0.weight needs shape (128, 784), got (128, 9)"),
    "weights of no side": (other_names, "weights.safetensors holds the weights of neither side"),
    "weights of another run": (weights_negated, "one of the two is not of this run"),
    "no configuration": (
        lambda folder: (folder / "config.toml").unlink(),
        "config.toml says what was trained, and cannot be read: Could not open file",
    ),
    "a configuration of nothing": (other_configuration, "cannot be read: there is no preset 'nothing'"),
    "other data": (other_data, "was made of digits with SHA-256 000000000000..., what is there now has 87ff0c9e40dc"),
    "data that is gone": (data_that_is_gone, "there is no file or folder /nowhere/digits.csv"),
    "fewer images": (fewer_images, "cannot be had: digits has 1797 images to train on"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_report_says_why_it_shows_nothing_of_weights_and_images(
    kept: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    do, why = HARM[harm]
    do(kept)
    assert run(["report", str(kept)]) == 0
    (remark,) = capsys.readouterr().err.splitlines()
    assert remark.startswith(f"{kept}: nothing is shown of its weights and of the test images: ")
    assert why in remark
    page = (kept / "report.html").read_text()
    assert "Nothing is shown of the weights and of the test images: " in page
    assert "The first weights" not in page
    assert (kept / "learning.svg").exists()
    assert not (kept / "confusion.svg").exists()


@pytest.mark.long
def test_data_that_has_moved_is_named(mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    size = ("--train-size", "30", "--steps", "5", "--test-size", "40")
    assert run(["train", "--dataset", "mnist", "--data-dir", str(mnist_dir), *size, "--out", str(folder)]) == 0
    monkeypatch.delenv("MNISTCHECK_DATA_DIR", raising=False)
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace(str(mnist_dir), str(tmp_path / "elsewhere")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(["report", str(folder)]) == 0
    assert "MNIST is not in " in (folder / "report.html").read_text()
    assert run(["report", str(folder), "--data-dir", str(mnist_dir)]) == 0
    page = (folder / "report.html").read_text()
    assert "MNIST is not in " not in page
    assert "The first weights" in page


def test_without_scikit_learn_a_report_says_so(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert run(["report", str(kept)]) == 0
    told = "nothing is shown of its weights and of the test images: they need scikit-learn: pip install"
    assert told in capsys.readouterr().err
    assert (kept / "learning.svg").exists()
    assert not (kept / "confusion.svg").exists()
