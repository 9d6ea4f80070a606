"""A schedule against torch's, or against another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case, Schedule
from gradcheck.diagnosis.rates import Rates, explain_rates
from gradcheck.numerics.agreement import compare
from gradcheck.properties.outcome import Outcome, Settings, failure, judged
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.schedule import ForeignSchedule
from gradcheck.subjects.twin import twin_end, twin_follows_losses, twin_form, twin_rates

# How much a loss must improve for a plateau to end; drawn histories have steps around these. 1e-4 is torch's default.
THRESHOLDS = (0.0, 1e-4, 0.1)

# The distance from a threshold: far above rounding, so that < or <= makes no difference.
AROUND = 1e-3

LONGEST = 6  # epochs of a stretch

STRANGE = ("negative", "through zero", "nan", "infinite")

BROKEN = 0.3  # the share of epochs with a loss that is not finite

HISTORIES = 8  # of a case, since in each many mistakes of a plateau make no difference

# How many epochs are looked at where nobody says: a schedule that follows losses never ends; others are looked at for
# as long as most trainings take, and those that then still change, such as a warm-up of 4,000 steps, for five times as
# long, which takes a second of torch's.
FOLLOWING, FAR, FARTHEST = 20, 1000, 5000
LATE = 0.9  # of the epochs looked at: a change after this many says that more may follow

LISTED = 8  # wrong epochs, or stretches of them, up to which all are named


def rates_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome:
    """The rates of every epoch are torch's, up to ``n^2 eps`` times the largest rate so far in the n-th epoch, from 1.

    The largest rate counts, because a cosine takes differences of such terms down to a rate of 0. Torch computes most
    rates from the one before. The error of a power grows with the number of epochs. An error at the minimum of a cosine
    grows with the rate on the way up, by a factor of (2 T_max / pi)^2.
    """
    worsts = []
    for history in _histories(case, settings.steps):
        rates, theirs = _rates(case, history), _reference(case.subject, history)
        for whose, found in (("the schedule", rates), ("the reference", theirs)):
            if len(found) < len(history):
                raise AdapterError(f"{whose} ends after {len(found)} epochs, and epochs= says {len(history)}")
        worst = compare("lr", rates, theirs, _rounding(rates))
        worsts.append(worst)
        if worst is not None and worst.ratio > 1:
            return _wrong(case, rates, theirs, settings)
    return judged(worsts)


def rates_do_not_depend_on_earlier_calls(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A schedule is a pure function: asked again, in another order, it gives the same rates.

    One that steps from epoch to epoch, or makes each rate from the one before, is none.
    """
    schedule = case.subject
    assert isinstance(schedule, Schedule)
    if isinstance(schedule, ForeignSchedule):
        if not schedule.pure:
            return None
        schedule = schedule.fresh()
    histories, epochs = _histories(case, settings.steps), range(settings.steps)
    rates = [_in_order(schedule, history, epochs) for history in histories]
    backwards = [_in_order(schedule, history, epochs[::-1])[::-1] for history in histories[::-1]][::-1]
    case.tally.evaluations += 2 * len(histories) * len(epochs)
    return judged(compare("lr", *both, 0.0) for both in zip(rates, backwards, strict=True))


class Extent(NamedTuple):
    """How many epochs of a schedule are compared, and in words why no more."""

    epochs: int
    reason: str


def extent_of(schedule: ForeignSchedule) -> Extent:
    """Return how many epochs of a schedule tell all about it: as many as it changes in, and many more.

    Where one side ends, as a list does, that is the end. So is the epoch in which torch's rate has fallen as far as it
    is to fall, if the two agree up to there and differ after it: there a training ends.
    """
    try:
        if schedule.takes_history or (schedule.reference is None and twin_follows_losses(schedule)):
            return Extent(FOLLOWING, "the rate follows the losses: epochs= looks further")
    except ModuleNotFoundError as error:  # which the check says
        return Extent(FOLLOWING, f"{error.name} is missing")
    for most in (FAR, FARTHEST):
        history = [1.0] * most
        ours, ended = _until_it_ends(schedule.rates(history), "the schedule")
        theirs, its_end = _until_it_ends(_reference_rates(schedule, history), "the reference")
        count = min(len(ours), len(theirs))
        if count < most:
            whose, why = ("the schedule", ended) if len(ours) == count else ("the reference", its_end)
            return Extent(max(count, 1), f"{whose} ends there{why}")
        last, end = max(_last_change(ours), _last_change(theirs)), _end_of_reference(schedule)
        wrong = _wrong_epochs(np.array(ours), np.array(theirs))
        if end is not None and wrong and wrong[-1] > end:
            return Extent(end + 1, f"torch's has ended in epoch {end}, and what follows differs: epochs= looks further")
        if last < LATE * most:
            return Extent(most, f"the rate is constant, or as good as 0, from epoch {last} on")
        if end is not None:
            break
    return Extent(most, "the rate still changes: epochs= looks further")


def _end_of_reference(schedule: ForeignSchedule) -> int | None:
    """Return the epoch in which torch's scheduler comes to the end of its fall, if it has such an end."""
    return twin_end(schedule) if schedule.reference is None else None


