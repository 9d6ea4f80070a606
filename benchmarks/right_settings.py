"""Verdicts on right programs in settings that nobody chose: 300 short fair runs of drawn networks on random data.

    python benchmarks/right_settings.py [--runs 300] [--first 0] [--scale 1.001]

Drawn are the activation, whether and how the network normalises, the loss, the optimizer and its arguments, clipping,
the schedule, the batch, the precision, and whether the reference is there in the other precision too. Prints a line for
each run, then counts of the verdicts. No run may fail. With ``--scale``, the gradient of the first weight is multiplied
by it from the tenth step on, and every run must fail at that step.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from typing import NamedTuple, TypeVar

import numpy as np

from gradcheck.contract import Layer, Loss, Optimizer, Schedule
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.engine import Batch
from gradcheck.trajectory.faults import GradientScale
from nets import layers, optimizers, schedules
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine, one_thread_each
from nets.losses import CrossEntropyLoss, HuberLoss, MSELoss

ACTIVATIONS = ("ELU", "GELU", "LeakyReLU", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh")
T = TypeVar("T")

CLASSES = 4
STEPS = (60, 200)
PLANTED = 10  # the step from which a gradient is scaled


class Setting(NamedTuple):
    """A program and its data, as drawn."""

    text: str
    model: Layer
    loss: Loss
    optimizer: Optimizer
    batches: list[Batch]
    opinion: bool


def drawn(number: int) -> Setting:
    """Return the setting of a number."""
    rng = np.random.default_rng(number)

    def one(*choices: T) -> T:
        return choices[int(rng.integers(len(choices)))]

    dtype = one(np.float64, np.float32)
    inputs, hidden, size = one(3, 8, 40), one(4, 16, 64), one(1, 2, 8, 32)
    activation = one(*ACTIVATIONS)
    norm = one("", "", "", "LayerNorm", "BatchNorm1d") if size > 1 else one("", "", "LayerNorm")
    between = [getattr(layers, norm).create(hidden)] if norm else []
    outputs: Layer = layers.Linear.create(hidden, CLASSES)
    model = layers.Sequential((layers.Linear.create(inputs, hidden), *between, getattr(layers, activation)(), outputs))
    for name, array in model.parameters().items():
        if name.startswith(("0.", f"{len(model.layers) - 1}.")):
            array[...] = rng.uniform(-1, 1, array.shape) / np.sqrt(array.shape[-1])
    loss: Loss = one(CrossEntropyLoss(), CrossEntropyLoss(), MSELoss(), HuberLoss())
    decay, momentum = one(0.0, 0.0, 1e-4, 1e-2, 0.1), one(0.0, 0.5, 0.9)
    optimizer: Optimizer = one(
        optimizers.SGD(momentum=momentum, weight_decay=decay, nesterov=bool(momentum and one(0, 1))),
        optimizers.Adam(weight_decay=decay, amsgrad=one(False, True), betas=one((0.9, 0.999), (0.5, 0.9))),
        optimizers.AdamW(weight_decay=decay),
        optimizers.RMSprop(momentum=momentum, weight_decay=decay, centered=one(False, True)),
        optimizers.Adagrad(weight_decay=decay, lr_decay=one(0.0, 1e-2)),
    )
    clipping = one("", "", "norm", "norm", "value")
    if clipping == "norm":
        optimizer = optimizers.ClippedByNorm(optimizer, one(1e-2, 0.1, 1.0), one(2.0, 2.0, 1.0, float("inf")))
    elif clipping:
        optimizer = optimizers.ClippedByValue(optimizer, one(1e-3, 0.1))
    lr, epochs = one(1e-4, 1e-3, 1e-2, 0.1), 4
    schedule: Schedule = one(
        schedules.ConstantRate(lr),
        schedules.StepLR(lr, 1, 0.5),
        schedules.ExponentialLR(lr, 0.9),
        schedules.CosineAnnealingLR(lr, epochs),
        schedules.LinearWarmup(lr, schedules.ConstantRate(lr)),
    )
    steps = int(rng.integers(*STEPS))
    batches = []
    for step in range(steps):
        x = (one(0.1, 1.0, 1.0, 10.0) if step == 0 else 1.0) * rng.standard_normal((size, inputs))
        y = rng.integers(0, CLASSES, size) if loss.class_targets else rng.standard_normal((size, CLASSES)).astype(dtype)
        batches.append(Batch(x.astype(dtype), y, schedule(step * epochs // steps)))
    opinion = one(True, True, False)
    text = (
        f"{number}: {inputs}-{hidden}-{CLASSES} {norm} {activation} {type(loss).__name__}, {optimizer}, {schedule}, "
        f"batch {size}, {np.dtype(dtype).name}, {steps} steps, {'with' if opinion else 'without'} opinion"
    )
    return Setting(text, model.astype(dtype), loss, optimizer, batches, opinion)


def fair(setting: Setting, scale: float) -> TrajectoryReport:
    """Return the report of a fair run, with the first gradient multiplied by ``scale``."""
    _, model, loss, optimizer, batches, opinion = setting
    ours, theirs = NumpyEngine(model, loss, optimizer), TorchEngine(model, loss, optimizer)
    other = np.float64 if batches[0].x.dtype == np.float32 else np.float32
    if scale != 1:
        ours = ours.planted(GradientScale("0.weight", scale, begin=PLANTED))
    with one_thread_each():
        return check_trajectory(
            ours,
            theirs,
            batches,
            sensitivity=False,
            opinion=TorchEngine(model.astype(other), loss, optimizer) if opinion else None,
        )


def main() -> None:
    """Print the lines and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for number in itertools.islice(itertools.count(options.first), options.runs):
        setting = drawn(number)
        report = fair(setting, options.scale)
        lock, free = report.lock_step, report.free_run
        worst = [0.0 if one.worst is None else one.worst.ratio for one in (lock, free)]
        where = f" | {report.first_divergence}" if report.first_divergence else ""
        ratios = f"lock-step {worst[0]:.2f}, free-run {worst[1]:.2f} of {free.steps_compared}"
        print(f"{report.verdict} {ratios} | {setting.text}{where}", flush=True)
        counts[str(report.verdict)] += 1
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
