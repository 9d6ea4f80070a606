# mypy: ignore-errors
"""That a forward pass refuses a step is no fault, and hides none."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from tests.long import later

RNG = np.random.default_rng(0)
DIFFERENCES = "gradients_agree_with_differences"
SQUARE = RNG.standard_normal((4, 4))


class Layer:
    """A layer that refuses what is outside its domain; its gradient is ``times`` the right one."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, x):
        if not self.holds(x):
            raise ValueError("outside")
        self.x = x
        return self.f(x)

    def backward(self, dy):
        return self.times * self.pull(dy)


class Logarithm(Layer):
    def holds(self, x):
        return (x > 0).all()

    def f(self, x):
        return np.log(x)

    def pull(self, dy):
        return dy / self.x


class Square(Layer):
    """x^2 + exp(x) of an interval, the ends of which it may be given."""

    def holds(self, x):
        return ((x >= 0) & (x <= 1)).all()

    def f(self, x):
        return x**2 + np.exp(x)

    def pull(self, dy):
        return dy * (2 * self.x + np.exp(self.x))


class NotANumber(Square):
    def forward(self, x):
        self.x = x
        return np.where((x >= 0) & (x <= 1), self.f(x), np.nan)


class Entropy(Layer):
    def holds(self, x):
        return np.allclose(x.sum(axis=-1), 1)

    def f(self, x):
        return (x * np.log(x)).sum(axis=-1)

    def pull(self, dy):
        return dy[:, None] * (np.log(self.x) + 1)


class Skew(Layer):
    def holds(self, x):
        return np.abs(x + x.T).max() < 1e-10

    def f(self, x):
        return (x**2).sum(axis=0)

    def pull(self, dy):
        return 2 * self.x * dy


class Cholesky(Layer):
    """The factor of a symmetric matrix, of which it reads one half; the gradient is symmetric, as is usual."""

    def holds(self, x):
        return np.allclose(x, x.T)

    def f(self, x):
        self.low = np.linalg.cholesky(x)
        return self.low

    def pull(self, dy):
        phi = np.tril(self.low.T @ np.tril(dy))
        phi[np.diag_indices_from(phi)] /= 2
        s = np.linalg.solve(self.low.T, np.linalg.solve(self.low.T, phi.T).T)
        return (s + s.T) / 2


class UnitVectors(Layer):
    def holds(self, x):
        return np.allclose((x**2).sum(axis=1), 1)

    def f(self, x):
        return x**3

    def pull(self, dy):
        return 3 * self.x**2 * dy


ALONG = "its gradient is judged along 8 directions that keep "
DOMAINS = {
    Logarithm: (10.0 ** -RNG.uniform(0, 6, (3, 4)), "shorter ones were taken"),
    Entropy: (RNG.dirichlet(np.ones(5), 3), f"{ALONG}the sums along axis 1"),
    Square: (np.array([[0.0, 0.5, 1.0], [0.25, 0.0, 1.0]]), "shorter ones were taken"),
    NotANumber: (np.array([[0.0, 0.5, 1.0], [0.25, 0.0, 1.0]]), ""),
    Skew: (SQUARE - SQUARE.T, f"{ALONG}skew symmetry"),
    Cholesky: (SQUARE @ SQUARE.T + np.eye(4), f"{ALONG}symmetry"),
    UnitVectors: (SQUARE / np.linalg.norm(SQUARE, axis=1, keepdims=True), f"{ALONG}the norms along axis 1"),
}


