"""Scaling changes mean and deviation as it says, and nothing where it should not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gradcheck.contract import Array
from nets.datasets.dataset import Dataset, Samples
from nets.datasets.scaling import Scaling, scaling
from tests.nets.refused import refusal


def samples(images: Array) -> Samples:
    """Return images with some labels."""
    return Samples(images, np.zeros(len(images), np.int64))


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(28), st.just(28))))
def test_unit_scaling_changes_no_bit(images: Array) -> None:
    some = samples(images)
    for dtype in (np.float64, np.float32):
        pixels = Dataset("drawn", "", 255, some).pixels(some, dtype)
        scaled = scaling("unit")(some, 255)(pixels)
        assert scaled.dtype == dtype
        assert scaled.tobytes() == pixels.tobytes()


@given(arrays(np.uint8, (3, 28, 28)), st.sampled_from([16, 255]))
def test_standard_scaling_gives_mean_0_and_deviation_1(images: Array, black: int) -> None:
    images[0, 0, :2] = 0, 1  # pixels that differ
    images = np.minimum(images, black)
    pixels = images / black
    ours = Scaling.of(samples(images), black)
    assert ours.mean == pytest.approx(pixels.mean(), rel=1e-12)
    assert ours.deviation == pytest.approx(pixels.std(), rel=1e-9)  # NumPy's own rounding, where hardly any differ
    scaled = ours(pixels)
    assert (scaled.mean(), scaled.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1, rel=1e-9))


def test_standard_scaling_is_scikit_learns() -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    ink = images.reshape(-1, 1) / 255
    theirs = preprocessing.StandardScaler().fit_transform(ink)
    assert np.allclose(Scaling.of(samples(images), 255)(ink), theirs, rtol=1e-12, atol=1e-12)


def test_a_fixed_scaling_is_what_it_says() -> None:
    fixed = scaling("0.1307, 0.3081")(samples(np.zeros((1, 28, 28), np.uint8)), 255)
    assert fixed == Scaling(0.1307, 0.3081)
    assert fixed(np.array([0.1307, 1.0])).tolist() == [0.0, (1 - 0.1307) / 0.3081]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minmax", "there is no scaling 'minmax'; there are unit, standard, or MEAN,DEVIATION as in 0.1307,0.3081"),
        ("0.1", "there is no scaling '0.1'"),
        ("1,2,3", "there is no scaling '1,2,3'"),
        ("0,0", "a positive, finite deviation, got 0 and 0"),
        ("0,-1", "got 0 and -1"),
        ("nan,1", "got nan and 1"),
        ("0,inf", "got 0 and inf"),
        ("0,nan", "got 0 and nan"),
    ],
)
def test_a_scaling_that_is_none_is_refused(text: str, message: str) -> None:
    assert message in refusal(ValueError, scaling, text)


def test_equal_pixels_have_no_standard_scaling() -> None:
    with pytest.raises(ValueError, match="standard scaling needs pixels that differ, these are all equal"):
        scaling("standard")(samples(np.full((2, 28, 28), 7, np.uint8)), 255)
