# mypy: allow-untyped-calls, allow-untyped-defs, allow-incomplete-defs
"""What passes hand to each other, and where they leave results and gradients, in ways that are less usual."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from gradcheck.checks import check_layer
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from tests.gradcheck.subjects.styles import QUICK, normal, read_and_judged

X = normal(5, 4)


class Scale:
    def __init__(self, factor):
        self.gamma, self.beta, self.factor = normal(4, seed=3), normal(4, seed=4), factor

    def forward(self, x):
        self.x = x
        return self.gamma * x + self.beta

    def backward(self, dy):
        self.dbeta, self.dgamma = dy.sum(axis=0), self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gamma


class InATuple(Scale):
    """Its list of gradients is left empty."""

    @property
    def params(self):
        return self.beta, self.gamma

    @property
    def grads(self):
        return []


class ReturnedInAList(Scale):
    def __init__(self, factor):
        super().__init__(factor)
        self.params = [self.gamma, self.beta]

    def backward(self, dy):
        return dy * self.gamma, [self.factor * (dy * self.x).sum(axis=0), dy.sum(axis=0)]


class InAnotherOrder(ReturnedInAList):
    """It returns its gradients in another order than that in which it defines its parameters."""

    def __init__(self, factor):
        self.beta, self.gamma, self.factor = normal(4, seed=4), normal(4, seed=3), factor

    def backward(self, dy):
        dx, (dgamma, dbeta) = super().backward(dy)
        return dx, dgamma, dbeta


class LeftInCapitals(Scale):
    def forward(self, A_prev):
        self.A_prev, self.Z = A_prev, self.gamma * A_prev + self.beta

    def backward(self, upstream_grad):
        self.dbeta, self.dgamma = upstream_grad.sum(axis=0), self.factor * (upstream_grad * self.A_prev).sum(axis=0)
        self.dA_prev = upstream_grad * self.gamma


class InASecondCall(Scale):
    """Its gradients are old ones until they are computed."""

    def __init__(self, factor):
        super().__init__(factor)
        self.g = {"dgamma": np.zeros(4), "dbeta": np.zeros(4)}

    def backward(self, dy):
        self.dy = dy
        return dy * self.gamma

    def compute_gradients(self):
        self.g["dgamma"], self.g["dbeta"] = self.factor * (self.dy * self.x).sum(axis=0), self.dy.sum(axis=0)


class InTwoParts:
    """Its gradients are returned by the paths of its parameters."""

    def __init__(self, factor):
        self.first, self.second = Scale(1.0), Scale(factor)

    def forward(self, x):
        return self.second.forward(np.tanh(self.first.forward(x)))

    def backward(self, dy):
        d = self.second.backward(dy) * (1 - self.second.x**2)
        dx = self.first.backward(d)
        parts = {"first": self.first, "second": self.second}
        return dx, {
            f"{name}.{key}": getattr(part, f"d{key}") for name, part in parts.items() for key in ("gamma", "beta")
        }


READ = {
    InATuple: "beta (dbeta), gamma (dgamma)",
    ReturnedInAList: "gamma (returned), beta (returned)",
    InAnotherOrder: "beta (returned), gamma (returned)",
    LeftInCapitals: "forward(A_prev) -> .Z, backward(dy) -> .dA_prev",
    InASecondCall: "backward(dy) -> dx, then compute_gradients()\n  parameters and their gradients: gamma (g.dgamma)",
    InTwoParts: "first.gamma (returned), first.beta (returned), second.gamma (returned)",
}


@pytest.mark.parametrize("kind", READ)
def test_gradients_are_found_where_a_layer_leaves_them(kind: Any) -> None:
    read_and_judged(kind, X, said=READ[kind])


class CountsAsWell(Scale):
    """What is called as if it computed gradients makes means of those that are there."""

    def compute_gradients(self):
        self.dgamma = self.dgamma / 5


class Descends(Scale):
    """What is called as if it computed gradients moves a weight as well."""

    def compute_gradients(self):
        self.step, self.gamma = 0.1 * self.dgamma, self.gamma - 0.1 * self.dgamma


class HoldsH(Scale):
    """Its scale has a name that outputs have."""

    def __init__(self, factor):
        self.H, self.factor = normal(5, 4, seed=3), factor

    def forward(self, x):
        self.x, self.Z = x, x * self.H

    def backward(self, dy):
        self.dH, self.dx = self.factor * self.x * dy, dy * self.H


class ReturnedAsLists(ReturnedInAList):
    def backward(self, dy):
        return dy * self.gamma, (self.factor * (dy * self.x).sum(axis=0)).tolist(), dy.sum(axis=0).tolist()


class Waits:
    """Its backward may be given what comes from the next step, which is called as an input of forward."""

    def __init__(self, factor):
        self.gamma, self.beta, self.factor = normal(4, seed=3), normal(4, seed=4), factor

    def forward(self, x, h):
        self.x, self.h = x, h
        return self.gamma * x + self.beta * h

    def backward(self, dy, h=None):
        dy = dy if h is None else dy + h
        self.dbeta, self.dgamma = (dy * self.h).sum(axis=0), self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gamma, dy * self.beta


@pytest.mark.parametrize("kind", [CountsAsWell, Descends, HoldsH, ReturnedAsLists, Waits])
def test_what_only_looks_so_is_left_alone(kind: Any) -> None:
    read_and_judged(kind, *((X, normal(5, 4, seed=8)) if kind is Waits else (X,)))


def test_what_moves_weights_is_not_called_after_backward() -> None:
    assert "then compute_gradients()" not in str(check_layer(Descends(1.0), X, **QUICK))


@pytest.mark.parametrize("draw", [np.random.rand, random.random])
def test_what_draws_from_a_global_generator_is_given_the_same_numbers(draw: Any) -> None:
    class Noisy(Scale):
        def forward(self, x):
            self.noise = 0.5 + draw()
            return super().forward(x * self.noise)

        def backward(self, dy):
            return self.noise * super().backward(dy)

    report = check_layer(Noisy(1.0), X)
    report.raise_if_failed()
    assert "draws random numbers from NumPy's or Python's global generator" in str(report).replace("\n    ", " ")


class InOtherGroups(InTwoParts):
    def backward(self, dy):
        dx, _ = super().backward(dy)
        return dx, {"u": {"dgamma": self.first.dgamma}, "v": {"dgamma": self.second.dgamma}}


def test_gradients_of_one_name_in_groups_of_other_names_are_not_guessed() -> None:
    class Bare(InOtherGroups):
        def backward(self, dy):
            result = super().backward(dy)
            for part in (self.first, self.second):
                del part.dgamma, part.dbeta
            return result

    report = check_layer(Bare(1.0), X, **QUICK)
    report.raise_if_failed()
    assert "NOT CHECKED: first.gamma" in str(report)


class Swapped(ReturnedInAList):
    """It returns its gradients in another order than that in which it lists its parameters."""

    def backward(self, dy):
        return dy * self.gamma, dy.sum(axis=0), (dy * self.x).sum(axis=0)


class SwappedBelow(InTwoParts):
    def backward(self, dy):
        dx, _ = super().backward(dy)
        return dx, {"first": {"dgamma": self.second.dgamma}, "second": {"dgamma": self.first.dgamma}}


class Forgets(Scale):
    """It has a dict of gradients, in which that of one parameter is missing."""

    def __init__(self, factor):
        super().__init__(factor)
        self.params, self.grads = {"gamma": self.gamma, "beta": self.beta}, {}

    def backward(self, dy):
        self.grads = {"dgamma": (dy * self.x).sum(axis=0)}
        return dy * self.gamma


class Disregards:
    """It has three outputs, and uses what comes back from one."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        self.x = x
        return np.tanh(x), x**2, x**3

    def backward(self, d1, d2, d3):
        return d1 * (1 - np.tanh(self.x) ** 2)


