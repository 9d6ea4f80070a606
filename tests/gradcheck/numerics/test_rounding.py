"""Nudges are of one unit in the last place, and differences survive what is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.numerics.rounding import (
    Recorder,
    hashed,
    largest_difference,
    noise_of,
    nudged,
    roughness,
    spread,
    update_rounding,
)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_nudge_moves_by_one_unit_in_the_last_place_on_average(dtype: type) -> None:
    x: Array = np.random.default_rng(0).uniform(1, 2, 10_000).astype(dtype)
    units = (nudged(x, np.random.default_rng(1)) - x) / np.spacing(x)
    assert units.dtype == dtype
    assert np.abs(units).max() <= 4  # 2 eps of 1.99 are nearly 4 units
    assert abs(units.mean()) < 0.1
    assert 1 < np.abs(units).mean() < 2


FLOATS = [np.float32, np.float64, np.longdouble]


def units(nudge: Array, x: Array) -> Array:
    """Return by how many eps of an array's own precision its elements were moved, relative to themselves."""
    return (nudge - x) / x / np.finfo(x.dtype).eps


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [1.0, -3e-5, 7e20])
def test_a_nudge_is_in_units_of_the_arrays_own_precision(dtype: type, value: float) -> None:
    x: Array = np.full((), value, dtype)
    rng = np.random.default_rng(0)
    moved = [nudged(x, rng) for _ in range(200)]
    assert all((one.dtype, one.shape) == (dtype, ()) for one in moved)
    by = np.array([float(units(one, x)) for one in moved])
    assert np.abs(by).max() <= 2.6  # a nudge is rounded itself, by up to half a unit
    assert by.min() < -1.5
    assert by.max() > 1.5
    assert len({*by}) > 3


def plainly(array: Array, rng: np.random.Generator, precision: type | None) -> Array:
    """Return what `nudged` does, as its formula says: array (1 + u eps), u uniform in [-2, 2) by the hashed value."""
    first, second = rng.bit_generator.random_raw(2)
    mixed = array.astype(np.float64).reshape(-1).view(np.uint64) * (first | np.uint64(1))
    mixed = (mixed ^ (mixed >> np.uint64(32))) * (second | np.uint64(1))
    u = mixed.view(np.int64).reshape(array.shape) * 2.0**-62
    return np.asarray(array + array * np.asarray(float(np.finfo(precision or array.dtype).eps) * u, array.dtype))


@pytest.mark.parametrize("precision", [None, np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float16, *FLOATS])
@pytest.mark.parametrize("shape", [(), (0, 2), (7,), (3, 4, 5)], ids=str)
def test_nudges_are_those_of_the_plain_formula_bit_for_bit(
    shape: tuple[int, ...], dtype: type, precision: type | None
) -> None:
    x: Array = np.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    kept = x.copy()
    quick, plain = (nudge(x, np.random.default_rng(1), precision) for nudge in (nudged, plainly))
    assert (quick.dtype, quick.shape, quick.tolist()) == (plain.dtype, plain.shape, plain.tolist())
    assert np.array_equal(x, kept)


def test_a_nudge_is_in_units_of_the_precision_that_is_given() -> None:
    x = np.linspace(1, 2, 100)
    by = (nudged(x, np.random.default_rng(0), np.float32) - x) / x / np.finfo(np.float32).eps
    assert 1.5 < np.abs(by).max() <= 2
    assert nudged(x, np.random.default_rng(0), np.float32).dtype == np.float64


