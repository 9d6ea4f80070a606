# mypy: ignore-errors
"""Right objects in the styles of students, teachers and libraries: none of them may ever fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import gradcheck


class Example(NamedTuple):
    """An object, the check that it is given to, the rest of its arguments, and its options."""

    check: Callable[..., gradcheck.Report]
    subject: Any
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = {}
    twin: Callable[..., Any] | None = None

    def report(self, **options: Any) -> gradcheck.Report:
        twins = {} if self.twin is None else {"twin": self.twin()}
        return self.check(self.subject, *self.arguments, **{**self.options, **twins, **options})


def torch_module(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def make():
        import torch

        return getattr(torch.nn, name)(*arguments, **options)

    return make


def torch_function(f: Callable[..., Any], **parameters: Any) -> Callable[[], Any]:
    """Return a maker of a module that computes ``f(torch, module, *inputs)``."""

    def make():
        import torch

        class Twin(torch.nn.Module):
            def __init__(self):
                super().__init__()
                for name, value in parameters.items():
                    setattr(self, name, torch.nn.Parameter(torch.tensor(value)))

            def forward(self, *inputs):
                return f(torch, self, *inputs)

        return Twin()

    return make


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


class LinearOfDicts:
    """The course style: dicts of parameters and gradients, x cached."""

    def __init__(self, n_in=3, n_out=2):
        self.params = {"W": normal(n_in, n_out, seed=1), "b": np.zeros(n_out)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy):
        self.grads["W"] = self.x.T @ dy
        self.grads["b"] = dy.sum(axis=0)
        return dy @ self.params["W"].T


class Affine:
    """The style of a book: lists, and gradients written into their arrays."""

    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        W, b = self.params
        self.shape = x.shape
        self.x = x.reshape(x.shape[0], -1)
        return np.dot(self.x, W) + b

    def backward(self, dout):
        W, b = self.params
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return np.dot(dout, W.T).reshape(self.shape)


class LinearOfAttributes:
    def __init__(self, n_in=3, n_out=2):
        self.W, self.b = normal(n_in, n_out, seed=2), np.full(n_out, 0.1)
        self.dW = self.db = None

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = np.einsum("ni,no->io", self.x, dy)
        self.db = np.einsum("no->o", dy)
        return np.einsum("no,io->ni", dy, self.W)


class AccumulatingLinear:
    """A library's: gradients add up until zero_grad."""

    def __init__(self):
        self.weight, self.bias = normal(2, 3, seed=3), normal(2, seed=4)
        self.zero_grad()

    def zero_grad(self):
        self.grad = {"weight": np.zeros_like(self.weight), "bias": np.zeros_like(self.bias)}

    def forward(self, x):
        self.x = x
        return x @ self.weight.T + self.bias

    def backward(self, dy):
        self.grad["weight"] += dy.T @ self.x
        self.grad["bias"] += dy.sum(0)
        return dy @ self.weight


class FlatLinear:
    """Parameters and gradients are views of one flat buffer each."""

    def __init__(self):
        self.flat, self.flat_grad = normal(8, seed=5), np.zeros(8)
        self.params = {"W": self.flat[:6].reshape(3, 2), "b": self.flat[6:]}
        self.grads = {"W": self.flat_grad[:6].reshape(3, 2), "b": self.flat_grad[6:]}

    def forward(self, x):
        self.x = x
        return x @ self.flat[:6].reshape(3, 2) + self.params["b"]

    def backward(self, dy):
        self.grads["W"][:] = self.x.T @ dy
        self.grads["b"][:] = dy.sum(0)
        return dy @ self.params["W"].T


class VectorLinear:
    """One sample (d,): an outer product."""

    def __init__(self):
        self.params, self.grads = {"W": normal(2, 3, seed=6)}, {}

    def forward(self, x):
        self.x = x
        return self.params["W"] @ x

    def backward(self, dy):
        self.grads["W"] = np.outer(dy, self.x)
        return self.params["W"].T @ dy


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout = dout.copy()
        dout[self.mask] = 0
        return dout


class ReluByMaximum:
    def forward(self, x):
        self.x = x
        return np.maximum(0, x)

    def backward(self, dy):
        return dy * (self.x > 0)


class ReluAtZero(ReluByMaximum):
    """The other generalised gradient at 0."""

    def backward(self, dy):
        return np.where(self.x >= 0, dy, 0)


class LeakyRelu:
    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        return np.where(self.x > 0, dy, self.alpha * dy)


class PRelu:
    """A parameter that is a plain number's array of shape (1,)."""

    def __init__(self):
        self.params, self.grads = {"weight": np.array([0.25])}, {}

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.params["weight"] * x)

    def backward(self, dy):
        self.grads["weight"] = np.array([np.sum(dy * np.minimum(self.x, 0))])
        return dy * np.where(self.x > 0, 1.0, self.params["weight"])


class Scale:
    """A parameter that is a plain float."""

    def __init__(self):
        self.scale, self.dscale = 1.5, 0.0

    def forward(self, x):
        self.x = x
        return self.scale * x

    def backward(self, dy):
        self.dscale = float((dy * self.x).sum())
        return self.scale * dy


class NaiveSigmoid:
    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dy):
        return dy * self.out * (1 - self.out)


class StableSigmoid(NaiveSigmoid):
    def forward(self, x):
        out = np.empty_like(x, dtype=np.result_type(x, np.float32))
        positive = x >= 0
        out[positive] = 1 / (1 + np.exp(-x[positive]))
        e = np.exp(x[~positive])
        out[~positive] = e / (1 + e)
        self.out = out
        return out


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class GeluTanh:
    def forward(self, x):
        self.x = x
        self.t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + self.t)

    def backward(self, dy):
        inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * self.x**2)
        return dy * (0.5 * (1 + self.t) + 0.5 * self.x * (1 - self.t**2) * inner)


