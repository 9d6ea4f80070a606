"""The right verdict where checkers go wrong: offsets, far scales, long sums, flat rows, kinks, ties, nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array, Case
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import Mode
from gradcheck.properties.gradients import backward_is_linear, gradients_agree_with_differences
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.trials import check_case
from nets.layers import BatchNorm1d, LayerNorm, LeakyReLU, MaxPool2d, ReLU
from tests.long import later

pytestmark = pytest.mark.rounding

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Subject:
    """A function with its right pullback, and one that is wrong by one part in a thousand in one element."""

    name: str
    f: Callable[[Array], Array]
    slope: Callable[..., Array]  # of x and dy
    x: Array


def _wide() -> Array:
    return 10.0 ** np.linspace(-8, 8, 17) * np.where(np.arange(17) % 2, -1.0, 1.0)


def _long_sum(name: str, terms: int) -> Subject:
    of = np.linspace(0, 1, terms)
    return Subject(
        name,
        lambda x: np.asarray((np.sin(x[:, None] * of) + 3).sum(axis=1)),
        lambda x, dy: dy * (of * np.cos(x[:, None] * of)).sum(axis=1),
        np.array([1.25, 1.75]),
    )


SUBJECTS = [
    Subject("1e6 + sin(x)", lambda x: 1e6 + np.sin(x), lambda x, dy: dy * np.cos(x), RNG.uniform(-4, 4, (3, 4))),
    Subject("sin at 1e8", np.sin, lambda x, dy: dy * np.cos(x), 1e8 + RNG.uniform(-4, 4, (2, 3))),
    _long_sum("sum of thirty thousand", 30_000),
    Subject("x from 1e-8 to 1e8, squared", np.square, lambda x, dy: 2 * x * dy, _wide()),
    Subject("x from 1e-8 to 1e8, inverted", np.reciprocal, lambda x, dy: -dy / x**2, _wide()),
    Subject("x from 1e-8 to 1e8, summed", lambda x: np.asarray(x.sum()), lambda x, dy: dy * np.ones(x.shape), _wide()),
    Subject("a number", np.exp, lambda x, dy: dy * np.exp(x), np.asarray(0.5)),
    Subject("one sample", np.tanh, lambda x, dy: dy / np.cosh(x) ** 2, RNG.standard_normal((1, 3))),
    Subject(
        "cancelling inside", lambda x: (1e6 + np.sin(x)) - 1e6, lambda x, dy: dy * np.cos(x), np.array([0.0, 0.5, -2.0])
    ),
]

LONG = pytest.param(_long_sum("sum of two hundred thousand", 200_000), marks=pytest.mark.long)

# Its last gradient is 1e-32 of its first, and no step suits both: moved together, nothing can be told.
DROWNED = ("x from 1e-8 to 1e8, inverted", "fast")


@pytest.mark.parametrize("subject", [*SUBJECTS, LONG], ids=lambda subject: subject.name)
@pytest.mark.parametrize("mode", ["full", "fast"])
def test_a_right_pullback_passes(subject: Subject, mode: Mode) -> None:
    report = gradcheck.check_gradients(
        subject.f, (subject.x,), lambda inputs, dy: (subject.slope(*inputs, dy),), mode=mode, variations=False
    )
    drowned = (subject.name, mode) == DROWNED
    assert report.verdict is (Verdict.INCONCLUSIVE if drowned else Verdict.PASS), str(report)


@pytest.mark.short(2)
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
@pytest.mark.parametrize("mode", later(["full", "fast"], 1))
def test_one_element_off_by_one_part_in_a_thousand_fails(subject: Subject, mode: Mode) -> None:
    def wrong(inputs: tuple[Array, ...], dy: Array) -> tuple[Array]:
        gradient = np.array(subject.slope(*inputs, dy))
        gradient.flat[-1] *= 1.001
        return (gradient,)

    report = gradcheck.check_gradients(subject.f, (subject.x,), wrong, mode=mode, variations=False)
    drowned = (subject.name, mode) == DROWNED
    assert report.verdict is (Verdict.INCONCLUSIVE if drowned else Verdict.FAIL), str(report)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_nothing_to_compare_is_inconclusive(shape: tuple[int, ...]) -> None:
    report = gradcheck.check_gradients(np.sin, (np.empty(shape),), lambda inputs, dy: (dy * np.cos(inputs[0]),))
    assert report.findings[0].verdict is Verdict.INCONCLUSIVE
    assert not report


def test_gradients_that_are_all_zero_are_inconclusive() -> None:
    report = gradcheck.check_gradients(np.zeros_like, (np.ones((2, 3)),), lambda _, dy: (np.zeros_like(dy),))
    assert report.findings[0].verdict is Verdict.INCONCLUSIVE


def test_of_many_elements_whose_movements_are_lost_beside_one_none_is_accused() -> None:
    def softmax(x: Array) -> Array:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def vjp(inputs: tuple[Array, ...], dy: Array) -> tuple[Array]:
        y = softmax(*inputs)
        return (y * (dy - (dy * y).sum(axis=1, keepdims=True)),)

    logits = -np.linspace(40, 60, 12)[None]
    logits[0, 0] = 0
    report = gradcheck.check_gradients(softmax, (logits,), vjp, variations=False)
    assert report.verdict is not Verdict.FAIL, str(report)


@pytest.mark.parametrize("spread", [1e-3, pytest.param(1e-6, marks=pytest.mark.long), 1e-9])
def test_nearly_constant_rows_are_no_false_alarm(spread: float) -> None:
    rng = np.random.default_rng(0)
    rows = 3.0 + spread * rng.standard_normal((3, 5))
    for layer in (
        LayerNorm(rng.standard_normal(5), rng.standard_normal(5)),
        BatchNorm1d.create(5),
    ):
        report = gradcheck.check_layer(layer, rows)
        assert report.verdict is Verdict.PASS, str(report)


IMAGES = (2, 1, 3, 4)  # few: of each of them, and of each window, the slopes are measured
FLAT = np.zeros((1, 1, 3, 4))
TIED = np.round(RNG.standard_normal(IMAGES))
NEAR = np.where(RNG.random(IMAGES) < 0.5, 1e-9, 1.0) * np.sign(RNG.standard_normal(IMAGES))
NEARER = np.where(RNG.random(IMAGES) < 0.5, 1e-5, 1.0) * np.sign(RNG.standard_normal(IMAGES))
KINKED = {"flat": FLAT, "tied": TIED, "flat patch": TIED * (np.arange(4) > 1), "near": NEAR, "nearer": NEARER}
IN_FULL = (
    "input's gradient goes in full to each of several tied elements, as to all tied maxima of a pool: "
    "together they may have it once"
)
POOLS = [
    MaxPool2d((2, 2), stride=(2, 2)),
    MaxPool2d((2, 2), stride=(1, 1)),
    MaxPool2d((3, 2), stride=(1, 2)),
    MaxPool2d(3, stride=2, padding=1),
]
# Windows that meet, and that overlap along one axis; those that overlap along both take as long as the two together.
SOME_POOLS = [POOLS[0], POOLS[2], pytest.param(POOLS[1], marks=pytest.mark.long)]


class Foreign:
    """A native layer as anybody's: without twin, without a contract."""

    def __init__(self, layer: ReLU | LeakyReLU | MaxPool2d) -> None:
        self.layer = layer

    def forward(self, x: Array) -> Array:
        y, self.pullback = self.layer.forward(x)
        return y

    def backward(self, dy: Array) -> Array:
        return self.pullback(dy)[0]


