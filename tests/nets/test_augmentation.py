"""Images are moved and turned as NumPy's and SciPy's own functions do it, by what the generator draws and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from gradcheck.contract import Array
from nets.datasets.augmentation import Augmentation, moved
from tests.nets.refused import refusal

ROUNDING = 1e-12  # of ink in [0, 1]: sums of four products
BORDER = 6  # blank pixels around what is drawn


def images(count: int = 3, seed: int = 0) -> Array:
    """Return images of random ink with a blank border."""
    ink = np.random.default_rng(seed).uniform(0, 1, (count, 28 - 2 * BORDER, 28 - 2 * BORDER))
    return np.pad(ink, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))


@given(st.integers(-BORDER, BORDER), st.integers(-BORDER, BORDER))
def test_a_shift_by_whole_pixels_rolls_the_image(down: int, right: int) -> None:
    x = images()
    ours = moved(x, np.tile([down, right], (3, 1)), np.zeros(3))
    assert np.allclose(ours, np.roll(x, (down, right), axis=(1, 2)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("quarters", range(-4, 5))
def test_quarter_turns_are_exact_and_counterclockwise(quarters: int) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (2, 28, 28))  # up to the edge
    ours = moved(x, np.zeros((2, 2)), np.full(2, 90.0 * quarters))
    assert np.allclose(ours, np.rot90(x, quarters, axes=(1, 2)), rtol=0, atol=ROUNDING)


@given(st.floats(-180, 180))
def test_a_turn_is_scipys(angle: float) -> None:
    x = images(1)
    theirs = ndimage.rotate(x[0], angle, reshape=False, order=1, mode="grid-constant")
    assert np.allclose(moved(x, np.zeros((1, 2)), np.array([angle]))[0], theirs, rtol=0, atol=ROUNDING)


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_a_shift_is_scipys(down: float, right: float) -> None:
    x = images(1)
    theirs = ndimage.shift(x[0], (down, right), order=1, mode="grid-constant")
    assert np.allclose(moved(x, np.array([[down, right]]), np.zeros(1))[0], theirs, rtol=0, atol=ROUNDING)


def test_an_image_is_turned_about_its_centre_and_then_moved() -> None:
    x = images(1)
    both = moved(x, np.array([[2.0, -3.0]]), np.array([90.0]))
    assert np.allclose(both, np.roll(np.rot90(x, axes=(1, 2)), (2, -3), axis=(1, 2)), rtol=0, atol=ROUNDING)


def test_ink_that_stays_inside_is_neither_made_nor_lost() -> None:
    x = images()
    ours = Augmentation(shift=3)(x, np.random.default_rng(1))
    assert np.allclose(ours.sum(axis=(1, 2)), x.sum(axis=(1, 2)), rtol=1e-12)
    assert (ours >= 0).all()
    assert (ours <= 1).all()


def test_none_changes_no_bit_and_draws_nothing() -> None:
    x, rng = images(), np.random.default_rng(5)
    assert Augmentation()(x, rng) is x
    assert rng.random() == np.random.default_rng(5).random()


@pytest.mark.parametrize(
    "augmentation", [Augmentation(2.5, 12.0), Augmentation(shift=1.0), Augmentation(rotation=30.0)]
)
def test_what_comes_out_depends_on_the_generator_alone(augmentation: Augmentation) -> None:
    x = images(4)
    before = x.copy()
    first, again, other = (augmentation(x, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)
    assert np.array_equal(x, before)
    assert not any(np.array_equal(one, other) for one, other in zip(first, x, strict=True))


def test_shifts_and_angles_are_uniform_up_to_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Array, Array]] = []

    def keep(images: Array, shifts: Array, angles: Array) -> Array:
        drawn.append((shifts, angles))
        return images

    monkeypatch.setattr("nets.datasets.augmentation.moved", keep)
    Augmentation(2.0, 15.0)(np.zeros((20_000, 28, 28)), np.random.default_rng(0))
    shifts, angles = drawn[0]
    for values, limit in ((shifts[:, 0], 2.0), (shifts[:, 1], 2.0), (angles, 15.0)):
        assert abs(values).max() <= limit
        # Six deviations of the mean, and of the mean square, of 20,000 uniform numbers.
        assert abs(values.mean()) < 6 * limit / math.sqrt(3 * 20_000)
        assert abs((values**2).mean() - limit**2 / 3) < 6 * limit**2 * math.sqrt(4 / 45 / 20_000)
    assert abs(np.corrcoef(np.column_stack([shifts, angles]).T) - np.eye(3)).max() < 6 / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 0.0), "augmentation needs a shift that is finite and not negative, got -1"),
        ((math.inf, 0.0), "augmentation needs a shift that is finite and not negative, got inf"),
        ((0.0, -5.0), "augmentation needs a rotation that is finite and not negative, got -5"),
        ((0.0, math.nan), "augmentation needs a rotation that is finite and not negative, got nan"),
    ],
)
def test_what_is_negative_or_not_finite_is_refused(arguments: tuple[float, float], message: str) -> None:
    assert refusal(ValueError, Augmentation, *arguments) == message
