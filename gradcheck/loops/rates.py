"""Why two loops have other learning rates: the forms of both schedules, where each gives every rate of its loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from gradcheck.loops.results import steps_in_words

# A schedule may be computed in float32, and by recursion.
CLOSE = 1e-5

# How many rates more than a form has numbers to be fitted must fit.
SPARE = 2

Form = Callable[[Sequence[float]], str | None]


def cause_of_rates(ours: Sequence[float], theirs: Sequence[float]) -> str | None:
    """Return why the rates of ours are not those of theirs, if that explains all of them."""
    for by in range(1, len(ours) // 2):
        shift = steps_in_words(by)
        if _shows(ours[by:], theirs[:-by]):
            return f"the learning rate of ours is that of theirs {shift} before: the schedule is late"
        if _shows(theirs[by:], ours[:-by]):
            return f"the learning rate of ours is that of theirs {shift} later: the schedule is early"
    factor = ours[0] / theirs[0] if theirs[0] else 0.0
    if len(ours) > 1 and factor and _alike(ours, [factor * rate for rate in theirs]):
        return f"the learning rate of ours is {factor:.4g} times that of theirs in every step"
    forms = form_of(ours), form_of(theirs)
    if None in forms or forms[0] == forms[1]:
        return None
    return f"the learning rate of ours {forms[0]}, that of theirs {forms[1]}"


def form_of(rates: Sequence[float]) -> str | None:
    """Return in words how rates go on from step to step, or None if they are of no known form."""
    return next((found for form in (*FORMS, _after_warmup) if (found := form(rates)) is not None), None)


def _shows(late: Sequence[float], early: Sequence[float]) -> bool:
    """Return whether rates are equal, and no constant, which is equal however late it is."""
    return list(late) == list(early) and len(set(late)) > 1


def _alike(rates: Sequence[float], predicted: Sequence[float]) -> bool:
    return bool(np.allclose(rates, predicted, rtol=CLOSE, atol=CLOSE * 0.01 * max(map(abs, rates))))


def _constant(rates: Sequence[float]) -> str | None:
    return f"stays {rates[0]:.4g}" if len(rates) > SPARE and _alike(rates, [rates[0]] * len(rates)) else None


def _linear(rates: Sequence[float]) -> str | None:
    if len(rates) < 2 + SPARE or not _alike(rates, np.linspace(rates[0], rates[-1], len(rates)).tolist()):
        return None
    return f"{'rises' if rates[-1] > rates[0] else 'falls'} by {abs(rates[1] - rates[0]):.4g} in each step"


def _exponential(rates: Sequence[float]) -> str | None:
    if len(rates) < 2 + SPARE or min(rates) <= 0:
        return None
    factor = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1))
    predicted = [rates[0] * factor**step for step in range(len(rates))]
    return f"is multiplied by {factor:.4g} in each step" if _alike(rates, predicted) else None


def _in_steps(rates: Sequence[float]) -> str | None:
    """Rates multiplied by one factor, every so many steps."""
    changes = [step for step, (one, other) in enumerate(pairwise(rates), 1) if not _alike([one], [other])]
    if not changes or changes[0] < 2 or not rates[0]:
        return None
    every, factor = changes[0], rates[changes[0]] / rates[0]
    if len(changes) == 1:
        return f"is multiplied by {factor:.4g} after {steps_in_words(every)}"
    predicted = [rates[0] * factor ** (step // every) for step in range(len(rates))]
    return f"is multiplied by {factor:.4g} every {steps_in_words(every)}" if _alike(rates, predicted) else None


def _cosine(rates: Sequence[float]) -> str | None:
    """``low + (high - low) (1 + cos(pi step / length)) / 2``, from its first step on."""
    if len(rates) < 3 + SPARE or rates[0] == rates[1]:
        return None
    cosine = ((rates[2] - rates[1]) / (rates[1] - rates[0]) - 1) / 2
    if not -1 < cosine < 1:
        return None
    angle = math.acos(cosine)
    height = 2 * (rates[0] - rates[1]) / (1 - cosine)
    predicted = [rates[0] - height * (1 - math.cos(angle * step)) / 2 for step in range(len(rates))]
    if height <= 0 or not _alike(rates, predicted):
        return None
    low = rates[0] - height
    low = 0.0 if abs(low) <= CLOSE * rates[0] else low
    return f"falls from {rates[0]:.4g} to {low:.4g} as a cosine does, in {math.pi / angle:.4g} steps"


FORMS: tuple[Form, ...] = (_constant, _linear, _exponential, _in_steps, _cosine)


def _after_warmup(rates: Sequence[float]) -> str | None:
    """Recognise a rise by the same in each step, and what comes after it."""
    rises = np.diff(rates)
    if not rises.size or rises[0] <= 0:
        return None
    last = next((step for step, rise in enumerate(rises) if not math.isclose(rise, rises[0], rel_tol=1e-3)), 0)
    then = next((found for form in FORMS if (found := form(rates[last:])) is not None), None)
    if last == 0 or then is None:
        return None
    count = last + round(rates[0] / float(rises[0]))
    return f"rises for {steps_in_words(count)} to {rates[last]:.4g} and then {then}"