class Gelu:
    def forward(self, x):
        from math import erf

        self.x = x
        self.cdf = 0.5 * (1 + np.vectorize(erf, otypes=[float])(x / np.sqrt(2)).astype(np.result_type(x, np.float32)))
        return x * self.cdf

    def backward(self, dy):
        return dy * (self.cdf + self.x * np.exp(-(self.x**2) / 2) / np.sqrt(2 * np.pi))


class Elu:
    def forward(self, x):
        self.y = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)
        return self.y

    def backward(self, dy):
        return dy * np.where(self.y > 0, 1, self.y + 1)


class Softplus:
    def forward(self, x):
        self.x = x
        return np.logaddexp(0, x)

    def backward(self, dy):
        return dy / (1 + np.exp(-self.x))


class Silu:
    def forward(self, x):
        self.x, self.s = x, 0.5 * (1 + np.tanh(x / 2))
        return x * self.s

    def backward(self, dy):
        return dy * self.s * (1 + self.x * (1 - self.s))


class HardTanh:
    def forward(self, x):
        self.inside = np.abs(x) < 1
        return np.clip(x, -1, 1)

    def backward(self, dy):
        return dy * self.inside


class Softmax:
    def forward(self, x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.p = e / e.sum(axis=-1, keepdims=True)
        return self.p

    def backward(self, dy):
        return self.p * (dy - (dy * self.p).sum(axis=-1, keepdims=True))


class SoftmaxByJacobians(Softmax):
    def backward(self, dy):
        dx = np.empty_like(dy)
        for i, (p, d) in enumerate(zip(self.p, dy, strict=True)):
            p = p.reshape(-1, 1)
            dx[i] = (np.diagflat(p) - p @ p.T) @ d
        return dx


class LogSoftmax:
    def forward(self, x):
        z = x - np.max(x, axis=1, keepdims=True)
        self.y = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return self.y

    def backward(self, dy):
        return dy - np.exp(self.y) * dy.sum(axis=1, keepdims=True)


class Dropout:
    """By the global generator, and a flag of the call."""

    def __init__(self, ratio=0.5):
        self.dropout_ratio = ratio

    def forward(self, x, train_flg=True):
        if train_flg:
            self.mask = (np.random.rand(*x.shape) > self.dropout_ratio) / (1 - self.dropout_ratio)
            return x * self.mask
        self.mask = np.ones_like(x)
        return x * 1.0

    def backward(self, dout):
        return dout * self.mask


class DropoutOfGenerator:
    """By its own generator, in the mode of an attribute; evaluation returns x itself."""

    def __init__(self, p=0.25, rng=None):
        self.p, self.training, self.rng = p, True, rng or np.random.default_rng(7)

    def draw(self, shape):
        return self.rng.random(shape)

    def forward(self, x):
        if not self.training:
            self.mask = None
            return x
        self.mask = (self.draw(x.shape) >= self.p).astype(x.dtype) / (1 - self.p)
        return x * self.mask

    def backward(self, dy):
        return dy if self.mask is None else dy * self.mask


class DropoutOfRandomState(DropoutOfGenerator):
    def __init__(self, p=0.25):
        super().__init__(p, np.random.RandomState(3))

    def draw(self, shape):
        return self.rng.uniform(size=shape)

    def train(self, mode=True):
        self.training = mode

    def eval(self):
        self.training = False


class BatchNorm:
    """1d or 2d, with running statistics as torch has them."""

    def __init__(self, n, momentum=0.1, eps=1e-5):
        self.gamma, self.beta = np.ones(n), np.zeros(n)
        self.running_mean, self.running_var = np.zeros(n), np.ones(n)
        self.momentum, self.eps, self.training = momentum, eps, True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def forward(self, x):
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        self.axes, self.m = axes, x.size // x.shape[1]
        self.to = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
        if self.training:
            mean, var = x.mean(axes), x.var(axes)
            unbiased = var * self.m / (self.m - 1)
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
            self.running_var = (1 - self.momentum) * self.running_var + self.momentum * unbiased
        else:
            mean, var = self.running_mean, self.running_var
        self.std = np.sqrt(var + self.eps).reshape(self.to)
        self.xhat = (x - mean.reshape(self.to)) / self.std
        return self.gamma.reshape(self.to) * self.xhat + self.beta.reshape(self.to)

    def backward(self, dy):
        self.dgamma, self.dbeta = (dy * self.xhat).sum(self.axes), dy.sum(self.axes)
        dxhat = dy * self.gamma.reshape(self.to)
        if not self.training:
            return dxhat / self.std
        sums = dxhat.sum(self.axes, keepdims=True), (dxhat * self.xhat).sum(self.axes, keepdims=True)
        return (dxhat - sums[0] / self.m - self.xhat * sums[1] / self.m) / self.std


class BookBatchNorm:
    """The step-by-step backward of a course; biased running variance, made at the first call; a flag of the call."""

    def __init__(self, n):
        self.params = {"gamma": np.ones(n), "beta": np.zeros(n)}
        self.grads = {}
        self.running_mean = self.running_var = None

    def forward(self, x, training=True):
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        if training:
            mu = x.mean(axis=0)
            xc = x - mu
            var = np.mean(xc**2, axis=0)
            self.running_mean = 0.9 * self.running_mean + 0.1 * mu
            self.running_var = 0.9 * self.running_var + 0.1 * var
        else:
            xc, var = x - self.running_mean, self.running_var
        self.training_call, self.xc, self.std = training, xc, np.sqrt(var + 1e-5)
        self.xn = xc / self.std
        return self.params["gamma"] * self.xn + self.params["beta"]

    def backward(self, dout):
        n = len(dout)
        self.grads["beta"] = dout.sum(axis=0)
        self.grads["gamma"] = np.sum(self.xn * dout, axis=0)
        dxn = self.params["gamma"] * dout
        if not self.training_call:
            return dxn / self.std
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dvar = 0.5 * dstd / self.std
        dxc += (2.0 / n) * self.xc * dvar
        dmu = np.sum(dxc, axis=0)
        return dxc - dmu / n


class LayerNorm:
    def __init__(self, n, eps=1e-5):
        self.params, self.grads, self.eps = {"weight": np.ones(n), "bias": np.zeros(n)}, {}, eps

    def forward(self, x):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        self.inv = 1 / np.sqrt(var + self.eps)
        self.xhat = (x - mean) * self.inv
        return self.xhat * self.params["weight"] + self.params["bias"]

    def backward(self, dy):
        batch = tuple(range(dy.ndim - 1))
        self.grads["weight"], self.grads["bias"] = (dy * self.xhat).sum(batch), dy.sum(batch)
        d = dy * self.params["weight"]
        return self.inv * (d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True))


