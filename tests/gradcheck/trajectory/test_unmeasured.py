"""Where no noise is known, half of the digits are left to rounding, of the largest number of a step."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.trajectory.unmeasured import unexplained

BEFORE = {"param/w": np.array([2.0, -1.0])}
GRAD, PARAM = "backward/w", "update/param/w"


def step(grad: Array, after: Array, dtype: type = np.float64) -> dict[str, Array]:
    return {GRAD: np.asarray(grad, dtype), PARAM: np.asarray(after, dtype)}


@pytest.mark.parametrize(("error", "verdict"), [(1e-7, True), (1e-9, False)])
def test_half_of_the_digits_of_the_largest_number_decide(error: float, verdict: bool) -> None:
    theirs = step(np.array([0.5, 1e-9]), np.array([1.95, -1.0]))
    ours = step(theirs[GRAD] + [0, error], theirs[PARAM])
    assert unexplained(GRAD, ours, theirs, BEFORE) is verdict
    assert unexplained(GRAD, theirs, theirs, BEFORE) is False


def test_a_gradient_that_is_noise_may_move_a_parameter_either_way() -> None:
    theirs = step(np.array([0.5, 1e-12]), np.array([1.99, -1.01]))
    ours = step(np.array([0.5, -1e-12]), np.array([1.99, -0.99]))
    assert not unexplained(PARAM, ours, theirs, BEFORE)
    ours = step(np.array([0.5, 1e-12]), np.array([1.98, -1.01]))
    assert unexplained(PARAM, ours, theirs, BEFORE)


def test_without_its_gradient_nothing_is_told_of_a_move_of_its_size() -> None:
    theirs = {PARAM: np.array([1.99, -1.01])}
    assert not unexplained(PARAM, {PARAM: np.array([2.01, -1.01])}, theirs, BEFORE)
    assert unexplained(PARAM, {PARAM: np.array([np.nan, -1.01])}, theirs, BEFORE)


def test_in_float32_a_kink_may_decide_what_flows_back_but_not_the_forward_pass() -> None:
    before = {"param/w": BEFORE["param/w"].astype(np.float32)}
    theirs = step(np.array([0.5, 0.1]), np.array([1.99, -1.01]), np.float32)
    ours = step(np.array([5.0, 0.1]), np.array([1.0, -1.01]), np.float32)
    assert not unexplained(GRAD, ours, theirs, before)
    assert not unexplained(PARAM, ours, theirs, before)
    outputs = {"forward/outputs": np.array([1.0, 1.01], np.float32)}
    assert unexplained("forward/outputs", outputs, {"forward/outputs": np.ones(2, np.float32)}, before)


def test_what_must_be_equal_or_has_another_shape_is_never_explained() -> None:
    assert unexplained("update/step", {"update/step": np.asarray(2)}, {"update/step": np.asarray(1)}, {})
    assert unexplained(GRAD, {GRAD: np.ones((1, 2))}, {GRAD: np.ones(2)}, {})
