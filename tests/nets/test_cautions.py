"""Each warning appears where it should, and only there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from gradcheck.contract import Array
from gradcheck.trajectory.engine import Engine
from nets.cautions import Caution, doubts, shared
from nets.datasets.dataset import Dataset, Samples
from nets.initializers import Normal
from nets.losses import CrossEntropyLoss, MSELoss
from nets.presets import PRESETS, Preset
from nets.run import Run, prepare
from nets.training import Outcome, Side

FINE = Outcome(0.9, 0.8, 1.0, (0.9,) * 10)
PLAIN = replace(PRESETS["fair"], batch_size=8)


def found(preset: Preset, data: Dataset, outcome: Outcome = FINE, **given: Any) -> dict[Caution, str]:  # noqa: ANN401  the arguments of prepare
    """Return what is doubtful about a run of few images."""
    run = prepare(preset, data, **({"train_size": 40, "validation_size": 20, "test_size": 30} | given))
    told = doubts(run, {"numpy": outcome})
    assert len({doubt.caution for doubt in told}) == len(told)
    return {doubt.caution: doubt.text for doubt in told}


def test_a_plain_run_is_not_doubted(digits: Dataset) -> None:
    assert found(PLAIN, digits) == {}
    assert found(PLAIN, digits, validation_size=0) == {}


@pytest.mark.parametrize(
    ("preset", "warned"),
    [
        (
            replace(PLAIN, validation_of="test"),
            {Caution.VALIDATED_ON_TEST: "the validation images are test images, too: what is best was chosen by them"},
        ),
        (
            replace(PLAIN, test_of="train"),
            {
                Caution.TESTED_ON_TRAINING: "the test images are training images, too: the test accuracy is of what"
                " was learned"
            },
        ),
        (
            replace(PLAIN, validation_of="train"),
            {Caution.VALIDATED_ON_TRAINING: "the validation images are training images, too: they say nothing new"},
        ),
        (
            replace(PLAIN, reported_loss=MSELoss()),
            {Caution.OTHER_LOSS: "the loss told is MSELoss, but the one descended is CrossEntropyLoss"},
        ),
        (
            replace(PLAIN, reported_loss=CrossEntropyLoss(label_smoothing=0.1)),
            {
                Caution.OTHER_LOSS: "the loss told is CrossEntropyLoss(label_smoothing=0.1), but the one descended is"
                " CrossEntropyLoss"
            },
        ),
        (
            replace(PLAIN, drop_last=True, batch_size=9),
            {Caution.IMAGES_DROPPED: "the last 4 of 40 images are dropped in every epoch, others each time"},
        ),
        (replace(PLAIN, drop_last=True), {}),
        (replace(PLAIN, batch_size=9), {}),
        (replace(PLAIN, reported_loss=CrossEntropyLoss()), {}),
    ],
)
def test_a_run_is_doubted_for_what_it_is(preset: Preset, warned: dict[Caution, str], digits: Dataset) -> None:
    assert found(preset, digits) == warned


def test_all_three_at_once_are_all_told(digits: Dataset) -> None:
    both = replace(PLAIN, validation_of="train", test_of="train")
    assert set(found(both, digits)) == {
        Caution.VALIDATED_ON_TEST,
        Caution.TESTED_ON_TRAINING,
        Caution.VALIDATED_ON_TRAINING,
    }


@pytest.mark.parametrize(
    ("recalls", "text"),
    [
        ((0.9,) * 9 + (0.0,), "recognises no test image of class 9, though its accuracy is 80.0%"),
        ((0.0, 1.0) * 5, "recognises no test image of classes 0, 2, 4, 6, 8, though its accuracy is 80.0%"),
    ],
)
def test_a_class_that_is_never_recalled_is_told(recalls: tuple[float, ...], text: str, digits: Dataset) -> None:
    outcome = replace(FINE, recalls=recalls)
    assert found(PLAIN, digits, outcome) == {Caution.CLASS_NOT_RECALLED: text}


# A network of one layer, so that what its outputs are can be told in closed form.
SIGMOIDS = replace(PLAIN, network="Linear(784, 10), Sigmoid()", loss=MSELoss(), weights=Normal(0, 0.1))
HIDES = "though its accuracy is {:.1%}"


def with_biases(preset: Preset, data: Dataset, biases: list[float]) -> tuple[str, Array, Outcome]:
    """Return what is said of classes not recalled, the outputs before the sigmoid, and the outcome."""
    run = prepare(preset, data, train_size=40, test_size=100)
    engine = run.numpy_engine()
    engine.load(engine.state() | {"param/0.bias": np.array(biases)})
    outcome = Side(run, engine).outcome()
    said = {doubt.caution: doubt.text for doubt in doubts(run, {"numpy": outcome})}
    scores = run.inputs(run.test) @ engine.state()["param/0.weight"].T + biases
    return said.get(Caution.CLASS_NOT_RECALLED, ""), scores, outcome


def fitted(data: Dataset) -> tuple[Run, Engine]:
    """Return an engine whose outputs are those of scikit-learn's logistic regression, a class against the rest."""
    run = prepare(SIGMOIDS, data, train_size=1000, test_size=100)
    model = OneVsRestClassifier(LogisticRegression()).fit(run.inputs(run.train), run.train.labels)
    engine = run.numpy_engine()
    weight, bias = (
        np.concatenate([getattr(one, name) for one in model.estimators_]) for name in ("coef_", "intercept_")
    )
    engine.load(engine.state() | {"param/0.weight": weight, "param/0.bias": bias})
    return run, engine


