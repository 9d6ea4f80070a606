"""A run: a preset on samples, in an order, from initial weights, all of it decided by one seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradcheck.contract import Array, Layer, Loss, ShapeError
from gradcheck.trajectory.engine import Batch
from nets.datasets.dataset import CLASSES, SIDE, Dataset, Samples
from nets.datasets.scaling import Scaling
from nets.datasets.scaling import scaling as scaling_of
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.presets import Preset
from nets.weights import CheckpointError, load_state_dict

CHUNK = 2048  # samples evaluated at once, which bounds memory

DTYPES: dict[str, np.dtype[np.floating]] = {"float64": np.dtype(np.float64), "float32": np.dtype(np.float32)}

# Of a dataset that is smaller than the preset's, has no test images and not many others: what is learned from, and what
# is validated on if anything is; the rest is tested on.
MANY, FEW, FEW_VALIDATED = 5000, 1000, 200


@dataclass(frozen=True)
class Program:
    """What both engines are made of. The same ``seed`` gives the same weights in every dtype."""

    preset: Preset
    seed: int
    dtype: np.dtype[np.floating]

    def model(self) -> Layer:
        """Return the network before its first step."""
        return self.preset.model(self.dtype, _seeds(self.seed)["weights"])

    def numpy_engine(self) -> NumpyEngine:
        """Return the NumPy engine before its first step."""
        return NumpyEngine(self.model(), self.preset.loss, self.preset.new_optimizer())

    def torch_engine(self, dtype: np.dtype[np.floating] | None = None, device: str = "cpu") -> TorchEngine:
        """Return the torch engine before its first step, in the program's dtype or another."""
        model = self.model().astype(dtype or self.dtype)
        return TorchEngine(model, self.preset.loss, self.preset.new_optimizer(), device)

    def inputs_of(self, ink: Array, scaling: Scaling) -> Array:
        """Return what the network is given for ink in [0, 1], (n, 784) or (n, 28, 28)."""
        return scaling(ink).astype(self.dtype).reshape(len(ink), *self.preset.shape)


@dataclass(frozen=True)
class Run(Program):
    """Everything that decides a run. The same ``seed`` gives the same samples and order too, in every dtype.

    ``start`` are initial weights by name, in place of drawn ones; they are rounded to the dtype.
    """

    dataset: Dataset
    train: Samples
    validation: Samples
    test: Samples
    steps: int
    start: Mapping[str, Array] | None = None

    def model(self) -> Layer:
        """Return the network before its first step."""
        model = super().model()
        if self.start is not None:
            try:
                load_state_dict(model, {name: _cast(array, self.dtype) for name, array in self.start.items()})
            except ShapeError as error:
                raise CheckpointError(str(error)) from None
        return model

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has: the last may be smaller, unless it is dropped."""
        size, count = self.preset.batch_size, len(self.train)
        return count // size if self.preset.drop_last else -(-count // size)

    @property
    def dropped(self) -> int:
        """How many images of an epoch are left out with its last batch."""
        return max(len(self.train) - self.steps_per_epoch * self.preset.batch_size, 0)

    @cached_property
    def scaling(self) -> Scaling:
        """How ink becomes what the network is given."""
        return scaling_of(self.preset.scaling)(self.train, self.dataset.black)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Array, Array]]:
        """Yield inputs and labels of an epoch, which has an order of its own, from its batch ``first`` on."""
        size, preset = self.preset.batch_size, self.preset
        order = np.random.default_rng(self._state("order", epoch)).permutation(len(self.train))
        for index in range(first, self.steps_per_epoch):
            chosen = self.train[order[index * size : (index + 1) * size]]
            ink = self.dataset.pixels(chosen, np.float64)
            if preset.augmentation is not None:
                rng = np.random.default_rng([index, *self._state("augmentation", epoch)])
                ink = preset.augmentation(ink.reshape(-1, SIDE, SIDE), rng)
            yield self.inputs_of(ink, self.scaling), chosen.labels

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the run, at rates that depend on the epoch alone."""
        for step in range(0, self.steps, self.steps_per_epoch):
            epoch = step // self.steps_per_epoch
            lr = self.preset.schedule(epoch)
            for index, (x, labels) in enumerate(self.epoch(epoch)):
                if step + index == self.steps:
                    return
                yield Batch(x, self.targets(labels), lr)

    def targets(self, labels: Array, loss: Loss | None = None) -> Array:
        """Return what a loss, by default the preset's, compares with: the classes themselves, or one-hot rows."""
        of_classes = (loss or self.preset.loss).class_targets
        return labels if of_classes else np.eye(CLASSES, dtype=self.dtype)[labels]

    def inputs(self, samples: Samples) -> Array:
        """Return what the network is given: pixels (n, 784), or images (n, 1, 28, 28), scaled."""
        return self.inputs_of(self.dataset.pixels(samples, np.float64), self.scaling)

    def chunks(self, samples: Samples) -> Iterator[tuple[Array, Array]]:
        """Yield inputs and labels of ``samples``, some at a time."""
        for begin in range(0, len(samples), CHUNK):
            chunk = samples[begin : begin + CHUNK]
            yield self.inputs(chunk), chunk.labels

    def _state(self, stream: str, epoch: int) -> list[int]:
        return [epoch, *map(int, _seeds(self.seed)[stream].generate_state(4))]