KINKING: list[ReLU | LeakyReLU | MaxPool2d] = [
    ReLU(), LeakyReLU(-0.5), POOLS[0], POOLS[3], LeakyReLU(0.1), LeakyReLU(1.5), POOLS[1], POOLS[2],
]  # fmt: skip


@pytest.mark.short(8)
@pytest.mark.parametrize("layer", later(KINKING, 4), ids=repr)
@pytest.mark.parametrize("x", KINKED.values(), ids=KINKED)
def test_kinks_are_no_false_alarm_without_a_twin(layer: ReLU | LeakyReLU | MaxPool2d, x: Array) -> None:
    for claim in (gradients_agree_with_differences, backward_is_linear):
        outcome = check_case(Case(ForeignLayer.of(Foreign(layer), x), (x,)), claim)
        assert outcome is not None
        assert outcome.verdict is Verdict.PASS, outcome


@pytest.mark.short(1)
@pytest.mark.parametrize("layer", later(KINKING[:4], 2), ids=repr)
@pytest.mark.parametrize(
    "x", [pytest.param(x, id=name, marks=() if name == "tied" else pytest.mark.long) for name, x in KINKED.items()]
)
def test_kinks_of_variations_are_none_either(layer: ReLU | LeakyReLU | MaxPool2d, x: Array) -> None:
    claims = [gradients_agree_with_differences, backward_is_linear]
    report = gradcheck.check_layer(Foreign(layer), x, claims=claims)
    assert report.verdict is Verdict.PASS, str(report)


