"""Each warning appears where it should, and only there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nets.cautions import Caution, doubts, shared
from nets.datasets.dataset import Dataset, Samples
from nets.datasets.digits import load_digits
from nets.losses import CrossEntropyLoss, MSELoss
from nets.presets import PRESETS, Preset
from nets.run import prepare
from nets.training import Outcome

FINE = Outcome(0.9, 0.8, 1.0, (0.9,) * 10)
PLAIN = replace(PRESETS["fair"], batch_size=8)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


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


def test_other_parameters_make_another_loss(digits: Dataset) -> None:
    smooth = replace(PLAIN, reported_loss=CrossEntropyLoss(label_smoothing=0.1))
    assert found(smooth, digits) == {
        Caution.OTHER_LOSS: "the loss told is CrossEntropyLoss(label_smoothing=0.1), but the one descended is"
        " CrossEntropyLoss"
    }


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
        ((0.9,) * 9 + (0.0,), "recognises no test image of class 9, which an accuracy of 80.0% hides"),
        ((0.0, 1.0) * 5, "recognises no test image of classes 0, 2, 4, 6, 8, which an accuracy of 80.0% hides"),
    ],
)
def test_a_class_that_is_never_recalled_is_told(recalls: tuple[float, ...], text: str, digits: Dataset) -> None:
    outcome = replace(FINE, recalls=recalls)
    assert found(PLAIN, digits, outcome) == {Caution.CLASS_NOT_RECALLED: text}


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