def prepare(
    preset: Preset,
    dataset: Dataset,
    *,
    train_size: int | None = None,
    validation_size: int | None = None,
    test_size: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    dtype: str = "float64",
    start: Mapping[str, Array] | None = None,
) -> Run:
    """Return a preset's run on a dataset, with what is given in place of the preset's own.

    ``steps`` alone runs as many epochs as they need; with ``epochs`` too, whichever ends first. Without sizes, a
    dataset smaller than the preset's gives what `default_sizes` says. Raises ValueError for sizes that the data does
    not have, for a rate that the dtype does not, for a network that does not take images to ten classes, and for
    a loss that cannot take those or is no one number; `CheckpointError` for initial weights of another network.
    """
    preset = replace(preset, batch_size=preset.batch_size if batch_size is None else batch_size)
    if lr is not None:
        preset = preset.with_lr(lr)
    if preset.schedule.lr > float(np.finfo(DTYPES[dtype]).max):
        raise ValueError(f"a learning rate of {preset.schedule.lr:g} does not fit {dtype}")
    sizes = default_sizes(preset, dataset, train_size)
    aside = preset.validation_of == "validation"
    train, validation, test = dataset.split(
        sizes[0] if train_size is None else train_size,
        (sizes[1] if validation_size is None else validation_size) if aside else 0,
        test_size if preset.test_of == "test" else None,
        _seeds(seed)["split"],
        first=preset.first,
    )
    if not aside:
        validation = _some({"test": test, "train": train}[preset.validation_of], validation_size, "validate on")
    if preset.test_of == "train":
        test = _some(train, test_size, "test on")
    run = Run(preset, seed, DTYPES[dtype], dataset, train, validation, test, 0, start)
    if preset.drop_last and len(train) < preset.batch_size:
        raise ValueError(f"drop_last leaves nothing of {len(train)} images in batches of {preset.batch_size}")
    run.inputs(train[:1])  # which says what is wrong with the scaling, and with the network
    try:
        _require_losses(run, run.model())  # and with weights to start from, and with what the outputs come to
    except OverflowError as error:
        raise ValueError(f"initial weights cannot be drawn: {error}") from None
    whole = run.steps_per_epoch * (preset.epochs if epochs is None else epochs)
    if steps is None:
        steps = whole
    elif epochs is not None:
        steps = min(steps, whole)
    return replace(run, steps=steps)


def default_sizes(preset: Preset, dataset: Dataset, train_size: int | None = None) -> tuple[int, int]:
    """Return how many images are trained and validated on: the preset's numbers, or of a smaller dataset fewer."""
    available = len(dataset.train) - (1 if dataset.test is None else 0)
    own = preset.validation_of == "validation" and dataset.validation is None
    validated = preset.validation_size if preset.validation_of == "validation" else 0
    asked = preset.train_size if train_size is None else train_size
    if asked + (validated if own else 0) <= available and (own or validated <= len(dataset.validation or ())):
        return asked, validated
    small = dataset.test is None and len(dataset.train) < MANY
    if dataset.test is None:
        available = min(FEW, available) if small else len(dataset.train) - len(dataset.train) // 7  # MNIST's share
    validated = min(validated, FEW_VALIDATED) if small else min(validated, len(dataset.train) // 7)
    if dataset.validation is not None:
        validated = min(validated, len(dataset.validation))
    held = validated if own and not small else 0
    few = min(asked, available - held) if train_size is None else train_size
    left = len(dataset.train) - few - (1 if dataset.test is None else 0)
    return few, min(validated, max(left, 0)) if own else validated


def _some(samples: Samples, size: int | None, what: str) -> Samples:
    if size is not None and size > len(samples):
        raise ValueError(f"there are {len(samples):,} images to {what}, asked for {size:,}")
    return samples[slice(size)]


def _require_losses(run: Run, model: Layer) -> None:
    first = run.train[:1]
    with np.errstate(all="ignore"):
        outputs, _ = model.forward(run.inputs(first))
        for loss in (run.preset.loss, run.preset.told_loss()):
            value, _ = loss.forward(outputs, run.targets(first.labels, loss))
            if np.ndim(value):
                raise ValueError(f"{type(loss).__name__} needs to come to one number: reduction mean or sum")


def _seeds(seed: int) -> dict[str, np.random.SeedSequence]:
    """Return independent streams for the parts of a run, so that one more draw in one does not change the others."""
    children = np.random.SeedSequence(seed).spawn(4)
    return dict(zip(("weights", "split", "order", "augmentation"), children, strict=True))


def _cast(array: Array, dtype: np.dtype[np.floating]) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array
