# mypy: allow-untyped-calls, allow-untyped-defs, allow-incomplete-defs
"""Parameters and gradients in unusual places are found and judged: right code passes, its wrong neighbour fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcheck.checks import check_layer
from gradcheck.numerics.agreement import Verdict
from tests.gradcheck.subjects.styles import QUICK, normal, read_and_judged

X = normal(4, 3)


class Built:
    """Makes its weights at the first forward pass."""

    def __init__(self, factor=1.0):
        self.W: Any = None
        self.factor = factor

    def forward(self, x):
        if self.W is None:
            self.W = np.random.standard_normal((x.shape[1], 2))
        self.cache = x, self.W
        return x @ self.W

    def backward(self, dy):
        self.dW = self.factor * self.cache[0].T @ dy
        return dy @ self.W.T


class BuiltAnew(Built):
    """Of a generator that nobody can put back."""

    def forward(self, x):
        if self.W is None:
            self.W = np.random.default_rng().standard_normal((x.shape[1], 2))
        return super().forward(x)


class BuiltInDicts:
    """Statistics that each pass in training moves are made with the weights."""

    def __init__(self, factor=1.0):
        self.parameters, self.gradients, self.is_built, self.factor = {}, {}, False, factor

    def forward(self, x, training=True):
        if not self.is_built:
            self.parameters, self.gradients = {"scale": np.ones(x.shape[1])}, {"scale": np.zeros(x.shape[1])}
            self.mean, self.is_built = np.zeros(x.shape[1]), True
        if training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        self.training, self.centred = training, x - (x.mean(axis=0) if training else self.mean)
        return self.parameters["scale"] * self.centred

    def backward(self, dy):
        self.gradients["scale"] += self.factor * (dy * self.centred).sum(axis=0)
        g = dy * self.parameters["scale"]
        return g - g.mean(axis=0) if self.training else g


class Network:
    def __init__(self, factor=1.0):
        self.layers = [BuiltAnew(), Built(factor)]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class Holder:
    def __init__(self, params):
        self.params, self.grads = params, np.zeros(params.shape)


class Held:
    """Two parameters of one shape, each in an object with its gradient."""

    def __init__(self, factor=1.0):
        self.gamma, self.beta, self.factor = Holder(normal(3, seed=3)), Holder(normal(3, seed=4)), factor

    def forward(self, x):
        self.x = x
        return self.gamma.params * x + self.beta.params

    def backward(self, dy):
        self.beta.grads = dy.sum(axis=0)
        self.gamma.grads = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gamma.params


class Box:
    def __init__(self, theta):
        self.theta, self.push = theta, np.zeros(theta.shape)


class HeldUnnamed:
    """Names of nobody else's, in objects of their own."""

    def __init__(self, factor=1.0):
        self.gamma, self.beta, self.factor = Box(normal(3, seed=3)), Box(normal(3, seed=4)), factor

    def forward(self, x):
        self.x = x
        return self.gamma.theta * x + self.beta.theta

    def backward(self, dy):
        self.beta.push = dy.sum(axis=0)
        self.gamma.push = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gamma.theta


class Listed:
    """Properties that return lists of what attributes hold."""

    def __init__(self, factor=1.0):
        self.gamma, self.beta, self.factor = normal(3, seed=3), normal(3, seed=4), factor

    def forward(self, x):
        self.x = x
        return self.gamma * x + self.beta

    def backward(self, dy):
        self.dbeta = dy.sum(axis=0)
        self.dgamma = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gamma

    @property
    def params(self):
        return [self.gamma, self.beta]

    @property
    def grads(self):
        return [self.dgamma, self.dbeta]


class Fills:
    """Puts gradients into a dict that backward is given."""

    def __init__(self, factor=1.0):
        self._parameters, self.factor = {"a/scale": np.ones(3), "a/shift": np.zeros(3)}, factor

    def forward(self, x):
        return self._parameters["a/scale"] * x + self._parameters["a/shift"], {}

    def backward(self, x, cache, upstream_gradient, gradients):
        gradients["a/scale"] = self.factor * (upstream_gradient * x).sum(axis=0)
        gradients["a/shift"] = upstream_gradient.sum(axis=0)
        return upstream_gradient * self._parameters["a/scale"]