@pytest.mark.parametrize("kind", [Swapped, SwappedBelow, Forgets, Disregards])
def test_what_is_wrong_is_not_read_as_right(kind: Any) -> None:
    assert check_layer(kind(1.0), X, **QUICK).verdict is Verdict.FAIL


def test_an_input_is_not_taken_for_the_output() -> None:
    def back(grad, inputs):
        return grad * (1 - inputs**2)

    assert check_layer((np.tanh, back), X, **QUICK).verdict is Verdict.FAIL


def test_gradients_are_named_by_number_or_by_name_and_by_nothing_else() -> None:
    class Left(ReturnedInAList):
        def backward(self, dy):
            self.right, self.wrong, self.sum = (dy * self.x).sum(axis=0), 2 * (dy * self.x).sum(axis=0), dy.sum(axis=0)
            return dy * self.gamma

    for gamma, beta in (("0", "1"), ("gamma", "beta")):
        assert check_layer(Left(1.0), X, grads={gamma: "right", beta: "sum"}, **QUICK).verdict is Verdict.PASS
        assert check_layer(Left(1.0), X, grads={gamma: "wrong", beta: "sum"}, **QUICK).verdict is Verdict.FAIL
    with pytest.raises(AdapterError, match="grads= names 'gama', which is no parameter; did you mean gamma"):
        check_layer(Left(1.0), X, grads={"gama": "right"}, **QUICK)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def by_output(factor):
    return softmax, lambda dout, weights: factor * weights * (dout - (dout * weights).sum(axis=-1, keepdims=True))


