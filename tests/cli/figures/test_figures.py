"""The figures of a run beside the trajectory: each shows the numbers that it says it shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cli.figures import confusion as confusion_figure
from cli.figures import drawing
from cli.figures import learning as learning_figure
from cli.figures import weights as weights_figure
from cli.figures.drawing import NARROW, WIDE, rendered
from cli.main import run
from cli.runs.finished import read_run
from cli.runs.kept import read_kept_run
from gradcheck.contract import Array
from nets.inference import confusion, mistakes

PLAIN = ("train", "--preset", "mlp", "--dataset", "digits", "--train-size", "200", "--validation-size", "100")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a fair run, and with one of three epochs that is validated."""
    folder = tmp_path_factory.mktemp("runs")
    fair = ("train", "--fair", "--dataset", "digits", "--steps", "70", "--no-sensitivity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "rendered", lambda _, *forms: [b"" for _ in forms])
        assert run([*fair, "--out", str(folder / "fair")]) == 0
        assert run([*PLAIN, "--epochs", "3", "--batch-size", "10", "--out", str(folder / "plain")]) == 0
    return folder


def line(figure: Figure, panel: int, name: str) -> tuple[Array, Array]:
    """Return x and y of the one line of a name."""
    (found,) = (one for one in figure.axes[panel].get_lines() if one.get_gid() == name)
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


@pytest.mark.parametrize(("panel", "what"), [(0, "loss"), (1, "accuracy")])
@pytest.mark.parametrize("side", ["numpy", "torch"])
def test_a_fair_run_is_drawn_in_means_of_its_steps(runs: Path, panel: int, what: str, side: str) -> None:
    epochs, values = line(learning_figure.draw(read_run(runs / "fair")), panel, f"{side}-train")
    told = [json.loads(one) for one in (runs / "fair" / "metrics.jsonl").read_text().splitlines()]
    ends = np.rint(epochs * 1000).astype(int)  # epochs of 1,000 batches
    assert (len(ends), ends[-1]) == (30, 70)
    for begin, end, value in zip([0, *ends], ends, values, strict=False):
        assert value == pytest.approx(np.mean([one[f"{side}_{what}"] for one in told[begin:end]]), rel=1e-12)


def test_the_accuracy_of_a_batch_is_what_its_outputs_say(runs: Path) -> None:
    told = [json.loads(one) for one in (runs / "fair" / "metrics.jsonl").read_text().splitlines()]
    for one in told:  # of one image: its loss is above log 2 unless its class has more than half of all probability
        assert one["numpy_accuracy"] == one["torch_accuracy"]
        assert one["numpy_accuracy"] in (0.0, 1.0)
        assert one["numpy_accuracy"] == 1.0 or one["numpy_loss"] > np.log(2)
        assert one["numpy_accuracy"] == 0.0 or one["numpy_loss"] < np.log(10)


@pytest.mark.parametrize("side", ["numpy", "torch"])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_any_other_run_is_drawn_a_point_an_epoch(runs: Path, side: str, part: str) -> None:
    figure = learning_figure.draw(read_run(runs / "plain"))
    epochs = json.loads((runs / "plain" / "run.json").read_text())["epochs"]
    for panel, what in enumerate(("loss", "accuracy")):
        epoch, value = line(figure, panel, f"{side}-{part}")
        assert epoch.tolist() == [1, 2, 3]
        assert value.tolist() == [one[side][f"{part}_{what}"] for one in epochs]


def test_the_confusion_matrix_is_that_of_the_weights_that_were_written(runs: Path) -> None:
    kept = read_kept_run(read_run(runs / "plain"))
    test = kept.run.test
    state = torch.load(runs / "plain" / "torch.pt", weights_only=True)
    module = torch.nn.Sequential(
        torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    ).double()
    module.load_state_dict(state)
    outputs = module(torch.tensor(test.images.reshape(len(test), -1) / 16)).detach()
    predicted = outputs.argmax(dim=1).numpy()
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (test.labels, predicted), 1)
    found = confusion(kept.predictions["torch"], test.labels)
    assert np.array_equal(found, expected)
    assert np.allclose(kept.predictions["torch"], outputs.softmax(dim=1).numpy(), rtol=1e-12, atol=0)
    told = json.loads((runs / "plain" / "run.json").read_text())["torch"]
    assert np.trace(found) / found.sum() == told["test_accuracy"]
    figure = confusion_figure.draw({"torch": found})
    (axes,) = figure.axes
    shown = {tuple(map(round, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert shown == {(i, j): f"{expected[i, j]:,}" for i, j in np.ndindex(10, 10) if expected[i, j]}
    recalls = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert recalls == [f"{recall:.1%}" for recall in told["recalls"]]


def test_equal_matrices_are_drawn_once_and_others_both() -> None:
    one = np.eye(10, dtype=int)
    assert len(confusion_figure.draw({"numpy": one, "torch": one.copy()}).axes) == 1
    assert len(confusion_figure.draw({"numpy": one, "torch": 2 * one}).axes) == 2


def test_the_worst_mistakes_are_the_surest() -> None:
    probabilities = np.full((6, 10), 0.01)
    for row, (column, value) in enumerate([(3, 0.6), (3, 0.9), (4, 0.7), (5, 0.8), (6, 0.9), (7, 0.95)]):
        probabilities[row, column] = value
    labels = np.array([0, 0, 4, 0, 0, 7])
    assert mistakes(probabilities, labels, 3).tolist() == [1, 4, 3]
    assert mistakes(probabilities, labels, 9).tolist() == [1, 4, 3, 0]


def test_the_first_weights_are_drawn_as_they_are(runs: Path) -> None:
    kept = read_kept_run(read_run(runs / "fair"))
    first = weights_figure.first_weights(kept.network.program.model(), kept.network.weights)
    assert first is not None
    assert first.name == "0.weight"
    figure = weights_figure.draw(first)
    with np.load(runs / "fair" / "numpy.npz") as arrays:
        weight = arrays["0.weight"].reshape(-1, 28, 28)
    image = np.asarray(figure.axes[0].get_images()[0].get_array())
    for unit in range(25):
        row, column = divmod(unit, 5)
        assert np.array_equal(image[row * 31 :, column * 31 :][:28, :28], weight[unit])
    assert "0.weight, 25 of 128" in figure.get_supxlabel()


def test_filters_are_drawn_and_what_is_neither_is_not() -> None:
    from nets.layers import Conv2d, Embedding, Sequential
    from nets.notation import layers_of

    filters = Sequential((Conv2d.create(1, 3, (2, 5)),))
    first = weights_figure.first_weights(filters, {"numpy": {"0.weight": np.arange(30.0).reshape(3, 1, 2, 5)}})
    assert first is not None
    assert first.images["numpy"].shape == (3, 2, 5)
    weights_figure.draw(first)
    for network in ((Embedding.create(4, 5),), layers_of("ReLU()"), layers_of("Linear(20, 3)")):
        assert weights_figure.first_weights(Sequential(network), {"numpy": {}}) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_weights_of_any_size_are_drawn(value: float) -> None:
    images = {side: np.full((2, 28, 28), value) for side in ("numpy", "torch")}
    for form in ("svg", "png"):
        assert rendered(lambda: weights_figure.draw(weights_figure.FirstWeights("0.weight", images)), form)


@pytest.mark.long
@pytest.mark.parametrize(
    ("option", "per_epoch"), [pytest.param("--keep-last", 4, marks=pytest.mark.long), ("--drop-last", 3)]
)
def test_the_epochs_of_a_fair_run_are_those_that_it_took(tmp_path: Path, option: str, per_epoch: int) -> None:
    size = ("--train-size", "10", "--batch-size", "3", "--test-size", "20", "--epochs", "2", option)
    args = ("train", "--fair", "--dataset", "digits", *size, "--no-sensitivity", "--out", str(tmp_path / "run"))
    assert run(args) == 0
    figure = learning_figure.draw(read_run(tmp_path / "run"))
    epochs, _ = line(figure, 0, "numpy-train")
    assert epochs.tolist() == [(step + 1) / per_epoch for step in range(2 * per_epoch)]
    assert f"averaged over {2 * per_epoch} stretches of the run" in " ".join(figure.get_supxlabel().split())


def test_weights_that_differ_say_by_how_much() -> None:
    images = {"numpy": np.zeros((2, 28, 28)), "torch": np.zeros((2, 28, 28))}
    images["torch"][1, 3, 4], images["torch"][0, 0, 0] = -0.25, 0.125
    figure = weights_figure.draw(weights_figure.FirstWeights("0.weight", images))
    assert "differ by at most 2.5e-01" in " ".join(figure.get_supxlabel().split())


def test_one_side_alone_has_one_panel() -> None:
    figure = weights_figure.draw(weights_figure.FirstWeights("0.weight", {"numpy": np.ones((3, 28, 28))}))
    assert len(figure.axes) == 1


@pytest.mark.parametrize("name", ["fair", "plain"])
def test_a_phone_has_the_same_figures_below_each_other(runs: Path, name: str) -> None:
    finished = read_run(runs / name)
    wide, narrow = (learning_figure.draw(finished, width) for width in (WIDE, NARROW))
    assert (wide.get_figwidth(), narrow.get_figwidth()) == (WIDE, NARROW)
    for panel in (0, 1):
        for ours, theirs in zip(wide.axes[panel].get_lines(), narrow.axes[panel].get_lines(), strict=True):
            assert np.array_equal(np.asarray(ours.get_xydata()), np.asarray(theirs.get_xydata()))