class Adds(Fills):
    def backward(self, x, cache, dy, grads):
        grads["a/scale"] += self.factor * (dy * x).sum(axis=0)
        grads["a/shift"] += dy.sum(axis=0)
        return dy * self._parameters["a/scale"]


READ: dict[Any, str] = {
    Built: "W (dW); its first forward pass makes weights",
    BuiltAnew: "W (dW)",
    BuiltInDicts: "scale (gradients.scale)",
    Network: "layers.0.W (layers.0.dW), layers.1.W (layers.1.dW)",
    Held: "gamma (gamma.grads), beta (beta.grads)",
    HeldUnnamed: "gamma.theta (gamma.push), beta.theta (beta.push)",
    Listed: "gamma (grads.0), beta (grads.1)",
    Fills: "backward(x, cache, dy, gradients) -> dx\n  parameters and their gradients: a/scale (gradients.a/scale)",
    Adds: "a/scale (grads.a/scale), a/shift (grads.a/shift)",
}


@pytest.mark.parametrize("kind", READ)
def test_gradients_are_found_where_they_are(kind: Any) -> None:
    read_and_judged(kind, X, said=READ[kind])


class KeepsItsFirstMask:
    def forward(self, x):
        if not hasattr(self, "x"):
            self.x = x
        return x * self.x

    def backward(self, dy):
        return dy * self.x


def test_what_the_first_forward_pass_keeps_of_its_input_is_no_weight() -> None:
    assert "makes weights" not in str(check_layer(KeepsItsFirstMask(), X, **QUICK))


class Grown(Listed):
    """Gradients of one shape under names that say nothing, in another order than the parameters."""

    params = grads = None

    def backward(self, dy):
        self.first = dy.sum(axis=0)
        self.second = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gamma


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_advice_about_arrays_of_one_shape_follows_differences(factor: float) -> None:
    report = str(check_layer(Grown(factor), X, **QUICK))
    assert '"gamma": "second"' in report
    assert '"beta": "first"' in report


class Cropped:
    """Leaves the gradient of its input, without the padding."""

    def __init__(self, padding, end=None):
        self.padding, self.end, self.weight = padding, end, normal(3, seed=3)

    def forward(self, x):
        self.padded = np.pad(x, ((self.padding,) * 2, (0, 0)))
        return self.padded * self.weight

    def backward(self, dy):
        self.dweight = (dy * self.padded).sum(axis=0)
        end = len(dy) - self.padding if self.end is None else self.end
        self.dx = (dy * self.weight)[self.padding : end]


@pytest.mark.parametrize("padding", [0, 1])
def test_a_gradient_of_the_input_of_another_shape_is_wrong(padding: int) -> None:
    right, empty = check_layer(Cropped(padding), X, **QUICK), check_layer(Cropped(padding, padding), X, **QUICK)
    assert right.verdict is Verdict.PASS, str(right)
    assert empty.verdict is Verdict.FAIL, str(empty)
    assert "input has shape (4, 3), its gradient (0, 3)" in str(empty)


class Rule:
    def moved(self, weight, gradient, rate):
        return weight - rate * gradient


class Follows:
    """A gradient that depends on another weight, which backward moves: right if it takes the input."""

    def __init__(self, array="x"):
        self.gamma, self.beta, self.rule, self.array = normal(3, seed=3), normal(3, seed=4), Rule(), array

    def forward(self, x):
        self.x, self.y = x, self.gamma * x + self.beta
        return self.y

    def backward(self, dy, learning_rate):
        dx, error = dy * self.gamma, (dy * getattr(self, self.array)).sum(axis=0)
        self.gamma = self.rule.moved(self.gamma, error, learning_rate)
        self.beta = self.rule.moved(self.beta, dy.sum(axis=0), learning_rate)
        return dx


def test_what_is_handed_on_may_depend_on_weights_that_move_as_well() -> None:
    right, wrong = (check_layer(Follows(array), X, **QUICK) for array in ("x", "y"))
    assert right.verdict is Verdict.PASS, str(right)
    assert "gamma (given to rule.moved), beta (given to rule.moved)" in str(wrong)
    assert wrong.verdict is Verdict.FAIL