class RMSNorm:
    def __init__(self, n):
        self.params, self.grads = {"weight": np.ones(n)}, {}

    def forward(self, x):
        self.x, self.r = x, 1 / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return self.params["weight"] * x * self.r

    def backward(self, dy):
        self.grads["weight"] = (dy * self.x * self.r).reshape(-1, dy.shape[-1]).sum(0)
        d = dy * self.params["weight"]
        return self.r * d - self.x * self.r**3 * (d * self.x).mean(-1, keepdims=True)


class ConvByLoops:
    def __init__(self, n_in=2, n_out=3, k=3, stride=1, padding=0):
        self.params = {"weight": 0.3 * normal(n_out, n_in, k, k, seed=8), "bias": np.zeros(n_out)}
        self.grads, self.k, self.s, self.p = {}, k, stride, padding

    def forward(self, x):
        p, k, s = self.p, self.k, self.s
        self.xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        h, w = ((n + 2 * p - k) // s + 1 for n in x.shape[2:])
        weight = self.params["weight"]
        y = np.zeros((len(x), len(weight), h, w), np.result_type(x, weight))
        for i in range(h):
            for j in range(w):
                window = self.xp[:, :, i * s : i * s + k, j * s : j * s + k]
                y[:, :, i, j] = np.tensordot(window, weight, ((1, 2, 3), (1, 2, 3))) + self.params["bias"]
        return y

    def backward(self, dy):
        p, k, s = self.p, self.k, self.s
        weight = self.params["weight"]
        dw, dx = np.zeros_like(weight), np.zeros_like(self.xp)
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                here = slice(None), slice(None), slice(i * s, i * s + k), slice(j * s, j * s + k)
                dw += np.tensordot(dy[:, :, i, j], self.xp[here], (0, 0))
                dx[here] += np.tensordot(dy[:, :, i, j], weight, (1, 0))
        self.grads = {"weight": dw, "bias": dy.sum((0, 2, 3))}
        return dx[:, :, p : dx.shape[2] - p, p : dx.shape[3] - p]


def im2col(x, k, s, p):
    n, c, h, w = x.shape
    oh, ow = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
    img = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)], "constant")
    col = np.zeros((n, c, k, k, oh, ow), x.dtype)
    for i in range(k):
        for j in range(k):
            col[:, :, i, j, :, :] = img[:, :, i : i + s * oh : s, j : j + s * ow : s]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * oh * ow, -1)


def col2im(col, shape, k, s, p):
    n, c, h, w = shape
    oh, ow = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
    col = col.reshape(n, oh, ow, c, k, k).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((n, c, h + 2 * p + s - 1, w + 2 * p + s - 1), col.dtype)
    for i in range(k):
        for j in range(k):
            img[:, :, i : i + s * oh : s, j : j + s * ow : s] += col[:, :, i, j, :, :]
    return img[:, :, p : h + p, p : w + p]


class Convolution:
    """By im2col."""

    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        fn, _, k, _ = self.W.shape
        n, _, h, w = x.shape
        oh, ow = ((size + 2 * self.pad - k) // self.stride + 1 for size in (h, w))
        self.col, self.col_W = im2col(x, k, self.stride, self.pad), self.W.reshape(fn, -1).T
        self.x = x
        return (self.col @ self.col_W + self.b).reshape(n, oh, ow, -1).transpose(0, 3, 1, 2)

    def backward(self, dout):
        fn, c, k, _ = self.W.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, fn)
        self.db = dout.sum(axis=0)
        self.dW = (self.col.T @ dout).transpose(1, 0).reshape(fn, c, k, k)
        return col2im(dout @ self.col_W.T, self.x.shape, k, self.stride, self.pad)


