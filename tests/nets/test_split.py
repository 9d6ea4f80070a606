"""A split draws what it drew before, shares no sample, and takes validation samples from where they may come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.datasets.dataset import Dataset, Samples
from tests.nets.refused import refusal
from tests.nets.test_datasets import numbered


def with_validation(train: int, test: int | None, validation: int | None) -> Dataset:
    """Return samples that carry their number: training from 0, validation from 10,000, test from 20,000."""

    def samples(first: int, count: int) -> Samples:
        return Samples(np.zeros((count, 28, 28), np.uint8), np.arange(first, first + count))

    return Dataset(
        "numbered", "", 255, samples(0, train),
        None if test is None else samples(20_000, test), None if validation is None else samples(10_000, validation),
    )  # fmt: skip


@pytest.mark.parametrize("test", [None, 30])
@given(seed=st.integers(0, 99), sizes=st.tuples(st.integers(1, 60), st.integers(1, 30)))
def test_without_validation_the_draw_is_the_one_of_published_results(
    test: int | None, seed: int, sizes: tuple[int, int]
) -> None:
    data = numbered(100, test)
    split = data.split(sizes[0], 0, sizes[1], np.random.SeedSequence(seed))
    # As results so far were drawn: first the training samples, then, where there are any, the test samples.
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    order = rng.permutation(100)
    expected = order[sizes[0] :] if test is None else rng.permutation(30)
    assert np.array_equal(split.train.labels, order[: sizes[0]])
    assert np.array_equal(split.test.labels, expected[: sizes[1]])
    assert len(split.validation) == 0


@given(
    seed=st.integers(0, 99),
    test=st.sampled_from([None, 30]),
    validation=st.sampled_from([None, 25]),
    first=st.booleans(),
    sizes=st.tuples(st.integers(1, 50), st.integers(0, 25), st.integers(1, 25)),
)
def test_no_sample_is_in_two_parts(
    seed: int, test: int | None, validation: int | None, first: bool, sizes: tuple[int, int, int]
) -> None:
    data = with_validation(100, test, validation)
    split = data.split(*sizes, np.random.SeedSequence(seed), first=first)
    assert tuple(map(len, split)) == sizes
    every = np.concatenate([part.labels for part in split])
    assert len(set(every.tolist())) == sum(sizes)
    assert (split.train.labels < 10_000).all()
    assert (split.validation.labels >= 10_000).all() == (validation is not None or not sizes[1])
    assert (split.test.labels >= 20_000).all() == (test is not None)
    if first:
        assert np.array_equal(split.train.labels, np.arange(sizes[0]))
        if validation is None:
            assert np.array_equal(split.validation.labels, np.arange(sizes[0], sizes[0] + sizes[1]))


def test_a_sources_own_test_samples_do_not_depend_on_the_rest() -> None:
    data, seed = with_validation(100, 30, None), np.random.SeedSequence(7)
    drawn = [
        data.split(train, validation, 10, seed, first=first).test.labels
        for train, validation, first in ((50, 0, False), (20, 30, False), (20, 30, True))
    ]
    assert all(np.array_equal(drawn[0], one) for one in drawn)


@pytest.mark.parametrize(
    ("has", "sizes", "message"),
    [
        (
            (100, None, None), (60, 30, 11),
            "numbered has 100 images to train on, validation and test images included; asked for 60, 30 and 11",
        ),
        (
            (100, 30, None), (60, 41, None),
            "numbered has 100 images to train on, validation images included and 30 to test on;"
            " asked for 60, 41 and the rest",
        ),
        (
            (100, 30, 25), (60, 26, 5),
            "numbered has 100 images to train on, 25 to validate on and 30 to test on; asked for 60, 26 and 5",
        ),
        ((100, None, 25), (100, 5, None), "100 images to train on, test images included and 25 to validate on; asked"),
    ],
)  # fmt: skip
def test_more_than_there_are_is_refused(
    has: tuple[int, int | None, int | None], sizes: tuple[int, int, int | None], message: str
) -> None:
    assert message in refusal(ValueError, with_validation(*has).split, *sizes, np.random.SeedSequence(0))
