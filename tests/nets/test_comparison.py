"""What is compared of each experiment, and the intervals that it is told with."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from nets.comparison import Variant, differing, pairs_of, variants_of, weight_scale
from nets.initializers import Normal, XavierUniform
from nets.intervals import interval, paired_difference
from nets.presets import PRESETS


def test_the_five_published_models_are_compared_in_their_order() -> None:
    assert variants_of("sigmoid-mse") == (
        Variant("NumPy batch 1", "sigmoid-mse", "numpy"),
        Variant("PyTorch batch 1", "sigmoid-mse", "torch"),
        Variant("PyTorch batch 32", "sigmoid-mse:batch-32", "torch"),
        Variant("PyTorch scale 0.1", "sigmoid-mse:scale-0.1", "torch"),
        Variant("PyTorch from NumPy's weights", "sigmoid-mse:batch-32", "torch", "NumPy batch 1"),
    )


@pytest.mark.parametrize("name", ["sigmoid-mse", "sigmoid-bce"])
def test_they_differ_as_published_and_in_nothing_else(name: str) -> None:
    presets = [PRESETS[one.preset] for one in variants_of(name)]
    assert [preset.batch_size for preset in presets] == [1, 1, 32, 32, 32]
    assert [weight_scale(preset.weights) for preset in presets] == ["0.01", "0.01", "0.01", "0.1", "0.01"]
    assert differing(presets) == {
        "batch_size": [1, 32],
        "weights": ["Normal(std=0.01)", "Normal(std=0.1)"],
    }


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_has_variants_with_names_of_their_own(name: str) -> None:
    variants = variants_of(name)
    names = [one.name for one in variants]
    assert len(set(names)) == len(names) >= 2
    assert variants[0] == Variant(variants[0].name, name, "numpy")
    for one in variants:
        assert one.preset in PRESETS
        assert one.start is None or one.start in names[: names.index(one.name)]  # which was trained before


@pytest.mark.parametrize(
    ("name", "presets"),
    [
        ("fair", ["fair"]),
        ("nielsen", ["nielsen", "nielsen:torch"]),
        ("nielsen:torch", ["nielsen:torch"]),
        ("mlp", ["mlp", "mlp-wide"]),
        ("mlp-wide", ["mlp-wide"]),
        ("sigmoid-mse:batch-32", ["sigmoid-mse:batch-32"]),
    ],
)
def test_both_engines_train_every_member_of_a_family(name: str, presets: list[str]) -> None:
    told = [(one.preset, one.engine) for one in variants_of(name)]
    assert told == [(preset, engine) for preset in presets for engine in ("numpy", "torch")]


@pytest.mark.parametrize("name", list(PRESETS))
def test_what_should_be_equal_is_one_program_in_two_engines(name: str) -> None:
    variants = variants_of(name)
    pairs = pairs_of(variants)
    for ours, theirs in pairs:
        assert (ours.engine, theirs.engine) == ("numpy", "torch")
        assert (ours.preset, ours.start) == (theirs.preset, theirs.start)
    assert len(pairs) == sum(one.engine == "numpy" for one in variants)


def test_a_scale_is_a_deviation_or_else_a_name() -> None:
    assert weight_scale(None) == "torch's"
    assert weight_scale(Normal(0.0, 0.01)) == "0.01"
    assert weight_scale(XavierUniform()) == "XavierUniform"


def test_the_rate_is_among_what_presets_differ_in() -> None:
    fair = PRESETS["fair"]
    assert differing([fair, fair]) == {}
    assert differing([fair, fair.with_lr(0.5)])["lr"] == [0.05, 0.5]
    assert differing([fair, replace(fair, epochs=7)]) == {"epochs": [3, 7]}


@pytest.mark.parametrize("count", [2, 3, 10])
def test_an_interval_is_scipys(count: int) -> None:
    values = np.random.default_rng(count).normal(0.9, 0.01, count).tolist()
    found = interval(values)
    low, high = scipy.stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert found.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-12)


def test_of_two_values_the_interval_is_in_closed_form() -> None:
    # Student's distribution with one degree of freedom is Cauchy's, whose quantile is a tangent.
    found = interval([0.25, 0.75])
    assert found.mean == 0.5
    assert found.half_width == pytest.approx(0.25 * math.tan(math.pi * 0.475), rel=1e-12)


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, (4000, 4))
    held = [abs(found.mean - 0.5) <= (found.half_width or 0.0) for found in map(interval, draws.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)  # whose own deviation is 0.0034


def test_one_value_has_no_interval_and_equal_ones_no_width() -> None:
    assert interval([0.5]).half_width is None
    assert interval([0.5, 0.5, 0.5]).half_width == 0.0


def test_a_paired_difference_is_the_paired_tests() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0.9, 0.1, 6)
    ours, theirs = common + rng.normal(0.01, 0.001, 6), common
    found = paired_difference(ours.tolist(), theirs.tolist())
    low, high = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.mean == pytest.approx((low + high) / 2, rel=1e-9)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-9)
    assert (found.half_width or 0) < (interval(ours.tolist()).half_width or 0) / 10  # what two intervals do not tell