class MaxPoolByReshape:
    """2 x 2; ties share the gradient."""

    def forward(self, x):
        n, c, h, w = x.shape
        self.windows = x.reshape(n, c, h // 2, 2, w // 2, 2)
        self.out = self.windows.max(axis=3).max(axis=4)
        return self.out

    def backward(self, dy):
        mask = self.windows == self.out[:, :, :, None, :, None]
        d = mask * dy[:, :, :, None, :, None] / mask.sum(axis=(3, 5), keepdims=True)
        n, c, h, _, w, _ = d.shape
        return d.reshape(n, c, 2 * h, 2 * w)


class MaxPoolByLoops:
    """Any window, also overlapping; the first of tied maxima is taken."""

    def __init__(self, k=2, s=2):
        self.k, self.s = k, s

    def forward(self, x):
        k, s = self.k, self.s
        n, c, h, w = x.shape
        self.x = x
        y = np.zeros((n, c, (h - k) // s + 1, (w - k) // s + 1), x.dtype)
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                y[:, :, i, j] = x[:, :, i * s : i * s + k, j * s : j * s + k].max(axis=(2, 3))
        return y

    def backward(self, dy):
        k, s, dx = self.k, self.s, np.zeros(self.x.shape, dy.dtype)
        for n, c, i, j in np.ndindex(*dy.shape):
            window = self.x[n, c, i * s : i * s + k, j * s : j * s + k]
            a, b = np.unravel_index(np.argmax(window), window.shape)
            dx[n, c, i * s + a, j * s + b] += dy[n, c, i, j]
        return dx


class MaxPoolByStrides(MaxPoolByLoops):
    def forward(self, x):
        self.x = x
        n, c, h, w = x.shape
        a, b, d, e = x.strides
        shape = n, c, (h - self.k) // self.s + 1, (w - self.k) // self.s + 1, self.k, self.k
        windows = np.lib.stride_tricks.as_strided(x, shape, (a, b, d * self.s, e * self.s, d, e))
        return windows.max(axis=(4, 5))


class AveragePool:
    def forward(self, x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))

    def backward(self, dy):
        return np.repeat(np.repeat(dy, 2, axis=2), 2, axis=3) / 4


class GlobalAveragePool:
    def forward(self, x):
        self.shape = x.shape
        return x.mean(axis=(2, 3))

    def backward(self, dy):
        return np.broadcast_to(dy[:, :, None, None], self.shape) / (self.shape[2] * self.shape[3])


class UpSample:
    def forward(self, x):
        return x.repeat(2, axis=2).repeat(2, axis=3)

    def backward(self, dy):
        n, c, h, w = dy.shape
        return dy.reshape(n, c, h // 2, 2, w // 2, 2).sum(axis=(3, 5))


class Embedding:
    def __init__(self):
        self.params, self.grads = {"weight": normal(5, 3, seed=9)}, {}

    def forward(self, indices):
        self.indices = indices
        return self.params["weight"][indices]

    def backward(self, dy):
        self.grads["weight"] = np.zeros_like(self.params["weight"])
        np.add.at(self.grads["weight"], self.indices, dy)


class Flatten:
    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy):
        return dy.reshape(self.shape)


class Identity:
    def forward(self, x):
        return x

    def backward(self, dy):
        return dy


class SumOfSquares:
    """A scalar (0-d) output."""

    def forward(self, x):
        self.x = x
        return np.sum(x**2)

    def backward(self, dy):
        return 2 * self.x * dy


class Residual:
    """x + f(x), of layers that are objects of their own; their dicts are shared."""

    def __init__(self):
        self.inner, self.relu, self.outer = LinearOfDicts(3, 3), Relu(), LinearOfDicts(3, 3)
        self.layers = [self.inner, self.relu, self.outer]

    @property
    def params(self):
        return {f"{i}.{k}": v for i, layer in enumerate(self.layers) if hasattr(layer, "params")
                for k, v in layer.params.items()}  # fmt: skip

    @property
    def grads(self):
        return {f"{i}.{k}": v for i, layer in enumerate(self.layers) if hasattr(layer, "grads")
                for k, v in layer.grads.items()}  # fmt: skip

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = layer.forward(y)
        return x + y

    def backward(self, dy):
        dx = dy
        for layer in reversed(self.layers):
            dx = layer.backward(dx)
        return dy + dx


class TwoLayerNet:
    """A network as one object of a book: params W1, b1, W2, b2."""

    def __init__(self, n_in=3, hidden=4, n_out=2):
        self.params = {"W1": normal(n_in, hidden, seed=10), "b1": np.zeros(hidden),
                       "W2": normal(hidden, n_out, seed=11), "b2": np.zeros(n_out)}  # fmt: skip
        self.grads = {}

    def forward(self, x):
        self.x = x
        self.z1 = np.dot(x, self.params["W1"]) + self.params["b1"]
        self.a1 = np.tanh(self.z1)
        return np.dot(self.a1, self.params["W2"]) + self.params["b2"]

    def backward(self, dy):
        self.grads["W2"], self.grads["b2"] = self.a1.T.dot(dy), dy.sum(0)
        dz = dy.dot(self.params["W2"].T) * (1 - self.a1**2)
        self.grads["W1"], self.grads["b1"] = self.x.T.dot(dz), dz.sum(0)
        return dz.dot(self.params["W1"].T)


class Attention:
    def forward(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        e = np.exp(s - s.max(-1, keepdims=True))
        self.p = e / e.sum(-1, keepdims=True)
        return self.p @ v

    def backward(self, dy):
        dp = dy @ self.v.transpose(0, 2, 1)
        ds = self.p * (dp - (dp * self.p).sum(-1, keepdims=True)) / np.sqrt(self.q.shape[-1])
        return ds @ self.k, ds.transpose(0, 2, 1) @ self.q, self.p.transpose(0, 2, 1) @ dy


class Rnn:
    """tanh, (batch, time, features), back-propagated through time."""

    def __init__(self, d=3, h=2):
        self.Wx, self.Wh, self.b = 0.5 * normal(d, h, seed=12), 0.5 * normal(h, h, seed=13), np.zeros(h)

    def forward(self, x):
        self.x, self.h = x, [np.zeros((len(x), len(self.b)))]
        for t in range(x.shape[1]):
            self.h.append(np.tanh(x[:, t] @ self.Wx + self.h[-1] @ self.Wh + self.b))
        return np.stack(self.h[1:], axis=1)

    def backward(self, dy):
        self.dWx, self.dWh, self.db = np.zeros_like(self.Wx), np.zeros_like(self.Wh), np.zeros_like(self.b)
        dx, carry = np.zeros(self.x.shape), 0
        for t in reversed(range(dy.shape[1])):
            dz = (dy[:, t] + carry) * (1 - self.h[t + 1] ** 2)
            self.dWx += self.x[:, t].T @ dz
            self.dWh += self.h[t].T @ dz
            self.db += dz.sum(0)
            dx[:, t], carry = dz @ self.Wx.T, dz @ self.Wh.T
        return dx


class Add:
    def forward(self, a, b):
        return a + b

    def backward(self, dy):
        return dy, dy


class Bilinear:
    """Of two inputs of different widths, with a functional closure instead of a cache."""

    def __init__(self):
        self.params, self.grads = {"weight": normal(2, 3, 4, seed=14)}, {}

    def forward(self, a, b):
        w = self.params["weight"]

        def pull(dy):
            self.grads["weight"] = np.einsum("no,ni,nj->oij", dy, a, b)
            return np.einsum("no,oij,nj->ni", dy, w, b), np.einsum("no,oij,ni->nj", dy, w, a)

        self._pull = pull
        return np.einsum("oij,ni,nj->no", w, a, b)

    def backward(self, dy):
        return self._pull(dy)


class Fp32Linear(LinearOfDicts):
    """All in float32, whatever is given."""

    def __init__(self):
        super().__init__()
        self.params = {k: v.astype(np.float32) for k, v in self.params.items()}

    def forward(self, x):
        return super().forward(x.astype(np.float32))


class SlottedTanh:
    __slots__ = ("y",)

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy - dy * self.y * self.y


class CallableTanh:
    def __call__(self, x):
        self.y = np.tanh(x)
        return self.y

    def gradient(self, dy):
        return dy * (1 - self.y**2)


class MaxOut:
    def forward(self, x):
        self.x = x.reshape(len(x), -1, 2)
        return self.x.max(axis=2)

    def backward(self, dy):
        first = self.x.argmax(axis=2)[..., None] == np.arange(2)
        return (first * dy[..., None]).reshape(len(dy), -1)


class Norm:
    """The length of every row."""

    def forward(self, x):
        self.x, self.n = x, np.linalg.norm(x, axis=1)
        return self.n

    def backward(self, dy):
        return dy[:, None] * self.x / np.maximum(self.n, 1e-300)[:, None]


# Losses.


class SoftmaxCrossEntropy:
    """Of class indices."""

    def forward(self, x, t):
        z = x - x.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        self.p, self.t = np.exp(log_p), t
        return -log_p[np.arange(len(x)), t].mean()

    def backward(self):
        d = self.p.copy()
        d[np.arange(len(d)), self.t] -= 1
        return d / len(d)


class SoftmaxWithLoss:
    """The book's, of one-hot labels; backward takes dout=1."""

    def forward(self, x, t):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y, self.t = e / e.sum(axis=-1, keepdims=True), t
        return -np.sum(t * np.log(self.y)) / len(x)

    def backward(self, dout=1):
        return dout * (self.y * self.t.sum(axis=-1, keepdims=True) - self.t) / len(self.t)


class MeanSquaredError:
    def forward(self, p, t):
        self.d = p - t
        return np.mean(self.d**2)

    def backward(self):
        return 2 * self.d / self.d.size


class MseOfDout:
    """backward is given the gradient of the value."""

    def forward(self, p, t):
        self.d = p - t
        return float((self.d**2).mean())

    def backward(self, dvalue):
        return dvalue * 2 * self.d / self.d.size


class BinaryCrossEntropy:
    """Of probabilities."""

    def forward(self, p, t):
        self.p, self.t = p, t
        return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))

    def backward(self):
        return (self.p - self.t) / (self.p * (1 - self.p)) / self.p.size


class BceWithLogits:
    def forward(self, z, t):
        self.z, self.t = z, t
        return np.mean(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))))

    def backward(self):
        return (0.5 * (1 + np.tanh(self.z / 2)) - self.t) / self.z.size


