"""Experiments as data: what both engines are built from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Initializer, Layer, Loss, Optimizer, Schedule
from nets.initializers import Constant, KaimingUniform, Normal, XavierUniform, initialize
from nets.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, Sigmoid
from nets.losses import CrossEntropyLoss, MSELoss, QuadraticCost
from nets.optimizers import SGD, Adam
from nets.schedules import ConstantRate, StepLR

PIXELS, IMAGE, CLASSES = (784,), (1, 28, 28), 10


@dataclass(frozen=True)
class Preset:
    """A network and how it is trained.

    ``network()`` makes it, untrained, for inputs of ``shape`` (of one sample) and 10 classes. ``weights`` and
    ``biases`` fill it; None leaves them to torch's defaults. ``train_size`` counts training images. ``optimizer`` is
    as it is before its first step.
    """

    name: str
    architecture: str
    summary: str
    network: Callable[[], Layer]
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    batch_size: int
    epochs: int
    train_size: int
    weights: Initializer | None = None
    biases: Initializer | None = None
    shape: tuple[int, ...] = PIXELS

    def model(self, dtype: DTypeLike, seed: np.random.SeedSequence) -> Layer:
        """Return the network with its initial weights: drawn in float64 and rounded to ``dtype``."""
        model = self.network()
        initialize(model, np.random.default_rng(seed), self.weights, self.biases)
        return model.astype(dtype)

    def new_optimizer(self) -> Optimizer:
        """Return an optimizer that has not taken a step."""
        return copy.deepcopy(self.optimizer)

    def describe(self) -> str:
        """Return network, loss, optimizer and rate in one line."""
        return f"{self.architecture}, {type(self.loss).__name__}, {_rule(self.optimizer)} {self.schedule.lr:g}"

    def with_lr(self, lr: float) -> Self:
        """Return the preset with another base learning rate."""
        return replace(self, schedule=self.schedule.with_lr(lr))


def mlp(*sizes: int, hidden: Callable[[], Layer], output: Callable[[], Layer] | None = None) -> Callable[[], Layer]:
    """Return what makes a fully connected network: ``hidden`` follows every `Linear` but the last, ``output`` that."""

    def network() -> Layer:
        layers: list[Layer] = []
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            activation = hidden if i < len(sizes) - 2 else output
            layers += [Linear.create(inputs, outputs)] + ([activation()] if activation else [])
        return Sequential(tuple(layers))

    return network


def convolutional(first: int, second: int, features: int) -> Callable[[], Layer]:
    """Return what makes a network of two convolutions, each with a pool, and two fully connected layers."""

    def network() -> Layer:
        stem = (Conv2d.create(1, first, 3, padding=1), ReLU(), MaxPool2d(2))
        body = (Conv2d.create(first, second, 3, padding=1), ReLU(), MaxPool2d(2))
        head = (Flatten(), Linear.create(second * 7 * 7, features), ReLU(), Linear.create(features, CLASSES))
        return Sequential((*stem, *body, *head))

    return network


def regularised() -> Layer:
    """Return a convolution with batch normalisation, a pool and dropout before the one fully connected layer."""
    stem = (Conv2d.create(1, 4, 5, stride=2, bias=False), BatchNorm2d.create(4), ReLU(), MaxPool2d(2))
    return Sequential((*stem, Flatten(), Dropout(0.25), Linear.create(4 * 6 * 6, CLASSES)))


def _rule(optimizer: Optimizer) -> str:
    """Return an optimizer's name and those of its hyper-parameters that are not the usual ones."""
    told = [
        f"{spec.name} {getattr(optimizer, spec.name)}"
        for spec in fields(optimizer)
        if spec.init and getattr(optimizer, spec.name) != spec.default
    ]
    return " ".join([type(optimizer).__name__, *told])


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="fair",
            architecture="784-128-10 Sigmoid",
            summary="784-128-10 sigmoid, softmax cross-entropy, SGD 0.05, batch 1: small steps that stay comparable",
            network=mlp(784, 128, 10, hidden=Sigmoid),
            loss=CrossEntropyLoss(),
            optimizer=SGD(),
            schedule=ConstantRate(0.05),
            weights=XavierUniform(),
            biases=Constant(0.0),
            batch_size=1,
            epochs=3,
            train_size=1000,
        ),
        Preset(
            name="nielsen",
            architecture="784-30-10 Sigmoid-Sigmoid",
            summary="784-30-10 sigmoid, quadratic cost, SGD 3.0, batch 10, after Nielsen's book: soon chaotic",
            network=mlp(784, 30, 10, hidden=Sigmoid, output=Sigmoid),
            loss=QuadraticCost(),
            optimizer=SGD(),
            schedule=ConstantRate(3.0),
            weights=Normal(),
            biases=Normal(),
            batch_size=10,
            epochs=30,
            train_size=50000,
        ),
        Preset(
            name="sigmoid-mse",
            architecture="784-128-10 Sigmoid-Sigmoid",
            summary="784-128-10 sigmoid, mean squared error on one-hot targets, SGD, batch 1",
            network=mlp(784, 128, 10, hidden=Sigmoid, output=Sigmoid),
            loss=MSELoss(),
            optimizer=SGD(),
            schedule=ConstantRate(0.005),
            weights=Normal(0.0, 0.01),
            biases=Constant(0.0),
            batch_size=1,
            epochs=100,
            train_size=1000,
        ),
        Preset(
            name="mlp",
            architecture="784-128-64-10 ReLU",
            summary="784-128-64-10 rectified, softmax cross-entropy, SGD 0.01, batch 128",
            network=mlp(784, 128, 64, 10, hidden=ReLU),
            loss=CrossEntropyLoss(),
            optimizer=SGD(),
            schedule=ConstantRate(0.01),
            weights=KaimingUniform(nonlinearity="relu"),
            biases=Constant(0.0),
            batch_size=128,
            epochs=50,
            train_size=60000,
        ),
        Preset(
            name="nnmnist",
            architecture="784-10-10 ReLU",
            summary="784-10-10 rectified, softmax cross-entropy, Adam 0.001, batch 10",
            network=mlp(784, 10, 10, hidden=ReLU),
            loss=CrossEntropyLoss(),
            optimizer=Adam(),
            schedule=ConstantRate(0.001),
            batch_size=10,
            epochs=50,
            train_size=60000,
        ),
        Preset(
            name="cnn",
            architecture="conv 16 - pool - conv 32 - pool - 128-10 ReLU",
            summary="two 3 x 3 convolutions with pools, 128-10, rectified, softmax cross-entropy, Adam 0.001, batch 10",
            network=convolutional(16, 32, 128),
            shape=IMAGE,
            loss=CrossEntropyLoss(),
            optimizer=Adam(),
            schedule=ConstantRate(0.001),
            batch_size=10,
            epochs=5,
            train_size=60000,
        ),
        Preset(
            name="regularised",
            architecture="conv 4 - BatchNorm2d - pool - Dropout 0.25 - 10 ReLU",
            summary="a convolution with batch norm, dropout, SGD with momentum and a falling rate, batch 16",
            network=regularised,
            shape=IMAGE,
            loss=CrossEntropyLoss(),
            optimizer=SGD(momentum=0.9),
            schedule=StepLR(0.01, step_size=1, gamma=0.5),
            batch_size=16,
            epochs=3,
            train_size=1000,
        ),
    )
}
