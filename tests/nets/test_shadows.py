"""Shadows of a whole run: what a rounding at the start does to the end, and what it does not explain."""

from __future__ import annotations

import numpy as np
import pytest

from nets.datasets.catalogue import find_dataset
from nets.presets import PRESETS
from nets.run import Run, prepare
from nets.shadows import apart, may_be_rounding, shadow, spread
from nets.weights import state_dict


@pytest.fixture(scope="module")
def fair() -> Run:
    return prepare(PRESETS["fair"], find_dataset("digits", None).load(), train_size=20, steps=2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_shadow_starts_within_two_units_in_the_last_place_and_not_where_the_run_does(fair: Run, dtype: str) -> None:
    run = prepare(fair.preset, fair.dataset, train_size=20, steps=2, dtype=dtype)
    own = state_dict(run.model())
    for index in range(3):
        nudged = state_dict(shadow(run, index).model())
        for name, array in nudged.items():
            assert array.dtype == run.dtype
            np.testing.assert_allclose(array, own[name], rtol=2.5 * float(np.finfo(run.dtype).eps), atol=0)
        assert any((array != own[name]).any() for name, array in nudged.items())


def test_shadows_are_of_their_own_and_the_same_again(fair: Run) -> None:
    first, second, again = (state_dict(shadow(fair, index).model())["0.weight"] for index in (0, 1, 0))
    assert (first != second).any()
    assert (first == again).all()


def test_all_else_of_a_shadow_is_the_runs(fair: Run) -> None:
    for (x, y, lr), (same_x, same_y, same_lr) in zip(fair.batches(), shadow(fair, 0).batches(), strict=True):
        assert (x == same_x).all()
        assert (y == same_y).all()
        assert lr == same_lr


def accuracies(test: float, train: float = 0.5) -> dict[str, float]:
    return {"test_accuracy": test, "train_accuracy": train}


def test_a_spread_is_of_any_two() -> None:
    assert spread([accuracies(0.5), accuracies(0.75, 0.25), accuracies(0.25)]) == accuracies(0.5, 0.25)
    assert apart(accuracies(0.5, 0.25), accuracies(0.75, 0.25)) == accuracies(0.25, 0)


@pytest.mark.parametrize(
    ("test", "train", "explained"),
    [(0.07, 0.0, True), (0.08, 0.0, False), (0.0, 0.1, True), (0.0, 0.2, False), (0.07, 0.2, False)],
)
def test_three_times_the_spread_and_one_image_are_allowed_in_either_accuracy(
    test: float, train: float, explained: bool
) -> None:
    images = {"test_accuracy": 100, "train_accuracy": 10}
    assert may_be_rounding(accuracies(test, train), accuracies(0.02, 0.0), images) == explained
