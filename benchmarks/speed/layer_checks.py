"""`gradcheck.check_layer` beside `torch.autograd.gradcheck` on the same forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import gradcheck
from benchmarks.speed.timing import Pair
from gradcheck.contract import Array
from nets.layers.batch_norm import BatchNorm2d
from nets.layers.conv2d import Conv2d
from nets.layers.linear import Linear

if TYPE_CHECKING:
    import torch

AIM = 1.5  # of the default mode, beside torch's slow one

# What torch's check does: every element of the gradients of the inputs given, beside differences.
ALONE: dict[str, Any] = {"mode": "full", "claims": ["gradients_agree_with_differences"], "variations": False}


class Dense:
    """y = x W + b, as people write it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.W, self.b = 0.3 * rng.standard_normal((20, 10)), rng.standard_normal(10)

    def forward(self, x: Array) -> Array:
        """Return y, and keep x."""
        self.x = x
        return np.asarray(x @ self.W + self.b)

    def backward(self, dy: Array) -> Array:
        """Return dx, and keep dW and db."""
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)
        return np.asarray(dy @ self.W.T)


class BatchNorm:
    """Batch normalisation of images, without modes, as people write it."""

    axes = (0, 2, 3)

    def __init__(self, rng: np.random.Generator) -> None:
        self.gamma, self.beta = rng.standard_normal((2, 4))

    def forward(self, x: Array) -> Array:
        """Return y, and keep what backward needs."""
        self.std = np.sqrt(x.var(axis=self.axes, keepdims=True) + 1e-5)
        self.normal = (x - x.mean(axis=self.axes, keepdims=True)) / self.std
        return np.asarray(self.gamma[:, None, None] * self.normal + self.beta[:, None, None])

    def backward(self, dy: Array) -> Array:
        """Return dx, and keep dgamma and dbeta."""
        self.dgamma, self.dbeta = (dy * self.normal).sum(axis=self.axes), dy.sum(axis=self.axes)
        g = dy * self.gamma[:, None, None]
        mean, along = (each.mean(axis=self.axes, keepdims=True) for each in (g, g * self.normal))
        return np.asarray((g - mean - self.normal * along) / self.std)


@dataclass(frozen=True)
class Subject:
    """A layer and an input; the twin and weights that torch checks; ``options`` of our check, if it has the twin."""

    name: str
    layer: object
    x: Array
    twin: torch.nn.Module
    weights: dict[str, Array]
    options: dict[str, Any] = field(default_factory=dict)


def subjects() -> Iterator[Subject]:
    """Yield two native layers and two foreign ones, these without a twin and with it."""
    import torch

    rng = np.random.default_rng(0)
    rows, images, few = (rng.standard_normal(shape) for shape in ((5, 20), (3, 4, 5, 5), (2, 3, 6, 6)))
    linear = Linear(rng.standard_normal((10, 20)), rng.standard_normal(10))
    conv = Conv2d(rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4))
    norm = BatchNorm2d.create(4).replace_arrays({"weight": rng.standard_normal(4), "bias": rng.standard_normal(4)})
    for name, layer, x in (
        ("Linear 20->10, batch 5", linear, rows),
        ("Conv2d 3->4, 3 x 3, on 6 x 6, batch 2", conv, few),
        ("BatchNorm2d 4 on 5 x 5, batch 3", norm, images),
    ):
        yield Subject(name, layer, x, layer.twin(), layer.parameters())
    dense, foreign = Dense(rng), BatchNorm(rng)
    weights = {"weight": dense.W.T, "bias": dense.b}
    options = {"params": {"weight": "W.T", "bias": "b"}, "grads": {"weight": "dW.T", "bias": "db"}}
    yield from _foreign("Dense 20->10, batch 5", dense, rows, torch.nn.Linear(20, 10), weights, options)
    weights = {"weight": foreign.gamma, "bias": foreign.beta}
    options = {"params": {"weight": "gamma", "bias": "beta"}, "grads": {"weight": "dgamma", "bias": "dbeta"}}
    yield from _foreign("BatchNorm2d 4 on 5 x 5, batch 3", foreign, images, torch.nn.BatchNorm2d(4), weights, options)


def _foreign(
    name: str, layer: object, x: Array, twin: torch.nn.Module, weights: dict[str, Array], options: dict[str, Any]
) -> Iterator[Subject]:
    yield Subject(f"foreign {name}", layer, x, twin, weights)
    yield Subject(f"foreign {name}, with its twin", layer, x, twin, weights, options | {"twin": twin})


def pairs() -> Iterator[Pair]:
    """Yield each subject in both modes, and its gradients alone, beside torch's slow check of its twin."""
    for subject in subjects():
        slow = theirs(subject)
        yield Pair(f"{subject.name}: auto", partial(ours, subject, {"mode": "auto"}), slow, aim=AIM)
        yield Pair(f"{subject.name}: fast", partial(ours, subject, {"mode": "fast"}), slow)
        if "twin" not in subject.options:
            yield Pair(f"{subject.name}: gradients alone", partial(ours, subject, ALONE), slow)


def ours(subject: Subject, options: Mapping[str, Any]) -> None:
    """Check a layer, which is right and has to pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradcheck.check_layer(subject.layer, subject.x, **subject.options, **options).raise_if_failed()


def theirs(subject: Subject) -> Callable[[], object]:
    """Return torch's slow check of the gradients of its input and weights."""
    import torch

    module = subject.twin.to(torch.float64).train()
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in subject.weights.items()}
    arguments = (torch.tensor(subject.x, requires_grad=True), *leaves.values())

    def forward(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.func.functional_call(module, dict(zip(leaves, values, strict=True)), (x,))
        return y

    return partial(torch.autograd.gradcheck, forward, arguments)
