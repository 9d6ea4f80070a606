"""``mnistcheck predict``: what a kept run's network takes pictures for, in words, in numbers and in a picture."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_digits

from cli.main import run
from gradcheck.contract import Array, Backward, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory.check import EvaluationReport
from nets.inference import Network
from nets.layers import ReLU
from tests.nets.digits_written import NAMES, WRITTEN, as_idx, drawn

pytestmark = pytest.mark.usefixtures("undrawn")

# The same network as the preset's, in torch's own words.
NETWORK = "Linear(784, 32), ReLU(), Linear(32, 10)"


def seven(size: tuple[int, int] = (200, 180)) -> Image.Image:
    """Return a dark digit that is drawn on white paper."""
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).line([(60, 40), (140, 40), (95, 150)], fill=30, width=12, joint="curve")
    return image


def three() -> Image.Image:
    image = Image.new("L", (200, 180), 255)
    draw = ImageDraw.Draw(image)
    draw.arc((66, 26, 132, 92), 200, 90, fill=30, width=12)
    draw.arc((62, 80, 138, 156), 270, 160, fill=30, width=12)
    return image


def written(image: Image.Image, path: Path) -> str:
    image.save(path)
    return str(path)


def document(capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401  any JSON
    """Return the document that was printed."""
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def digits() -> tuple[Array, Array]:
    """Return scikit-learn's digits at 28 x 28, with ink from 0 to 240, and their labels."""
    source = load_digits()
    images = np.pad((source.images * 15).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    return images, source.target.astype(np.uint8)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, digits: tuple[Array, Array]) -> Path:
    """Return the folder of a run on data that has test images of its own: the last 797."""
    root = tmp_path_factory.mktemp("predict")
    (root / "data").mkdir()
    images, labels = digits
    for name, array in zip(NAMES, (images[:1000], labels[:1000], images[1000:], labels[1000:]), strict=True):
        (root / "data" / name).write_bytes(as_idx(array))
    args = ["train", "--network", NETWORK, "--dataset", str(root / "data"), "--epochs", "2", "--lr", "0.1"]
    assert run([*args, "--batch-size", "8", "--out", str(root / "run")]) == 0
    return root / "run"


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on the bundled digits, which have no test images of their own."""
    path = tmp_path_factory.mktemp("bundled") / "run"
    args = ["train", "--preset", "mlp", "--dataset", "digits", "--epochs", "10", "--lr", "0.2", "--batch-size", "32"]
    assert run([*args, "--out", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))


def by_hand(kept: Path, images: Array) -> Array:
    """Return the probabilities (n, 10) that torch's side of a run gives to images of ink from 0 to 255."""
    module = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)).double()
    module.load_state_dict(torch.load(kept / "torch.pt", weights_only=True))
    with torch.no_grad():
        return torch.softmax(module(torch.tensor(images.reshape(-1, 784) / 255)), dim=1).numpy()


