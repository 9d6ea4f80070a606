"""The same random numbers for every call of an object that draws from the global generators."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def same_randomness(seed: int) -> Iterator[Callable[[], bool]]:
    """Seed the global generators of NumPy and Python for a call, and put them back as they were.

    Yields a function that tells afterwards whether any random number was drawn.
    """
    drawn = False
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    before = _generators()
    try:
        yield lambda: drawn
    finally:
        drawn = _generators() != before
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _generators() -> tuple[object, ...]:
    """Return where NumPy's and Python's global generators stand."""
    _, _, place, *gauss = np.random.get_state(legacy=True)
    return place, *gauss, random.getstate()
