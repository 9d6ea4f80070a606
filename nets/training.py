"""Training: what a run learns from and in which order, on both engines from the same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.faults import Fault
from gradcheck.trajectory.check import (
    Evaluation,
    NonFinite,
    Progress,
    TrajectoryReport,
    check_trajectory,
    first_non_finite,
)
from gradcheck.trajectory.engine import Batch
from gradcheck.trajectory.noise import FACTOR, SHADOWS
from nets.datasets.dataset import Dataset, Samples
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine, one_thread_each
from nets.metrics import accuracy
from nets.presets import CLASSES, Preset

EVALUATED = 32  # test images, in evaluation mode, that a fair run compares besides its steps
CHUNK = 2048  # samples evaluated at once, which bounds memory

DTYPES: dict[str, np.dtype[np.floating]] = {"float64": np.dtype(np.float64), "float32": np.dtype(np.float32)}


@dataclass(frozen=True)
class Program:
    """What both engines are made of. The same ``seed`` gives the same weights in every dtype."""

    preset: Preset
    seed: int
    dtype: np.dtype[np.floating]

    def numpy_engine(self) -> NumpyEngine:
        """Return the NumPy engine before its first step."""
        model = self.preset.model(self.dtype, _seeds(self.seed)["weights"])
        return NumpyEngine(model, self.preset.loss, self.preset.new_optimizer())

    def torch_engine(self, dtype: np.dtype[np.floating] | None = None) -> TorchEngine:
        """Return the torch engine before its first step, in the program's dtype or another."""
        model = self.preset.model(self.dtype, _seeds(self.seed)["weights"])
        return TorchEngine(model.astype(dtype or self.dtype), self.preset.loss, self.preset.new_optimizer())


@dataclass(frozen=True)
class Run(Program):
    """Everything that decides a run. The same ``seed`` gives the same samples and order too, in every dtype."""

    dataset: Dataset
    train: Samples
    test: Samples
    steps: int

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the run, each epoch in an order of its own."""
        size, taken, epoch = self.preset.batch_size, 0, 0
        order_seed = _seeds(self.seed)["order"]
        while taken < self.steps:
            order = np.random.default_rng([epoch, *order_seed.generate_state(4)]).permutation(len(self.train))
            lr = self.preset.schedule(epoch)
            for begin in range(0, len(order), size):
                if taken == self.steps:
                    return
                chosen = self.train[order[begin : begin + size]]
                yield Batch(self.inputs(chosen), self.targets(chosen.labels), lr)
                taken += 1
            epoch += 1

    def targets(self, labels: Array) -> Array:
        """Return what the preset's loss compares with: the classes themselves, or one-hot rows."""
        return labels if self.preset.loss.class_targets else np.eye(CLASSES, dtype=self.dtype)[labels]

    def inputs(self, samples: Samples) -> Array:
        """Return what the network is given: pixels (n, 784), or images (n, 1, 28, 28), as the preset says."""
        return self.dataset.pixels(samples, self.dtype).reshape(len(samples), *self.preset.shape)

    def chunks(self, samples: Samples) -> Iterator[tuple[Array, Array]]:
        """Yield inputs and labels of ``samples``, some at a time."""
        for begin in range(0, len(samples), CHUNK):
            chunk = samples[begin : begin + CHUNK]
            yield self.inputs(chunk), chunk.labels


@dataclass(frozen=True)
class Outcome:
    """What training one engine came to: accuracies are fractions; ``seconds`` are those of its training steps."""

    train_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Pair:
    """Both engines as trained, and what came of each; ``report`` is the proof of a fair run.

    ``stopped_by`` names what was not finite on either side and ended the run.
    """

    numpy_engine: NumpyEngine
    torch_engine: TorchEngine
    numpy: Outcome
    torch: Outcome
    report: TrajectoryReport | None
    stopped_by: NonFinite | None


