"""Results that code rounds to some decimals, as np.round(y, 6) does: by the numbers themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck.contract import Array

DECIMALS = range(1, 13)
UNITS = 4.0  # in the last place, by which a multiple may be off what it is a multiple of
# The share of all numbers that are within these units of a multiple: of finer ones nothing can be told.
BY_CHANCE = 1e-3
TELLING = 4  # different numbers at least, for which that is no chance
# Fractions of two, as a quantiser makes them, are decimals as well, but multiples of 5 in the last.
COMMON = 5


def decimal_of(samples: Sequence[Array]) -> float:
    """Return the power of ten, .1 or less, that all elements of all samples are multiples of, and 0 if there is none.

    Samples are one result at points beside each other, of which the numbers must differ.
    """
    if not samples or samples[0].dtype.kind != "f":
        return 0.0
    eps = float(np.finfo(samples[0].dtype).eps)
    values = np.unique(np.concatenate([np.asarray(sample, np.float64).reshape(-1) for sample in samples]))
    values = values[values != 0]
    if len(values) < TELLING or not np.isfinite(values).all():
        return 0.0
    for places in DECIMALS:
        scaled = values * 10.0**places
        slack = UNITS * eps * np.abs(scaled)
        if float(slack.max()) > BY_CHANCE:
            return 0.0
        whole = np.rint(scaled)
        if np.all(np.abs(scaled - whole) <= slack):
            return 10.0**-places if int(np.gcd.reduce(whole.astype(np.int64))) < COMMON else 0.0
    return 0.0