def cell(factor):
    """Return a cell whose parameters are partly those of an output that has no gradient."""

    def forward(x, a, parameters):
        following = np.tanh(x @ parameters["Wx"] + a @ parameters["Wa"])
        return following, softmax(following @ parameters["Wy"]), (following, x, a, parameters)

    def backward(da, cache):
        following, x, a, parameters = cache
        d = (1 - following**2) * da
        gradients = {"dx": d @ parameters["Wx"].T, "da": d @ parameters["Wa"].T}
        return gradients | {"dWx": factor * x.T @ d, "dWa": a.T @ d}

    return forward, backward


def norm(factor):
    """Return a norm that is given its statistics as its cache, and returns another."""

    def forward(x, gamma, cache, momentum=0.9):
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        out = (x - mean) / deviation
        return (
            gamma * out,
            (out, gamma, deviation),
            momentum * cache[0] + 0.1 * mean,
            momentum * cache[1] + 0.1 * deviation,
        )

    def backward(dout, cache):
        out, gamma, deviation = cache
        d = gamma * dout
        return factor * (d - d.mean(axis=0) - out * (d * out).mean(axis=0)) / deviation, (dout * out).sum(axis=0)

    return forward, backward


def by_statistics(factor):
    def forward(x, gamma):
        mean, scale = x.mean(axis=1, keepdims=True), 1 / x.std(axis=1, keepdims=True)
        return gamma * (x - mean) * scale, mean, scale

    def backward(dy, x, gamma, mean, scale):
        out, d = (x - mean) * scale, dy * gamma
        dx = scale * (d - d.mean(axis=1, keepdims=True) - out * (d * out).mean(axis=1, keepdims=True))
        return factor * dx, (dy * out).sum(axis=0)

    return forward, backward


def weighted(factor):
    """Return a loss and its gradient, which both take weights if they are given."""

    def loss(logits, labels, weights=None):
        weights = np.ones(4) if weights is None else weights
        return -((labels @ weights) * (labels * np.log(softmax(logits))).sum(axis=1)).sum()

    def gradient(logits, labels, weights=None):
        weights = np.ones(4) if weights is None else weights
        return factor * (softmax(logits) - labels) * (labels @ weights)[:, None]

    return loss, gradient