class Hinge:
    def forward(self, s, t):
        self.s, self.t = s, t
        return np.maximum(0, 1 - s * t).mean()

    def backward(self):
        return np.where(self.s * self.t < 1, -self.t, 0) / self.s.size


class Huber:
    def forward(self, p, t):
        self.d = p - t
        a = np.abs(self.d)
        return np.where(a <= 1, 0.5 * a**2, a - 0.5).mean()

    def backward(self):
        return np.clip(self.d, -1, 1) / self.d.size


class L1:
    def forward(self, p, t):
        self.d = p - t
        return np.abs(self.d).mean()

    def backward(self):
        return np.sign(self.d) / self.d.size


# Optimizers: step(params, grads) over dicts, in place.


class SGD:
    def __init__(self, lr=0.1):
        self.lr = lr

    def step(self, params, grads):
        for k in params:
            params[k] -= self.lr * grads[k]


class Momentum:
    def __init__(self, lr=0.1, momentum=0.9):
        self.lr, self.momentum, self.v = lr, momentum, None

    def step(self, params, grads):
        if self.v is None:
            self.v = {k: np.zeros_like(p) for k, p in params.items()}
        for k in params:
            self.v[k] = self.momentum * self.v[k] + grads[k]
            params[k] -= self.lr * self.v[k]


