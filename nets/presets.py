"""The published experiments, and two of our own, as data: what both engines are built from."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Initializer, Layer, Loss, Optimizer, Schedule, ShapeError
from nets.datasets.augmentation import Augmentation
from nets.datasets.dataset import CLASSES, PIXELS, SIDE
from nets.initializers import Constant, KaimingUniform, Normal, Uniform, XavierUniform, initialize
from nets.layers import Conv2d, Flatten, Linear, Sequential
from nets.losses import CrossEntropyLoss, MSELoss, QuadraticCost, SummedBCELoss
from nets.notation import layers_of, parse, unusual, written
from nets.optimizers import SGD, Adam
from nets.schedules import ConstantRate, PiecewiseConstant, StepLR

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


def measured() -> dict[str, Any]:
    """Return what benchmarks/presets.py has measured on MNIST, by preset and side: accuracies, and seconds an epoch."""
    content = resources.files("nets").joinpath("measured.json").read_text()
    found: dict[str, Any] = json.loads(content)
    return found


def configuration(preset: Preset) -> dict[str, Any]:
    """Return every field that decides a run as text, a number or a truth value."""
    told = {spec.name: getattr(preset, spec.name) for spec in fields(preset) if spec.name not in SAID}
    return {
        name: "none" if value is None else value if isinstance(value, (str, int, float)) else written(value)
        for name, value in told.items()
        if value is not None or name in OPTIONAL
    }


def configured(preset: Preset, given: Mapping[str, Any]) -> Preset:
    """Return a preset with other fields, given as `configuration` tells them: its inverse.

    ``none`` stands for no augmentation, no other loss to tell, and torch's default weights or biases. Raises
    ValueError, in one line, for text that writes nothing of the kind, and for a network that does not take images to
    ten outputs.
    """
    if unknown := given.keys() - {spec.name for spec in fields(Preset)} | given.keys() & set(SAID):
        raise ValueError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(configuration(preset))}")
    changed = {name: _read(name, value) for name, value in given.items()}
    made = replace(preset, **changed)
    if not 0 <= made.schedule.lr < math.inf:
        raise ValueError(f"schedule: {type(made.schedule).__name__} needs a finite lr of at least 0")
    if "network" in given:
        made.shape  # noqa: B018  which says what is wrong with it
    return made


def _read(name: str, value: Any) -> Any:  # noqa: ANN401  what the field holds
    if name == "network":
        return " ".join(str(value).split())  # in one line, however it was written
    if name not in PARTS:
        return value
    if value == "none" and name in OPTIONAL:
        return None
    try:
        return parse(value, PARTS[name])
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None


PARTS: dict[str, type[Any]] = {
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "weights": Initializer,
    "biases": Initializer,
    "augmentation": Augmentation,
    "reported_loss": Loss,
}
OPTIONAL = ("weights", "biases", "augmentation", "reported_loss")

SAID = ("name", "summary", "reported")  # what is said of a preset and decides nothing

NIELSEN = "Linear(784, 30), {0}(), Linear(30, 10)"
CNN = (
    "Conv2d(1, 16, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3, padding=1), ReLU(), MaxPool2d(2), "
    "Flatten(), Linear(1568, 128), ReLU(), Linear(128, 10)"
)
REGULARISED = (
    "Conv2d(1, 4, 5, stride=2, bias=False), BatchNorm2d(4), ReLU(), MaxPool2d(2), "
    "Flatten(), Dropout(0.25), Linear(144, 10)"
)
FALLING = PiecewiseConstant(0.005, milestones=(31, 61, 81), factors=(0.6, 0.2, 0.1))


def _in_batches(preset: Preset, reported: dict[str, str]) -> Iterator[Preset]:
    """Yield the variants of a published table whose batches are larger."""
    larger = replace(preset, batch_size=32, reported=reported)
    yield replace(larger, name=f"{preset.name}:batch-32", summary=f"{preset.name} with batch 32")
    yield replace(
        larger,
        name=f"{preset.name}:scale-0.1",
        summary=f"{preset.name} with batch 32, and initial weights ten times as large",
        weights=Normal(0.0, 0.1),
    )


def _presets() -> Iterator[Preset]:
    yield Preset(
        name="fair",
        summary="784-128-10 sigmoid, softmax cross-entropy, SGD 0.05, batch 1: small steps that stay comparable",
        network="Linear(784, 128), Sigmoid(), Linear(128, 10)",
        loss=CrossEntropyLoss(),
        optimizer=SGD(),
        schedule=ConstantRate(0.05),
        weights=XavierUniform(),
        biases=Constant(0.0),
        batch_size=1,
        epochs=3,
        train_size=1000,
    )
    nnmnist = Preset(
        name="nnmnist",
        summary="784-10-10 rectified, softmax cross-entropy, Adam 0.001, batch 10, 41,000 images: the PyTorch side",
        network="Linear(784, 10), ReLU(), Linear(10, 10)",
        loss=CrossEntropyLoss(),
        optimizer=Adam(),
        schedule=ConstantRate(0.001),
        batch_size=10,
        epochs=50,
        train_size=41000,
        validation_size=1000,
        reported={"torch": "about 96 % of the training images, 6 min in all"},
    )
    yield nnmnist
    yield replace(
        nnmnist,
        name="nnmnist:scratch",
        summary="the NumPy side: gradient descent on all 41,000 images at once, rate 0.1, 1,000 steps",
        optimizer=SGD(),
        schedule=ConstantRate(0.1),
        weights=Uniform(-0.5, 0.5),
        biases=Uniform(-0.5, 0.5),
        batch_size=41000,
        epochs=1000,
        reported={"numpy": "84 %, 5 min in all"},
    )
    nielsen = Preset(
        name="nielsen",
        summary="784-30-10 sigmoid, quadratic cost, SGD 3.0, batch 10, after Nielsen's book: soon chaotic",
        network=f"{NIELSEN.format('Sigmoid')}, Sigmoid()",
        loss=QuadraticCost(),
        optimizer=SGD(),
        schedule=ConstantRate(3.0),
        weights=Normal(),
        biases=Normal(),
        batch_size=10,
        epochs=30,
        train_size=50000,
        validation_size=10000,
        first=True,
        reported={"numpy": "84.05 %, 7 to 11 s an epoch"},
    )
    yield nielsen
    yield replace(
        nielsen,
        name="nielsen:torch",
        summary="the PyTorch side: 784-30-10 rectified, softmax cross-entropy, SGD 0.5, validated on the test images",
        network=NIELSEN.format("ReLU"),
        loss=CrossEntropyLoss(),
        schedule=ConstantRate(0.5),
        weights=None,
        biases=None,
        epochs=10,
        train_size=60000,
        validation_of="test",
        reported={"torch": "95.36 %, 5 to 7 s an epoch"},
    )
    mse = Preset(
        name="sigmoid-mse",
        summary="784-128-10 sigmoid, mean squared error on one-hot targets, SGD, batch 1: the loss that is published",
        network="Linear(784, 128), Sigmoid(), Linear(128, 10), Sigmoid()",
        loss=MSELoss(),
        optimizer=SGD(),
        schedule=FALLING,
        weights=Normal(0.0, 0.01),
        biases=Constant(0.0),
        batch_size=1,
        epochs=100,
        train_size=1000,
        first=True,
        reported={"numpy": "96.5 % of the training, 87.6 % of the test images", "torch": "varies"},
    )
    yield mse
    yield from _in_batches(mse, {"torch": "varies"})
    bce = replace(
        mse,
        name="sigmoid-bce",
        summary="784-128-10 sigmoid without biases, trained on binary cross-entropy, as that NumPy code really is",
        network="Linear(784, 128, bias=False), Sigmoid(), Linear(128, 10, bias=False), Sigmoid()",
        loss=SummedBCELoss(),
        biases=None,
        reported={"numpy": "96.5 % of the training, 87.6 % of the test images"},
    )
    yield bce
    yield from _in_batches(bce, {})
    yield replace(
        bce,
        name="sigmoid-bce:as-told",
        summary="sigmoid-bce that prints the mean squared error, as that code does",
        reported_loss=MSELoss(),
    )
    mlp = Preset(
        name="mlp",
        summary="784-128-64-10 rectified, softmax cross-entropy, SGD 0.01, batch 128: the NumPy side",
        network="Linear(784, 128), ReLU(), Linear(128, 64), ReLU(), Linear(64, 10)",
        loss=CrossEntropyLoss(),
        optimizer=SGD(),
        schedule=ConstantRate(0.01),
        weights=KaimingUniform(nonlinearity="relu"),
        biases=Constant(0.0),
        batch_size=128,
        epochs=50,
        train_size=60000,
        reported={"numpy": "85 to 92 %, and 96.5 %"},
    )
    yield mlp
    yield replace(
        mlp,
        name="mlp-wide",
        summary="784-512-256-10 rectified, softmax cross-entropy, Adam 0.001, batch 64: its PyTorch side",
        network="Linear(784, 512), ReLU(), Linear(512, 256), ReLU(), Linear(256, 10)",
        optimizer=Adam(),
        schedule=ConstantRate(0.001),
        weights=None,
        biases=None,
        scaling="0.1307,0.3081",
        batch_size=64,
        epochs=10,
        reported={"torch": "97.43 %"},
    )
    cnn = Preset(
        name="cnn",
        summary="two 3 x 3 convolutions with pools, 128-10, rectified, softmax cross-entropy, Adam 0.001, batch 10",
        network=CNN,
        loss=CrossEntropyLoss(),
        optimizer=Adam(),
        schedule=ConstantRate(0.001),
        batch_size=10,
        epochs=5,
        train_size=60000,
        reported={"torch": "98.92 %, about 120 s an epoch"},
    )
    yield cnn
    yield replace(
        cnn,
        name="cnn:scratch",
        summary="the NumPy side, which has one convolution and no pools: 402,202 parameters, batch 4, 1,000 images",
        network="Conv2d(1, 8, 3, padding=1), ReLU(), Flatten(), Linear(6272, 64), ReLU(), Linear(64, 10)",
        optimizer=SGD(),
        batch_size=4,
        epochs=10,
        train_size=1000,
        reported={"numpy": "26.80 % of 1,000 images, about 150 s an epoch"},
    )
    yield Preset(
        name="regularised",
        summary="a convolution with batch norm, dropout, SGD with momentum and a falling rate, batch 16",
        network=REGULARISED,
        loss=CrossEntropyLoss(),
        optimizer=SGD(momentum=0.9),
        schedule=StepLR(0.01, step_size=1, gamma=0.5),
        batch_size=16,
        epochs=3,
        train_size=1000,
    )


PRESETS: dict[str, Preset] = {preset.name: preset for preset in _presets()}
