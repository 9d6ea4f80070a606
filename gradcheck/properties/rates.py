"""A schedule against torch's."""

from __future__ import annotations

import math

import numpy as np

from gradcheck.contract import Array, Case, Schedule
from gradcheck.numerics.agreement import compare
from gradcheck.properties.outcome import Outcome, Settings, judged
from gradcheck.subjects.twin import twin_rates

# How much a loss must improve for a plateau to end; drawn histories have steps around these. 1e-4 is torch's default.
THRESHOLDS = (0.0, 1e-4, 0.1)

# The distance from a threshold: far above rounding, so that < or <= makes no difference.
AROUND = 1e-3

LONGEST = 6  # epochs of a stretch

STRANGE = ("negative", "through zero", "nan", "infinite")

BROKEN = 0.3  # the share of epochs with a loss that is not finite

HISTORIES = 8  # of a case, since in each many mistakes of a plateau make no difference


def rates_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome:
    """The rates of every epoch are torch's, up to ``n^2 eps`` times the largest rate so far in the n-th epoch, from 1.

    The largest rate counts, because a cosine takes differences of such terms down to a rate of 0. Torch computes most
    rates from the one before. The error of a power grows with the number of epochs. An error at the minimum of a cosine
    grows with the rate on the way up, by a factor of (2 T_max / pi)^2.
    """
    worsts = []
    for history in _histories(case, settings.steps):
        rates = _rates(case, history, range(settings.steps))
        largest = np.maximum.accumulate(np.abs(rates))
        rounding = np.arange(1, len(rates) + 1) ** 2 * np.finfo(np.float64).eps * largest
        worsts.append(compare("lr", rates, twin_rates(case.subject, history), rounding))
    return judged(worsts)


def rates_do_not_depend_on_earlier_calls(case: Case, settings: Settings = Settings()) -> Outcome:
    """A schedule is a pure function: asked again, in another order, it gives the same rates."""
    histories, epochs = _histories(case, settings.steps), range(settings.steps)
    rates = [_rates(case, history, epochs) for history in histories]
    backwards = [_rates(case, history, epochs[::-1])[::-1] for history in histories[::-1]][::-1]
    return judged(compare("lr", *both, 0.0) for both in zip(rates, backwards, strict=True))


def _rates(case: Case, history: tuple[float, ...], epochs: range) -> Array:
    schedule = case.subject
    assert isinstance(schedule, Schedule)
    case.tally.evaluations += len(epochs)
    return np.array([schedule(epoch, history[:epoch]) for epoch in epochs], np.float64)


def _histories(case: Case, epochs: int) -> list[tuple[float, ...]]:
    """Return histories of positive losses, and as many that are negative, cross zero or are not all finite."""
    rng = case.rng("histories")
    histories = [_history(rng, epochs) for _ in range(HISTORIES)]
    return histories + [_strange(_history(rng, epochs), kind, rng) for kind in STRANGE for _ in range(HISTORIES // 4)]


def _strange(history: tuple[float, ...], kind: str, rng: np.random.Generator) -> tuple[float, ...]:
    losses = np.array(history)
    if kind == "negative":
        losses = -losses
    elif kind == "through zero":
        losses -= losses[rng.integers(len(losses))]  # one of them is zero
    else:
        losses[rng.random(len(losses)) < BROKEN] = math.nan if kind == "nan" else rng.choice([math.inf, -math.inf])
    return tuple(losses.tolist())


def _history(rng: np.random.Generator, epochs: int) -> tuple[float, ...]:
    """Return a loss for every epoch, in stretches that fall, rise or scatter.

    A stretch that falls or rises goes evenly from the least or the greatest loss so far to slightly less or more than a
    threshold from it, relative or absolute. No single step reaches the threshold, and a threshold of 0 gives ties.
    """
    losses = [float(10 ** rng.uniform(-1, 1))]  # not around 1, where relative and absolute are the same
    while len(losses) < epochs:
        length, sign = int(rng.integers(1, LONGEST + 1)), int(rng.integers(-1, 2))
        best = min(losses) if sign < 0 else max(losses)
        whole = sign * rng.choice(THRESHOLDS) * rng.choice([1 - AROUND, 1 + AROUND]) * rng.choice([best, 1.0])
        scattered = rng.uniform(min(losses), max(losses), length)
        even = np.maximum(best + whole * np.arange(1, length + 1) / length, best / 2)  # no loss is negative
        losses += (even if sign else scattered).tolist()
    return tuple(losses[:epochs])
