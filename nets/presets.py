"""Experiments as data: what both engines are built from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Initializer, Layer, Loss, Optimizer, Schedule
from nets.initializers import Constant, Normal, XavierUniform, initialize
from nets.layers import Linear, Sequential, Sigmoid
from nets.losses import CrossEntropyLoss, QuadraticCost
from nets.optimizers import SGD
from nets.schedules import ConstantRate


@dataclass(frozen=True)
class Preset:
    """A fully connected network and how it is trained.

    ``sizes`` are the widths from the 784 pixels to the 10 classes; ``hidden`` follows every `Linear` but the last, and
    ``output``, if any, the last. ``train_size`` counts training images.
    """

    name: str
    summary: str
    sizes: tuple[int, ...]
    hidden: type[Layer]
    output: type[Layer] | None
    loss: type[Loss]
    optimizer: type[Optimizer]
    schedule: Schedule
    weights: Initializer
    biases: Initializer
    batch_size: int
    epochs: int
    train_size: int

    def model(self, dtype: DTypeLike, seed: np.random.SeedSequence) -> Layer:
        """Return the network with its initial weights: drawn in float64 and rounded to ``dtype``."""
        layers: list[Layer] = []
        last = len(self.sizes) - 2
        for i, (inputs, outputs) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            activation = self.output if i == last else self.hidden
            layers += [Linear.create(inputs, outputs)] + ([activation()] if activation else [])
        model = Sequential(tuple(layers))
        initialize(model, np.random.default_rng(seed), self.weights, self.biases)
        return model.astype(dtype)

    def describe(self) -> str:
        """Return network, loss and optimizer in one line."""
        hidden = self.hidden.__name__
        output = f"-{self.output.__name__}" if self.output else ""
        layers = f"{'-'.join(map(str, self.sizes))} {hidden}{output}"
        return f"{layers}, {self.loss.__name__}, {self.optimizer.__name__} {self.schedule.lr:g}"

    def with_lr(self, lr: float) -> Self:
        """Return the preset with another base learning rate."""
        return replace(self, schedule=self.schedule.with_lr(lr))


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="fair",
            summary="784-128-10 sigmoid, softmax cross-entropy, SGD 0.05, batch 1: small steps that stay comparable",
            sizes=(784, 128, 10),
            hidden=Sigmoid,
            output=None,
            loss=CrossEntropyLoss,
            optimizer=SGD,
            schedule=ConstantRate(0.05),
            weights=XavierUniform(),
            biases=Constant(0.0),
            batch_size=1,
            epochs=3,
            train_size=1000,
        ),
        Preset(
            name="nielsen",
            summary="784-30-10 sigmoid, quadratic cost, SGD 3.0, batch 10, after Nielsen's book: soon chaotic",
            sizes=(784, 30, 10),
            hidden=Sigmoid,
            output=Sigmoid,
            loss=QuadraticCost,
            optimizer=SGD,
            schedule=ConstantRate(3.0),
            weights=Normal(),
            biases=Normal(),
            batch_size=10,
            epochs=30,
            train_size=50000,
        ),
    )
}
