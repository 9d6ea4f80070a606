# mypy: ignore-errors
"""Code that computes in float32 whatever it is given is judged in float32: right code passes, and wrong code fails."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.long import later

RNG = np.random.default_rng(0)
SINGLE = np.float32
X, W = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 3)).astype(SINGLE)
NAMES = {"params": {"W": "W"}, "grads": {"W": "dW"}}
DIFFERENCES = "gradients_agree_with_differences"
SAID = "your code computes in float32, whatever it is given, and is judged in float32: a gradient that is off by "


class Layer:
    """tanh(x W); the gradient of W is ``times`` the right one."""

    def __init__(self, times=1.0):
        self.W, self.times = W.copy(), times

    def forward(self, x):
        self.x = np.asarray(x, SINGLE)
        self.y = np.tanh(self.x @ self.W.astype(SINGLE))
        return self.y

    def backward(self, dy):
        dz = (dy * (1 - self.y**2)).astype(SINGLE)
        self.dW = self.times * (self.x.T @ dz)
        return dz @ self.W.astype(SINGLE).T


class Widens(Layer):
    """Returns what it was given the precision of."""

    def forward(self, x):
        return super().forward(x).astype(x.dtype)

    def backward(self, dy):
        dx = super().backward(dy).astype(dy.dtype)
        self.dW = self.dW.astype(dy.dtype)
        return dx


class Buffers(Layer):
    """Computes in float64, but for what it keeps."""

    def forward(self, x):
        self.x, self.y = x, np.zeros((len(x), 3), "f")
        self.y[...] = np.tanh(x @ self.W)
        return 2.0 * self.y @ np.eye(3, dtype=x.dtype)

    def backward(self, dy):
        dz = 2.0 * dy * (1 - self.y**2)
        self.dW = self.times * (self.x.T @ dz)
        return dz @ self.W.T


class OnTheWayBack(Layer):
    def forward(self, x):
        self.x, self.y = x, np.tanh(x @ self.W)
        return self.y


class Stores(Layer):
    """Keeps its weight in float32, whatever it is set to."""

    W = property(lambda self: self.kept, lambda self, value: setattr(self, "kept", np.asarray(value, SINGLE)))


LAYERS = (Layer, Widens, Buffers, OnTheWayBack, Stores)


@pytest.mark.parametrize("given", later([np.float64, SINGLE], 1))
@pytest.mark.parametrize("layer", LAYERS, ids=lambda kind: kind.__name__)
def test_right_code_passes_and_its_precision_is_said_once(layer, given):
    report = gradcheck.check_layer(layer(), X.astype(given), **NAMES)
    assert report.verdict is Verdict.PASS, str(report)
    assert str(report).count(SAID) == 1


@pytest.mark.short(6)
@pytest.mark.parametrize("times", [2.0, -1.0, 0.0, 0.98])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda kind: kind.__name__)
def test_wrong_code_fails(layer, times):
    report = gradcheck.check_layer(layer(times), X, mode="full", claims=[DIFFERENCES], variations=False, **NAMES)
    assert DIFFERENCES in {finding.property for finding in report.failures}, str(report)


@pytest.mark.parametrize(
    ("times", "cause"), later([(2.0, "exactly 2 times"), (-1.0, "the sign is wrong"), (0.0, "zero")], 1)
)
def test_the_cause_is_named_in_float32_too(times, cause):
    report = gradcheck.check_layer(Layer(times), X, claims=[DIFFERENCES], variations=False, **NAMES)
    (failure,) = report.failures
    assert cause in failure.diagnosis


@pytest.mark.parametrize("times", later([1.0, 2.0, -1.0], 1))
def test_random_directions_tell_in_float32_too(times):
    report = gradcheck.check_layer(Layer(times), X, mode="fast", variations=times == 1, **NAMES)
    assert report.verdict is (Verdict.PASS if times == 1 else Verdict.FAIL), str(report)


@pytest.mark.parametrize("times", [1.0, 2.0])
@pytest.mark.parametrize(
    "layer",
    [Layer, *(pytest.param(one, marks=pytest.mark.long) for one in (Widens, Buffers))],
    ids=["Layer", "Widens", "Buffers"],
)
def test_a_twin_is_asked_in_float32(layer, times):
    torch = pytest.importorskip("torch")
    factor = 2.0 if layer is Buffers else 1.0

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W = torch.nn.Parameter(torch.zeros(4, 3))

        def forward(self, x):
            return factor * torch.tanh(x @ self.W)

    report = gradcheck.check_layer(layer(times), X, twin=Twin(), variations=times == 1, **NAMES)
    failed = {finding.property for finding in report.failures}
    assert failed == ({DIFFERENCES, "gradients_agree_with_twin"} if times != 1 else set()), str(report)


class InSingle:
    """A layer without parameters, in float32."""

    def forward(self, x):
        self.y = self.f(np.asarray(x, SINGLE))
        return self.y

    def backward(self, dy):
        return self.pull(dy.astype(SINGLE))


class Gelu(InSingle):
    """By tanh: below -4 all that is left of 1 + tanh is rounding."""

    def f(self, x):
        self.x, self.t = x, np.tanh(SINGLE(0.7978845608) * (x + SINGLE(0.044715) * x**3))
        return SINGLE(0.5) * x * (1 + self.t)

    def pull(self, dy):
        slope = SINGLE(0.7978845608) * (1 + 3 * SINGLE(0.044715) * self.x**2)
        return dy * SINGLE(0.5) * (1 + self.t + self.x * (1 - self.t**2) * slope)


class Sigmoid(InSingle):
    def f(self, x):
        return 1 / (1 + np.exp(-x))

    def pull(self, dy):
        return dy * self.y * (1 - self.y)


class BatchNorm(InSingle):
    """Of equal numbers, as ties and zeros make them, its slope is 300 within a thousandth of them and 0 beyond."""

    def f(self, x):
        self.s = np.sqrt(x.var(axis=0) + SINGLE(1e-5))
        return (x - x.mean(axis=0)) / self.s

    def pull(self, dy):
        return (dy - dy.mean(axis=0) - self.y * (dy * self.y).mean(axis=0)) / self.s


class Softmax(InSingle):
    def f(self, x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def pull(self, dy):
        return self.y * (dy - (dy * self.y).sum(axis=-1, keepdims=True))


@pytest.mark.short(1)
@pytest.mark.parametrize("scale", [1.0, *(pytest.param(scale, marks=pytest.mark.long) for scale in (1000.0,))])
@pytest.mark.parametrize("layer", later([Sigmoid, BatchNorm, Gelu, Softmax], 2), ids=lambda kind: kind.__name__)
def test_what_cancels_and_saturates_in_float32_is_no_fault(layer, scale):
    for seed, offset in ((0, 0.0), (1, 5.0), (2, 0.0)):
        x = scale * (np.random.default_rng(seed).standard_normal((3, 4)) + offset)
        # Of inputs that are all large nothing may move; smaller ones are not made of them.
        report = gradcheck.check_layer(layer(), x, seed=seed, domain="any")
        assert report.verdict is not Verdict.FAIL, str(report)
        assert scale > 1 or report.verdict is Verdict.PASS, str(report)


class CrossEntropy:
    """A Python number, computed in float32."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, x, labels):
        e = np.exp(np.asarray(x, SINGLE) - x.max(axis=1, keepdims=True).astype(SINGLE))
        self.p, self.labels = e / e.sum(axis=1, keepdims=True), labels
        return float(-np.log(self.p[np.arange(len(labels)), labels]).mean())

    def backward(self):
        dx = self.p.copy()
        dx[np.arange(len(self.labels)), self.labels] -= 1
        return self.times * dx / len(self.labels)


