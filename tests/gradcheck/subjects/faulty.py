# mypy: ignore-errors
"""Faults of real programs, planted into right objects: each must fail, and what is said of its cause be right."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import gradcheck
from gradcheck.properties import PROPERTIES
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss
from tests.gradcheck.subjects.right import (
    IMAGES,
    LABELS,
    LINEAR,
    NORM,
    NORM_WITH_STATE,
    ONE_HOT,
    PROBABILITIES,
    QKV,
    SGD,
    SIGNS,
    TRANSPOSED_ITEMS,
    W_B,
    WEIGHT_BIAS,
    Adam,
    Add,
    Attention,
    AveragePool,
    BatchNorm,
    BceWithLogits,
    BinaryCrossEntropy,
    ConvByLoops,
    Convolution,
    Dropout,
    DropoutOfGenerator,
    Embedding,
    Example,
    Gelu,
    GeluTanh,
    Huber,
    LayerNorm,
    LeakyRelu,
    LinearOfAttributes,
    LinearOfDicts,
    LogSoftmax,
    MaxPoolByLoops,
    MaxPoolByReshape,
    MeanSquaredError,
    Momentum,
    NaiveSigmoid,
    Nesterov,
    Relu,
    ReluByMaximum,
    Residual,
    RMSprop,
    Rnn,
    Silu,
    Softmax,
    SoftmaxCrossEntropy,
    SoftmaxWithLoss,
    StepDecay,
    Tanh,
    UpSample,
    X,
    layer,
    loss,
    normal,
    optimizer,
    schedule,
    torch_module,
)  # fmt: skip


class Faulty(NamedTuple):
    """A faulty object, a property that must catch it, a part of what must be said of the cause, if anything, and
    whether variations alone show it.
    """

    example: Example
    caught_by: str
    diagnosis: str | None = ""  # None: whatever is said of it is true
    variations: bool = False

    def report(self) -> gradcheck.Report:
        """Try that property alone, of those that a layer or a loss is asked; of others all, which are few."""
        kind = {gradcheck.check_layer: ForeignLayer, gradcheck.check_loss: ForeignLoss}.get(self.example.check)
        if kind is None:
            return self.example.report()
        claims = [claim for claim in PROPERTIES[kind] if claim.__name__ == self.caught_by]
        return self.example.report(claims=claims, variations=self.variations)


def variant(of: Any, *arguments: Any, **methods: Any) -> Any:
    """Return an object of a subclass with other methods."""
    return type(of.__name__, (of,), methods)(*arguments)


DIFFERENCES, TWIN, TWIN_GRADIENTS = (
    "gradients_agree_with_differences", "forward_agrees_with_twin", "gradients_agree_with_twin"
)  # fmt: skip
TWICE, MODES, STATISTICS = "repeated_calls_agree", "modes_are_restored", "statistics_agree_with_twin"
UNTOUCHED, SHAPES = (
    "arguments_are_left_untouched", "gradients_match_their_tensors"
)  # fmt: skip
UPDATES, RATES = "updates_agree_with_twin", "rates_agree_with_twin"


def linear_backward(W=lambda x, dy: x.T @ dy, b=lambda dy: dy.sum(axis=0)):
    def backward(self, dy):
        self.grads["W"], self.grads["b"] = W(self.x, dy), b(dy)
        return dy @ self.params["W"].T

    return backward


def forward_in_place(self, x):
    x[x < 0] = 0
    self.mask = x <= 0
    return x


def updating_backward(self, dy):
    self.dW, self.db = self.x.T @ dy, dy.sum(0)
    self.W -= 0.1 * self.dW
    return dy @ self.W.T


def conv_backward(fault):
    """The gradient of the weights, or of the bias, or of the input, made wrong after the right one."""

    def backward(self, dy):
        dx = ConvByLoops.backward(self, dy)
        return fault(self, dy, dx)

    return backward


def conv_bias_of_first(self, dy, dx):
    self.grads["bias"] = dy.mean((0, 2, 3))
    return dx


def conv_averaged(self, dy, dx):
    self.grads["weight"] = self.grads["weight"] / dy[:, 0].size
    return dx


def overwriting_col2im(self, dout):
    dx = np.zeros((len(self.x), self.x.shape[1], self.x.shape[2] + 2, self.x.shape[3] + 2))
    Convolution.backward(self, dout)
    fn, k, s = len(self.W), self.W.shape[2], self.stride
    col = (dout.transpose(0, 2, 3, 1).reshape(-1, fn) @ self.col_W.T).reshape(
        len(dx), *dout.shape[2:], dx.shape[1], k, k)  # fmt: skip
    for i, j in np.ndindex(*dout.shape[2:]):
        dx[:, :, i * s : i * s + k, j * s : j * s + k] = col[:, i, j]
    return dx[:, :, 1:-1, 1:-1]


def batch_norm_forward(var=lambda x, axes: x.var(axes), running=lambda var, m: var * m / (m - 1)):
    def forward(self, x):
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        self.axes, self.m = axes, x.size // x.shape[1]
        self.to = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
        if self.training:
            mean, v = x.mean(axes), var(x, axes)
            self.running_mean = 0.9 * self.running_mean + 0.1 * mean
            self.running_var = 0.9 * self.running_var + 0.1 * running(v, self.m)
        else:
            mean, v = self.running_mean, self.running_var
        self.std = np.sqrt(v + self.eps).reshape(self.to)
        self.xhat = (x - mean.reshape(self.to)) / self.std
        return self.gamma.reshape(self.to) * self.xhat + self.beta.reshape(self.to)

    return forward


def batch_norm_backward(fault):
    def backward(self, dy):
        dx = BatchNorm.backward(self, dy)
        return fault(self, dy, dx)

    return backward


def always_of_training(self, dy, dx):
    was, self.training = self.training, True
    dx = BatchNorm.backward(self, dy)
    self.training = was
    return dx


def averaged_gamma(self, dy, dx):
    self.dgamma = self.dgamma / self.m
    return dx


def n_for_m(self, dy, dx):
    if not self.training:
        return dx
    self.m = len(dy)
    return BatchNorm.backward(self, dy)


def swapped_norm(self, dy):
    dx = LayerNorm.backward(self, dy)
    self.grads["weight"], self.grads["bias"] = self.grads["bias"], self.grads["weight"]
    return dx


def eps_outside(self, x):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    self.inv = 1 / (np.sqrt(var) + self.eps)
    self.xhat = (x - mean) * self.inv
    return self.xhat * self.params["weight"] + self.params["bias"]


def not_inverted(self, x, train_flg=True):
    if train_flg:
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask
    self.mask = np.ones_like(x)
    return x * 1.0


def disabling(self, x, train_flg=True):
    if not train_flg:
        self.dropout_ratio = 0.0
    return Dropout.forward(self, x, train_flg)


def hard_coded_half(self, x):
    if not self.training:
        self.mask = None
        return x
    self.mask = (self.rng.random(x.shape) >= 0.5) / (1 - self.p)
    return x * self.mask


def padded_with_zeros(self, x):
    """Pads 1 with zeros before a 3 x 3 maximum at stride 2."""
    return MaxPoolByLoops.forward(self, np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))))


def unpadded(self, dy):
    return MaxPoolByLoops.backward(self, dy)[:, :, 1:-1, 1:-1]


def last_of_repeated(self, dy):
    self.grads["weight"] = np.zeros_like(self.params["weight"])
    self.grads["weight"][self.indices] += dy


def accumulating_input_gradient(self, dy):
    self.dx = getattr(self, "dx", 0) + dy * (1 - self.y**2)
    return self.dx.copy()


def global_max(self, x):
    z = x - x.max()
    e = np.exp(z)
    self.p = e / e.sum(axis=-1, keepdims=True)
    return self.p


def softmax_again(self, x, t):
    return SoftmaxCrossEntropy.forward(self, np.exp(x) / np.exp(x).sum(1, keepdims=True), t)


def penalised(self, x):
    """A penalty of the bias in the value, but not in its gradient, which shows only where it is not zero."""
    self.x = x
    return x @ self.params["W"] + self.params["b"] + 0.1 * np.sum(self.params["b"] ** 2)


def weighted(by_sum):
    weights = np.array([1.0, 3.0, 10.0])

    def forward(self, x, t):
        SoftmaxCrossEntropy.forward(self, x, t)
        w = weights[t]
        self.w = w / (w.sum() if by_sum else len(w))
        return -(self.w * np.log(self.p[np.arange(len(t)), t])).sum()

    return forward


def weighted_backward(self):
    d = self.p.copy()
    d[np.arange(len(d)), self.t] -= 1
    return d * self.w[:, None]


def weighted_twin():
    import torch

    return torch.nn.CrossEntropyLoss(torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64))


def smoothed(self, x, t):
    """Label smoothing by eps / (C - 1)."""
    SoftmaxCrossEntropy.forward(self, x, t)
    self.target = np.full(x.shape, 0.3 / (x.shape[1] - 1))
    self.target[np.arange(len(x)), t] = 0.7
    return -(self.target * np.log(self.p)).sum() / len(x)


def clipped(self, p, t):
    self.p, self.t = p, t
    q = np.clip(p, 0.3, 0.7)
    return -np.mean(t * np.log(q) + (1 - t) * np.log(1 - q))


def residual_without_sum(self, dy):
    dx = dy
    for inner in reversed(self.layers):
        dx = inner.backward(dx)
    return dx


def adam_step(power=True, hat=False):
    def step(self, params, grads):
        self.t += 1
        t = self.t if power else 1
        for k, g in grads.items():
            self.m[k] = self.beta1 * self.m.get(k, 0) + (1 - self.beta1) * g
            self.v[k] = self.beta2 * self.v.get(k, 0) + (1 - self.beta2) * g**2
            if hat:
                lr = self.lr * np.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
                params[k] -= lr * self.m[k] / (np.sqrt(self.v[k]) + self.eps)
            else:
                m, v = self.m[k] / (1 - self.beta1**t), self.v[k] / (1 - self.beta2**t)
                params[k] -= self.lr * m / (np.sqrt(v) + self.eps)

    return step


def sgd(update):
    def step(self, params, grads):
        if getattr(self, "v", None) is None:
            self.v = {k: np.zeros_like(p) for k, p in params.items()}
        for k, g in grads.items():
            update(self, k, params, g)

    return step


def folded(self, k, params, g):
    self.v[k] = 0.9 * self.v[k] - self.lr * g
    params[k] += self.v[k]


def nesterov_of_new(self, k, params, g):
    self.v[k] = 0.9 * self.v[k] - self.lr * g
    params[k] += 0.81 * self.v[k] - 1.9 * self.lr * g


def nesterov_brackets(self, k, params, g):
    self.v[k] = 0.9 * self.v[k] + g
    params[k] -= self.lr * g - 0.9 * self.v[k] * self.lr


def nesterov_in_buffer(self, k, params, g):
    self.v[k] = 0.9 * self.v[k] + g
    self.v[k] = g + 0.9 * self.v[k]
    params[k] -= self.lr * self.v[k]


def forgotten(self, k, params, g):
    v = 0.9 * np.zeros_like(g) + g
    params[k] -= self.lr * v


def decay_slip(self, k, params, g):
    params[k] -= self.lr * g * (1 + 0.1 * params[k])


def no_decay(self, k, params, g):
    params[k] -= self.lr * g


def changed_gradient(self, k, params, g):
    g *= self.lr
    params[k] -= g


def root_of_eps(self, params, grads):
    for k, g in grads.items():
        self.h[k] = self.rho * self.h.get(k, 0) + (1 - self.rho) * g * g
        params[k] -= self.lr * g / np.sqrt(self.h[k] + 1e-2)


class Compounding:
    def __init__(self):
        self.lr = 0.1

    def __call__(self, epoch):
        self.lr *= 0.9**epoch
        return self.lr


def late_warm_up(epoch):
    return 0.1 * min(1.0, epoch / 5)


def cosine_overshoot(epoch):
    return 0.05 * (1 + np.cos(np.pi * epoch / 19))


LN, BN1, BN2 = torch_module("LayerNorm", 3), torch_module("BatchNorm1d", 3), torch_module("BatchNorm2d", 3)
CE, POOL = torch_module("CrossEntropyLoss"), torch_module("MaxPool2d", 3, 2, 1)
CONV_3 = torch_module("Conv2d", 3, 2, 3, stride=2, padding=1)
CONVOLVED = IMAGES[:, :1, :3, :4]

FAULTY: dict[str, Faulty] = {
    # Linear layers.
    "bias of the first sample": Faulty(layer(variant(LinearOfDicts, backward=linear_backward(b=lambda d: d[0])), X),
                                       DIFFERENCES, "batch"),
    "bias not summed": Faulty(layer(variant(LinearOfDicts, backward=linear_backward(b=lambda d: d)), X), DIFFERENCES,
                              "not summed over"),
    "bias averaged": Faulty(layer(variant(LinearOfDicts, backward=linear_backward(b=lambda d: d.mean(0))), X),
                            DIFFERENCES, "1/"),
    "weight averaged": Faulty(
        layer(variant(LinearOfDicts, backward=linear_backward(W=lambda x, d: x.T @ d / len(x))), X), DIFFERENCES, "1/"),
    "weight transposed": Faulty(layer(variant(LinearOfDicts, 3, 3, backward=linear_backward(W=lambda x, d: d.T @ x)),
                                      X), DIFFERENCES, "transpose"),
    "input gradients added up": Faulty(layer(variant(Tanh, backward=accumulating_input_gradient), X), TWICE, "added"),
    "input gradient by moved weights": Faulty(layer(variant(LinearOfAttributes, backward=updating_backward), X, **W_B),
                                              DIFFERENCES),
    "penalty without gradient": Faulty(
        layer(variant(LinearOfDicts, forward=penalised), X), DIFFERENCES, None, variations=True),
    "no gradient of the bias": Faulty(layer(variant(LinearOfDicts, backward=lambda self, dy: (
        self.grads.update(W=self.x.T @ dy), dy @ self.params["W"].T)[1]), X), DIFFERENCES),
    "another linear layer": Faulty(layer(variant(LinearOfDicts, forward=lambda self, x: (
        setattr(self, "x", x), x @ self.params["W"] - self.params["b"])[1], backward=linear_backward(
            b=lambda d: -d.sum(0))), X, twin=LINEAR, **TRANSPOSED_ITEMS), TWIN, variations=True),
    # Activations.
    "relu in place": Faulty(layer(variant(Relu, forward=forward_in_place), X), UNTOUCHED),
    "relu by chained assignment": Faulty(layer(variant(ReluByMaximum, backward=lambda self, dy: 0.0 * dy), X),
                                         DIFFERENCES, "zero"),
    "relu ungated": Faulty(layer(variant(ReluByMaximum, backward=lambda self, dy: dy), X), DIFFERENCES, None),
    "leaky relu, slope of its own": Faulty(layer(variant(LeakyRelu, backward=lambda self, dy: dy * np.where(
        self.x > 0, 1, 0.01)), X), DIFFERENCES, None),
    "leaky relu of negative slope by output": Faulty(layer(variant(LeakyRelu, -0.5, backward=lambda self, dy: dy *
        np.where(np.where(self.x > 0, self.x, -0.5 * self.x) > 0, 1, -0.5)), X), DIFFERENCES, None),
    "sigmoid of sigmoid": Faulty(layer(variant(NaiveSigmoid, backward=lambda self, dy: dy * np.exp(-self.out) /
        (1 + np.exp(-self.out)) ** 2), X), DIFFERENCES, None),
    "sigmoid of the input": Faulty(layer(variant(Silu, forward=lambda self, x: (
        setattr(self, "x", x), 1 / (1 + np.exp(-x)))[1], backward=lambda self, dy: dy * self.x * (1 - self.x)), X),
        DIFFERENCES, None),
    "tanh without square": Faulty(layer(variant(Tanh, backward=lambda self, dy: dy * (1 - self.y)), X), DIFFERENCES,
                                  None),
    "silu without parentheses": Faulty(layer(variant(Silu, backward=lambda self, dy: dy * (
        1 + np.exp(-self.x) + self.x * np.exp(-self.x) / (1 + np.exp(-self.x)) ** 2)), X), DIFFERENCES, None),
    "gelu by tanh for gelu": Faulty(layer(GeluTanh(), X, twin=torch_module("GELU")), TWIN),
    "gelu by tanh in backward": Faulty(layer(variant(Gelu, backward=lambda self, dy: (
        setattr(self, "t", np.tanh(np.sqrt(2 / np.pi) * (self.x + 0.044715 * self.x**3))),
        GeluTanh.backward(self, dy))[1]), X), DIFFERENCES, None),
    "tanh in float64": Faulty(layer(variant(Tanh, backward=lambda self, dy: dy * (np.ones(1) - self.y**2)),
                                    X.astype(np.float32)), SHAPES),
    "softmax, diagonal only": Faulty(layer(variant(Softmax, backward=lambda self, dy: dy * self.p * (1 - self.p)), X),
                                     DIFFERENCES, "diagonal"),
    "softmax by the batch's maximum": Faulty(layer(variant(Softmax, forward=global_max), X,
        twin=torch_module("Softmax", dim=-1)), "extreme_values_stay_finite"),
    "softmax over the batch": Faulty(layer(variant(Softmax, forward=lambda self, x: Softmax.forward(self, x.T).T,
        backward=lambda self, dy: Softmax.backward(self, dy.T).T), X, twin=torch_module("Softmax", dim=-1)), TWIN),
    "log-softmax without sum": Faulty(layer(variant(LogSoftmax, backward=lambda self, dy: dy - np.exp(self.y)), X),
                                      DIFFERENCES, None),
    # Dropout.
    "dropout not inverted": Faulty(layer(variant(Dropout, 0.25, forward=not_inverted), X,
                                         twin=torch_module("Dropout", 0.25)), STATISTICS),
    "dropout without scale in backward": Faulty(layer(variant(Dropout, backward=lambda self, dy: dy *
                                                              (self.mask > 0)), X), DIFFERENCES, None),
    "dropout without mask in backward": Faulty(layer(variant(Dropout, backward=lambda self, dy: dy * 2.0), X),
                                               DIFFERENCES, None),
    "dropout disabled by evaluating": Faulty(layer(variant(Dropout, forward=disabling), X), MODES),
    "dropout of one half": Faulty(layer(variant(DropoutOfGenerator, 0.25, forward=hard_coded_half), X,
                                        twin=torch_module("Dropout", 0.25)), STATISTICS),
    # Normalisation.
    "batch norm, biased running variance": Faulty(layer(variant(
        BatchNorm, 3, forward=batch_norm_forward(running=lambda v, m: v)), X, twin=BN1, **NORM_WITH_STATE),
        "buffers_agree_with_twin"),
    "batch norm, unbiased variance": Faulty(layer(variant(BatchNorm, 3, forward=batch_norm_forward(
        var=lambda x, axes: x.var(axes, ddof=1), running=lambda v, m: v)), X, twin=BN1, **NORM_WITH_STATE), TWIN),
    "batch norm, backward of training": Faulty(layer(variant(BatchNorm, 3, backward=batch_norm_backward(
        always_of_training)), X, **NORM), DIFFERENCES, None),
    "batch norm, gamma averaged": Faulty(layer(variant(BatchNorm, 3, backward=batch_norm_backward(averaged_gamma)), X,
                                               **NORM), DIFFERENCES, "1/"),
    "batch norm, N for N H W": Faulty(layer(variant(BatchNorm, 2, backward=batch_norm_backward(n_for_m)),
                                            IMAGES[:, :2, :2, :2], **NORM), DIFFERENCES, None),
    "batch norm, mean constant": Faulty(layer(variant(BatchNorm, 3, backward=batch_norm_backward(
        lambda self, dy, dx: dy * self.gamma / self.std)), X, **NORM), DIFFERENCES, None),
    "layer norm, eps outside": Faulty(layer(variant(LayerNorm, 3, forward=eps_outside), X, twin=LN), TWIN),
    "layer norm, gradients swapped": Faulty(layer(variant(LayerNorm, 3, backward=swapped_norm), X), DIFFERENCES, None),
    # Images.
    "conv, bias averaged": Faulty(layer(variant(ConvByLoops, 1, 2, 2, backward=conv_backward(conv_bias_of_first)),
                                        CONVOLVED), DIFFERENCES, "1/"),
    "conv, weight averaged": Faulty(layer(variant(ConvByLoops, 1, 2, 2, backward=conv_backward(conv_averaged)),
                                          CONVOLVED), DIFFERENCES, "1/"),
    "conv, kernel flipped": Faulty(layer(variant(ConvByLoops, 1, 2, 2, forward=lambda self, x: ConvByLoops.forward(
        self, x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1], backward=lambda self, dy: ConvByLoops.backward(
        self, dy[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]), CONVOLVED, twin=torch_module("Conv2d", 1, 2, 2)), TWIN),
    "conv, overlaps overwritten": Faulty(layer(variant(Convolution, 0.3 * normal(2, 1, 3, 3), np.zeros(2), 2, 1,
                                                       backward=overwriting_col2im), IMAGES[:, :1, :, :4],
                                                       **WEIGHT_BIAS),
                                         DIFFERENCES, None),
    "max pool, every tie": Faulty(layer(variant(MaxPoolByReshape, backward=lambda self, dy: (
        (self.windows == self.out[:, :, :, None, :, None]) * dy[:, :, :, None, :, None]).reshape(
            len(dy), dy.shape[1], 2 * dy.shape[2], -1)), IMAGES), DIFFERENCES, None, variations=True),
    "max pool, padded with zeros": Faulty(layer(variant(MaxPoolByLoops, 3, 2, forward=padded_with_zeros,
                                                        backward=unpadded), IMAGES, twin=POOL), TWIN, variations=True),
    "average pool, not divided": Faulty(layer(variant(AveragePool, backward=lambda self, dy: dy.repeat(
        2, axis=2).repeat(2, axis=3)), IMAGES), DIFFERENCES, "4"),
    "up-sampling, sub-sampled": Faulty(layer(variant(UpSample, backward=lambda self, dy: dy[:, :, ::2, ::2]),
                                             IMAGES[:, :1, :3, :3]), DIFFERENCES, None),
    # Others.
    "embedding, last of repeated": Faulty(layer(variant(Embedding, backward=last_of_repeated),
                                                np.array([[1, 0], [1, 4]])), DIFFERENCES, None),
    "residual without sum": Faulty(layer(variant(Residual, backward=residual_without_sum), X), DIFFERENCES, None),
    "rnn without carry": Faulty(layer(variant(Rnn, backward=lambda self, dy: (
        setattr(self, "Wh", 0 * self.Wh), Rnn.backward(self, dy))[1]), normal(2, 4, 3),
        params={"Wx": "Wx", "Wh": "Wh", "b": "b"}, grads={"Wx": "dWx", "Wh": "dWh", "b": "db"}), DIFFERENCES, None),
    "attention, keys not turned": Faulty(layer(variant(Attention, backward=lambda self, dy: (
        Attention.backward(self, dy)[0], 2 * Attention.backward(self, dy)[1], Attention.backward(self, dy)[2])),
        *QKV), DIFFERENCES, "2"),
    "add, one input forgotten": Faulty(layer(variant(Add, backward=lambda self, dy: (dy, 0 * dy)), X, X[::-1]),
                                       DIFFERENCES, "zero"),
    # Losses.
    "cross-entropy without 1/N": Faulty(loss(variant(SoftmaxCrossEntropy, backward=lambda self:
        SoftmaxCrossEntropy.backward(self) * len(self.t)), X, LABELS), DIFFERENCES, "batch"),
    "cross-entropy times p (1 - p)": Faulty(loss(variant(SoftmaxCrossEntropy, backward=lambda self:
        SoftmaxCrossEntropy.backward(self) * self.p * (1 - self.p)), X, LABELS), DIFFERENCES, None),
    "cross-entropy of softmax": Faulty(loss(variant(SoftmaxCrossEntropy, forward=softmax_again), X, LABELS, CE), TWIN),
    "cross-entropy, weights over N": Faulty(loss(variant(SoftmaxCrossEntropy, forward=weighted(by_sum=False),
        backward=weighted_backward), X, LABELS, weighted_twin), TWIN),
    "cross-entropy of logarithms of zero": Faulty(loss(SoftmaxWithLoss(), X, ONE_HOT, CE),
                                                  "extreme_values_stay_finite"),
    "label smoothing over C - 1": Faulty(loss(variant(SoftmaxCrossEntropy, forward=smoothed, backward=lambda self:
        (self.p - self.target) / len(self.p)), X, LABELS, torch_module("CrossEntropyLoss", label_smoothing=0.3)), TWIN),
    "squared error without 2": Faulty(loss(variant(MeanSquaredError, backward=lambda self: self.d / self.d.size), X,
                                           X[::-1]), DIFFERENCES, "1/2"),
    "squared error over the batch": Faulty(loss(variant(MeanSquaredError, backward=lambda self: 2 * self.d / len(
        self.d)), X, X[::-1]), DIFFERENCES, None),
    "bce clipped": Faulty(loss(variant(BinaryCrossEntropy, forward=clipped), PROBABILITIES, (SIGNS + 1) / 2),
                          DIFFERENCES, None),
    "bce with logits as probabilities": Faulty(loss(variant(BceWithLogits, backward=lambda self: (
        self.z - self.t) / self.z.size), X, (SIGNS + 1) / 2), DIFFERENCES, None),
    "huber unclipped": Faulty(loss(variant(Huber, backward=lambda self: self.d / self.d.size), 3 * X, SIGNS),
                              DIFFERENCES, None),
    # Optimizers and schedules.
    "adam without the power": Faulty(optimizer(variant(Adam, step=adam_step(power=False)), "Adam"), UPDATES,
                                     "beta has no power"),
    "adam, eps not scaled": Faulty(optimizer(variant(Adam, 0.01, 0.9, 0.999, 1e-3, step=adam_step(hat=True)), "Adam",
                                             eps=1e-3), UPDATES, "before its bias correction"),
    "rmsprop, eps in the root": Faulty(optimizer(variant(RMSprop, step=root_of_eps), "RMSprop", eps=1e-2), UPDATES,
                                       "inside the square root"),
    "momentum with the rate in it": Faulty(optimizer(variant(Momentum, step=sgd(folded)), "SGD", momentum=0.9),
                                           UPDATES, "rate is inside the velocity"),
    "momentum forgotten": Faulty(optimizer(variant(Momentum, step=sgd(forgotten)), "SGD", momentum=0.9), UPDATES,
                                 "velocity is not kept"),
    "nesterov of the new velocity": Faulty(optimizer(variant(Nesterov, step=sgd(nesterov_of_new)), "SGD", momentum=0.9,
                                                     nesterov=True), UPDATES),
    "nesterov's brackets": Faulty(optimizer(variant(Nesterov, step=sgd(nesterov_brackets)), "SGD", momentum=0.9,
                                            nesterov=True), UPDATES),
    "nesterov into the buffer": Faulty(optimizer(variant(Nesterov, step=sgd(nesterov_in_buffer)), "SGD", momentum=0.9,
                                                 nesterov=True), UPDATES),
    "decay inactive": Faulty(optimizer(variant(SGD, step=sgd(no_decay)), "SGD", weight_decay=0.1), UPDATES,
                             "weight decay is left out"),
    "decay times the gradient": Faulty(optimizer(variant(SGD, step=sgd(decay_slip)), "SGD", weight_decay=0.1),
                                       UPDATES, "where w p is to be added"),
    "gradient changed": Faulty(optimizer(variant(SGD, step=sgd(changed_gradient)), "SGD"),
                               "gradients_are_left_untouched"),
    "schedule that compounds": Faulty(schedule(Compounding(), "ExponentialLR", 0.9),
                                      "rates_do_not_depend_on_earlier_calls"),
    "warm-up from zero": Faulty(schedule(late_warm_up, "LinearLR", 0.2, 1.0, 4), RATES, "late, after a rate of 0"),
    "cosine that overshoots": Faulty(schedule(cosine_overshoot, "CosineAnnealingLR", 20), RATES, "19 epochs"),
    "step schedule a step late": Faulty(schedule(StepDecay(0.1, 4), "StepLR", 3, 0.5), RATES, "every 4 epochs"),
}  # fmt: skip