class EveryTie(Foreign):
    """Gives every tied maximum of a window the whole gradient."""

    def forward(self, x: Array) -> Array:
        self.x, self.y = x, super().forward(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        assert isinstance(self.layer, MaxPool2d)
        (height, width), (down, right) = self.layer.kernel_size, self.layer.stride  # type: ignore[misc]
        dx = np.zeros_like(self.x)
        for i, j in product(range(dy.shape[2]), range(dy.shape[3])):
            window = np.s_[:, :, i * down : i * down + height, j * right : j * right + width]
            dx[window] += (self.x[window] == self.y[:, :, i : i + 1, j : j + 1]) * dy[:, :, i : i + 1, j : j + 1]
        return dx


@pytest.mark.short(1)
@pytest.mark.parametrize("pool", SOME_POOLS, ids=repr)
@pytest.mark.parametrize(
    "x",
    [TIED, *(pytest.param(each, marks=pytest.mark.long) for each in (FLAT, TIED * (np.arange(4) > 1)))],
    ids=["tied", "flat", "flat patch"],
)
def test_every_tied_maximum_given_the_whole_gradient_is_caught_without_a_twin(pool: MaxPool2d, x: Array) -> None:
    report = gradcheck.check_layer(EveryTie(pool), x, variations=False)
    (failure,) = (each for each in report.failures if each.property == "gradients_agree_with_differences")
    assert failure.diagnosis == IN_FULL
    assert "raises" not in str(report)


@pytest.mark.parametrize("pool", later(POOLS[:3], 1), ids=repr)
def test_of_an_input_without_ties_some_with_ties_are_made_and_their_fault_named(pool: MaxPool2d) -> None:
    x = np.random.default_rng(0).standard_normal(IMAGES)
    (failure,) = gradcheck.check_layer(EveryTie(pool), x, claims=[gradients_agree_with_differences]).failures
    assert failure.message in ("with ties", "with zeros")  # two zeros in one window tie, too
    assert failure.diagnosis == IN_FULL


class MoreThanAllTies(EveryTie):
    """Gives every tied maximum more than the whole gradient."""

    def backward(self, dy: Array) -> Array:
        return 1.25 * super().backward(dy)


class LeastMinimum(EveryTie):
    """Gives each of several minima the whole gradient: the same from below, where a function is concave."""

    def forward(self, x: Array) -> Array:
        return -super().forward(-x)


@pytest.mark.long
@pytest.mark.parametrize(("pool", "x"), [(POOLS[0], TIED), (POOLS[0], FLAT), (POOLS[2], TIED)])
def test_only_what_ties_in_full_is_called_so(pool: MaxPool2d, x: Array) -> None:
    claims = [gradients_agree_with_differences]
    assert IN_FULL in str(gradcheck.check_layer(LeastMinimum(pool), TIED, claims=claims))
    report = gradcheck.check_layer(MoreThanAllTies(pool), x, claims=claims)
    assert report.verdict is Verdict.FAIL
    assert "tied" not in str(report)


def two_maxima_and_a_square(x: Array) -> Array:
    """Return the maxima of x[:3] and of x[3:6], the square of x[6], and the sum of the squares of the others."""
    return np.array([x[:3].max(), x[3:6].max(), x[6] ** 2, np.sum(x[:6] ** 2)])


def tied_in_full(x: Array, dy: Array, shares: float = 1.0, square: float = 2.0, squares: float = 2.0) -> Array:
    """Return their gradient where x[:6] are all tied, in full to each; of the second maximum only ``shares`` of it.

    The slopes of the square and of the squares are to be 2 x.
    """
    tied = np.repeat([dy[0], shares * dy[1]], 3) + squares * x[:6] * dy[3]
    return np.append(tied, square * x[6] * dy[2])


# What is wrong besides the first maximum's ties; none of it is seen by the one-sided slopes of tied elements alone.
BESIDES: dict[str, dict[str, float]] = {
    "of the other maximum each has 0.8, which is too much together": {"shares": 0.8},
    "an element that does not tie": {"square": 3.0},
    "tied elements in an output that has no kink": {"squares": 3.0},
}


@pytest.mark.short(1)
@pytest.mark.parametrize("besides", BESIDES)
def test_ties_in_full_are_no_cause_where_something_else_is_wrong_too(besides: str) -> None:
    alone, both = (report_at_ties(wrong) for wrong in ({}, BESIDES[besides]))
    assert IN_FULL.removeprefix("input's ") in str(alone)
    assert both.verdict is Verdict.FAIL
    assert "tied" not in str(both)


def report_at_ties(wrong: dict[str, float]) -> gradcheck.Report:
    x = np.array([1.0] * 3 + [2.0] * 3 + [0.7])

    def vjp(inputs: tuple[Array, ...], dy: Array) -> tuple[Array]:
        return (tied_in_full(inputs[0], dy, **wrong),)

    return gradcheck.check_gradients(two_maxima_and_a_square, (x,), vjp, variations=False)


def opposed(x: Array) -> Array:
    """Return a function of two elements that moves by 1 along each alone, and by 1/2 along both together."""
    return np.maximum(0, np.maximum(x[:1] - x[1:] / 2, x[1:] - x[:1] / 2))


def test_what_moves_less_together_than_alone_does_not_tie() -> None:
    # Each has all of the slope in common, 1/2, which is within its own range, but not in full what it has alone.
    report = gradcheck.check_gradients(
        opposed, (np.zeros(2),), lambda _, dy: (np.full(2, 0.5 * dy[0]),), variations=False
    )
    assert report.verdict is Verdict.FAIL
    assert "tied" not in str(report)
    right = gradcheck.check_gradients(opposed, (np.zeros(2),), lambda _, dy: (np.full(2, 0.25 * dy[0]),))
    assert right.verdict is Verdict.PASS, str(right)


class MoreThanTiesButAtZero(EveryTie):
    """Gives each of several tied maxima the whole gradient where they are zero, and more where they are not."""

    def backward(self, dy: Array) -> Array:
        assert isinstance(self.layer, MaxPool2d)
        windows = np.lib.stride_tricks.sliding_window_view(self.x, self.layer.kernel_size, axis=(2, 3))
        maxima = windows[:, :, ::2, ::2].max(axis=(4, 5), keepdims=True)
        several = (windows[:, :, ::2, ::2] == maxima).sum(axis=(4, 5)) > 1
        return super().backward(np.where(several & (self.y != 0), 1.25, 1.0) * dy)


def test_the_case_that_is_shown_is_the_one_whose_cause_is_named() -> None:
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    claims = [gradients_agree_with_differences]
    (failure,) = gradcheck.check_layer(MoreThanTiesButAtZero(POOLS[0]), x, claims=claims).failures
    assert failure.failing == 2  # with ties, of which it can tell no cause, and with zeros
    assert (failure.message, failure.diagnosis) == ("with zeros", IN_FULL)


class EqualShares(EveryTie):
    """Shares the gradient among tied maxima, which is as good a generalised gradient as any."""

    def backward(self, dy: Array) -> Array:
        assert isinstance(self.layer, MaxPool2d)
        (height, width), (down, right) = self.layer.kernel_size, self.layer.stride  # type: ignore[misc]
        dx = np.zeros_like(self.x)
        for i, j in product(range(dy.shape[2]), range(dy.shape[3])):
            window = np.s_[:, :, i * down : i * down + height, j * right : j * right + width]
            tied = self.x[window] == self.y[:, :, i : i + 1, j : j + 1]
            dx[window] += tied / tied.sum(axis=(2, 3), keepdims=True) * dy[:, :, i : i + 1, j : j + 1]
        return dx


@pytest.mark.short(1)
@pytest.mark.parametrize("x", later([TIED, FLAT], 1), ids=["tied", "flat"])
@pytest.mark.parametrize("pool", SOME_POOLS, ids=repr)
def test_equal_shares_of_tied_maxima_pass_without_a_twin(pool: MaxPool2d, x: Array) -> None:
    report = gradcheck.check_layer(EqualShares(pool), x, claims=[gradients_agree_with_differences])
    assert report.verdict is Verdict.PASS, str(report)


class OneAtZero:
    """Takes the slope of the rectifier at exactly zero to be 1, where torch takes 0."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy: Array) -> Array:
        return dy * (self.x >= 0)


def test_the_choice_at_zero_is_free_without_a_twin_and_torchs_with_one() -> None:
    import torch

    x = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]])
    assert gradcheck.check_layer(OneAtZero(), x, variations=False).verdict is Verdict.PASS
    report = gradcheck.check_layer(OneAtZero(), x, twin=torch.nn.ReLU(), variations=False)
    (failure,) = report.failures
    assert failure.property == "gradients_agree_with_twin"
    assert failure.diagnosis == "there is a kink here: torch's choice of a generalised gradient is another one"