@pytest.mark.short(4)
@pytest.mark.parametrize(
    ("layer", "mode"),
    [*((layer, "full") for layer in DOMAINS), *later(((layer, "fast") for layer in DOMAINS), 2)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_right_gradient_passes_and_the_report_says_where_it_was_judged(layer, mode):
    x, said = DOMAINS[layer]
    report = gradcheck.check_layer(layer(), x, mode=mode)
    assert report.verdict is Verdict.PASS, str(report)
    if mode == "full" or layer is not Square:  # its shorter steps are told of single elements, not of joint lines
        assert said in str(report)
    assert "raises" not in str(report)
    assert "no direction could be judged" not in str(report)


@pytest.mark.short(1)
@pytest.mark.parametrize("mode", ["full", pytest.param("fast", marks=pytest.mark.long)])
@pytest.mark.parametrize("layer", later(DOMAINS, 2), ids=lambda kind: kind.__name__)
def test_twice_the_gradient_fails_with_numbers(layer, mode):
    report = gradcheck.check_layer(layer(2.0), DOMAINS[layer][0], mode=mode, claims=[DIFFERENCES], variations=False)
    (failure,) = report.failures
    assert failure.worst.analytic == pytest.approx(2 * failure.worst.numeric, rel=1e-3)


def test_an_element_that_moves_by_itself_is_judged_by_itself():
    class WrongOnTheDiagonal(Cholesky):
        def pull(self, dy):
            dx = super().pull(dy)
            dx[2, 2] *= 1.01
            return dx

    report = gradcheck.check_layer(WrongOnTheDiagonal(), DOMAINS[Cholesky][0], claims=[DIFFERENCES], variations=False)
    assert report.verdict is Verdict.FAIL


class Mixture:
    """Columns of x mixed by weights that sum to 1."""

    def __init__(self, times=1.0):
        self.W, self.times = np.array([0.5, 0.25, 0.125, 0.125]), times

    def forward(self, x):
        if abs(self.W.sum() - 1) > 1e-9:
            raise ValueError("weights sum to 1")
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.times * dy @ self.x
        return dy[:, None] * self.W


@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (2.0, Verdict.FAIL)])
def test_parameters_have_domains_too(times, verdict):
    report = gradcheck.check_layer(Mixture(times), SQUARE, params={"W": "W"}, grads={"W": "dW"}, variations=times == 1)
    assert report.verdict is verdict, str(report)
    assert f"{ALONG}the sum of all elements" in str(report)


class OnePoint(Layer):
    def holds(self, x):
        return np.array_equal(x, SQUARE)

    f, pull = Square.f, Square.pull


def test_where_every_step_is_refused_nothing_is_told_and_why_is_said():
    report = gradcheck.check_layer(OnePoint(2.0), SQUARE)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "the forward pass refuses every step: ValueError: outside" in str(report)


class Choosy(Layer):
    """sin, of arrays that it likes."""

    f = staticmethod(np.sin)

    def __init__(self, likes):
        super().__init__()
        self.holds = likes

    def pull(self, dy):
        return dy * np.cos(self.x)


@pytest.mark.parametrize(
    "likes",
    [
        lambda x: x.dtype == np.float64,
        lambda x: x.flags.c_contiguous,
        lambda x: len(x) % 2 == 0,
        lambda x: (x != np.rint(x)).any(),
        lambda x: np.abs(x).max() < 10,
    ],
    ids=["float64", "rows", "pairs of samples", "no whole numbers", "no large numbers"],
)
def test_what_is_made_of_the_input_may_be_refused(likes):
    report = gradcheck.check_layer(Choosy(likes), SQUARE)
    assert report.verdict is Verdict.PASS, str(report)


def test_what_is_raised_for_the_input_as_given_is_no_verdict_but_said():
    class BackwardRaises(Choosy):
        def pull(self, dy):
            raise ValueError("no way back")

    for layer, said in ((Choosy(lambda _: False), "outside"), (BackwardRaises(lambda _: True), "no way back")):
        with pytest.raises(AdapterError, match=f"ValueError: {said}"):
            gradcheck.check_layer(layer, SQUARE)


class OfDistributions:
    """Cross-entropy, of what sums to 1."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, prediction, target):
        if (prediction < 0).any() or not np.allclose(prediction.sum(axis=1), 1):
            raise ValueError("a distribution is needed")
        self.prediction, self.target = prediction, target
        return -np.sum(target * np.log(prediction))

    def backward(self):
        return -self.times * self.target / self.prediction


@pytest.mark.short(1)
@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (2.0, Verdict.FAIL)])
def test_losses_have_domains_too(times, verdict):
    report = gradcheck.check_loss(OfDistributions(times), RNG.dirichlet(np.ones(5), 4), np.eye(5)[[1, 2, 0, 4]])
    assert report.verdict is verdict, str(report)
