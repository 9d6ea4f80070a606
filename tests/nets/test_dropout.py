"""Dropout: its share, its key, its ends, and what it drops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from gradcheck.checks import check_class
from gradcheck.contract import Array, Case, Context, Key, ShapeError
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.behaviour import gradients_of_samples_do_not_mix
from gradcheck.subjects.twin import set_keys
from nets.layers import Dropout, Dropout2d, Linear, Sequential
from nets.refusals import UnsupportedArgumentError
from tests.nets.refused import needs, refusal

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

DROPOUTS = [Dropout, Dropout2d]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("kind", "shape"), [(Dropout, (100, 100)), (Dropout2d, (100, 100, 1, 1))])
def test_dropout_drops_its_share_and_keeps_the_mean(kind: type[Dropout], shape: tuple[int, ...], p: float) -> None:
    ones = np.ones(shape)
    masks = [kind(p).forward(ones, Context(training=True, key=Key(1, step)))[0] for step in range(20)]
    kept, draws = np.mean([mask != 0 for mask in masks]), 20 * ones.size
    assert {value for mask in masks for value in np.unique(mask).tolist()} == {0.0, 1 / (1 - p)}
    # Five deviations of a binomial: wrong once in 1.7 million, were the keys drawn anew.
    assert abs(kept - (1 - p)) < 5 * math.sqrt(p * (1 - p) / draws)
    assert abs(np.mean(masks) - 1) < 5 * math.sqrt(p / (1 - p) / draws)


def test_whole_channels_are_dropped() -> None:
    y, backward = Dropout2d(0.25).forward(np.ones((20, 10, 3, 4)), Context(training=True, key=Key(1)))
    channels = y.reshape(20, 10, 12)
    assert np.array_equal(channels.min(axis=2), channels.max(axis=2))
    assert set(np.unique(y).tolist()) == {0.0, 4 / 3}
    assert np.array_equal(backward(np.ones(y.shape))[0], y)


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropouts_mask_is_that_of_its_key(kind: type[Dropout]) -> None:
    def mask(key: Key, dtype: type = np.float64) -> bytes:
        return (kind().forward(np.ones((8, 8, 1, 1), dtype), Context(training=True, key=key))[0] != 0).tobytes()

    keys = [Key(0, 0, "1"), Key(1, 0, "1"), Key(0, 1, "1"), Key(0, 0, "2"), Key(0, 0, "1.0")]
    assert len({mask(key) for key in keys}) == len(keys)
    assert mask(keys[0]) == mask(keys[0]) == mask(keys[0], np.float32)


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_at_its_ends(kind: type[Dropout]) -> None:
    x = np.array([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1)
    for p, training, share in ((0.0, True, 1), (1.0, True, 0), (1.0, False, 1), (0.5, False, 1)):
        y, backward = kind(p).forward(x, Context(training=training))
        assert y.tolist() == backward(x)[0].tolist() == (x * share).tolist()


class DroppedTwice(Sequential):
    """Two dropouts of the same rate, with nothing between them but a nesting and a map that keeps every element."""

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        inner = st.builds(Linear, arrays((6, 6)), st.none()).map(lambda layer: Sequential((Dropout(0.5), layer)))
        return cases(inner.map(lambda layer: cls((Dropout(0.5), layer, Dropout(0.25)))), arrays((3, 6)))


def test_dropouts_in_a_chain_draw_masks_of_their_own_as_in_torch() -> None:
    report = check_class(DroppedTwice, examples=6)
    assert [finding.property for finding in report.findings if finding.verdict is not Verdict.PASS] == []
    chain, x = Sequential((Dropout(0.5), Dropout(0.5))), np.ones(64)
    shown: dict[str, Array] = {}
    context = Context(training=True, tap=lambda name, array: shown.setdefault(name, array))
    y, _ = chain.forward(x, context)
    first, both = shown["forward/0.output"] != 0, y != 0
    assert 0 < both.sum() < first.sum()  # were the masks the same, the second would drop nothing
    module = chain.twin()
    set_keys(module, context.key)
    assert np.array_equal(module(torch.tensor(x)).numpy(), y)


def test_samples_under_a_mask_of_the_whole_batch_are_not_asked_whether_they_mix() -> None:
    # The output is zero whatever is dropped, but the gradient of the second weight is not.
    chain = Sequential((Linear(np.eye(2), None), Dropout(0.5), Linear(np.zeros((1, 2)), None)))
    cases = [Case(chain, (np.ones((3, 2)),), seed, training=True) for seed in range(20)]
    assert [gradients_of_samples_do_not_mix(case) for case in cases] == [None] * 20


@pytest.mark.parametrize("kind", DROPOUTS)
@pytest.mark.parametrize("p", [1.5, -0.1, math.nan])
def test_a_rate_that_is_no_probability_is_refused(kind: type[Dropout], p: float) -> None:
    assert needs(ValueError, kind, p) == f"a probability p in [0, 1], got {p}"


@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropping_in_place_is_refused(kind: type[Dropout]) -> None:
    told = refusal(UnsupportedArgumentError, kind, 0.5, inplace=True)
    assert told == f"{kind.__name__} does not support inplace: a pullback needs the input as it was"


@pytest.mark.parametrize("training", [True, False])
def test_what_are_no_images_have_no_channels_to_drop(training: bool) -> None:
    told = needs(ShapeError, Dropout2d().forward, np.ones((3, 4)), Context(training=training))
    assert told == "x of shape (batch, channels, height, width), got (3, 4)"