def _wrong_epochs(rates: Array, theirs: Array) -> list[int]:
    return np.flatnonzero(~(np.abs(rates - theirs) <= _rounding(rates))).tolist()


def _until_it_ends(rates: Iterator[float], whose: str) -> tuple[list[float], str]:
    """Return rates up to where there are no more, and what was raised there, if anything was."""
    found: list[float] = []
    try:
        for rate in rates:
            found.append(rate)
    except AdapterError:
        raise
    except Exception as error:  # of the schedule's own: it ends in this way
        raised = type(error).__name__
        if not found:
            remedy = "where epochs are counted from 1, give lambda epoch: f(epoch + 1)"
            raise AdapterError(f"{whose} raises {raised} in epoch 0, {error}: {remedy}") from error
        return found, f": it raises {raised}"
    return found, ""


def _last_change(rates: Sequence[float]) -> int:
    """Return the last epoch whose rate is another than that of the epoch before, beside the largest, or 0."""
    least = np.finfo(np.float64).eps * max(map(abs, rates))
    changes = np.flatnonzero(np.abs(np.diff(rates)) > least)
    return int(changes[-1]) + 1 if len(changes) else 0


def _wrong(case: Case, rates: Array, theirs: Array, settings: Settings) -> Outcome:
    """Return the failure of rates of which some are wrong: the first one, all of them, and why."""
    allowed, wrong = _rounding(rates), _wrong_epochs(rates, theirs)
    first = wrong[0]
    worst = compare("lr", rates[first], theirs[first], allowed[first])
    located = None if worst is None else replace(worst, index=(first,))
    subject = case.subject
    assert isinstance(subject, Schedule)
    follows = isinstance(subject, ForeignSchedule) and subject.takes_history
    why = "" if follows or not settings.explain else _why(subject, rates, allowed)
    return failure(_epochs(wrong, len(rates)), located, why)


def _why(schedule: Schedule, rates: Array, allowed: Array) -> str:
    """Return why the rates are wrong, given the reference's for longer, if it goes on."""
    foreign = isinstance(schedule, ForeignSchedule) and schedule.reference is not None
    history = [1.0] * min(4 * len(rates), FARTHEST)
    try:
        longer = np.array(_until_it_ends(_reference_rates(schedule, history), "the reference")[0])
    except AdapterError:
        return ""
    form = None if foreign else twin_form(schedule)
    return explain_rates(Rates(rates, longer, allowed, schedule.lr, form))


def _epochs(wrong: Sequence[int], count: int) -> str:
    """Say which of some epochs are wrong: ``wrong in epoch 5 alone``."""
    runs = [[epoch for _, epoch in group] for _, group in groupby(enumerate(wrong), lambda pair: pair[1] - pair[0])]
    named = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    if len(wrong) == 1:
        return f"wrong in epoch {wrong[0]} alone, of epochs 0 to {count - 1}"
    if len(named) <= LISTED:
        return f"first wrong in epoch {wrong[0]}: in epochs {', '.join(named)}, of epochs 0 to {count - 1}"
    return f"first wrong in epoch {wrong[0]}: in {len(wrong)} of epochs 0 to {count - 1}"


def _rounding(rates: Array) -> Array:
    largest = np.maximum.accumulate(np.abs(rates))
    return np.asarray(np.arange(1, len(rates) + 1) ** 2 * np.finfo(np.float64).eps * largest)


def _reference(schedule: object, history: Sequence[float]) -> Array:
    """Return the rates of the schedule's reference, another schedule or torch's."""
    return np.array(list(_reference_rates(schedule, history)), np.float64)


def _reference_rates(schedule: object, history: Sequence[float]) -> Iterator[float]:
    assert isinstance(schedule, Schedule)
    if isinstance(schedule, ForeignSchedule) and schedule.reference is not None:
        yield from schedule.reference.rates(history)
    else:
        yield from twin_rates(schedule, history)


def _rates(case: Case, history: tuple[float, ...]) -> Array:
    schedule = case.subject
    assert isinstance(schedule, Schedule)
    case.tally.evaluations += len(history)
    if isinstance(schedule, ForeignSchedule):
        return np.array(list(schedule.rates(history)), np.float64)
    return _in_order(schedule, history, range(len(history)))


def _in_order(schedule: Schedule, history: Sequence[float], epochs: range) -> Array:
    if isinstance(schedule, ForeignSchedule):  # which is given as much of the history as it is to know
        return np.array([schedule(epoch, history) for epoch in epochs], np.float64)
    return np.array([schedule(epoch, history[:epoch]) for epoch in epochs], np.float64)


def _histories(case: Case, epochs: int) -> list[tuple[float, ...]]:
    """Return histories of positive losses, and as many that are negative, cross zero or are not all finite.

    A schedule that takes none needs one of which only the length counts.
    """
    rng = case.rng("histories")
    if isinstance(case.subject, ForeignSchedule) and not case.subject.takes_history:
        return [(1.0,) * epochs]
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