@pytest.mark.parametrize("dtype", FLOATS)
def test_equal_elements_are_nudged_alike_and_unequal_ones_are_not(dtype: type) -> None:
    values: Array = np.random.default_rng(0).uniform(1, 2, 50).astype(dtype)
    which = np.random.default_rng(1).integers(0, 50, (20, 30))
    x = values[which]
    by = nudged(x, np.random.default_rng(2)) - x
    for i in range(50):
        assert len({*by[which == i].tolist()}) == 1
    fractions = hashed(x, np.random.default_rng(2))
    assert len({*fractions.ravel().tolist()}) == 50
    assert ((fractions >= 0) & (fractions < 1)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "view",
    [lambda x: x.T, lambda x: x[::2, ::-3], lambda x: np.asfortranarray(x), lambda x: x[:, 3], lambda x: x[1:1]],
    ids=["transposed", "strided", "Fortran", "column", "empty"],
)
def test_a_nudge_depends_on_values_and_not_on_where_they_lie(dtype: type, view: Callable[[Array], Array]) -> None:
    x = view(np.random.default_rng(0).standard_normal((8, 9)).astype(dtype))
    before = x.copy()
    moved = nudged(x, np.random.default_rng(1))
    assert np.array_equal(moved, nudged(np.ascontiguousarray(x), np.random.default_rng(1)))
    assert np.array_equal(x, before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_nudge_is_another_and_the_same_from_the_same_seed(dtype: type) -> None:
    x: Array = np.random.default_rng(0).uniform(1, 2, 1000).astype(dtype)
    rng = np.random.default_rng(1)
    first, second = nudged(x, rng), nudged(x, rng)
    assert (first != second).mean() > 0.6  # float32 has but a handful of places to go
    assert np.array_equal(first, nudged(x, np.random.default_rng(1)))


DRAWS = 3000
VALUES = {
    "normal": np.random.default_rng(0).standard_normal(60),
    "pixels": np.arange(1, 61) / 255,
    "neighbours": 1 + np.arange(60) * np.finfo(np.float32).eps,  # which differ in their last places alone
    "integers": np.arange(1.0, 61),
    "powers of two": 2.0 ** np.arange(-30, 30),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", VALUES)
def test_nudges_of_unequal_elements_are_uniform_and_independent(dtype: type, kind: str) -> None:
    x: Array = VALUES[kind].astype(dtype)
    rng = np.random.default_rng(7)
    drawn = np.array([hashed(x, rng) for _ in range(DRAWS)], dtype=np.float64)
    deviation = 1 / np.sqrt(DRAWS)
    assert np.abs(drawn.mean(axis=0) - 1 / 2).max() < 5 * deviation / np.sqrt(12)
    assert np.abs(drawn.var(axis=0) - 1 / 12).max() < 5 * deviation / np.sqrt(180)
    tenths = np.stack([np.bincount(column, minlength=10) for column in (drawn * 10).astype(int).T])
    chi = ((tenths - DRAWS / 10) ** 2 / (DRAWS / 10)).sum(axis=1)
    assert chi.max() < 40  # of nine degrees of freedom, once in 130,000
    together = np.corrcoef(drawn.T) - np.eye(len(x))
    assert np.abs(together).max() < 6 * deviation
    after = np.asarray(np.corrcoef(drawn[:-1].T, drawn[1:].T))[: len(x), len(x) :]  # one call and the next
    assert np.abs(after).max() < 6 * deviation


def test_a_number_and_its_opposite_are_nudged_apart() -> None:
    x, rng = VALUES["normal"], np.random.default_rng(7)
    drawn = np.array([hashed(np.concatenate([x, -x]), rng) for _ in range(DRAWS)], dtype=np.float64)
    across = np.asarray(np.corrcoef(drawn.T))[: len(x), len(x) :]
    assert np.abs(across).max() < 6 / np.sqrt(DRAWS)


def test_nudges_leave_zeros_and_integers_alone() -> None:
    rng = np.random.default_rng(0)
    assert not nudged(np.zeros(5), rng).any()
    labels = np.arange(5)
    assert nudged(labels, rng) is labels


def test_a_recorder_keeps_what_it_returns() -> None:
    recorder = Recorder(np.random.default_rng(0))
    x = np.ones(3)
    assert recorder("forward/0.output", x) is recorder.taps["forward/0.output"]
    assert np.array_equal(x, np.ones(3))


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ([1.0, 2.0], [1.0, 5.0], 3.0),
        ([], [], 0.0),
        (math.inf, math.inf, 0.0),
        (math.inf, -math.inf, math.inf),
        (math.nan, math.nan, 0.0),
        ([math.nan, 1.0], [0.0, 1.0], math.inf),
        ([math.inf, 1.0], [math.inf, 1.5], 0.5),
        (1e308, -1e308, math.inf),
    ],
)
def test_largest_difference(a: object, b: object, difference: float) -> None:
    assert largest_difference(np.asarray(a, dtype=float), np.asarray(b, dtype=float)) == difference


def test_a_recorder_gives_what_is_forced_and_keeps_what_it_was_shown() -> None:
    forced = {"forward/0.output": np.full(3, 7.0)}
    recorder = Recorder(np.random.default_rng(0), forced=forced)
    x = np.ones(3)
    assert np.array_equal(recorder("forward/0.output", x), forced["forward/0.output"])
    assert recorder.taps["forward/0.output"] is x
    assert not np.array_equal(recorder("forward/1.output", x), x)


def test_the_spread_is_that_of_the_widest_shadow() -> None:
    base = {"y": np.array([1.0, 2.0])}
    assert spread(base, [{"y": np.array([1.0, 2.5])}, {"y": np.array([0.9, 2.0])}]) == {"y": 0.5}


def test_the_allowance_is_never_below_a_unit_of_the_largest_element() -> None:
    assert 8 * noise_of(np.array([-3.0, 1.0]), 0.0, 8) == 3 * np.finfo(float).eps
    assert noise_of(np.array([-3.0, 1.0]), 1e-3, 8) == 1e-3
    assert noise_of(np.array([math.inf]), 0.0, 8) == 0


def test_an_update_is_rounded_in_units_of_what_it_was() -> None:
    assert update_rounding(np.array([2.0]), np.array([2.0])) == 2 * np.finfo(float).eps
    assert update_rounding(np.array([-2.0]), np.array([0.0])) == (2 + 10 * 2) * np.finfo(float).eps


def test_roughness_is_that_of_rounding_beside_the_end_of_a_domain_and_of_stairs_beside_that() -> None:
    def compute(given: Mapping[str, Array]) -> dict[str, Array]:
        p = given["p"]
        return {"edge": np.log1p(-p), "stairs": (1e7 + np.sin(p)) - 1e7}

    variables = {"p": np.array([0.25, 1 - 1e-8])}
    width = spread(compute(variables), roughness(compute, variables, np.random.default_rng(0)))
    assert width["edge"] < 1e-6  # 1 - p is known to 1e-16 in 1e-8; a fourth difference at the first distance is 1e-3
    assert 1e-10 < width["stairs"] < 1e-8  # the last place of 1e7 is 1.9e-9, and the nearest distance hardly shows it
