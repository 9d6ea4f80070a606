"""An experiment as data: a network, what it learns from, and how."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Initializer, Layer, Loss, Optimizer, Schedule, ShapeError
from nets.datasets.augmentation import Augmentation
from nets.datasets.dataset import CLASSES, PIXELS, SIDE
from nets.initializers import initialize
from nets.layers import Conv2d, Flatten, Linear, Sequential
from nets.notation import layers_of, unusual

SHAPES = ((PIXELS,), (1, SIDE, SIDE))  # of one sample: pixels, or an image
ACTIVATIONS = (
    "ELU", "GELU", "LeakyReLU", "LogSoftmax", "PReLU", "ReLU", "SELU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh",
)  # fmt: skip

# Whose images a network is validated or tested on; the training images are the wrong ones, which some publish.
Part = Literal["validation", "test", "train"]


@dataclass(frozen=True)
class Preset:
    """A network, what it learns from, and how.

    ``network`` is text, of layers that take 784 pixels or images (1, 28, 28) to 10 outputs; ``weights`` and ``biases``
    fill it, and where they are None, torch's defaults. ``train_size`` images, drawn or else the ``first``, are learnt
    from, and ``validation_size`` others are looked at after each epoch, or instead those of ``validation_of``. Pixels
    are scaled and ``augmentation``, if any, moves them. ``optimizer`` is as it is before its first step.
    ``reported_loss`` is told in place of the loss that is descended. ``reported`` says what was published of each side.
    """

    name: str
    summary: str
    network: str
    loss: Loss
    optimizer: Optimizer
    schedule: Schedule
    batch_size: int
    epochs: int
    train_size: int
    validation_size: int = 0
    weights: Initializer | None = None
    biases: Initializer | None = None
    scaling: str = "unit"
    augmentation: Augmentation | None = None
    first: bool = False
    drop_last: bool = False
    validation_of: Part = "validation"
    test_of: Part = "test"
    reported_loss: Loss | None = None
    reported: dict[str, str] = field(default_factory=dict)

    def model(self, dtype: DTypeLike, seed: np.random.SeedSequence) -> Layer:
        """Return the network with its initial weights: drawn in float64 and rounded to ``dtype``."""
        model = Sequential(layers_of(self.network))
        initialize(model, np.random.default_rng(seed), self.weights, self.biases)
        return model.astype(dtype)

    def new_optimizer(self) -> Optimizer:
        """Return an optimizer that has not taken a step."""
        return copy.deepcopy(self.optimizer)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, before they have weights. Raises ValueError for text that writes none."""
        return layers_of(self.network)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample, which is what the network takes. Raises ValueError where it takes neither."""
        network, problems = Sequential(self.layers), []
        for shape in SHAPES:
            try:
                with np.errstate(all="ignore"):
                    outputs, _ = network.forward(np.zeros((2, *shape)))
            except (ShapeError, ValueError, IndexError) as error:
                problems.append(str(error))
                continue
            if outputs.shape == (2, CLASSES):
                return shape
            problems.append(f"its outputs have shape {outputs.shape[1:]}, not ({CLASSES},)")
        told = "; ".join(f"with {shape}, {problem}" for shape, problem in zip(SHAPES, problems, strict=True))
        raise ValueError(f"network needs layers from {SHAPES[0]} or {SHAPES[1]} to {CLASSES} outputs: {told}")

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(array.size for array in Sequential(self.layers).parameters().values())

    @property
    def architecture(self) -> str:
        """The network in a few words, as ``784-128-10 Sigmoid``."""
        return _architecture(self.layers)

    def describe(self) -> str:
        """Return network, loss, optimizer and rate in one line."""
        return f"{self.architecture}, {type(self.loss).__name__}, {rule_of(self.optimizer)} {self.schedule.lr:g}"

    def with_lr(self, lr: float) -> Self:
        """Return the preset with another base learning rate."""
        return replace(self, schedule=self.schedule.with_lr(lr))

    def told_loss(self) -> Loss:
        """Return the loss that is told of every epoch."""
        return self.reported_loss or self.loss


def rule_of(optimizer: Optimizer) -> str:
    """Return an optimizer's name and those of its hyper-parameters that are not the usual ones."""
    told = [f"{spec.name} {getattr(optimizer, spec.name)}" for spec in unusual(optimizer)]
    return " ".join([type(optimizer).__name__, *told])


def _architecture(layers: tuple[Layer, ...]) -> str:
    pieces: list[str] = []
    activations: list[str] = []
    for i, layer in enumerate(layers):
        kind = type(layer).__name__
        if kind in ACTIVATIONS:
            # What follows the last layer is not the same choice as what follows the others.
            if kind not in activations or i == len(layers) - 1:
                activations.append(kind)
        elif isinstance(layer, Linear):
            outputs, inputs = layer.weight.shape
            fresh = not pieces or not pieces[-1][-1].isdigit() or not isinstance(_before(layers, i), Linear)
            if fresh:
                pieces.append(f"{outputs}" if pieces else f"{inputs}-{outputs}")
            else:
                pieces[-1] += f"-{outputs}"
        elif isinstance(layer, Conv2d):
            pieces.append(f"conv {len(layer.weight)}")
        elif not isinstance(layer, Flatten):
            told = [str(getattr(layer, spec.name)) for spec in fields(layer) if spec.name == "p"]
            pieces.append("pool" if "Pool" in kind else " ".join([kind, *told]))
    return " ".join([" - ".join(pieces), *(["-".join(activations)] if activations else [])])


def _before(layers: tuple[Layer, ...], index: int) -> Layer | None:
    """Return the last layer before one that is no activation."""
    return next((layer for layer in layers[index - 1 :: -1] if type(layer).__name__ not in ACTIVATIONS), None)
