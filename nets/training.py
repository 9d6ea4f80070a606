"""Training: both engines from the same weights on the same samples, freely or side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gradcheck.contract import Array, Context, Key, Loss
from gradcheck.numerics.rounding import FACTOR, SHADOWS
from gradcheck.trajectory.check import (
    Evaluation,
    NonFinite,
    Progress,
    TrajectoryReport,
    check_trajectory,
    first_non_finite,
)
from gradcheck.trajectory.engine import Batch, Engine, StepError, below, load, observed
from gradcheck.trajectory.faults import Fault
from nets.datasets.dataset import CLASSES, Samples
from nets.engines.torch_engine import one_thread_each
from nets.metrics import Score, score
from nets.run import DTYPES, Run
from nets.weights import CheckpointError

EVALUATED = 32  # test images, in evaluation mode, that a fair run compares besides its steps
SIDES = ("numpy", "torch")

# A side's state is kept so often, so that a step that went wrong can be taken again and be looked at.
KEPT = 100

WEIGHTS = ("param/", "buffer/")  # what of a state is a network


@dataclass(frozen=True)
class Epoch:
    """What one side came to in one epoch, counted from 0.

    Loss and accuracy of the training images are those of the batches as they were learned from, each before its step;
    those of the validation images are after the epoch, or None where there are none. ``seconds`` are those of steps.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What training one side came to: accuracies are fractions; ``seconds`` are those of its training steps.

    ``recalls`` are the test accuracies of the classes, None for one without images, and ``peaks`` the largest values of
    their outputs over all test images, None where they were not kept. ``best_epoch`` is the one with the least
    validation loss, and ``best_test_accuracy`` what its weights come to; None without validation.
    """

    train_accuracy: float
    test_accuracy: float
    seconds: float
    recalls: tuple[float | None, ...]
    best_epoch: int | None = None
    best_test_accuracy: float | None = None
    peaks: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """The engines as trained, by side, and what came of each; ``report`` is the proof of a fair run.

    ``stopped_by`` names what was not finite, on the side ``stopped_side`` if only one was, and ended the run.
    """

    engines: dict[str, Engine]
    outcomes: dict[str, Outcome]
    report: TrajectoryReport | None = None
    stopped_by: NonFinite | None = None
    stopped_side: str | None = None
    epochs: dict[str, tuple[Epoch, ...]] = field(default_factory=dict)
    best: dict[str, dict[str, Array]] = field(default_factory=dict)
    steps: int = 0
    stopped_early: bool = False


@dataclass(frozen=True, eq=False)
class FairlyTrained(Trained):
    """Both engines as trained side by side, with the proof."""

    report: TrajectoryReport


class Side:
    """One engine on its way through a run, and what it has come to so far."""

    def __init__(self, run: Run, engine: Engine) -> None:
        self.run, self.engine = run, engine
        self.epochs: list[Epoch] = []
        self.loss = self.weight = self.seconds = 0.0
        self.hits = self.seen = 0
        self.last_loss = math.nan
        self.best_epoch: int | None = None
        self.best: dict[str, Array] = {}
        self.kept = (0, engine.state())

    def lr(self, epoch: int) -> float:
        """Return the rate of an epoch, which may follow the validation losses before it."""
        losses = (one.validation_loss for one in self.epochs)
        return self.run.preset.schedule(epoch, [loss for loss in losses if loss is not None])

    def step(self, index: int, lr: float, x: Array, labels: Array) -> None:
        """Take a step, and add up what it came to."""
        if index >= self.kept[0] + KEPT:
            self.kept = index, self.engine.state()
        batch = Batch(x, self.run.targets(labels), lr)
        began = time.perf_counter()
        try:
            step = self.engine.step(*batch, Context(training=True, key=Key(self.run.seed, index), updates={}))
        except ValueError as error:
            raise StepError(f"step {index:,} cannot be taken: {str(error).splitlines()[0]}") from error
        self.seconds += time.perf_counter() - began
        self.last_loss = float(np.sum(step.loss))
        told = self.last_loss if self.run.preset.reported_loss is None else self._told(step.outputs, labels)
        total, weight = summed(self.run.preset.told_loss(), told, labels)
        self.loss += total
        self.weight += weight
        self.hits += int(np.count_nonzero(step.outputs.argmax(axis=1) == labels))
        self.seen += len(labels)

    def close(self, epoch: int, lr: float) -> None:
        """End an epoch, whose rate was ``lr``: validate, and begin to add up anew."""
        loss = accuracy = None
        if len(self.run.validation):
            total = weight = 0.0
            hits, count = 0, len(self.run.validation)
            for x, labels in self.run.chunks(self.run.validation):
                outputs = self.engine.evaluate(x, self._evaluation())
                sums = summed(self.run.preset.told_loss(), self._told(outputs, labels), labels)
                total, weight = total + sums[0], weight + sums[1]
                hits += int(np.count_nonzero(outputs.argmax(axis=1) == labels))
            loss, accuracy = total / weight, hits / count
        done = Epoch(epoch, lr, self.loss / self.weight, self.hits / self.seen, loss, accuracy, self.seconds)
        self.epochs.append(done)
        self.loss = self.weight = self.seconds = 0.0
        self.hits = self.seen = 0
        if loss is not None and loss < self._least(epoch):
            self.best_epoch = epoch
            self.best = {key: array for key, array in self.engine.state().items() if key.startswith(WEIGHTS)}

    def waited(self) -> int:
        """Return for how many epochs the validation loss has not improved."""
        return len(self.epochs) if self.best_epoch is None else self.epochs[-1].epoch - self.best_epoch

    def _least(self, epoch: int) -> float:
        """Return the least validation loss before an epoch; what is NaN is never the least."""
        losses = (one.validation_loss for one in self.epochs if one.epoch < epoch)
        return min((loss for loss in losses if loss is not None and loss < math.inf), default=math.inf)

    def non_finite(self, index: int) -> NonFinite:
        """Return what was first not finite in the step ``index``, just taken: it is taken again, and shown."""
        engine, per_epoch = self.engine, self.run.steps_per_epoch
        first, state = self.kept
        engine.load(state)
        for at in range(first, index + 1):
            epoch, place = divmod(at, per_epoch)
            if at == first or place == 0:
                batches = self.run.epoch(epoch, place)
            x, labels = next(batches)
            batch = Batch(x, self.run.targets(labels), self.lr(epoch))
            context = Context(training=True, key=Key(self.run.seed, at), updates={})
            if at == index:
                return first_non_finite(index, observed(engine, batch, context))
            engine.step(*batch, context)
        raise AssertionError("a step that was taken is not taken again")

    def outcome(self) -> Outcome:
        """Return what the side has come to."""
        test = self._score(self.run.test)
        seconds = sum(one.seconds for one in self.epochs) + self.seconds
        peaks = tuple(map(float, test.peaks))
        found = Outcome(self._score(self.run.train).accuracy, test.accuracy, seconds, test.recalls, peaks=peaks)
        return found if self.best_epoch is None else self._with_best(found)

    def _with_best(self, found: Outcome) -> Outcome:
        last = self.engine.state()
        self.engine.load({**last, **self.best})
        best = self._score(self.run.test).accuracy
        self.engine.load(last)
        return Outcome(**{**asdict(found), "best_epoch": self.best_epoch, "best_test_accuracy": best})

    def _score(self, samples: Samples) -> Score:
        return score(lambda x: self.engine.evaluate(x, self._evaluation()), self.run.chunks(samples), CLASSES)

    def _told(self, outputs: Array, labels: Array) -> float:
        loss = self.run.preset.told_loss()
        return float(np.sum(loss.forward(outputs, self.run.targets(labels, loss))[0]))

    def _evaluation(self) -> Context:
        return Context(key=Key(self.run.seed, self.run.steps))


class Training:
    """A run on its way: its sides, each trained freely, and everything that the next step depends on.

    Nothing is compared, and each side is as it would be alone; but with ``patience``, which ends a run when no side's
    validation loss has improved for so many epochs, one waits for the other. Raises ValueError where there is nothing
    to validate on and a patience or a schedule asks for it.
    """

    def __init__(
        self, run: Run, sides: Sequence[str] = SIDES, *, patience: int | None = None, device: str = "cpu"
    ) -> None:
        if patience is not None and not len(run.validation):
            raise ValueError("early stopping needs validation images, got none: give a validation size")
        if not len(run.validation):
            _require_no_history(run, "validation images, got none: give a validation size")
        self.run, self.patience, self.step = run, patience, 0
        self.sides = {
            name: Side(run, run.numpy_engine() if name == "numpy" else run.torch_engine(device=device))
            for name in sides
        }
        self.stopped_by: NonFinite | None = None
        self.stopped_side: str | None = None
        self.stopped_early = False

    def steps(self) -> Iterator[bool]:
        """Take the steps that are left, one by one; yields whether an epoch ends with it.

        Ends early where a loss is not finite; raises `StepError` where a batch cannot be taken. Between two steps the
        run may be written down, or left.
        """
        per_epoch = self.run.steps_per_epoch
        with one_thread_each(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            while self.step < self.run.steps and not self.stopped_early:
                epoch, first = divmod(self.step, per_epoch)
                rates = {name: side.lr(epoch) for name, side in self.sides.items()}
                for x, labels in self.run.epoch(epoch, first):
                    for name, side in self.sides.items():
                        side.step(self.step, rates[name], x, labels)
                    if self._not_finite():
                        return
                    self.step += 1
                    ends = self.step % per_epoch == 0 or self.step == self.run.steps
                    if ends:
                        self._close(epoch, rates)
                    yield ends
                    if self.step == self.run.steps:
                        return

    def finish(self) -> Trained:
        """Return what the run came to."""
        with one_thread_each(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            outcomes = {name: side.outcome() for name, side in self.sides.items()}
        return Trained(
            engines={name: side.engine for name, side in self.sides.items()},
            outcomes=outcomes,
            stopped_by=self.stopped_by,
            stopped_side=self.stopped_side,
            epochs={name: tuple(side.epochs) for name, side in self.sides.items()},
            best={name: side.best for name, side in self.sides.items() if side.best},
            steps=self.step,
            stopped_early=self.stopped_early and self.step < self.run.steps,
        )

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return arrays and numbers from which `restore` goes on, bit for bit."""
        arrays: dict[str, Array] = {}
        numbers: dict[str, Any] = {"step": self.step, "sides": {}}
        for name, side in self.sides.items():
            arrays |= {f"{name}/last/{key}": array for key, array in side.engine.state().items()}
            arrays |= {f"{name}/best/{key}": array for key, array in side.best.items()}
            numbers["sides"][name] = {
                "epochs": [asdict(one) for one in side.epochs],
                "best_epoch": side.best_epoch,
                **{key: getattr(side, key) for key in SUMS},
            }
        return arrays, numbers

    def restore(self, arrays: Mapping[str, Array], numbers: Mapping[str, Any]) -> None:
        """Go on from a `state` of the same run; raises `CheckpointError` for one that is not."""
        try:
            self._restore(arrays, numbers["step"], numbers["sides"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"it is not of this run: {str(error).splitlines()[0]}") from None
        self.stopped_early = self._is_over()

    def _restore(self, arrays: Mapping[str, Array], step: int, sides: Mapping[str, Any]) -> None:
        if list(sides) != list(self.sides):
            raise ValueError(f"its engines are not {' and '.join(self.sides)}")
        if not isinstance(step, int) or not 0 <= step <= self.run.steps:
            raise ValueError(f"it is after step {step}, of {self.run.steps:,}")
        self.step = step
        for name, side in self.sides.items():
            side.epochs = [Epoch(**one) for one in sides[name]["epochs"]]
            for key in (*SUMS, "best_epoch"):
                setattr(side, key, sides[name][key])
            load(side.engine, below(f"{name}/last/", arrays))
            side.best = below(f"{name}/best/", arrays)
            side.kept = step, side.engine.state()

    def _close(self, epoch: int, rates: Mapping[str, float]) -> None:
        for name, side in self.sides.items():
            side.close(epoch, rates[name])
        self.stopped_early = self._is_over()

    def _is_over(self) -> bool:
        return self.patience is not None and all(side.waited() >= self.patience for side in self.sides.values())

    def _not_finite(self) -> bool:
        lost = [name for name, side in self.sides.items() if not math.isfinite(side.last_loss)]
        if lost:
            self.stopped_by = self.sides[lost[-1]].non_finite(self.step)
            self.stopped_side = lost[0] if len(lost) == 1 else None
        return bool(lost)


SUMS = ("loss", "weight", "seconds", "hits", "seen")  # of a side, over the epoch that it is in


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
    planting: Callable[[int, int], None] = lambda _, __: None,
) -> FairlyTrained:
    """Train both engines side by side and prove them the same, or find where they part; one BLAS thread each.

    ``fault`` is planted in the NumPy engine. Raises ValueError for a schedule that follows validation losses.
    """
    require_fair(run)
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
            score=recognised,
            progress=progress,
            planting=planting,
        )
        sides = {"numpy": Side(run, ours), "torch": Side(run, theirs)}
        for side, seconds in zip(sides.values(), (report.seconds, report.reference_seconds), strict=True):
            side.seconds = seconds
        outcomes = {name: side.outcome() for name, side in sides.items()}
    return FairlyTrained({name: side.engine for name, side in sides.items()}, outcomes, report, report.stopped_by)


