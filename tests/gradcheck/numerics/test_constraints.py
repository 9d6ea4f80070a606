"""Where single elements cannot move, directions are found that keep what the domain asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcheck.contract import Array, Case, Context
from gradcheck.numerics.constraints import Within, directions_within
from gradcheck.numerics.directions import Point
from gradcheck.numerics.functions import Arrays, Function, Pullback

RNG = np.random.default_rng(0)
SQUARE = RNG.standard_normal((4, 4))
ROWS = RNG.dirichlet(np.ones(5), 3)
SPARSE = np.array([[0.0, 0.25, 0.75], [0.5, 0.0, 0.5]])
UNIT = SQUARE / np.linalg.norm(SQUARE, axis=1, keepdims=True)
PERMUTED = sum(share * np.eye(4)[RNG.permutation(4)] for share in RNG.dirichlet(np.ones(8)))
DISTANCES = np.abs(SQUARE + SQUARE.T) * (1 - np.eye(4))

Holds = Callable[[Array], bool]


def within(holds: Holds, x: Array) -> Within | None:
    """Return the directions that are found for a function that is defined where ``holds`` is true."""

    def call(variables: Arrays, _: Context) -> tuple[Array, Pullback]:
        if not holds(variables["input"]):
            raise ValueError("outside")
        return np.square(variables["input"]), lambda dy: {"input": dy}

    function = Function({"input": x}, ("input",), call)
    point = Point(function, {"input": x}, Case(None).context, x**2, np.ones_like(x), [])
    return directions_within(point, "input", 6, np.random.default_rng(1))


def sums_to_one(x: Array) -> bool:
    return np.allclose(x.sum(axis=-1), 1)


CONSTRAINED: dict[str, tuple[Holds, Array, str]] = {
    "all sum to 1": (lambda x: np.isclose(x.sum(), 1), ROWS / 3, "the sum of all elements"),
    "rows that sum to 1": (sums_to_one, ROWS, "the sums along axis 1"),
    "and zeros that cannot be less": (
        lambda x: sums_to_one(x) and bool((x >= 0).all()), SPARSE, "the sums along axis 1 and zeros"),
    "sums of rows and columns": (
        lambda x: sums_to_one(x) and sums_to_one(x.T), np.asarray(PERMUTED), "the sums along the last two axes"),
    "symmetric": (lambda x: np.array_equal(x, x.T), SQUARE + SQUARE.T, "symmetry"),
    "symmetric, nearly": (lambda x: np.allclose(x, x.T), SQUARE + SQUARE.T, "symmetry"),
    "symmetric without diagonal": (
        lambda x: np.array_equal(x, x.T) and not np.diag(x).any(), DISTANCES, "symmetry and zeros"),
    "skew": (lambda x: np.array_equal(x, -x.T), SQUARE - SQUARE.T, "skew symmetry"),
    "unit vectors": (lambda x: np.allclose((x * x).sum(axis=1), 1), UNIT, "the norms along axis 1"),
    "orthogonal": (lambda x: np.allclose(x.T @ x, np.eye(4)), np.linalg.qr(SQUARE)[0], "the products of columns"),
    "equal rows": (lambda x: not np.ptp(x, axis=0).any(), np.tile(ROWS[0], (3, 1)), "equality along axis 0"),
}  # fmt: skip


@pytest.mark.parametrize(("holds", "x", "keeps"), CONSTRAINED.values(), ids=CONSTRAINED)
def test_directions_keep_what_the_domain_asks_for(holds: Holds, x: Array, keeps: str) -> None:
    found = within(holds, x)
    assert found is not None
    assert found.keeps == keeps
    assert found.directions.shape == (6, *x.shape)
    for direction in found.directions:
        assert direction.any()
        assert holds(x + 1e-5 * direction)
        assert holds(x - 1e-5 * direction)


def test_whether_no_element_moves_by_itself_is_said() -> None:
    symmetric, skew = (within(*CONSTRAINED[name][:2]) for name in ("symmetric", "skew"))
    assert symmetric is not None
    assert skew is not None
    assert (symmetric.always, skew.always) == (False, True)


@pytest.mark.parametrize(
    "holds", [lambda _: True, lambda x: bool((x > 0).all()), lambda x: bool((np.diff(x) >= -1).all())]
)
def test_where_single_elements_move_no_directions_are_sought(holds: Holds) -> None:
    assert within(holds, ROWS) is None


def test_a_domain_of_one_point_has_no_directions() -> None:
    assert within(lambda x: np.array_equal(x, ROWS), ROWS) is None
    assert within(lambda x: np.array_equal(x, np.ones(1)), np.ones(1)) is None
