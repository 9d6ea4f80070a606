"""Which numbers are multiples of a power of ten, and which are so by chance or for another reason."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.numerics.decimals import decimal_of

RNG = np.random.default_rng(0)
VALUES = [RNG.standard_normal((3, 4)) for _ in range(3)]


@pytest.mark.parametrize("places", [1, 3, 6, 9])
def test_numbers_that_are_rounded_to_decimals_are_told(places: int) -> None:
    assert decimal_of([np.round(y, places) for y in VALUES]) == 10.0**-places


def test_so_are_six_single_ones() -> None:
    assert decimal_of([np.round(np.asarray(y), 6) for y in RNG.standard_normal(6)]) == 1e-6


@pytest.mark.parametrize(
    "samples",
    [
        VALUES,
        [y.astype(np.float32) for y in VALUES],
        [np.rint(y * 10) for y in VALUES],
        [np.rint(y * 16) / 16 for y in VALUES],
        [np.sign(y) * 0.1 for y in VALUES],
        [np.clip(y, 0, 0.1) for y in VALUES],
        [np.round(VALUES[0], 6), VALUES[1]],
        [y * 1e9 for y in VALUES],
    ],
)
def test_others_are_not(samples: list[Array]) -> None:
    assert decimal_of(samples) == 0.0