@pytest.mark.long
def test_digits_drawn_with_a_pen_are_recognised_by_both_engines_that_have_learned_mnist(
    mnist_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["train", "--preset", "mlp", "--train-size", "6000", "--epochs", "4", "--lr", "0.1", "--batch-size", "32"]
    assert run([*args, "--data-dir", str(mnist_dir), "--out", str(tmp_path / "run")]) == 0
    pictures = [written(three(), tmp_path / "three.png"), written(seven(), tmp_path / "seven.png")]
    capsys.readouterr()
    assert run(["predict", str(tmp_path / "run"), *pictures, "--json"]) == 0
    for one, digit in zip(document(capsys)["images"], (3, 7), strict=True):
        assert one["prediction"] == {"numpy": digit, "torch": digit}
        assert min(max(told) for told in one["probabilities"].values()) > 0.9
        assert one["agreement"]["verdict"] == "pass"


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_a_digit_drawn_with_a_pen_is_recognised_by_both_engines_and_drawn_with_its_class(
    bundled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = written(seven(), tmp_path / "seven.png")
    light = written(seven().point(lambda level: 255 - level), tmp_path / "light.png")
    capsys.readouterr()
    assert run(["predict", str(bundled), dark]) == 0
    text = capsys.readouterr().out
    name, digit, surest, *same = text.splitlines()[1].split()
    assert (name, digit, same) == ("seven.png", "7", ["7", surest])
    assert len([line for line in text.splitlines() if line.strip()[:1].isdecimal()]) == 10
    assert "PASS: NumPy and PyTorch give the same outputs with the same weights" in text
    assert f"written to {bundled / 'prediction.png'}" in text
    with Image.open(bundled / "prediction.png") as picture:
        assert picture.width > 1000
    assert run(["predict", str(bundled), dark, light, "--json"]) == 0
    one, other = document(capsys)["images"]
    assert one["prediction"] == {"numpy": 7, "torch": 7}
    assert (one["source"], one["label"]) == (dark, None)
    assert one["probabilities"] == other["probabilities"]


def test_probabilities_are_those_of_the_saved_module_and_of_the_saved_arrays(
    kept: Path, digits: tuple[Array, Array], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits
    assert run(["predict", str(kept), "0", "5", "796", "--json"]) == 0
    told = document(capsys)
    assert (told["command"], told["verdict"], told["trained"]) == ("predict", "pass", ["numpy", "torch"])
    arrays = np.load(kept / "numpy.npz")
    for one, number in zip(told["images"], (0, 5, 796), strict=True):
        image = images[1000 + number]
        assert (one["source"], one["label"], one["trained_on"]) == (number, labels[1000 + number], False)
        np.testing.assert_allclose(one["probabilities"]["torch"], by_hand(kept, image)[0], rtol=1e-12)
        hidden = np.maximum(image.ravel() / 255 @ arrays["0.weight"].T + arrays["0.bias"], 0)
        outputs = np.exp(hidden @ arrays["2.weight"].T + arrays["2.bias"])
        np.testing.assert_allclose(one["probabilities"]["numpy"], outputs / outputs.sum(), rtol=1e-9)
        assert 0 <= one["agreement"]["rounding_noise"] <= 8


def test_a_test_image_that_is_saved_as_a_picture_has_the_same_probabilities_to_the_bit(
    kept: Path, digits: tuple[Array, Array], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = digits[0][1003]
    ink = written(Image.fromarray(image), tmp_path / "ink.png")
    paper = written(Image.fromarray(255 - image), tmp_path / "paper.png")
    assert run(["predict", str(kept), "3", ink, paper, "--json"]) == 0
    first, *others = document(capsys)["images"]
    assert [other["probabilities"] for other in others] == 2 * [first["probabilities"]]
    assert run(["predict", str(kept), ink, "--json"]) == 0
    assert document(capsys)["images"][0]["probabilities"] == first["probabilities"]


@pytest.mark.long
def test_the_surest_mistakes_are_those_of_the_saved_module(
    kept: Path, digits: tuple[Array, Array], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = digits[0][1000:], digits[1][1000:]
    probabilities = by_hand(kept, images)
    surest, classes = probabilities.max(axis=1), probabilities.argmax(axis=1)
    wrong = sorted(np.flatnonzero(classes != labels), key=lambda number: -surest[number])
    out = tmp_path / "mistakes.svg"
    assert run(["predict", str(kept), "--misclassified", "9", "--out", str(out)]) == 0
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert first == f"NumPy is wrong about {len(wrong)} of 797 test images:"
    assert head.split() == ["image", "label", "NumPy", "PyTorch"]
    for row, number in zip(rows, wrong[:9], strict=False):
        each = [str(classes[number]), f"{surest[number]:.2%}"]
        assert row.split() == [f"#{number}", str(labels[number]), *each, *each, "wrong"]
    assert out.read_text().startswith("<svg")
    assert run(["predict", str(kept), "--misclassified", "400", "--json"]) == 0
    assert [one["source"] for one in document(capsys)["images"]] == wrong


@pytest.mark.usefixtures("drawn")
def test_a_grid_has_the_first_test_images_and_lists_the_mistakes(
    kept: Path, digits: tuple[Array, Array], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(kept), "--grid", "25", "--json"]) == 0
    told = document(capsys)
    sources = [one["source"] for one in told["images"]]
    classes = by_hand(kept, digits[0][1000:]).argmax(axis=1)
    assert len(set(sources)) == 25
    assert [one["label"] for one in told["images"]] == digits[1][1000:][sources].tolist()
    assert [one["prediction"]["torch"] for one in told["images"]] == classes[sources].tolist()
    assert run(["predict", str(kept), "--grid", "25"]) == 0
    lines = capsys.readouterr().out.splitlines()
    wrong = [number for number in sources if classes[number] != digits[1][1000 + number]]
    assert lines[0] == f"NumPy is right about {25 - len(wrong)} of the first 25 test images:"
    assert [line.split()[0] for line in lines[2 : 2 + len(wrong)]] == [f"#{number}" for number in wrong]
    assert lines[-1] == f"written to {kept / 'grid.png'}"
    with Image.open(kept / "grid.png") as picture:
        assert picture.size[0] > 700


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_the_same_picture_is_drawn_twice(kept: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        assert run(["predict", str(kept), "1", "2", "--out", str(tmp_path / name)]) == 0
    for form in ("png", "svg"):
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()


def test_engines_that_disagree_fail_and_are_named(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = ReLU.forward

    def wrong(self: ReLU, x: Array, context: Context) -> tuple[Array, Backward]:
        y, backward = right(self, x, context)
        return y * (1 + 1e-9), backward

    monkeypatch.setattr(ReLU, "forward", wrong)
    assert run(["predict", str(kept), "0", "7"]) == 1
    (sentence,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert sentence.startswith(
        "FAIL: NumPy and PyTorch give other outputs with the same weights, for 2 of 2 images. In #"
    )
    assert " they part in evaluation, forward, 1.output[0, " in sentence
    assert run(["predict", str(kept), "0", "--json"]) == 1
    found = document(capsys)
    assert found["verdict"] == found["images"][0]["agreement"]["verdict"] == "fail"


def test_where_rounding_alone_moves_the_outputs_nothing_is_proved(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Network, "agreement", lambda *_: EvaluationReport(Verdict.INCONCLUSIVE, 1.0, None))
    assert run(["predict", str(kept), "0", "7"]) == 3
    told = "INCONCLUSIVE: of 2 of 2 images, rounding alone may move the outputs by more than a hundredth"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("least", [0, 2])
def test_the_worst_image_is_the_one_that_is_told(
    kept: Path, least: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noises = [3.0, 5.0, 3.0]
    noises[least] = 1.5
    reports = iter([EvaluationReport(Verdict.PASS, noise, None) for noise in noises])
    monkeypatch.setattr(Network, "agreement", lambda *_: next(reports))
    assert run(["predict", str(kept), "0", "1", "2"]) == 0
    assert "same weights: worst 5.0 x rounding noise" in capsys.readouterr().out


@pytest.mark.short(1)
@pytest.mark.parametrize("worst", [0, 1, 2])
def test_the_image_that_fails_most_is_named(
    kept: Path, worst: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, calls = ReLU.forward, iter(range(10**6))
    check = Network.agreement

    def agreement(self: Network, x: Array) -> EvaluationReport:
        error = 1e-6 if next(calls) == worst else 1e-9

        def wrong(layer: ReLU, x: Array, context: Context) -> tuple[Array, Backward]:
            y, backward = right(layer, x, context)
            return y * (1 + error), backward

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ReLU, "forward", wrong)
            return check(self, x)

    monkeypatch.setattr(Network, "agreement", agreement)
    assert run(["predict", str(kept), "3", "4", "5"]) == 1
    assert f"for 3 of 3 images. In #{3 + worst} they part in" in capsys.readouterr().out


def test_one_image_of_which_nothing_can_be_told_is_not_passed_over(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [EvaluationReport(Verdict.PASS, 2.0, None), EvaluationReport(Verdict.INCONCLUSIVE, 0.5, None)]
    found = iter(reports)
    monkeypatch.setattr(Network, "agreement", lambda *_: next(found))
    assert run(["predict", str(kept), "0", "7"]) == 3
    assert "INCONCLUSIVE: of 1 of 2 images" in capsys.readouterr().out


@pytest.fixture
def changed(kept: Path, tmp_path: Path) -> tuple[Path, dict[str, Array]]:
    """Return a copy of a run's folder that lacks its weights, and those."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for name in ("run.json", "config.toml", "metrics.jsonl"):
        (folder / name).write_bytes((kept / name).read_bytes())
    return folder, load_file(kept / "weights.safetensors")


def test_sides_that_have_parted_are_told_and_fail_nothing(
    changed: tuple[Path, dict[str, Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = changed
    weights["torch/2.bias"] = weights["torch/2.bias"] + np.eye(10)[4]
    save_file(weights, folder / "weights.safetensors")
    assert run(["predict", str(folder), "0"]) == 0
    text = capsys.readouterr().out
    assert "The weights that the two sides have learned have parted: these are two trained networks" in text
    assert "PASS: " in text
    weights["torch/2.bias"] += 1000 * np.eye(10)[4]
    save_file(weights, folder / "weights.safetensors")
    assert run(["predict", str(folder), "0"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert (row[2] == row[1], row[4:]) == (True, ["4", "100.00%", "PyTorch", "wrong"])


def lines_of(picture: Path) -> list[str]:
    """Return the lines of text that a picture has, which an SVG file tells beside their glyphs."""
    return re.findall("<!-- (.*) -->", picture.read_text())


@pytest.mark.long
@pytest.mark.usefixtures("drawn")
def test_a_grid_tells_both_sides_where_they_take_an_image_for_different_classes(
    changed: tuple[Path, dict[str, Array]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = changed
    save_file(weights, folder / "weights.safetensors")
    out = tmp_path / "grid.svg"
    assert run(["predict", str(folder), "--grid", "6", "--out", str(out)]) == 0
    assert not [line for line in lines_of(out) if line.endswith(("% NumPy", "% PyTorch"))]
    weights["torch/2.bias"] += 1000 * np.eye(10)[4]
    save_file(weights, folder / "weights.safetensors")
    capsys.readouterr()
    assert run(["predict", str(folder), "--grid", "6", "--json", "--out", str(out)]) == 0
    text = lines_of(out)
    for one in document(capsys)["images"]:
        ours, theirs = one["prediction"].values()
        lines = [f"$\\bf{{{ours}}}$  {max(one['probabilities']['numpy']):.2%}"]
        if ours != theirs:
            lines = [f"{lines[0]} NumPy", "$\\bf{4}$  100.00% PyTorch"]
        wrong = {ours, theirs} != {one["label"]}
        lines.append(f"#{one['source']}{', label ' + str(one['label']) if wrong else ''}")
        begin = text.index(lines[-1]) + 1
        assert text[begin - len(lines) : begin] == lines
    assert text[-1] == "probabilities by NumPy"


def test_a_side_that_was_not_trained_has_the_other_s_weights(
    changed: tuple[Path, dict[str, Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = changed
    for side, name in (("numpy", "PyTorch"), ("torch", "NumPy")):
        own = {key: array for key, array in weights.items() if key.startswith(side)}
        save_file(own, folder / "weights.safetensors")
        assert run(["predict", str(folder), "0", "--json"]) == 0
        told = document(capsys)
        assert told["trained"] == [side]
        ours, theirs = told["images"][0]["probabilities"].values()
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        assert run(["predict", str(folder), "0"]) == 0
        assert f"{name} was not trained in this run: it has" in capsys.readouterr().out


def test_weights_that_are_not_finite_predict_nothing(
    changed: tuple[Path, dict[str, Array]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = changed
    weights["numpy/2.bias"] = np.full(10, np.nan)
    save_file(weights, folder / "weights.safetensors")
    assert run(["predict", str(folder), "0"]) == 4
    message = f"Error: the network of {folder} predicts nothing: its outputs are not finite\n"
    assert capsys.readouterr().err == message


def test_outputs_that_are_no_probabilities_are_called_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["train", "--preset", "nielsen", "--dataset", "digits", "--epochs", "1", "--engine", "numpy"]
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert run(["predict", str(tmp_path / "run"), "0", "--json"]) == 0
    (one,) = document(capsys)["images"]
    assert "probabilities" not in one
    assert run(["predict", str(tmp_path / "run"), "0"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert f"  {max(one['outputs']['numpy']):.3f}  " in row


def test_an_image_that_was_learned_from_is_told(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(bundled), *map(str, range(6)), "--json"]) == 0
    printed = capsys.readouterr()
    learned = [f"#{one['source']}" for one in json.loads(printed.out)["images"] if one["trained_on"]]
    assert 0 < len(learned) < 6
    assert f"the run was trained on {', '.join(learned)}: " in printed.err
    assert run(["predict", str(bundled), "--grid", "9"]) == 0
    assert "the run was trained on" not in capsys.readouterr().err


def test_a_run_that_is_tested_on_what_it_has_learned_is_told_so(
    kept: Path, tmp_path: Path, digits: tuple[Array, Array], capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["train", "--dataset", str(kept.parent / "data"), "--train-size", "40", "--test-of", "train", "--steps", "2"]
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert run(["predict", str(tmp_path / "run"), "--grid", "7", "--json"]) == 0
    printed = capsys.readouterr()
    images = json.loads(printed.out)["images"]
    assert [one["trained_on"] for one in images] == 7 * [True]
    assert [one["label"] for one in images] == digits[1][[one["source"] for one in images]].tolist()
    assert "the run was trained on 7 of these images: " in printed.err


@pytest.mark.usefixtures("drawn")
def test_a_picture_needs_no_data_and_is_drawn_by_matplotlib_alone(
    kept: Path, changed: tuple[Path, dict[str, Array]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, weights = changed
    save_file(weights, folder / "weights.safetensors")
    data = kept.parent / "data"
    config = (folder / "config.toml").read_text().replace(str(data), str(tmp_path / "gone"))
    (folder / "config.toml").write_text(config)
    picture = written(seven(), tmp_path / "seven.png")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert run(["predict", str(folder), picture]) == 0
    printed = capsys.readouterr()
    assert "PASS: " in printed.out
    assert "written to" not in printed.out
    assert printed.err == "no figure is drawn without Matplotlib: pip install 'mnistcheck[figures]'\n"
    assert run(["predict", str(folder), "0"]) == 4
    assert f"there is no file or folder {tmp_path / 'gone'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "predict needs either IMAGEs, or --grid N, or --misclassified N"),
        (["0", "--grid", "4"], 2, "predict needs either IMAGEs, or --grid N, or --misclassified N"),
        (["797"], 2, "data has 797 test images, counted from 0; asked for 797"),
        (["0", "--out", "a.bmp"], 2, "--out a.bmp is no .png or .svg file"),
        (["nowhere.png"], 4, "there is no file nowhere.png"),
        ([__file__], 4, f"{__file__} is no picture: a PNG or JPEG file is needed"),
    ],
)
def test_what_cannot_be_predicted_is_told_in_one_line(
    kept: Path, args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(kept), *args]) == code
    printed = capsys.readouterr()
    assert printed.err.rstrip().endswith(message)
    assert printed.err.count("Error: ") == 1
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_a_folder_that_is_no_run_and_images_that_are_not_there_are_refused(
    bundled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(tmp_path), "0"]) == 4
    assert f"{tmp_path / 'run.json'} is missing" in capsys.readouterr().err
    assert run(["predict", str(bundled), "1797"]) == 2
    assert "digits has 1,797 images, counted from 0; asked for 1797" in capsys.readouterr().err


@pytest.mark.parametrize("own", [False, True], ids=["by name", "in the run's folder"])
def test_a_picture_is_not_written_over_an_image_that_it_is_of(
    own: bool, changed: tuple[Path, dict[str, Array]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = changed
    save_file(weights, folder / "weights.safetensors")
    picture = folder / "prediction.png" if own else tmp_path / "seven.png"
    written(seven(), picture)
    before = picture.read_bytes()
    assert run(["predict", str(folder), str(picture), *([] if own else ["--out", f"{tmp_path}/./seven.png"])]) == 2
    printed = capsys.readouterr()
    told = f"Error: the picture would be written over {picture}: name another file with --out\n"
    assert printed.err.endswith(told)
    assert printed.out == ""
    assert picture.read_bytes() == before


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["words", "json"])
def test_a_picture_that_cannot_be_written_costs_no_words(
    form: list[str], changed: tuple[Path, dict[str, Array]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = changed
    save_file(weights, folder / "weights.safetensors")
    assert run(["predict", str(folder), "0", "--out", str(tmp_path / "nowhere" / "a.png"), *form]) == 4
    printed = capsys.readouterr()
    assert printed.err == f"Error: {tmp_path / 'nowhere'}: No such file or directory\n"
    (folder / "prediction.png").mkdir()
    assert run(["predict", str(folder), "0", *form]) == 0
    other = capsys.readouterr()
    remark = f"the picture is not written: {folder / 'prediction.png'}: Is a directory; --out FILE puts it elsewhere\n"
    assert (other.out, other.err) == (printed.out, remark)
    if form:
        assert json.loads(other.out)["picture"] is None
    else:
        assert "PASS: " in other.out
        assert "written to" not in other.out


@pytest.mark.usefixtures("drawn")
def test_names_of_files_that_are_no_text_are_told_and_drawn(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"a\xff\x1b[31m\n.png")
    path, out = written(seven(), tmp_path / name), str(tmp_path / os.fsdecode(b"\xfe.png"))
    assert run(["predict", str(kept), path, "--out", out]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[1].startswith("a\\udcff\\x1b[31m\\n.png  ")
    assert text.endswith("\\udcfe.png\n")
    assert os.path.exists(out)
    assert run(["predict", str(kept), path, "--out", out, "--json"]) == 0
    told = document(capsys)
    assert told["images"][0]["source"] == str(tmp_path / "a\N{REPLACEMENT CHARACTER}\x1b[31m\n.png")
    assert told["picture"] == str(tmp_path / "\N{REPLACEMENT CHARACTER}.png")


def test_where_no_test_image_is_misclassified_nothing_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    sevens = replace(drawn(), y=np.full(12, 7, np.uint8), y_test=np.full(5, 7, np.uint8))
    WRITTEN["idx"](tmp_path / "data", sevens)
    folder = tmp_path / "run"
    args = ["train", "--dataset", str(tmp_path / "data"), "--train-size", "12", "--steps", "1"]
    assert run([*args, "--out", str(folder)]) == 0
    weights = load_file(folder / "weights.safetensors")
    for name in ("numpy/2.bias", "torch/2.bias"):
        weights[name] = 1000 * np.eye(10)[7]
    save_file(weights, folder / "weights.safetensors")
    capsys.readouterr()
    assert run(["predict", str(folder), "--misclassified", "3"]) == 0
    assert capsys.readouterr().out == "NumPy is wrong about 0 of 5 test images\n"
    assert not (folder / "misclassified.png").exists()
    assert run(["predict", str(folder), "--grid", "6"]) == 2
    assert "the run has 5 test images; asked for 6" in capsys.readouterr().err
