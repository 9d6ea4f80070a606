"""A plain training step: our NumPy engine beside torch as it is used, eagerly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from benchmarks.speed.timing import Pair, seconds
from gradcheck.contract import Context, Key
from gradcheck.subjects.twin import set_keys
from gradcheck.trajectory.engine import Batch
from nets.datasets.dataset import Dataset
from nets.presets import PRESETS, Preset
from nets.run import DTYPES, Run, prepare
from nets.weights import to_torch

Take = Callable[[int], None]

OWN = tuple(name for name in PRESETS if ":" not in name)  # a variant takes the steps of its preset
BLOCK = 0.04  # seconds of steps that are timed at once, which the clock's resolution is nothing beside
CYCLE = 8  # batches

# What a step of 784-128-10 at batch 1 is to come to, and what every preset is: never slower.
AIMS = {"float64": 1 / 2, "float32": 1 / 3}


def pairs(data: Dataset) -> Iterator[Pair]:
    """Yield every preset at its own batch, `cnn` at others, and the smallest network at batch 1, in both precisions."""
    cells: list[tuple[str, Preset, int, bool]] = [(n, PRESETS[n], PRESETS[n].batch_size, n == "fair") for n in OWN]
    cells += [("cnn", PRESETS["cnn"], batch, False) for batch in (1, 64)]
    cells += [("fair with Adam", replace(PRESETS["fair"], optimizer=PRESETS["cnn"].optimizer), 1, False)]
    for (name, preset, batch, aimed), dtype in itertools.product(cells, DTYPES):
        run = prepared(preset, data, batch, dtype, CYCLE)
        aim = AIMS[dtype] if aimed else 1.0
        yield pair_of(f"{name}, batch {batch}, {dtype}", run, aim)


def prepared(preset: Preset, data: Dataset, batch: int, dtype: str, steps: int) -> Run:
    """Return a run of so many steps, on few images."""
    size = min(max(1000, batch), len(data.train) // 2)
    return prepare(preset, data, train_size=size, test_size=10, batch_size=batch, steps=steps, dtype=dtype)


def pair_of(name: str, run: Run, aim: float | None = None) -> Pair:
    """Return a step of NumPy's beside one of torch's, as many of both as make a block."""
    sides = numpy_side(run), torch_side(run)
    for side in sides:
        side(CYCLE)
    count = max(1, round(CYCLE * BLOCK / max(seconds(partial(side, CYCLE)) for side in sides)))
    ours, theirs = (partial(side, count) for side in sides)
    return Pair(name, ours, theirs, count, aim)


def numpy_side(run: Run) -> Take:
    """Return what takes so many steps with our engine."""
    engine, batches = run.numpy_engine(), endless(run)

    def take(count: int) -> None:
        for index, batch in zip(range(count), batches, strict=False):
            engine.step(*batch, Context(training=True, key=Key(run.seed, index)))

    return take


def torch_side(run: Run) -> Take:
    """Return what takes so many steps in torch, on the twins of the same network: nothing is shown or recorded."""
    import torch

    model, batches = run.model(), endless(run)
    module, loss = (part.twin().to(getattr(torch, run.dtype.name)) for part in (model, run.preset.loss))
    to_torch(model, module)
    module.train()
    optimizer = run.preset.new_optimizer().twin(list(module.parameters()), lr=run.preset.schedule.lr)
    drawing = any(hasattr(part, "key") for part in module.modules())

    def take(count: int) -> None:
        for index, (x, y, _) in zip(range(count), batches, strict=False):
            if drawing:
                set_keys(module, Key(run.seed, index))
            optimizer.zero_grad()
            torch.autograd.backward(loss(module(torch.from_numpy(x)), torch.from_numpy(y)))
            optimizer.step()

    return take


def endless(run: Run) -> Iterator[Batch]:
    """Yield the batches of a run again and again, made before."""
    return itertools.cycle(list(run.batches()))
