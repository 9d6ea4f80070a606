"""Training loops in torch: what it costs to watch one, and to compare two."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

import gradcheck
from benchmarks.loops import STEPS, Loop, drawn
from benchmarks.speed.timing import Pair

SIZES = ((32, 8), (256, 64), (1024, 256))  # width and batch
COUNT = 20  # steps that are watched
SETTING = 3  # one of those that benchmarks/loops.py draws


def pairs() -> Iterator[Pair]:
    """Yield networks of three sizes, watched at every step and at every tenth, and two loops compared."""
    for width, batch in SIZES:
        loop = Watched(width, batch)
        for every, words in ((1, "every step"), (10, "every tenth step")):
            title = f"784-{width}-{width}-10, batch {batch}, watched at {words}"
            yield Pair(title, partial(loop.watched, every), loop.bare, units=COUNT)
    loops = [drawn(SETTING).loop(ours=ours) for ours in (True, False)]
    alone, together = partial(both_alone, loops), partial(gradcheck.check_loops, *loops, steps=STEPS)
    yield Pair(f"check_loops of {STEPS} steps, beside both loops alone", together, alone, units=STEPS)


class Watched:
    """A loop on one batch."""

    def __init__(self, width: int, batch: int) -> None:
        layers = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
        self.model = nn.Sequential(*layers)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.x, self.y = torch.randn(batch, 784), torch.randint(0, 10, (batch,))

    def bare(self) -> float:
        """Return the seconds of `COUNT` steps."""
        began = time.process_time()
        for _ in range(COUNT):
            self.optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(self.model(self.x), self.y))
            self.optimizer.step()
        return time.process_time() - began

    def watched(self, every: int) -> float:
        """Return the seconds of `COUNT` steps that are watched."""
        with gradcheck.watch(self.model, self.optimizer, every=every):
            return self.bare()


def both_alone(loops: list[Loop]) -> None:
    """Run both loops as they are."""
    for loop in loops:
        loop(lambda *_: nullcontext())
