"""Why a schedule is wrong: which usual mistake gives exactly its rates, in every epoch that is compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import FITTED, ONE, PRECISION, ROUNDING, TWO, Comparison, factor_of, rounded

LEVELS = (PRECISION, 100.0)
MOST_SHIFTED = 3  # epochs; of more, shifts of many a schedule look alike
LEAST_OF_REST = 3  # epochs after a place, of which something is said
MOST_PERIODS = 100  # of steps, in epochs

Named = tuple[Array, str]  # rates, NaN where nothing is said of them, and the mistake that gives them


@dataclass(frozen=True)
class Rates:
    """The rates of a schedule and its reference, which may go on for longer, and the allowance of each.

    ``lr`` is the rate at first; ``form`` the name of torch's scheduler, its numbers, and the epoch in which it begins,
    after others, if the reference is one.
    """

    ours: Array
    theirs: Array
    allowed: Array
    lr: float
    form: tuple[str, dict[str, Any], int] | None = None

    def comparison(self, begin: int = 0) -> Comparison:
        """Return both sides from an epoch on."""
        count = len(self.ours)
        return Comparison(self.ours[begin:], self.theirs[begin:count], self.allowed[begin:], LEVELS)


def explain_rates(rates: Rates) -> str:
    """Return why the rates are wrong, as a sentence, or the empty text where no usual mistake explains all of them."""
    found: list[str] = []
    count = len(rates.ours)
    with np.errstate(all="ignore"):
        if np.ptp(rates.ours) == 0 and np.ptp(rates.theirs[:count]) > 0 and not rates.comparison().failing[0]:
            return "the rate never changes"
        for mistakes in (_shifts(rates.theirs), _constants(rates), _of_form(rates), _paces(rates.theirs, count)):
            fitting = (sentence for predicted, sentence in mistakes if _is(rates.comparison(), predicted))
            found += [sentence for sentence in (next(fitting, ""),) if sentence and sentence not in found]
        if not found:
            found = [sentence for sentence in (_factor(rates), _rest(rates), _repeated(rates)) if sentence][:1]
    return "; or ".join(found[:2])


def _is(comparison: Comparison, predicted: Array, needed: int = ONE) -> bool:
    ours, rounding = comparison.analytic, comparison.allowed
    if len(predicted) < len(ours):
        return False
    predicted = predicted[: len(ours)]
    near = np.abs(predicted - ours) <= 2 * rounding + ROUNDING * np.abs(predicted)  # which most are not
    return bool(near.all()) and comparison.explained_by(predicted, rounding, needed)


def _of_form(rates: Rates) -> Iterator[Named]:
    """Yield mistakes in the formula of torch's scheduler, if it is known, from where it begins."""
    if rates.form is None or rates.form[0] not in FORMS or rates.form[2] >= len(rates.ours):
        return
    name, numbers, begin = rates.form
    rest = replace(rates, ours=rates.ours[begin:], theirs=rates.theirs[begin:], allowed=rates.allowed[begin:])
    for after, sentence in FORMS[name](rest, numbers):
        yield np.concatenate([rates.theirs[:begin], after]), sentence


def _shifts(theirs: Array) -> Iterator[Named]:
    for by in range(1, MOST_SHIFTED + 1):
        epochs = "one epoch" if by == 1 else f"{by} epochs"
        late = np.concatenate([np.full(by, theirs[0]), theirs])
        again = "the first rate comes twice" if by == 1 else f"the first rate comes {by + 1} times"
        yield late, f"every rate comes {epochs} late: {again}"
        yield np.concatenate([np.zeros(by), theirs]), f"every rate comes {epochs} late, after a rate of 0"
        yield theirs[by:], f"every rate comes {epochs} early"


def _constants(rates: Rates) -> Iterator[Named]:
    if rates.lr != 1:
        yield (
            rates.theirs / rates.lr,
            f"it returns the factor, not the rate: the rate at first, {rates.lr:g}, is missing",
        )
    yield -rates.theirs, "the sign is wrong"
    compounded = rates.lr * np.cumprod(rates.theirs / rates.lr)
    yield compounded, "it compounds: each epoch's factor is applied to the rate of the epoch before"