def recognised(outputs: Array, targets: Array) -> float:
    """Return the share of images whose largest output (n, 10) is at their class; targets are classes, or such rows."""
    labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return float(np.mean(outputs.argmax(axis=1) == labels))


def summed(loss: Loss, value: float, labels: Array) -> tuple[float, float]:
    """Return the sum over some images of which ``value`` is the loss, and what it is to be divided by for their mean.

    A mean is over images, or of a loss with weights for the classes, over those weights; a sum is told as a mean.
    """
    weight: float = len(labels)
    if getattr(loss, "reduction", "mean") == "sum":
        return value, weight
    classes = getattr(loss, "weight", None) if loss.class_targets else None
    if classes is not None:
        weight = float(np.sum(np.asarray(classes)[labels]))
    return value * weight, weight


def require_fair(run: Run) -> None:
    """Raise ValueError for a run whose steps follow from more than the steps before."""
    _require_no_history(run, "validation losses, which neither a fair run nor a trace takes")


def train_both(run: Run) -> Trained:
    """Train both engines on the same batches from the same weights, each freely, and compare nothing."""
    training = Training(run)
    for _ in training.steps():
        pass
    return training.finish()


def _require_no_history(run: Run, needed: str) -> None:
    epochs = -(-run.steps // run.steps_per_epoch)
    try:
        for epoch in range(epochs + 1):  # a warm-up may come first
            run.preset.schedule(epoch)
    except ValueError:
        raise ValueError(f"{type(run.preset.schedule).__name__} needs {needed}") from None
