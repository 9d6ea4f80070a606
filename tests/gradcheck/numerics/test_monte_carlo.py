"""What an operation of `Nudging` arrays rounds is nudged, and what is exact is not."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.numerics.monte_carlo import nudging, plain_of

X = np.array([1.0, 3.0, -0.7])


def results(operation: object, x: Array) -> list[Array]:
    """Return what an operation gives in ten runs."""
    assert callable(operation)
    return [np.asarray(plain_of(operation(nudging(x, np.random.default_rng(seed))))) for seed in range(10)]


@pytest.mark.parametrize(
    "operation", [lambda x: x + 0, lambda x: x * 1.0, lambda x: x / 1, lambda x: np.maximum(x, 0.5), lambda x: -x]
)
def test_what_is_exact_is_left_alone(operation: object) -> None:
    first, *others = results(operation, X)
    assert all(np.array_equal(first, other) for other in others)


OTHERS = {"array": np.eye(3), "list": np.eye(3).tolist(), "narrow": np.ones((3, 2)).tolist()}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_product_of_matrices_keeps_its_shape(other: list[list[float]]) -> None:
    assert {y.shape for y in results(lambda x: x[None] @ other, X)} == {(1, len(other[0]))}


@pytest.mark.parametrize(
    "operation", [lambda x: x + 1e-20, lambda x: x - 1e-17, lambda x: 3e-20 + x, lambda x: x * 1.1]
)
def test_what_absorbs_a_term_is_nudged_though_it_does_not_move(operation: object) -> None:
    found = np.array(results(operation, X))
    assert (found.std(axis=0) > 0).all()
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=1e-15)