class Stacked:
    """Returns the gradients of its inputs in one array."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, q, k, v):
        self.inputs = q, k, v
        return q * k + v

    def backward(self, dy):
        q, k, _ = self.inputs
        return np.array([self.factor * dy * k, dy * q, dy])


PARAMETERS = {"Wx": normal(4, 3, seed=1), "Wa": normal(3, 3, seed=2), "Wy": normal(3, 2, seed=3)}
CALLED: dict[Any, tuple[tuple[Any, ...], str]] = {
    by_output: ((X,), "(dy, y) -> dx"),
    cell: ((X, normal(5, 3, seed=1), PARAMETERS), "gradients: Wx (returned), Wa (returned)\n"),
    norm: ((X, normal(4, seed=5), [np.zeros(4), np.ones(4)]), "-> y (of 4 outputs), backward(dy, cache) -> dx, dgamma"),
    by_statistics: ((X, normal(4, seed=5)), "backward(dy, x, gamma, mean, scale) -> dx, dgamma"),
    weighted: ((X, np.eye(4)[[0, 2, 1, 3, 3]], np.array([1.0, 2.0, 0.5, 3.0])), "gradient(logits, labels, weights)"),
    Stacked: ((X, normal(5, 4, seed=6), normal(5, 4, seed=7)), "backward(dy) -> dq, dk, dv"),
}


@pytest.mark.parametrize("kind", CALLED)
def test_backward_is_given_what_it_asks_for(kind: Any) -> None:
    inputs, text = CALLED[kind]
    right, wrong = (check_layer(kind(factor), *inputs, **QUICK) for factor in (1.0, 1.5))
    assert right.verdict is Verdict.PASS, str(right)
    assert text in str(right)
    assert wrong.verdict is Verdict.FAIL, str(wrong)


def test_a_loss_may_hold_parameters_that_it_has_no_gradient_of() -> None:
    def loss(model, p, t):
        return ((p - t) ** 2).sum() + 0.1 * (model["W"] ** 2).sum()

    def gradient(p, t):
        return 2 * (p - t)

    report = check_layer((loss, gradient), {"W": normal(3, 2), "b": normal(2)}, X, normal(5, 4, seed=1), **QUICK)
    report.raise_if_failed()
    assert "NOT CHECKED: params.W: the output depends on it" in str(report)


class MeanPool:
    """Was told the shape of its output, and goes through that."""

    def __init__(self, shape):
        self.out_shape = (*shape[:2], shape[2] // 2, shape[3] // 2)

    def windows(self):
        return [np.s_[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i, j in np.ndindex(*self.out_shape[2:])]

    def forward(self, x):
        self.shape = x.shape
        return np.stack([x[w].mean(axis=(2, 3)) for w in self.windows()], axis=-1).reshape(
            *x.shape[:2], *self.out_shape[2:]
        )

    def backward(self, dy):
        dx = np.zeros(self.shape)
        for (i, j), window in zip(np.ndindex(*self.out_shape[2:]), self.windows(), strict=True):
            dx[window] = dy[:, :, i : i + 1, j : j + 1] / 4
        return dx


def test_other_sizes_are_not_tried_where_the_output_has_its_own() -> None:
    report = check_layer(MeanPool((3, 2, 4, 4)), normal(3, 2, 4, 4), claims=["gradients_agree_with_differences"])
    report.raise_if_failed()


class KernelOfThatSize:
    """Its kernel is as large as its output; it is wrong where images are not square."""

    def __init__(self):
        self.kernel = (2, 2)

    def forward(self, x):
        self.shape, (n, h, w) = x.shape, x.shape
        return x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2).mean((2, 4))

    def backward(self, dy):
        dx, (h, w) = np.zeros(self.shape), dy.shape[1:]
        dx[:, : 2 * h, : 2 * w] = dy.repeat(2, 1).repeat(2, 2) / (2 if self.shape[1] != self.shape[2] else 4)
        return dx


def test_other_sizes_are_tried_where_a_kernel_is_as_large_as_the_output() -> None:
    report = check_layer(KernelOfThatSize(), normal(2, 4, 4), claims=["gradients_agree_with_differences"])
    assert report.verdict is Verdict.FAIL
