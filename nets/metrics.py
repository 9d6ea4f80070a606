"""How well a network does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array


@dataclass(frozen=True, eq=False)
class Score:
    """How many samples of each class (classes,) were recognised, and how many there were.

    ``peaks`` (classes,) are the largest values that each class's output has over all samples, of whatever class.
    """

    hits: Array
    totals: Array
    peaks: Array

    @property
    def accuracy(self) -> float:
        """The share of all samples whose largest output is at their class."""
        return int(self.hits.sum()) / int(self.totals.sum())

    @property
    def recalls(self) -> tuple[float | None, ...]:
        """That share for each class, or None for one without samples."""
        return tuple(
            int(hit) / int(total) if total else None for hit, total in zip(self.hits, self.totals, strict=True)
        )


def score(predict: Callable[[Array], Array], chunks: Iterable[tuple[Array, Array]], classes: int) -> Score:
    """Return how many samples ``predict`` recognises, over chunks of inputs and labels (n,).

    Of outputs (n, classes) the largest counts. Raises ValueError for no samples.
    """
    hits, totals = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    peaks = np.full(classes, -np.inf)
    for x, labels in chunks:
        outputs = predict(x)
        totals += np.bincount(labels, minlength=classes)
        hits += np.bincount(labels[outputs.argmax(axis=1) == labels], minlength=classes)
        peaks = np.maximum(peaks, outputs.max(axis=0, initial=-np.inf))
    if not totals.any():
        raise ValueError("a score needs at least one sample, got none")
    return Score(hits, totals, peaks)