class Nesterov(Momentum):
    def step(self, params, grads):
        if self.v is None:
            self.v = {k: np.zeros_like(p) for k, p in params.items()}
        for k in grads:
            self.v[k] = self.momentum * self.v[k] + grads[k]
            params[k] -= self.lr * (grads[k] + self.momentum * self.v[k])


class Adam:
    def __init__(self, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.t, self.m, self.v = 0, {}, {}

    def step(self, params, grads):
        self.t += 1
        for k, g in grads.items():
            self.m[k] = self.beta1 * self.m.get(k, 0) + (1 - self.beta1) * g
            self.v[k] = self.beta2 * self.v.get(k, 0) + (1 - self.beta2) * g**2
            m_hat, v_hat = self.m[k] / (1 - self.beta1**self.t), self.v[k] / (1 - self.beta2**self.t)
            params[k] -= self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


class AdamW(Adam):
    """With a count for every parameter."""

    def __init__(self, lr=0.01, decay=0.1):
        super().__init__(lr)
        self.decay, self.count = decay, {}

    def step(self, params, grads):
        for k, g in grads.items():
            t = self.count[k] = self.count.get(k, 0) + 1
            params[k] *= 1 - self.lr * self.decay
            self.m[k] = self.beta1 * self.m.get(k, 0) + (1 - self.beta1) * g
            self.v[k] = self.beta2 * self.v.get(k, 0) + (1 - self.beta2) * g * g
            step = self.lr / (1 - self.beta1**t)
            params[k] -= step * self.m[k] / (np.sqrt(self.v[k]) / np.sqrt(1 - self.beta2**t) + self.eps)


class RMSprop:
    def __init__(self, lr=0.01, rho=0.99, eps=1e-8):
        self.lr, self.rho, self.eps, self.h = lr, rho, eps, {}

    def step(self, params, grads):
        for k in params.keys() & grads.keys():
            self.h.setdefault(k, np.zeros_like(params[k]))
            self.h[k] *= self.rho
            self.h[k] += (1 - self.rho) * grads[k] * grads[k]
            params[k] -= self.lr * grads[k] / (np.sqrt(self.h[k]) + self.eps)


class AdaGrad:
    def __init__(self, lr=0.01):
        self.lr, self.h = lr, None

    def step(self, params, grads):
        if self.h is None:
            self.h = {key: np.zeros_like(value) for key, value in params.items()}
        for key in params:
            if key in grads:
                self.h[key] += grads[key] ** 2
                params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + 1e-10)


def torch_optimizer(name: str, lr: float, **options: Any) -> Callable[[], Any]:
    def make():
        import torch

        return lambda params: getattr(torch.optim, name)(params, lr=lr, **options)

    return make


def torch_schedule(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def make():
        import torch

        return lambda optimizer: getattr(torch.optim.lr_scheduler, name)(optimizer, *arguments, **options)

    return make


class StepDecay:
    def __init__(self, base=0.1, every=3, gamma=0.5):
        self.base, self.every, self.gamma = base, every, gamma

    def __call__(self, epoch):
        return self.base * self.gamma ** (epoch // self.every)


def exponential(epoch):
    return 0.1 * 0.9**epoch


def cosine(epoch):
    return 0.001 + (0.1 - 0.001) * (1 + np.cos(np.pi * epoch / 20)) / 2


def warm_up(epoch):
    return 0.1 * min(1.0, (epoch + 1) / 5)


def matmul(a, b):
    return a @ b


def matmul_vjp(inputs, dy):
    a, b = inputs
    return dy @ b.T, a.T @ dy


def length(x):
    return np.sqrt((x**2).sum())


def length_vjp(inputs, dy):
    (x,) = inputs
    return (dy * x / length(x),)


def logsumexp(x):
    top = x.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True)))[..., 0]


def logsumexp_vjp(inputs, dy):
    (x,) = inputs
    return (dy[..., None] * np.exp(x - logsumexp(x)[..., None]),)


def gather(table, indices):
    return table[indices]


def gather_vjp(inputs, dy):
    table, indices = inputs
    grad = np.zeros_like(table)
    np.add.at(grad, indices, dy)
    return (grad,)


def cosine_similarity(a, b):
    return (a * b).sum() / (length(a) * length(b))


def cosine_similarity_vjp(inputs, dy):
    a, b = inputs
    na, nb, s = length(a), length(b), cosine_similarity(a, b)
    return dy * (b / (na * nb) - s * a / na**2), dy * (a / (na * nb) - s * b / nb**2)


X, IMAGES = normal(4, 3), normal(2, 3, 4, 6)  # as few numbers as tell axes apart: a check calls a layer for each
PIXELS = np.round(np.abs(normal(2, 2, 4, 6, seed=20)).clip(0, 1) * 16) * (normal(2, 2, 4, 6, seed=21) > 0)  # as digits
LABELS, ONE_HOT = np.array([2, 0, 1, 2]), np.eye(3)[[2, 0, 1, 2]]
SIGNS = np.where(normal(4, 3, seed=22) > 0, 1.0, -1.0)
PROBABILITIES = 1 / (1 + np.exp(-X))
W_B = {"params": {"W": "W", "b": "b"}, "grads": {"W": "dW", "b": "db"}}
WEIGHT_BIAS = {"params": {"weight": "W", "bias": "b"}, "grads": {"weight": "dW", "bias": "db"}}
TRANSPOSED = {"params": {"weight": "W.T", "bias": "b"}, "grads": {"weight": "dW.T", "bias": "db"}}
TRANSPOSED_ITEMS = {
    "params": {"weight": "params.W.T", "bias": "params.b"},
    "grads": {"weight": "grads.W.T", "bias": "grads.b"},
}
NORM = {"params": {"weight": "gamma", "bias": "beta"}, "grads": {"weight": "dgamma", "bias": "dbeta"}}
STATE = {"running_mean": "running_mean", "running_var": "running_var"}
NORM_WITH_STATE = {**NORM, "params": {**NORM["params"], **STATE}}
BOOK_NORM = {
    "params": {"weight": "params.gamma", "bias": "params.beta"},
    "grads": {"weight": "grads.gamma", "bias": "grads.beta"},
}
LINEAR, QKV = torch_module("Linear", 3, 2), (normal(2, 3, 4), normal(2, 5, 4, seed=1), normal(2, 5, 2, seed=2))


