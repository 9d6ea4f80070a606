# mypy: ignore-errors
"""Layers, networks, losses and functions in the ways in which people write them: how each is called is to be found out.

Every class has a factor of its gradient, which is 1 where it is right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcheck.checks import check_layer
from gradcheck.numerics.agreement import Verdict

# One property of the case as given alone.
QUICK: dict[str, Any] = {"claims": ["gradients_agree_with_differences"], "variations": False}

SHARED = np.random.default_rng(7)  # a generator of the module, which no copy of an object has


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


X = normal(4, 5)


def read_and_judged(kind, *inputs, said=""):
    """Assert that a layer passes and is read as said, and that with a factor of 3 its fault is named."""
    right, wrong = (check_layer(kind(factor), *inputs, **QUICK) for factor in (1.0, 3.0))
    assert right.verdict is Verdict.PASS, str(right)
    assert said in str(right)
    assert "NOT CHECKED" not in str(right) + str(wrong)
    assert wrong.verdict is Verdict.FAIL
    assert "gradient is exactly 3 times" in str(wrong)


class Dense:
    """Gradients beside the weights, by the usual names."""

    def __init__(self, factor=1.0, n_in=5, n_out=3):
        self.weights, self.bias, self.factor = normal(n_in, n_out, seed=1), normal(n_out, seed=2), factor

    def forward(self, x):
        self.x = x
        return x @ self.weights + self.bias

    def backward(self, grad):
        self.dweights, self.dbias = self.factor * self.x.T @ grad, grad.sum(axis=0)
        return grad @ self.weights.T


class LeavesItsResults(Dense):
    """Returns nothing: what is computed is in attributes."""

    def forward(self, inputs, training):
        self.output = super().forward(inputs)

    def backward(self, dvalues):
        self.dinputs = super().backward(dvalues)


class Returned(Dense):
    """Returns the gradients of its weights behind that of its input, and keeps none."""

    def backward(self, grad):
        dx = super().backward(grad)
        result = dx, self.dweights, self.dbias
        del self.dweights, self.dbias
        return result


class Keyed(Returned):
    """Returns the gradients by name."""

    def backward(self, grad):
        dx, dw, db = super().backward(grad)
        return {"dx": dx, "dweights": dw, "dbias": db}


class Learns(Dense):
    """Moves its weights in the backward pass, by a rate that it is given, and keeps no gradient."""

    def backpropagate(self, output_error, learning_rate):
        error = output_error @ self.weights.T
        self.weights -= learning_rate * self.factor * self.x.T @ output_error
        self.bias -= learning_rate * output_error.sum(axis=0)
        return error

    backward = None


class AddsUp(Dense):
    """Adds its gradients up until `clear_gradients`."""

    def __init__(self, factor=1.0):
        super().__init__(factor)
        self.clear_gradients()

    def clear_gradients(self):
        self.dweights, self.dbias = np.zeros((5, 3)), np.zeros(3)

    def backward(self, grad):
        self.dweights += self.factor * self.x.T @ grad
        self.dbias += grad.sum(axis=0)
        return grad @ self.weights.T


class Box:
    def __init__(self, data):
        self.data, self.grad = data, None


class Boxed:
    """Keeps each parameter in an object of its own."""

    def __init__(self, factor=1.0):
        self.kernel, self.factor = Box(normal(5, 3, seed=1)), factor

    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.kernel.data)

    def backward(self, grad):
        grad = grad * (1 - np.tanh(self.x @ self.kernel.data) ** 2)
        self.kernel.grad = self.factor * self.x.T @ grad
        return grad @ self.kernel.data.T


class Network:
    """Has layers in a list; nobody says what their parameters are."""

    def __init__(self, factor=1.0):
        self.layers = [Dense(), Dense(factor, 3, 2)]

    def forward(self, x):
        self.h = self.layers[0].forward(x)
        return self.layers[1].forward(np.tanh(self.h))

    def backward(self, grad):
        return self.layers[0].backward(self.layers[1].backward(grad) * (1 - np.tanh(self.h) ** 2))


class FeaturesFirst:
    """Has samples in columns."""

    def __init__(self, factor=1.0):
        self.W, self.b, self.factor = normal(3, 5, seed=1), normal(3, 1, seed=2), factor

    def forward(self, A_prev):
        self.A_prev = A_prev
        return self.W @ A_prev + self.b

    def backward(self, dZ):
        self.dW, self.db = self.factor * dZ @ self.A_prev.T, dZ.sum(axis=1, keepdims=True)
        return self.W.T @ dZ


class Local:
    """Returns the derivative of every element, for others to multiply."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def __call__(self, x):
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def gradient(self):
        return self.factor * self.y * (1 - self.y)


class Cell:
    """Has two inputs and two outputs, and is given a gradient of each output."""

    def __init__(self, factor=1.0):
        self.W, self.factor = normal(8, 3, seed=1), factor

    def forward(self, x, h):
        self.xh = np.concatenate([x, h], axis=1)
        self.new = np.tanh(self.xh @ self.W)
        return self.new, h + self.new

    def backward(self, d_new, d_sum):
        da = (d_new + self.factor * d_sum) * (1 - self.new**2)
        self.dW = self.xh.T @ da
        dxh = da @ self.W.T
        return dxh[:, :5], dxh[:, 5:] + d_sum


