"""Initialisers by their statistics, and what a layer is filled with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Initializer, Layer
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.draws import DEVIATIONS, ELEMENTS, FALSE_ALARM, correlations, distances, same_distribution
from gradcheck.trials import drawn_cases
from nets import LAYERS
from nets.initializers import (
    LINEAR,
    TORCH_DEFAULT,
    Constant,
    KaimingNormal,
    KaimingUniform,
    Normal,
    Uniform,
    XavierNormal,
    XavierUniform,
    fans_of,
    gain_of,
    initialize,
)
from nets.layers import Linear, Sequential, Sigmoid
from tests.nets.refused import refusal

SHAPE = (300, 200)
COUNT = 300 * 200
NORMAL, UNIFORM = 3.0, 1.8  # kurtoses


@pytest.mark.parametrize(
    ("rule", "mean", "variance", "kurtosis"),
    [
        (Normal(std=0.01), 0.0, 1e-4, NORMAL),
        (Normal(3.0, 2.0), 3.0, 4.0, NORMAL),
        (Uniform(), 0.5, 1 / 12, UNIFORM),
        (Uniform(-1.0, 3.0), 1.0, 16 / 12, UNIFORM),
        # Glorot and Bengio, equation 12: 2 / (200 + 300), times the square of the gain.
        (XavierNormal(), 0.0, 2 / 500, NORMAL),
        (XavierNormal(gain=2.0), 0.0, 8 / 500, NORMAL),
        (XavierUniform(), 0.0, 2 / 500, UNIFORM),
        (XavierUniform(gain=5 / 3), 0.0, 2 / 500 * 25 / 9, UNIFORM),
        # He et al., equations 10, 14 and 15: 2 / fan, over 1 + a^2 for a leaky rectifier.
        (KaimingNormal(), 0.0, 2 / 200, NORMAL),
        (KaimingNormal(nonlinearity="relu"), 0.0, 2 / 200, NORMAL),
        (KaimingNormal(mode="fan_out", nonlinearity="relu"), 0.0, 2 / 300, NORMAL),
        (KaimingNormal(0.5), 0.0, 2 / 1.25 / 200, NORMAL),
        (KaimingUniform(mode="fan_out"), 0.0, 2 / 300, UNIFORM),
        (KaimingUniform(nonlinearity="tanh"), 0.0, 25 / 9 / 200, UNIFORM),
        (TORCH_DEFAULT, 0.0, 1 / (3 * 200), UNIFORM),
    ],
    ids=str,
)
def test_weights_have_the_moments_of_the_papers(
    rule: Initializer, mean: float, variance: float, kurtosis: float
) -> None:
    w = rule.draw(SHAPE, np.random.default_rng(0))
    assert (w.shape, w.dtype) == (SHAPE, np.float64)
    assert abs(w.mean() - mean) < DEVIATIONS * math.sqrt(variance / COUNT)
    # Each beyond its bound once in 10^9 seeds; the variance of a normal's fourth power is 96, of any other's less.
    assert abs(w.var() / variance - 1) < DEVIATIONS * math.sqrt((kurtosis - 1) / COUNT)
    assert abs((((w - mean) / math.sqrt(variance)) ** 4).mean() - kurtosis) < DEVIATIONS * math.sqrt(96 / COUNT)


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        (Uniform(-0.5, 2.0), -0.5, 2.0),
        (XavierUniform(), -math.sqrt(6 / 500), math.sqrt(6 / 500)),
        (KaimingUniform(), -math.sqrt(6 / 200), math.sqrt(6 / 200)),
        (TORCH_DEFAULT, -1 / math.sqrt(200), 1 / math.sqrt(200)),
    ],
    ids=str,
)
def test_uniform_weights_fill_their_bounds(rule: Initializer, low: float, high: float) -> None:
    w = rule.draw(SHAPE, np.random.default_rng(0))
    # None of n numbers is in the last share s of the interval with probability exp(-n s).
    share = math.log(1 / FALSE_ALARM) / COUNT * (high - low)
    rounding = 1e-15
    assert low - rounding <= w.min() < low + share
    assert high - share < w.max() <= high + rounding


@pytest.mark.parametrize("name", [*LINEAR, "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_torchs(name: Any) -> None:  # noqa: ANN401  torch lists the names
    assert gain_of(name) == torch.nn.init.calculate_gain(name)
    assert gain_of(name, 0.3) == torch.nn.init.calculate_gain(name, 0.3)


def test_fans_count_the_kernel() -> None:
    assert fans_of((8, 3, 5, 5)) == (75, 200)
    assert KaimingUniform().draw((8, 3, 5, 5), np.random.default_rng(0)).max() <= math.sqrt(6 / 75)


RNG = np.random.default_rng(0)  # for what is refused before anything is drawn
NO_FANS = "fan-in and fan-out need a weight of shape (out, in, ...), got (3,)"
FANS = "got fans (in, out) of {}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fans_of((3,)), NO_FANS),
        (lambda: XavierUniform().draw((3,), RNG), NO_FANS),
        (lambda: initialize(Linear.create(0, 4), RNG), "KaimingUniform needs a fan_in above 0, " + FANS.format((0, 4))),
        (lambda: XavierNormal().draw((0, 0), RNG), "XavierNormal needs fans above 0, " + FANS.format((0, 0))),
        (lambda: Uniform(1.0, 0.0), "Uniform needs a of at most b, got 1.0 and 0.0"),
        (lambda: Normal(0.0, -1.0), "Normal needs std of at least 0, got -1.0"),
        (
            lambda: KaimingNormal(mode="in"),  # type: ignore[arg-type]  # the mistake
            "KaimingNormal needs mode fan_in or fan_out, got 'in'",
        ),
        (
            lambda: KaimingUniform(nonlinearity="gelu"),
            f"the gain is known for {', '.join(LINEAR)}, sigmoid, tanh, relu, leaky_relu, selu, got 'gelu'",
        ),
    ],
)
def test_what_has_no_distribution_is_refused(make: Callable[[], object], message: str) -> None:
    assert refusal(ValueError, make) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "a generator, such as np.random.default_rng(0), got 0"),
        ((RNG, KaimingNormal), f"an initialiser as weights, such as KaimingNormal(), got {KaimingNormal!r}"),
        ((RNG, None, 0.0), "an initialiser as biases, such as KaimingNormal(), got 0.0"),
    ],
)
def test_what_cannot_initialise_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    assert refusal(TypeError, initialize, Linear.create(3, 2), *arguments) == f"initialize needs {message}"


def test_initialisation_fills_weights_and_biases_by_their_own_rules() -> None:
    model = Sequential((Linear.create(4, 3), Sigmoid(), Linear.create(3, 2)))
    initialize(model, np.random.default_rng(0), Normal(), Constant(0.0))
    arrays = model.parameters()
    assert all(arrays[name].all() for name in ("0.weight", "2.weight"))
    assert not any(arrays[name].any() for name in ("0.bias", "2.bias"))


POOLED = 20_000  # elements of each parameter
MOST_DRAWS = 1_000


@pytest.mark.short(6)
@pytest.mark.parametrize("examples", [pytest.param(1, id="few"), pytest.param(4, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("layer_type", LAYERS, ids=lambda layer: layer.__name__)
def test_without_rules_every_parameter_is_filled_as_torch_fills_it(layer_type: type[Layer], examples: int) -> None:
    cases = [case for case in drawn_cases(layer_type, 4, seed=0) if case.subject.parameters()]
    for case in cases[:examples]:
        layer: Layer = case.subject
        parameters, rng = layer.parameters(), case.rng("draws")
        count = min(MOST_DRAWS, math.ceil(POOLED / min(array.size for array in parameters.values())))
        ours: dict[str, list[Array]] = {name: [] for name in parameters}
        theirs: dict[str, list[Array]] = {name: [] for name in parameters}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(case.seed)
            for _ in range(count):
                initialize(layer, rng)
                for name, array in parameters.items():
                    ours[name].append(array.copy())
                for name, tensor in layer.twin().double().named_parameters():
                    theirs[name].append(tensor.detach().numpy())
        for name in parameters:
            outcome = same_distribution(name, np.array(ours[name]), np.array(theirs[name]))
            assert outcome.verdict is Verdict.PASS, (layer, name, outcome)


def test_a_layer_filled_by_another_rule_is_seen() -> None:
    layer, rng = Linear.create(4, 3), np.random.default_rng(0)
    draws = []
    for _ in range(2_000):
        initialize(layer, rng, KaimingUniform())
        draws.append(layer.weight.copy())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = np.array([torch.nn.Linear(4, 3).weight.detach().double().numpy() for _ in draws])
    assert same_distribution("weight", np.array(draws), theirs).verdict is Verdict.FAIL


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_distances_of_one_distribution_are_as_they_are_said_to_be(kind: str) -> None:
    rng = np.random.default_rng(0)
    draw = rng.standard_normal if kind == "normal" else rng.random
    ratios = np.array([[each.ratio for each in distances(draw(2_000), draw(2_000)) if each] for _ in range(500)])
    # Of a mean or a variance .35 are 2.14 deviations, beyond which is one in 31. What is exceeded once in 10^9 times
    # at a ratio of 1 is exceeded at .9 once in 10^7 by a distance, and in 10^8 by a number of elements.
    assert (ratios[:, :2] > 0.35).mean() < 0.06
    assert ratios[:, 2:].max() < 0.9
    assert ratios.max() < 1


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("shape", [(1_000, 2), (25, 4_000)])
def test_correlations_of_independent_numbers_are_as_they_are_said_to_be(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    draw = rng.standard_normal if kind == "normal" else rng.random
    ratios = np.array([[each.ratio for each in correlations(draw(shape)) if each] for _ in range(300)])
    # As above: .35 are 2.14 deviations.
    assert (ratios > 0.35).mean() < 0.06
    assert ratios.max() < 0.9


@pytest.mark.parametrize(
    ("rule", "off"),
    [
        (Normal(), Normal(std=1.04)),
        (Normal(), Normal(0.055)),
        (Uniform(), Uniform(0.0, 1.0012)),
        (Uniform(), Normal(0.5, math.sqrt(1 / 12))),
    ],
    ids=str,
)
def test_distances_of_two_distributions_are_seen(rule: Initializer, off: Initializer) -> None:
    # Twice what is seen in every other case: five deviations of the estimate more than are needed.
    rng = np.random.default_rng(0)
    for other, seen in ((rule, False), (off, True)):
        both = other.draw((ELEMENTS,), rng), rule.draw((ELEMENTS,), rng)
        assert any(each.ratio > 1 for each in distances(*both) if each) is seen


def test_what_seven_distances_say_comes_from_closed_forms() -> None:
    n = 1000
    ours, theirs = np.arange(n) / n, np.arange(n) / n + 0.25
    mean, variance, share, above, below, above_ours, below_ours = distances(ours, theirs)
    assert mean is not None
    assert share is not None
    assert (mean.analytic, mean.numeric) == (pytest.approx(0.4995), pytest.approx(0.7495))
    assert mean.allowed == pytest.approx(DEVIATIONS * math.sqrt(2 / 12 / n), rel=1e-5)
    assert variance is not None
    assert variance.allowed == pytest.approx(DEVIATIONS * math.sqrt(2 * (1 / 80 - 1 / 144) / n), rel=1e-5)
    assert abs(share.analytic - share.numeric) == pytest.approx(0.25, abs=1.5 / n)
    # Kolmogorov's series at the allowance is the false alarm.
    x = share.allowed * math.sqrt(n / 2)
    series = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 10))
    assert series == pytest.approx(FALSE_ALARM, rel=1e-6)
    assert math.erfc(DEVIATIONS / math.sqrt(2)) == pytest.approx(FALSE_ALARM, rel=0.01)
    counts = [each.analytic for each in (above, below, above_ours, below_ours) if each]
    assert counts == [0.0, 250.0, 250.0, 0.0]