def layer(subject: Any, *inputs: Any, twin: Callable[[], Any] | None = None, **options: Any) -> Example:
    return Example(gradcheck.check_layer, subject, inputs, options, twin)


def loss(subject: Any, prediction: Any, target: Any, twin: Callable[[], Any] | None = None) -> Example:
    return Example(gradcheck.check_loss, subject, (prediction, target), {}, twin)


def optimizer(subject: Any, name: str, **options: Any) -> Example:
    return Example(gradcheck.check_optimizer, subject, (), {}, torch_optimizer(name, subject.lr, **options))


def schedule(subject: Any, name: str, *arguments: Any, **options: Any) -> Example:
    return Example(gradcheck.check_schedule, subject, (), {}, torch_schedule(name, *arguments, **options))


def function(f: Any, vjp: Any, *inputs: Any) -> Example:
    return Example(gradcheck.check_gradients, f, (inputs, vjp))


RIGHT: dict[str, Example] = {
    "linear of dicts": layer(LinearOfDicts(), X),
    "linear of dicts, twin": layer(LinearOfDicts(), X, twin=LINEAR, **TRANSPOSED_ITEMS),
    "linear of dicts, float32": layer(LinearOfDicts(), X.astype(np.float32)),
    "affine of lists": layer(Affine(normal(3, 2), np.zeros(2)), X),
    "affine of lists on images": layer(Affine(0.1 * normal(24, 2), np.zeros(2)), IMAGES[:, :1]),
    "linear of attributes": layer(LinearOfAttributes(), X, **W_B),
    "linear of attributes, twin": layer(LinearOfAttributes(), X, twin=LINEAR, **TRANSPOSED),
    "accumulating linear": layer(
        AccumulatingLinear(), X, twin=LINEAR,
        params={"weight": "weight", "bias": "bias"}, grads={"weight": "grad.weight", "bias": "grad.bias"},
    ),
    "flat linear": layer(FlatLinear(), X),
    "vector linear": layer(VectorLinear(), normal(3)),
    "relu": layer(Relu(), X, twin=torch_module("ReLU")),
    "relu of zeros": layer(ReluByMaximum(), np.maximum(X, 0), twin=torch_module("ReLU")),
    "relu passing at zero": layer(ReluAtZero(), X),
    "leaky relu": layer(LeakyRelu(), X, twin=torch_module("LeakyReLU", 0.1)),
    "prelu": layer(PRelu(), X, twin=torch_module("PReLU")),
    "scale": layer(Scale(), X, params={"s": "scale"}, grads={"s": "dscale"}),
    "naive sigmoid": layer(NaiveSigmoid(), X, twin=torch_module("Sigmoid")),
    "stable sigmoid": layer(StableSigmoid(), X, twin=torch_module("Sigmoid")),
    "tanh": layer(Tanh(), X, twin=torch_module("Tanh")),
    "gelu by tanh": layer(GeluTanh(), X, twin=torch_module("GELU", approximate="tanh")),
    "gelu": layer(Gelu(), X, twin=torch_module("GELU")),
    "elu": layer(Elu(), X, twin=torch_module("ELU")),
    "softplus": layer(Softplus(), X, twin=torch_function(lambda torch, _, x: torch.logaddexp(x, torch.zeros_like(x)))),
    "silu": layer(Silu(), X, twin=torch_module("SiLU")),
    "hard tanh": layer(HardTanh(), X, twin=torch_module("Hardtanh")),
    "softmax": layer(Softmax(), X, twin=torch_module("Softmax", dim=-1)),
    "softmax of logits far apart": layer(Softmax(), 100 * X, twin=torch_module("Softmax", dim=-1)),
    "softmax by jacobians": layer(SoftmaxByJacobians(), X),
    "log-softmax": layer(LogSoftmax(), X, twin=torch_module("LogSoftmax", dim=1)),
    "dropout": layer(Dropout(), X, twin=torch_module("Dropout", 0.5)),
    "dropout of a generator": layer(DropoutOfGenerator(), X, twin=torch_module("Dropout", 0.25)),
    "dropout of a random state": layer(DropoutOfRandomState(), X, twin=torch_module("Dropout", 0.25)),
    "batch norm": layer(BatchNorm(3), X, **NORM),
    "batch norm, twin": layer(BatchNorm(3), X, twin=torch_module("BatchNorm1d", 3), **NORM_WITH_STATE),
    "batch norm of images": layer(
        BatchNorm(2), IMAGES[:, :2, :2, :3], twin=torch_module("BatchNorm2d", 2), **NORM_WITH_STATE
    ),
    "batch norm of a course": layer(BookBatchNorm(3), X),
    "layer norm": layer(LayerNorm(3), X, twin=torch_module("LayerNorm", 3)),
    "layer norm of sequences": layer(LayerNorm(4), QKV[0], twin=torch_module("LayerNorm", 4)),
    "rms norm": layer(RMSNorm(3), X),
    "conv by loops": layer(ConvByLoops(1, 2, 2), IMAGES[:, :1, :3, :4], twin=torch_module("Conv2d", 1, 2, 2)),
    "conv of pixels": layer(ConvByLoops(1, 2, 3, 2, 1), PIXELS[:, :1], twin=torch_module("Conv2d", 1, 2, 3, 2, 1)),
    "conv by im2col": layer(
        Convolution(0.3 * normal(3, 2, 2, 2), np.zeros(3), 2, 1), IMAGES[:, :2, :, :5],
        twin=torch_module("Conv2d", 2, 3, 2, stride=2, padding=1), **WEIGHT_BIAS,
    ),
    "max pool by reshape": layer(MaxPoolByReshape(), IMAGES),
    "max pool by reshape of pixels": layer(MaxPoolByReshape(), PIXELS),
    "max pool by loops": layer(MaxPoolByLoops(), IMAGES[:, :2], twin=torch_module("MaxPool2d", 2)),
    "max pool by strides": layer(MaxPoolByStrides(), PIXELS, twin=torch_module("MaxPool2d", 2)),
    "overlapping max pool": layer(MaxPoolByLoops(3, 1), PIXELS[:, :1], twin=torch_module("MaxPool2d", 3, 1)),
    "average pool": layer(AveragePool(), IMAGES, twin=torch_module("AvgPool2d", 2)),
    "global average pool": layer(GlobalAveragePool(), IMAGES),
    "up-sampling": layer(UpSample(), IMAGES[:, :2, :3, :4], twin=torch_module("Upsample", scale_factor=2)),
    "embedding": layer(Embedding(), np.array([[1, 0], [1, 4]]), twin=torch_module("Embedding", 5, 3)),
    "flatten": layer(Flatten(), IMAGES, twin=torch_module("Flatten")),
    "identity": layer(Identity(), X, twin=torch_module("Identity")),
    "sum of squares": layer(SumOfSquares(), X),
    "residual block": layer(Residual(), X),
    "two-layer net": layer(TwoLayerNet(), X),
    "attention": layer(Attention(), *QKV, twin=torch_function(lambda torch, _, q, k, v: (
        torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v))),
    "rnn": layer(Rnn(), normal(2, 4, 3), params={"Wx": "Wx", "Wh": "Wh", "b": "b"},
                 grads={"Wx": "dWx", "Wh": "dWh", "b": "db"}),
    "add": layer(Add(), X, X[::-1]),
    "bilinear": layer(Bilinear(), X, normal(4, 4)),
    "linear in float32 only": layer(Fp32Linear(), X),
    "tanh with slots": layer(SlottedTanh(), X),
    "callable tanh": layer(CallableTanh(), X, forward="__call__", backward="gradient"),
    "maxout": layer(MaxOut(), normal(3, 4)),
    "norm of rows": layer(Norm(), X),
    "softmax cross-entropy": loss(SoftmaxCrossEntropy(), X, LABELS, torch_module("CrossEntropyLoss")),
    "softmax cross-entropy of one-hot": loss(SoftmaxWithLoss(), X, ONE_HOT),
    "mean squared error": loss(MeanSquaredError(), X, 0.5 * X[::-1] + 0.1, torch_module("MSELoss")),
    "mean squared error of dvalue": loss(MseOfDout(), X, SIGNS),
    "binary cross-entropy": loss(BinaryCrossEntropy(), PROBABILITIES, (SIGNS + 1) / 2, torch_module("BCELoss")),
    "binary cross-entropy, no twin": loss(BinaryCrossEntropy(), PROBABILITIES, (SIGNS + 1) / 2),
    "bce with logits": loss(BceWithLogits(), X, (SIGNS + 1) / 2, torch_module("BCEWithLogitsLoss")),
    "hinge": loss(Hinge(), X, SIGNS),
    "huber": loss(Huber(), X, 0.5 * SIGNS, torch_module("SmoothL1Loss")),
    "l1": loss(L1(), X, SIGNS, torch_module("L1Loss")),
    "sgd": optimizer(SGD(), "SGD"),
    "momentum": optimizer(Momentum(), "SGD", momentum=0.9),
    "nesterov": optimizer(Nesterov(), "SGD", momentum=0.9, nesterov=True),
    "adam": optimizer(Adam(), "Adam"),
    "adamw": optimizer(AdamW(), "AdamW", weight_decay=0.1),
    "rmsprop": optimizer(RMSprop(), "RMSprop"),
    "adagrad": optimizer(AdaGrad(), "Adagrad"),
    "step schedule": schedule(StepDecay(), "StepLR", 3, 0.5),
    "exponential schedule": schedule(exponential, "ExponentialLR", 0.9),
    "cosine schedule": schedule(cosine, "CosineAnnealingLR", 20, 0.001),
    "warm-up": schedule(warm_up, "LinearLR", 0.2, 1.0, 4),
    "matrix product": function(matmul, matmul_vjp, normal(2, 3), normal(3, 4)),
    "length": function(length, length_vjp, normal(5)),
    "logsumexp": function(logsumexp, logsumexp_vjp, X),
    "gather": function(gather, gather_vjp, normal(4, 2), np.array([1, 1, 3])),
    "cosine similarity": function(cosine_similarity, cosine_similarity_vjp, normal(4), normal(4, seed=1)),
}  # fmt: skip