class Attention:
    """Returns its weights beside the output; only the output has a gradient."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, query, key, value):
        self.q, self.k, self.v = query, key, value
        e = np.exp(query @ key.T)
        self.a = e / e.sum(axis=1, keepdims=True)
        return self.a @ value, self.a

    def backward(self, grad_output):
        da = grad_output @ self.v.T
        ds = self.a * (da - (da * self.a).sum(axis=1, keepdims=True))
        return self.factor * ds @ self.k, ds.T @ self.q, self.a.T @ grad_output


class Recurrent:
    """Carries a state from call to call until `reset_state`."""

    def __init__(self, factor=1.0):
        self.U, self.V, self.factor, self.h = normal(5, 3, seed=1), normal(3, 3, seed=2), factor, None

    def reset_state(self):
        self.h = None

    def forward(self, x):
        self.x, self.before = x, np.zeros((len(x), 3)) if self.h is None else self.h
        self.h = np.tanh(x @ self.U + self.before @ self.V)
        return self.h

    def backward(self, dh):
        da = dh * (1 - self.h**2)
        self.dU, self.dV = self.factor * self.x.T @ da, self.before.T @ da
        return da @ self.U.T


class KeepsItsFirstInput(Dense):
    """Looks for its input only once; the factor is no fault here."""

    def forward(self, x):
        if not hasattr(self, "x"):
            self.x = x
        return x @ self.weights + self.bias


class Dropout:
    """Draws from a generator of the module; has a mask only after a pass in training mode."""

    def __init__(self, factor=1.0):
        self.mask, self.factor = None, factor

    def forward(self, x, is_train=True):
        if not is_train:
            return x
        self.mask = (SHARED.random(x.shape) < 0.75) / 0.75
        return x * self.mask

    def backward(self, dout):
        return self.factor * dout * self.mask


class DrawsAnew(Dropout):
    """Makes a generator in every call, which nobody can put back."""

    def forward(self, x):
        self.mask = (np.random.default_rng().random(x.shape) < 0.5) / 0.5
        return x * self.mask


class FrozenInEvaluation:
    """Batch normalisation whose backward is always that of training."""

    def __init__(self):
        self.gamma, self.beta = np.full(5, 1.5), np.zeros(5)
        self.mean, self.var = np.full(5, 0.25), np.full(5, 2.0)

    def forward(self, x, mode="train"):
        mean, var = (x.mean(axis=0), x.var(axis=0)) if mode == "train" else (self.mean, self.var)
        if mode == "train":
            self.mean, self.var = 0.9 * self.mean + 0.1 * mean, 0.9 * self.var + 0.1 * var
        self.std = np.sqrt(var + 1e-5)
        self.hat = (x - mean) / self.std
        return self.gamma * self.hat + self.beta

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.hat).sum(axis=0), dy.sum(axis=0)
        d = dy * self.gamma
        return (d - d.mean(axis=0) - self.hat * (d * self.hat).mean(axis=0)) / self.std


class Flatten:
    """Was told the size of its images, and uses it on the way back."""

    def __init__(self, factor=1.0):
        self.size, self.factor = (2, 3, 4), factor

    def forward(self, x):
        return x.reshape(len(x), -1).copy()

    def backward(self, dy):
        return self.factor * dy.reshape(len(dy), *self.size)


class ScaledChannels:
    """Has channels last, and a scale for each: of one channel alone NumPy would broadcast it."""

    def __init__(self, factor=1.0):
        self.scale, self.factor = normal(2, seed=1), factor

    def forward(self, x):
        self.x = x
        return x * self.scale

    def backward(self, dy):
        self.dscale = self.factor * (dy * self.x).sum(axis=(0, 1, 2))
        return dy * self.scale


class Unnamed:
    """Its output depends on a matrix that has no gradient."""

    def __init__(self):
        self.mixing = normal(5, 3, seed=1)

    def forward(self, x):
        return x @ self.mixing

    def backward(self, dy):
        return dy @ self.mixing.T


def affine_forward(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(axis=0)


def transposed_backward(dout, cache):
    x, w = cache
    return dout @ w.T, (dout.T @ x), dout.sum(axis=0)


def loss_and_gradient(x, y):
    shifted = x - x.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    dx = p.copy()
    dx[rows, y] -= 1
    return -np.log(p[rows, y]).mean(), dx / len(x)


def loss_and_gradient_of_the_sum(x, y):
    value, dx = loss_and_gradient(x, y)
    return value, dx * len(x)


def masked_loss(x, y, mask, masked_gradient=True):
    """Counts the places alone that a mask keeps."""
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    dx = p.copy()
    dx[rows, y] -= 1
    return -(mask * np.log(p[rows, y])).sum(), dx * mask[:, None] if masked_gradient else dx


def masked_loss_with_a_gradient_everywhere(x, y, mask):
    return masked_loss(x, y, mask, masked_gradient=False)


def mse(y_true, y_pred):
    return np.mean((y_true - y_pred) ** 2)


def mse_prime(y_true, y_pred):
    return 2 * (y_pred - y_true) / y_true.size


def mse_prime_without_the_mean(y_true, y_pred):
    return 2 * (y_pred - y_true)


class BinaryCrossEntropy:
    """Probabilities, clipped as everybody does; a value for each element, and the target first."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def loss(self, y, p):
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return -(y * np.log(p) + (1 - y) * np.log(1 - p))

    def gradient(self, y, p):
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return self.factor * ((1 - y) / (1 - p) - y / p)


class SoftmaxWithLoss:
    """The last of a network: takes dout, and disregards it."""

    def __init__(self, factor=1.0):
        self.factor = factor

    def forward(self, x, t):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.p, self.t = e / e.sum(axis=1, keepdims=True), t
        return -(t * np.log(self.p)).sum() / len(x)

    def backward(self, dout=1):
        return self.factor * (self.p - self.t) / len(self.t)