@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (4.0, Verdict.FAIL)])
def test_losses_are_judged_in_float32(times, verdict):
    report = gradcheck.check_loss(CrossEntropy(times), X, np.array([0, 3, 1]), variations=times == 1)
    assert report.verdict is verdict, str(report)
    assert SAID in str(report)


@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (2.0, Verdict.FAIL)])
def test_functions_are_judged_in_float32(times, verdict):
    def f(x):
        return np.sin(x.astype(SINGLE)).astype(x.dtype)

    def vjp(inputs, dy):
        return (times * dy * np.cos(inputs[0]),)

    report = gradcheck.check_gradients(f, (X,), vjp, variations=times == 1)
    assert report.verdict is verdict, str(report)
    assert SAID in str(report)


@pytest.mark.short(1)
@pytest.mark.parametrize("given", [np.float64, SINGLE])
def test_code_that_can_do_float64_is_judged_in_it_whatever_is_given(given):
    class Both(Layer):
        def forward(self, x):
            self.x, self.y = x, np.tanh(x @ self.W)
            return self.y

        def backward(self, dy):
            dz = dy * (1 - self.y**2)
            self.dW = self.times * (self.x.T @ dz)
            return dz @ self.W.T

    right, wrong = (
        gradcheck.check_layer(Both(times), X.astype(given), variations=times == 1, **NAMES) for times in (1.0, 1 + 1e-7)
    )
    assert right.verdict is Verdict.PASS
    assert wrong.verdict is Verdict.FAIL
    assert "float32, whatever" not in str(right)


def test_whole_numbers_have_no_derivative():
    report = gradcheck.check_gradients(lambda x: (x > 0).astype(int), (X,), lambda inputs, dy: (np.zeros_like(X),))
    (unclear,) = (finding for finding in report.findings if finding.property == DIFFERENCES)
    assert unclear.message == "the output is int64 where everything given is float64: it has no derivative"
