"""Drawn inputs stay in the domain that they state."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.contract import Array
from gradcheck.strategies import SMALLEST, arrays, arrays_off_kinks, distinct_arrays, labels, sides

BOUNDS = st.sampled_from([(-4.0, 4.0), (0.0, 1.0), (0.125, 4.0), (-3.0, -1.0), (2.0**-5, 1 - 2.0**-5)])


@given(st.data(), BOUNDS, st.lists(sides(), max_size=3).map(tuple))
def test_arrays_are_bounded_exact_in_float32_and_not_tiny(
    data: st.DataObject, bounds: tuple[float, float], shape: tuple[int, ...]
) -> None:
    x: Array = data.draw(arrays(shape, *bounds))
    assert (x.shape, x.dtype) == (shape, np.float64)
    assert ((x >= bounds[0]) & (x <= bounds[1])).all()
    assert np.array_equal(x.astype(np.float32), x)
    assert (np.abs(x[x != 0]) >= SMALLEST).all()


@given(arrays_off_kinks((3, 4)))
def test_arrays_off_kinks_keep_their_margin(x: Array) -> None:
    assert (np.abs(x) >= 0.125).all()


@given(st.data(), st.sampled_from([2.0**-4, 0.5]), st.lists(sides(), max_size=4).map(tuple))
def test_distinct_arrays_keep_their_elements_apart(data: st.DataObject, margin: float, shape: tuple[int, ...]) -> None:
    x: Array = data.draw(distinct_arrays(shape, margin))
    assert (x.shape, x.dtype) == (shape, np.float64)
    assert (np.diff(np.sort(x, axis=None)) >= margin).all()
    assert np.array_equal(x.astype(np.float32), x)
    assert (np.abs(x) >= SMALLEST).all()


@given(labels(5, 3))
def test_labels_are_classes(y: Array) -> None:
    assert (y.shape, y.dtype) == ((5,), np.int64)
    assert set(y.tolist()) <= {0, 1, 2}
