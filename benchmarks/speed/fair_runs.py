"""A fair run beside training both implementations, NumPy's and torch's, without comparing them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.speed.steps import OWN, numpy_side, prepared, torch_side
from benchmarks.speed.timing import Pair
from gradcheck.trajectory.check import check_trajectory
from nets.datasets.dataset import Dataset
from nets.presets import PRESETS
from nets.run import DTYPES, Run

# Steps of a run that is timed, of one whose batch or network is large, and those at its beginning that are not: what
# a run does once is done by then.
STEPS, FEW, BEGINNING = 200, 60, 20
LARGE = 2**19  # parameters x samples of a step
AIM = 3.0

# What is done once takes as long whatever the length of the run: over so many steps of it.
BESIDE = 1000
ONCE = ("fair", "cnn")


def pairs(data: Dataset) -> Iterator[Pair]:
    """Yield every preset at batch 1 and at its own, in both precisions."""
    for name, dtype in itertools.product(OWN, DTYPES):
        for batch in sorted({1, PRESETS[name].batch_size}):
            run = sized(name, data, batch, dtype)
            both, steps = (numpy_side(run), torch_side(run)), run.steps - BEGINNING
            title = f"{name}, batch {batch}, {dtype}"
            yield Pair(title, partial(fair, run), partial(trained, both, steps), units=steps, aim=AIM)


def sized(name: str, data: Dataset, batch: int, dtype: str) -> Run:
    """Return a run of a preset with the number of steps that is timed."""
    work = PRESETS[name].parameter_count * batch
    return prepared(PRESETS[name], data, batch, dtype, FEW if work > LARGE else STEPS)


def fair(run: Run) -> float:
    """Compare both engines over the run; return the seconds that its steps took but for those at the beginning."""
    return timed(run)[1]


def timed(run: Run, *, sensitivity: bool = False) -> tuple[float, float, float]:
    """Return the seconds of a fair run until its first steps are done, of the other steps, and from them to the end."""
    ends: list[float] = [time.process_time()]
    check_trajectory(
        run.numpy_engine(), run.torch_engine(), run.batches(), sensitivity=sensitivity,
        progress=lambda _: ends.append(time.process_time()),
    )  # fmt: skip
    return ends[BEGINNING] - ends[0], ends[-1] - ends[BEGINNING], time.process_time() - ends[-1]


def trained(both: tuple[Callable[[int], None], ...], steps: int) -> None:
    """Train both."""
    for side in both:
        side(steps)


def once(data: Dataset) -> Iterator[Pair]:
    """Yield what a fair run does once, beside `BESIDE` steps of it: its beginning, and the smallest fault caught."""
    for name in ONCE:
        run = sized(name, data, PRESETS[name].batch_size, "float64")
        title, beside = f"{name}, batch {run.preset.batch_size}, float64", partial(extended, run)
        yield Pair(f"{title}: the first {BEGINNING} steps", partial(beginning, run), beside)
        yield Pair(f"{title}: the sensitivity", partial(sensitivity, run), beside)


def beginning(run: Run) -> float:
    """Return the seconds of the first steps of a fair run, and of what is done before them."""
    return timed(run)[0]


def sensitivity(run: Run) -> float:
    """Return the seconds from the last step of a run to its report, nearly all of which the sensitivity takes."""
    return timed(run, sensitivity=True)[2]


def extended(run: Run) -> float:
    """Return the seconds that `BESIDE` steps of a fair run take, by those of a shorter one."""
    return fair(run) * BESIDE / (run.steps - BEGINNING)
