"""Whether rounding can be why two runs of one program come to different accuracies: shadows of a whole run.

A shadow is the same run of NumPy from initial weights that are nudged by one unit in the last place. How far it comes
out from the run is what a rounding at the start can do to the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcheck.numerics.rounding import nudged
from nets.run import Run
from nets.weights import state_dict

# Of how far a run and its shadows come out from one another, what two right runs may. Of five draws of one normal
# distribution, the fifth is in one of 100 further from the first than 3 times the range of the first four.
FACTOR = 3

ACCURACIES = ("test_accuracy", "train_accuracy")


def shadow(run: Run, index: int) -> Run:
    """Return the run from nudged initial weights; those of each ``index`` are nudged otherwise."""
    rng = np.random.default_rng([run.seed, index])
    return replace(run, start={name: nudged(array, rng) for name, array in state_dict(run.model()).items()})


def apart(mine: Mapping[str, float], yours: Mapping[str, float]) -> dict[str, float]:
    """Return by how much two runs differ in each accuracy, a fraction."""
    return {name: abs(mine[name] - yours[name]) for name in ACCURACIES}


def spread(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest difference of any two of some runs in each accuracy, a fraction."""
    return {name: max(one[name] for one in runs) - min(one[name] for one in runs) for name in ACCURACIES}


def may_be_rounding(found: Mapping[str, float], rounding: Mapping[str, float], images: Mapping[str, int]) -> bool:
    """Return whether two runs differ by no more than ``FACTOR`` times the `spread` of shadows and one image.

    ``images`` says of how many each accuracy is the share. One is the grain: where a unit in the last place moves one
    image in a few runs, four runs may well show none that is moved.
    """
    return all(
        round(found[name] * count) <= FACTOR * round(rounding[name] * count) + 1 for name, count in images.items()
    )
