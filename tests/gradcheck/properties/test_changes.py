# mypy: ignore-errors
"""What a call changes in place is one finding, and gradients are judged as if it had changed nothing."""

from __future__ import annotations

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.long import later

RNG = np.random.default_rng(0)
X, Y, W = RNG.standard_normal((3, 2)), RNG.standard_normal((3, 2)), RNG.standard_normal((2, 4))
NAMES = {"params": {"W": "W"}, "grads": {"W": "dW"}}
UNTOUCHED, DIFFERENCES = "arguments_are_left_untouched", "gradients_agree_with_differences"


class Dense:
    """x W; ``times`` is by how much the gradient of W is too large."""

    def __init__(self, times=1.0):
        self.W, self.times = W.copy(), times

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.times * self.x.T @ dy
        return dy @ self.W.T


class CentresItsInput(Dense):
    def forward(self, x):
        x -= x.mean(axis=0)
        return super().forward(x)

    def backward(self, dy):
        dx = super().backward(dy)
        return dx - dx.mean(axis=0)


class HalvesDy(Dense):
    def forward(self, x):
        return 0.5 * super().forward(x)

    def backward(self, dy):
        dy *= 0.5
        return super().backward(dy)


class ReturnsDy:
    """3 x, and the way back in the memory of dy."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, x):
        return 3 * x

    def backward(self, dy):
        dy *= 3 * self.times
        return dy


class NormalisesItsWeight(Dense):
    def forward(self, x):
        self.W *= 0.5
        return super().forward(x)

    def backward(self, dy):
        dx = super().backward(dy)
        self.dW *= 0.5
        return dx


class ReplacesItsWeight(NormalisesItsWeight):
    def forward(self, x):
        self.W = 0.5 * self.W
        return Dense.forward(self, x)


class Learns(Dense):
    def backward(self, dy):
        dx = super().backward(dy)
        self.W -= 0.1 * self.dW
        return dx


class BothWays:
    """A rectifier that works in the memory of its input and of dy."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, x):
        self.off = x <= 0
        x[self.off] = 0
        return x

    def backward(self, dy):
        dy[self.off] = 0
        dy *= self.times
        return dy


CHANGING = {
    CentresItsInput: (NAMES, "input is changed by the call"),
    HalvesDy: (NAMES, "dy is changed by the call"),
    ReturnsDy: ({}, "dy is changed by the call"),
    NormalisesItsWeight: (NAMES, "W is changed by forward"),
    ReplacesItsWeight: (NAMES, "W is changed by forward"),
    BothWays: ({}, "input is changed by the call; dy is changed by the call"),
}


def failures(report):
    return {finding.property: finding.message for finding in report.failures}


@pytest.mark.parametrize("layer", CHANGING, ids=lambda kind: kind.__name__)
def test_a_right_gradient_passes_beside_the_one_finding_of_what_is_changed(layer):
    names, message = CHANGING[layer]
    assert failures(gradcheck.check_layer(layer(), X, **names)) == {UNTOUCHED: message}


@pytest.mark.parametrize("mode", ["full", pytest.param("fast", marks=pytest.mark.long)])
@pytest.mark.parametrize("layer", later(CHANGING, 2), ids=lambda kind: kind.__name__)
def test_a_wrong_gradient_fails_beside_it(layer, mode):
    names, message = CHANGING[layer]
    failed = failures(gradcheck.check_layer(layer(2.0), X, mode=mode, variations=False, **names))
    assert failed.pop(UNTOUCHED) == message
    assert DIFFERENCES in failed


class ClearsDy(Dense):
    def backward(self, dy):
        dx = super().backward(dy.copy())
        dy[...] = 0
        return dx


@pytest.mark.long
@pytest.mark.parametrize("times", [1.0, 2.0])
def test_with_a_twin_gradients_are_those_of_copies_too(times):
    torch = pytest.importorskip("torch")
    report = gradcheck.check_layer(
        ClearsDy(times), X, twin=torch.nn.Linear(2, 4, bias=False), params={"weight": "W.T"}, grads={"weight": "dW.T"}
    )
    wrong = {DIFFERENCES, "gradients_agree_with_twin"} if times != 1 else set()
    assert failures(report).keys() == {UNTOUCHED, *wrong}


class SquaredError:
    """The sum of squares, computed in the memory of the target."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, prediction, target):
        target -= prediction
        self.difference = target
        return float((target**2).sum())

    def backward(self):
        return -2 * self.times * self.difference


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_a_target_is_put_back_too(times):
    failed = failures(gradcheck.check_loss(SquaredError(times), X, Y, variations=times == 1))
    assert failed[UNTOUCHED] == "target is changed by the call"
    assert (DIFFERENCES in failed) == (times != 1)


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_functions_get_copies_each(times):
    def vjp(inputs, dy):
        np.exp(inputs[0], out=inputs[0])
        dy *= times * inputs[0]
        return (dy,)

    failed = failures(gradcheck.check_gradients(lambda x: np.exp(x, out=x), (X,), vjp, variations=times == 1))
    assert failed[UNTOUCHED] == "x is changed by the call; dy is changed by the call"
    assert (DIFFERENCES in failed) == (times != 1)


class ReusesItsOutput:
    """tanh, whose way back works in the array that forward returned."""

    def __init__(self, times=1.0):
        self.times = times

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        self.y *= -self.y
        self.y += 1
        return self.times * dy * self.y


@pytest.mark.long
def test_what_is_the_layers_own_may_change():
    assert gradcheck.check_layer(ReusesItsOutput(), X).verdict is Verdict.PASS
    assert failures(gradcheck.check_layer(ReusesItsOutput(2.0), X)).keys() == {DIFFERENCES}


class NeedsToWrite:
    """tanh by code that takes no array that it could not write, though it writes into none."""

    def forward(self, x):
        self.y = np.tanh(self.own(x))
        return self.y

    def backward(self, dy):
        return self.own(dy) * (1 - self.y**2)

    def own(self, array):
        if not array.flags.writeable:
            raise ValueError("buffer source array is read-only")
        return array


def test_code_that_takes_no_read_only_arrays_and_changes_nothing_is_not_failed():
    report = gradcheck.check_layer(NeedsToWrite(), X)
    assert report.verdict is Verdict.PASS
    unclear = {f.property: f.message for f in report.findings if f.verdict is Verdict.INCONCLUSIVE}
    assert unclear[UNTOUCHED] == "read-only arrays are not taken: buffer source array is read-only"