def _paces(theirs: Array, count: int) -> Iterator[Named]:
    """Yield rates that go by too fast or too slowly, as where steps are counted for epochs, or epochs for steps."""
    changes = np.flatnonzero(np.diff(theirs))
    ended = not len(changes) or changes[-1] < len(theirs) // 2  # then it stays as it is for ever
    for times in range(2, MOST_PERIODS + 1):
        fast = theirs[::times]
        if ended:
            fast = np.concatenate([fast, np.full(max(count - len(fast), 0), theirs[-1])])
        yield fast, f"epochs go by {times} times too fast, as where steps are counted for epochs"
        yield np.repeat(theirs[: count // times + 1], times), f"each rate stays for {times} epochs in place of one"


def _cosine(rates: Rates, numbers: dict[str, Any]) -> Iterator[Named]:
    """Yield mistakes in ``low + (lr - low) (1 + cos(pi e / T)) / 2``: going on after epoch T, or staying at its end."""
    period, low = numbers["T_max"], numbers["eta_min"]
    epochs = np.arange(len(rates.ours), dtype=np.float64)
    begin = rates.form[2] if rates.form is not None else 0
    ended = low + (rates.lr - low) * (1 + np.cos(np.pi * np.minimum(epochs, period) / period)) / 2
    yield ended, f"it stays at its least rate from epoch {begin + period} on, where torch's rises again"
    for predicted, sentence in _waves(epochs, rates.lr, low, period, begin):
        yield predicted, sentence
        yield np.where(epochs < period, predicted, low), sentence
    for predicted, sentence in _waves(np.minimum(epochs, period), rates.lr, low, period, begin):
        yield predicted, sentence
    yield low + (rates.lr - low) * np.maximum(1 - epochs / period, 0), "it falls along a line where a cosine belongs"


def _waves(e: Array, lr: float, low: float, period: int, begin: int) -> Iterator[Named]:
    turn, span = np.pi * e / period, lr - low
    waves: list[tuple[Array, str]] = [
        (np.cos(2 * turn), "the cosine goes through a whole period where half of one belongs: 2 pi for pi"),
        (np.cos(turn / 2), "the cosine goes through a quarter of a period where half of one belongs"),
        (np.cos(np.degrees(turn)), "the cosine is given degrees, and takes radians"),
        (np.cos(np.radians(turn)), "the angle is turned from degrees to radians, and is in radians already"),
        (-np.cos(turn), "the cosine has the wrong sign: the rate rises where it is to fall"),
        (np.sin(turn), "there is a sine where the cosine belongs"),
    ]
    for other in (period - 1, period + 1):
        sentence = f"the half period of the cosine is {other} epochs in place of {period}"
        waves += [(np.cos(np.pi * np.minimum(e, end) / other), sentence) for end in (other, np.inf) if other > 0]
    if begin:
        counted = (
            f"the cosine's half period is {period + begin} epochs in place of {period}: those before it are counted"
        )
        waves += [(np.cos(turn * period / (period + begin)), counted)]
        late = f"the cosine counts its epochs from 0, and begins in epoch {begin}"
        waves += [(np.cos(np.pi * (e + begin) / period), late), (np.cos(np.pi * (e + begin) / (period + begin)), late)]
    for wave, sentence in waves:
        yield low + span * (1 + wave) / 2, sentence
    wave = np.cos(turn)
    yield low + span * (1 + wave), "1 + cos is not halved"
    yield low + span * wave, "the cosine itself is taken where (1 + cos) / 2 belongs"
    if low:
        yield lr * (1 + wave) / 2, "the least rate, eta_min, is left out"
        yield low + lr * (1 + wave) / 2, "eta_min is added, and not taken off the range"


def _steps(rates: Rates, numbers: dict[str, Any]) -> Iterator[Named]:
    size, gamma, epochs = numbers["step_size"], numbers["gamma"], np.arange(len(rates.ours))
    for other in range(1, MOST_PERIODS + 1):
        if other != size:
            sentence = f"a step comes every {other} epochs, in torch every {size}"
            yield rates.lr * gamma ** (epochs // other), sentence
            yield rates.lr * gamma ** ((epochs + 1) // other), f"{sentence}, and one epoch early"
    yield rates.lr * gamma ** (epochs / size), "the rate falls a little in every epoch: the division is not a whole one"
    yield rates.lr * gamma**epochs, "the rate falls in every epoch"
    yield rates.lr * np.where(epochs < size, 1, gamma), "the rate falls once, and not again"
    yield rates.lr * (1 - gamma) ** (epochs // size), f"each step takes 1 - gamma of the rate, {rounded(1 - gamma):g}"


def _exponential(rates: Rates, numbers: dict[str, Any]) -> Iterator[Named]:
    gamma, epochs = numbers["gamma"], np.arange(len(rates.ours))
    yield rates.lr * np.exp(-gamma * epochs), "it is exp(-gamma epoch) in place of gamma^epoch"
    yield rates.lr * np.exp(-(1 - gamma) * epochs), "it is exp(-(1 - gamma) epoch) in place of gamma^epoch"
    yield rates.lr * (1 - gamma) ** epochs, f"the factor is 1 - gamma, {rounded(1 - gamma):g}, in place of gamma"
    yield rates.lr / (1 + (1 - gamma) * epochs), "it falls as 1 / (1 + d epoch), in torch as a power of the epoch"
    yield rates.lr * gamma * np.ones(len(epochs)), "the factor has no power: the rate stays"


def _polynomial(rates: Rates, numbers: dict[str, Any]) -> Iterator[Named]:
    total, power = numbers["total_iters"], numbers["power"]
    left = np.maximum(1 - np.arange(len(rates.ours)) / total, 0.0)
    for other, what in ((1.0, "left out"), (1 / power, "taken as a root"), (2 * power, "taken twice")):
        yield rates.lr * left**other, f"the power is {what}"
    yield rates.lr * (1 - (1 - left) ** power), "the power is of the share that is over, not of what is left"


def _linear(rates: Rates, numbers: dict[str, Any]) -> Iterator[Named]:
    start, end, total = numbers["start_factor"], numbers["end_factor"], numbers["total_iters"]
    epochs = np.arange(len(rates.ours), dtype=np.float64)
    for other in (total - 1, total + 1):
        if other > 0:
            share = np.minimum(epochs / other, 1.0)
            yield rates.lr * (start + (end - start) * share), f"the line is {other} epochs long, in torch {total}"
    for other in (total, total + 1):
        yield rates.lr * end * np.minimum(epochs / other, 1.0), "the line begins at 0, in torch at start_factor"
    yield rates.lr * (start + (end - start) * epochs / total), "the line goes on after its end"


FORMS: dict[str, Callable[[Rates, dict[str, Any]], Iterator[Named]]] = {
    "CosineAnnealingLR": _cosine,
    "StepLR": _steps,
    "ExponentialLR": _exponential,
    "PolynomialLR": _polynomial,
    "LinearLR": _linear,
}


def _factor(rates: Rates) -> str:
    """Explain the rates by one factor: another rate at first."""
    factor = _number(factor_of(rates.comparison(), ()))
    if factor is None:
        return ""
    return f"every rate is {factor:.6g} times the reference's, as for a rate of {rounded(factor * rates.lr):g} at first"


def _rest(rates: Rates) -> str:
    """Explain the epochs from the first wrong one on, those before being right: late, early, or off by a factor."""
    wrong = np.flatnonzero(rates.comparison().failing)
    begin = int(wrong[0]) if len(wrong) else 0
    count = len(rates.ours)
    if not begin or count - begin < LEAST_OF_REST:
        return ""
    after = rates.comparison(begin)
    where = f"right up to epoch {begin - 1}; from epoch {begin} on"
    for by in range(1, MOST_SHIFTED + 1):
        epochs = "one epoch" if by == 1 else f"{by} epochs"
        if by <= begin and _is(after, rates.theirs[begin - by : count - by], TWO):
            return f"{where} every rate comes {epochs} late"
        if _is(after, rates.theirs[begin + by :], TWO):
            return f"{where} every rate comes {epochs} early"
    if np.all(rates.ours[begin:] == rates.ours[begin - 1]) and np.ptp(rates.theirs[begin:count]) > 0:
        return f"{where} the rate stays as it is, and the reference's goes on changing"
    factor = _number(factor_of(after, ()))
    enough = factor is not None and (np.ptp(rates.theirs[begin:count]) > 0 or count - begin >= FITTED)
    return f"{where} every rate is {factor:.6g} times the reference's" if enough else ""


def _repeated(rates: Rates) -> str:
    """Explain wrong epochs by each having the rate of the epoch before."""
    wrong = np.flatnonzero(rates.comparison().failing)
    if not len(wrong) or wrong[0] == 0 or not np.all(rates.ours[wrong] == rates.ours[wrong - 1]):
        return ""
    if len(wrong) == 1:
        return f"epoch {wrong[0]} repeats the rate of epoch {wrong[0] - 1}"
    return f"each of the wrong epochs repeats the rate of the epoch before: {', '.join(map(str, wrong[:8]))}"


def _number(found: dict[str, Any] | None) -> float | None:
    if found is None:
        return None
    factor = found["factor"]
    number = float(np.divide(*factor)) if isinstance(factor, tuple) else float(factor)
    return number if math.isfinite(number) else None
