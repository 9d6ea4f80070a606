"""How well a network does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gradcheck.contract import Array


def accuracy(predict: Callable[[Array], Array], chunks: Iterable[tuple[Array, Array]]) -> float:
    """Return the share of samples whose largest output is at their class, over chunks of inputs and labels.

    Raises ValueError for no samples.
    """
    hits = total = 0
    for x, labels in chunks:
        hits += int(np.count_nonzero(predict(x).argmax(axis=1) == labels))
        total += len(labels)
    if not total:
        raise ValueError("accuracy needs at least one sample, got none")
    return hits / total
