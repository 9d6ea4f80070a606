# mypy: ignore-errors
"""Code that refuses every precision but one is read and judged in that: right code passes, and wrong code fails."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from tests.long import later

RNG = np.random.default_rng(0)
X, W, Y = RNG.standard_normal((4, 6)), RNG.standard_normal((6, 3)), RNG.standard_normal((4, 6))
SAID = "your code takes float32 alone, and is judged in float32: a gradient that is off by"


def required(array, what, dtype=np.float32):
    if array.dtype != dtype:
        raise TypeError(f"{what} needs to be {np.dtype(dtype).name}, got {array.dtype}")


class Layer:
    """tanh(x W), which requires one precision of some of what it is given."""

    def __init__(self, times=1.0, strict=("x", "dy", "W"), dtype=np.float32):
        self.W, self.times, self.strict, self.dtype = W.astype(dtype), times, strict, dtype

    def _require(self, **arrays):
        for name, array in arrays.items():
            if name in self.strict:
                required(array, name, self.dtype)

    def forward(self, x):
        self._require(x=x, W=self.W)
        self.x, self.y = x, np.tanh(x @ self.W)
        return self.y

    def backward(self, dy):
        self._require(dy=dy)
        dz = dy * (1 - self.y**2)
        self.dW = self.dtype(self.times) * (self.x.T @ dz)
        return dz @ self.W.T


class Loss:
    def __init__(self, times=1.0):
        self.times = times

    def forward(self, prediction, target):
        assert prediction.dtype == target.dtype == np.float32
        self.difference = prediction - target
        return (self.difference**2).mean()

    def backward(self):
        return np.float32(self.times) * 2 * self.difference / np.float32(self.difference.size)


def loss_of(times):
    def loss(prediction, target):
        required(prediction, "prediction")
        difference = prediction - target
        return float((difference**2).mean()), np.float32(times) * 2 * difference / np.float32(difference.size)

    return loss


def f(x, w):
    required(x, "x")
    return np.sin(x) @ w


def pullback_of(times):
    def vjp(inputs, dy):
        x, w = inputs
        required(dy, "dy")
        return np.float32(times) * np.cos(x) * (dy @ w.T), np.sin(x).T @ dy

    return vjp


CHECKS = {
    "x": lambda times, x: gradcheck.check_layer(Layer(times, ("x",)), x),
    "dy": lambda times, x: gradcheck.check_layer(Layer(times, ("dy",)), x),
    "parameters": lambda times, x: gradcheck.check_layer(Layer(times, ("W",)), x),
    "everything": lambda times, x: gradcheck.check_layer(Layer(times), x),
    "loss": lambda times, x: gradcheck.check_loss(Loss(times), x, Y.astype(x.dtype)),
    "value and gradient": lambda times, x: gradcheck.check_loss(loss_of(times), x, Y.astype(x.dtype)),
    "function": lambda times, x: gradcheck.check_gradients(f, (x, W.astype(x.dtype)), pullback_of(times)),
    "pullback": lambda times, x: gradcheck.check_gradients(
        lambda x, w: np.sin(x) @ w, (x, W.astype(x.dtype)), pullback_of(times)
    ),
}


@pytest.mark.parametrize("given", later([np.float32, np.float64], 1))
@pytest.mark.parametrize("what", CHECKS)
def test_what_takes_float32_alone_is_judged_in_it_and_that_is_said_once(what, given):
    report = CHECKS[what](1.0, X.astype(given))
    assert report.verdict is Verdict.PASS, str(report)
    assert str(report).count(SAID) == 1


@pytest.mark.parametrize("what", later(CHECKS, 1))
def test_what_takes_float32_alone_and_is_wrong_fails(what):
    report = CHECKS[what](1.5, X)
    (failure,) = report.failures
    assert failure.property == "gradients_agree_with_differences"
    assert "raises" not in failure.message


def test_the_cause_is_named_in_the_precision_that_is_taken():
    assert "W's gradient is exactly 3/2 times the numerical one" in str(CHECKS["everything"](1.5, X))


@pytest.mark.short(1)
@pytest.mark.parametrize("given", later([np.float32, np.float64], 1))
@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (1.5, Verdict.FAIL)])
def test_what_takes_float64_alone_is_given_it(times, verdict, given):
    report = gradcheck.check_layer(Layer(times, dtype=np.float64), X.astype(given))
    assert report.verdict is verdict, str(report)
    assert ("your code takes float64 alone, and is given it" in str(report)) is (given is np.float32)
    assert not any("raises" in finding.message for finding in report.failures)


class OfOne:
    """A layer that refuses an input of another precision than its weights'."""

    def __init__(self, times):
        self.W, self.times = W.astype(np.float64), times

    def forward(self, x):
        assert x.dtype == self.W.dtype
        self.x = x
        return np.sin(x) @ self.W

    def backward(self, dy):
        self.dW = self.times * np.sin(self.x).T @ dy
        return np.cos(self.x) * (dy @ self.W.T)


@pytest.mark.parametrize(("times", "verdict"), [(1.0, Verdict.PASS), (1.5, Verdict.FAIL)])
def test_an_input_of_float32_beside_weights_of_float64_is_given_in_their_precision(times, verdict):
    report = gradcheck.check_layer(OfOne(times), X.astype(np.float32))
    assert report.verdict is verdict, str(report)
    assert "your code takes float64 alone, and is given it" in str(report)
    assert not any("raises" in finding.message for finding in report.failures)


@pytest.mark.short(1)
@pytest.mark.parametrize("times", [1.0, 1.5])
def test_a_twin_is_asked_in_the_precision_that_is_taken(times):
    torch = pytest.importorskip("torch")

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W = torch.nn.Parameter(torch.zeros(6, 3))

        def forward(self, x):
            return torch.tanh(x @ self.W)

    report = gradcheck.check_layer(Layer(times), X, twin=Twin())
    verdicts = {finding.property: finding.verdict for finding in report.findings}
    assert verdicts["forward_agrees_with_twin"] is Verdict.PASS
    assert verdicts["gradients_agree_with_twin"] is (Verdict.PASS if times == 1 else Verdict.FAIL)


def test_what_takes_neither_precision_cannot_be_called():
    with pytest.raises(AdapterError, match=r"x needs to be float16, got float64 .*, in float64 and in float32: give"):
        gradcheck.check_layer(Layer(dtype=np.float16), X)
    with pytest.raises(AdapterError, match=r"x needs to be float16, got float64 .*, in float64 and in float32"):
        gradcheck.check_gradients(lambda x: required(x, "x", np.float16), (X,), lambda inputs, dy: dy)


def test_what_float32_code_lacks_besides_is_told():
    class NoGradient(Layer):
        def backward(self, dy):
            super().backward(dy)
            del self.dW

    with pytest.raises(AdapterError, match="backward returns no gradient, and leaves none"):
        gradcheck.check_layer(NoGradient(), X)