def prepare(
    preset: Preset,
    dataset: Dataset,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    dtype: str = "float64",
) -> Run:
    """Return a preset's run on a dataset, with what is given in place of the preset's own.

    ``steps`` alone runs as many epochs as they need; with ``epochs`` too, whichever ends first. Without ``train_size``,
    a dataset smaller than the preset's gives what `default_train_size` says. Raises ValueError for sizes that the data
    does not have, and for a rate that the dtype does not.
    """
    if batch_size is not None:
        preset = replace(preset, batch_size=batch_size)
    if lr is not None:
        preset = preset.with_lr(lr)
        if lr > np.finfo(DTYPES[dtype]).max:
            raise ValueError(f"a learning rate of {lr:g} does not fit {dtype}")
    size = default_train_size(preset, dataset) if train_size is None else train_size
    train, _, test = dataset.split(size, 0, test_size, _seeds(seed)["split"])
    per_epoch = -(-len(train) // preset.batch_size)
    whole = per_epoch * (preset.epochs if epochs is None else epochs)
    if steps is None:
        steps = whole
    elif epochs is not None:
        steps = min(steps, whole)
    return Run(preset, seed, DTYPES[dtype], dataset, train, test, steps)


def default_train_size(preset: Preset, dataset: Dataset) -> int:
    """Return the preset's number of training images, or of a smaller dataset 1,000, the rest of which is tested on."""
    available = len(dataset.train) - (1 if dataset.test is None else 0)
    return preset.train_size if preset.train_size <= available else min(1000, available)


def train_fair(
    run: Run,
    *,
    fault: Fault | None = None,
    factor: float = FACTOR,
    shadows: int = SHADOWS,
    every: int = 1,
    sensitivity: bool = True,
    faults: Mapping[str, Fault] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Pair:
    """Train both engines side by side and prove them the same, or find where they part; one BLAS thread each.

    ``fault`` is planted in the NumPy engine.
    """
    ours, theirs = run.numpy_engine(), run.torch_engine()
    if fault is not None:
        ours = ours.planted(fault)
    other = DTYPES["float32" if run.dtype == np.float64 else "float64"]
    with one_thread_each(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        report = check_trajectory(
            ours,
            theirs,
            run.batches(),
            factor=factor,
            shadows=shadows,
            every=every,
            evaluation=Evaluation(run.inputs(run.test[:EVALUATED])),
            seed=run.seed,
            sensitivity=sensitivity,
            faults=faults,
            opinion=run.torch_engine(other),
            progress=progress,
        )
        return _pair(run, ours, theirs, (report.seconds, report.reference_seconds), report, report.stopped_by)


def train_both(run: Run, *, progress: Callable[[Progress], None] = lambda _: None) -> Pair:
    """Train both engines on the same batches from the same weights, each freely, and compare nothing.

    A loss that is not finite on either side ends the run.
    """
    ours, theirs = run.numpy_engine(), run.torch_engine()
    seconds = [0.0, 0.0]
    stopped: NonFinite | None = None
    with one_thread_each(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for index, batch in enumerate(run.batches()):
            steps = []
            for side, engine in enumerate((ours, theirs)):
                began = time.perf_counter()
                steps.append(engine.step(*batch, Context(training=True, key=Key(run.seed, index), updates={})))
                seconds[side] += time.perf_counter() - began
            losses = [float(np.sum(step.loss)) for step in steps]
            progress(Progress(index, losses[0], losses[1], math.nan))
            if not any(map(math.isfinite, losses)):
                stopped = first_non_finite(index, steps[1])
                break
        return _pair(run, ours, theirs, (seconds[0], seconds[1]), None, stopped)


def _pair(
    run: Run,
    ours: NumpyEngine,
    theirs: TorchEngine,
    seconds: tuple[float, float],
    report: TrajectoryReport | None,
    stopped_by: NonFinite | None,
) -> Pair:
    trained = Context(key=Key(run.seed, run.steps))

    def outcome(engine: NumpyEngine | TorchEngine, spent: float) -> Outcome:
        def predict(x: Array) -> Array:
            return engine.evaluate(x, trained)

        return Outcome(accuracy(predict, run.chunks(run.train)), accuracy(predict, run.chunks(run.test)), spent)

    numpy, torch = outcome(ours, seconds[0]), outcome(theirs, seconds[1])
    return Pair(ours, theirs, numpy, torch, report, stopped_by)


def _seeds(seed: int) -> dict[str, np.random.SeedSequence]:
    """Return independent streams for the parts of a run, so that one more draw in one does not change the others."""
    children = np.random.SeedSequence(seed).spawn(3)
    return dict(zip(("weights", "split", "order"), children, strict=True))
