"""An eps beside a norm counts less where the input is larger; a fault does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array, Case
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.properties.outcome import Outcome, Settings
from gradcheck.report.results import Finding
from gradcheck.subjects.function import PlainFunction
from tests.long import later

X = np.random.default_rng(0).standard_normal((3, 4))


class Normed:
    """``y = x / (|x| + eps)``, whose gradient leaves eps out everywhere, or in one place."""

    def __init__(self, eps: float, *, everywhere: bool = True, factor: float = 1.0, projected: float = 1.0) -> None:
        self.eps, self.everywhere, self.factor, self.projected = eps, everywhere, factor, projected

    def forward(self, x: Array) -> Array:
        self.norm = np.sqrt((x**2).sum(axis=1, keepdims=True))
        self.x, self.y = x, x / (self.norm + self.eps)
        return self.y

    def backward(self, dy: Array) -> Array:
        y = self.x / self.norm if self.everywhere else self.y
        of = self.norm if self.everywhere else self.norm + self.eps
        return self.factor * (dy - self.projected * y * (y * dy).sum(axis=1, keepdims=True)) / of


class Standardised:
    """``y = (x - mean) / sqrt(var + eps)``, whose gradient is that of eps = 0."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def forward(self, x: Array) -> Array:
        self.std = x.std(axis=1, keepdims=True)
        centred = x - x.mean(axis=1, keepdims=True)
        self.y = centred / self.std
        return centred / np.sqrt(self.std**2 + self.eps)

    def backward(self, dy: Array) -> Array:
        means = dy.mean(axis=1, keepdims=True), (dy * self.y).mean(axis=1, keepdims=True)
        return (dy - means[0] - self.y * means[1]) / self.std


def judged(layer: object, x: Array = X, *, variations: bool = False) -> Finding:
    claims = [gradients_agree_with_differences]
    return gradcheck.check_layer(layer, x, claims=claims, variations=variations).findings[0]


@pytest.mark.parametrize("everywhere", later([True, False], 1))
@pytest.mark.parametrize("eps", later([1e-5, 1e-8], 1))
def test_an_eps_beside_a_norm_is_named(eps: float, everywhere: bool) -> None:
    found = judged(Normed(eps, everywhere=everywhere), variations=everywhere)
    assert found.verdict is Verdict.PASS, found
    assert f"as eps = {eps:.2g} beside a norm of the input explains" in found.remarks[0]


@pytest.mark.parametrize("eps", later([1e-8, 1e-12], 1))
def test_an_eps_beside_a_variance_passes(eps: float) -> None:
    assert judged(Standardised(eps)).verdict is Verdict.PASS


class BesideDeviation:
    """``y = gamma (x - mean) / (std + eps)``, whose gradient takes eps for a part of the deviation."""

    def __init__(self, factor: float = 1.0) -> None:
        self.gamma, self.factor = np.ones(5), factor

    def forward(self, x: Array) -> Array:
        self.std = x.std(axis=-1, keepdims=True) + 1e-10
        self.y = (x - x.mean(axis=-1, keepdims=True)) / self.std
        return self.gamma * self.y

    def backward(self, dy: Array) -> Array:
        self.dgamma, dy = (dy * self.y).sum(axis=0), dy * self.gamma
        means = dy.mean(axis=-1, keepdims=True), (dy * self.y).mean(axis=-1, keepdims=True)
        return self.factor * (dy - means[0] - self.y * means[1]) / self.std


@pytest.mark.short(1)
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1 + 1e-9, Verdict.FAIL)])
def test_an_eps_hardly_above_rounding_passes_with_random_parameters_too(factor: float, verdict: Verdict) -> None:
    x = np.random.default_rng(5).standard_normal((4, 5))
    assert judged(BesideDeviation(factor), x).verdict is verdict


@pytest.mark.short(1)
@pytest.mark.parametrize(
    "layer",
    [Normed(0.0, projected=1 + 1e-6), Normed(0.0, factor=1 + 1e-7), Normed(1e-8, projected=1 + 1e-5)],
    ids=["a part", "a factor", "a part beside an eps"],
)
def test_a_small_fault_of_a_norm_is_no_guard(layer: object) -> None:
    assert judged(layer).verdict is Verdict.FAIL


@pytest.mark.long
def test_a_large_eps_beside_a_norm_fails_by_name() -> None:
    found = judged(Normed(1e-2), X[:2, :3], variations=True)
    assert found.verdict is Verdict.FAIL
    assert "as eps = 0.01 beside a norm of the input explains: no mere guard" in found.diagnosis


ELEMENTWISE: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "root": (lambda x: np.sqrt(x + 1e-8), lambda x: 0.5 / np.sqrt(x)),
    "inverse": (lambda x: 1 / (x + 1e-8), lambda x: -1 / x**2),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_eps_beside_each_element_passes(name: str) -> None:
    f, slope = ELEMENTWISE[name]
    x = np.abs(X) + 0.5
    assert gradcheck.check_gradients(f, (x,), lambda inputs, dy: (dy * slope(inputs[0]),)).verdict is Verdict.PASS
    wrong = gradcheck.check_gradients(f, (x,), lambda inputs, dy: (dy * slope(inputs[0] + 1e-7 * inputs[0] ** 2),))
    assert wrong.verdict is Verdict.FAIL