def test_an_output_that_is_stuck_is_told_with_its_largest_value(digits: Dataset) -> None:
    recalled = Side(*fitted(digits)).outcome()
    assert recalled.recalls.count(0.0) == 0
    run, engine = fitted(digits)
    state = engine.state()
    state["param/0.bias"][7] -= 20
    engine.load(state)
    outcome = Side(run, engine).outcome()
    (doubt,) = doubts(run, {"numpy": outcome})
    outputs = expit(run.inputs(run.test) @ state["param/0.weight"].T + state["param/0.bias"])
    assert outcome.peaks is not None
    np.testing.assert_allclose(outcome.peaks, outputs.max(axis=0), rtol=1e-12)
    assert doubt.text == (
        f"recognises no test image of class 7, {HIDES.format(outcome.test_accuracy)}: output 7, which should come to 1,"
        f" is stuck low: its largest on all test images is {outputs[:, 7].max():.2g}"
    )


def test_outputs_that_are_not_low_are_not_called_stuck(digits: Dataset) -> None:
    said, scores, outcome = with_biases(SIGMOIDS, digits, [3.0] * 9 + [30.0])
    assert expit(scores).max(axis=0).min() > 0.5
    assert (
        said == f"recognises no test image of classes 0, 1, 2, 3, 4, 5, 6, 7, 8, {HIDES.format(outcome.test_accuracy)}"
    )


def test_of_several_outputs_only_those_that_are_low_are_called_stuck(digits: Dataset) -> None:
    said, scores, outcome = with_biases(SIGMOIDS, digits, [-20.0, -15.0, *[3.0] * 7, 30.0])
    largest = expit(scores[:, :2]).max()
    assert said == (
        f"recognises no test image of classes 0, 1, 2, 3, 4, 5, 6, 7, 8, {HIDES.format(outcome.test_accuracy)}:"
        f" outputs 0, 1, which should come to 1, are stuck low: their largest on all test images is {largest:.2g}"
    )


@pytest.mark.parametrize(
    "preset",
    [
        replace(SIGMOIDS, network="Linear(784, 10)"),
        replace(SIGMOIDS, network="Linear(784, 10), Tanh()"),
        replace(SIGMOIDS, loss=CrossEntropyLoss()),  # of classes: no output should come to 1
    ],
    ids=["no sigmoid", "tanh", "classes"],
)
def test_what_need_not_come_to_1_is_not_called_stuck(preset: Preset, digits: Dataset) -> None:
    said, _, outcome = with_biases(preset, digits, [-20.0] + [0.0] * 9)
    assert said.startswith("recognises no test image of class")
    assert said.endswith(HIDES.format(outcome.test_accuracy))


def test_of_a_run_that_kept_no_largest_outputs_nothing_more_is_said(digits: Dataset) -> None:
    outcome = replace(FINE, recalls=(0.0, *(0.9,) * 9))
    low = replace(outcome, peaks=(0.1, *(0.9,) * 9))
    bare = f"recognises no test image of class 0, {HIDES.format(0.8)}"
    assert found(SIGMOIDS, digits, outcome) == {Caution.CLASS_NOT_RECALLED: bare}
    assert found(SIGMOIDS, digits, low)[Caution.CLASS_NOT_RECALLED].startswith(f"{bare}: output 0, ")
    unknown = replace(outcome, peaks=(math.nan, *(0.9,) * 9))
    assert found(SIGMOIDS, digits, unknown) == {Caution.CLASS_NOT_RECALLED: bare}


def test_a_class_without_images_and_one_hardly_recalled_are_not_told(digits: Dataset) -> None:
    assert found(PLAIN, digits, replace(FINE, recalls=(None, 0.001, *(0.9,) * 8))) == {}


def test_the_side_that_does_not_recall_is_named(digits: Dataset) -> None:
    run = prepare(PLAIN, digits, train_size=40, test_size=30)
    told = doubts(run, {"numpy": FINE, "torch": replace(FINE, recalls=(0.0,) * 10)})
    assert [(doubt.caution, doubt.side) for doubt in told] == [(Caution.CLASS_NOT_RECALLED, "torch")]


def numbered(count: int, begin: int = 0) -> Samples:
    """Return images that all differ."""
    images = np.zeros((count, 28, 28), np.uint8)
    images.reshape(count, 784)[:, :4] = np.arange(begin, begin + count, dtype="<u4").reshape(-1, 1).view(np.uint8)
    return Samples(images, np.arange(count) % 10)


@pytest.mark.parametrize(("common", "warned"), [(0, False), (1, False), (2, True), (100, True)])
def test_images_in_common_are_told_from_one_in_a_hundred_on(common: int, warned: bool) -> None:
    test = numbered(200, begin=500 - common)
    data = Dataset("numbered", "", 255, numbered(500), test)
    told = found(PLAIN, data, train_size=500, validation_size=0, test_size=200)
    assert (Caution.TESTED_ON_TRAINING in told) == warned
    if warned:
        assert told[Caution.TESTED_ON_TRAINING].startswith(f"{common:,} of 200 test images are training images, too")


@pytest.mark.parametrize("order", [lambda n: np.arange(n), lambda n: np.arange(n)[::-1]])
def test_what_is_shared_is_counted_pixel_by_pixel(order: Callable[[int], np.ndarray[Any, Any]]) -> None:
    images = numbered(50)[order(50)]
    assert shared(images, images) == 50
    assert shared(images, numbered(50, begin=30)) == 20
    assert shared(images, numbered(50, begin=50)) == 0
    other = Samples(images.images.copy(), images.labels)
    other.images[:, 27, 27] += 1
    assert shared(images, other) == 0