class Overlap:
    """``1 - 2 sum(p t) / (sum(p + t) + eps)``, whose gradient is that of eps = 0, times a factor."""

    def __init__(self, eps: float, factor: float = 1.0) -> None:
        self.eps, self.factor = eps, factor

    def forward(self, p: Array, t: Array) -> float:
        self.t, self.both, self.size = t, (p * t).sum(), p.sum() + t.sum()
        return float(1 - 2 * self.both / (self.size + self.eps))

    def backward(self) -> Array:
        return -2 * self.factor * (self.t * self.size - self.both) / self.size**2


@pytest.mark.long
def test_an_eps_beside_a_sum_over_the_target_too_passes() -> None:
    rng = np.random.default_rng(1)
    p, t = rng.uniform(0.1, 0.9, (3, 4)), (rng.random((3, 4)) > 0.5) * 1.0
    for loss, verdict in ((Overlap(1e-6), Verdict.PASS), (Overlap(0.0, 1 + 1e-6), Verdict.FAIL)):
        assert gradcheck.check_loss(loss, p, t, claims=[gradients_agree_with_differences]).verdict is verdict


@pytest.mark.long
@pytest.mark.parametrize(("seed", "eps", "rows"), later([(4, 1e-5, 2), (2, 1e-10, 1), (6, 1e-10, 2)], 1))
def test_an_eps_that_counts_as_much_as_the_variance_or_hardly_at_all_passes(seed: int, eps: float, rows: int) -> None:
    x = np.random.default_rng(seed).standard_normal((rows, 3))
    assert judged(Standardised(eps), x).verdict is Verdict.PASS


def test_an_eps_is_no_reason_for_more_than_it_can_come_to() -> None:
    report = gradcheck.check_gradients(np.round, (2 * X,), lambda inputs, dy: (dy * np.ones_like(inputs[0]),))
    assert "beside a norm" not in str(report)  # though rounding counts for nothing where numbers are large


@pytest.mark.long
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1 + 1e-4, "fail")])
def test_of_more_axes_than_are_searched_for_norms_none_is_read_off(factor: float, verdict: str) -> None:
    class Deep(Normed):
        def forward(self, x: Array) -> Array:
            return super().forward(x.reshape(-1, 3)).reshape(x.shape)

        def backward(self, dy: Array) -> Array:
            return super().backward(dy.reshape(-1, 3)).reshape(dy.shape)

    x = np.random.default_rng(0).standard_normal((2, 2, 2, 2, 3))
    assert judged(Deep(1e-6, factor=factor), x).verdict == verdict


def of_zeros(eps: float, other: float, factor: float = 1.0) -> Outcome:
    """Judge columns over ``sqrt(var + eps)`` where one of our own is 0; their gradient has another eps.

    Where only that is left, the gradient has a factor, too.
    """

    def forward(x: Array) -> Array:
        return np.asarray((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps))

    def backward(inputs: tuple[Array, ...], dy: Array) -> Array:
        x = inputs[0]
        std = np.sqrt(x.var(axis=0) + other)
        y = (x - x.mean(axis=0)) / std
        dx = (dy - dy.mean(axis=0) - y * (dy * y).mean(axis=0)) / std
        return np.where(x.var(axis=0) == 0, factor, 1.0) * dx

    x = np.random.default_rng(7).standard_normal((6, 3)) * [0.0, 1.0, 1.0]
    return gradients_agree_with_differences(Case(PlainFunction(forward, backward), (x,)), Settings(derived=True))


@pytest.mark.parametrize(("eps", "other"), later([(1e-5, 1e-8), (1e-8, 1e-5), (1e-5, 1e-6)], 1))
def test_another_eps_passes_where_zeros_of_our_own_leave_nothing_else(eps: float, other: float) -> None:
    found = of_zeros(eps, other)
    assert found.verdict is not Verdict.FAIL, found
    assert "an eps is much, or all, of what the gradient is divided by" in found.remark


@pytest.mark.short(2)
@pytest.mark.parametrize(
    ("eps", "other", "factor"), [(1e-5, 1e-8, -1.0), (1e-5, 1e-5, 2.0), (1e-5, 1e-5, -1.0), (1e-3, 1e-8, 1.0)]
)
def test_a_factor_where_the_variance_is_0_or_an_eps_that_is_no_guard_fails(
    eps: float, other: float, factor: float
) -> None:
    assert of_zeros(eps, other, factor).verdict is Verdict.FAIL


class GuardedByDeviation:
    """``y = gain (x - mean) / (std + eps) + shift``, whose gradient takes the std + eps for a deviation."""

    def __init__(self, factor: float = 1.0) -> None:
        self.gain, self.shift, self.factor = np.ones(6), np.zeros(6), factor

    def forward(self, x: Array) -> Array:
        self.guarded = x.std(axis=1, keepdims=True) + 1e-10
        self.y: Array = (x - x.mean(axis=1, keepdims=True)) / self.guarded
        return self.gain * self.y + self.shift

    def backward(self, dy: Array) -> Array:
        self.dgain, self.dshift, dy = (dy * self.y).sum(axis=0), dy.sum(axis=0), dy * self.gain
        means = dy.mean(axis=1, keepdims=True), (dy * self.y).mean(axis=1, keepdims=True)
        return self.factor * (dy - means[0] - self.y * means[1]) / self.guarded


@pytest.mark.short(1)
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1 + 1e-8, Verdict.FAIL)])
def test_an_eps_on_both_sides_may_move_more_than_that_on_one(factor: float, verdict: Verdict) -> None:
    x = np.random.default_rng(5).standard_normal((4, 6))
    claims = [gradients_agree_with_differences]
    assert gradcheck.check_layer(GuardedByDeviation(factor), x, claims=claims, seed=5).verdict is verdict
