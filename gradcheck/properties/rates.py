"""A schedule against torch's."""

from __future__ import annotations

import numpy as np

from gradcheck.agreement import compare
from gradcheck.autograd import twin_rates
from gradcheck.contract import Case, Schedule
from gradcheck.properties.outcome import Outcome, Settings, judged


def rates_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome:
    """The rates of every epoch are torch's, up to the rounding of one operation an epoch.

    On terms as large as the largest rate: a cosine takes differences of such, down to a rate of 0.
    """
    schedule, epochs = case.subject, settings.steps
    rates = _rates(case, range(epochs))
    rounding = epochs * np.finfo(np.float64).eps * np.abs(rates).max(initial=0.0)
    return judged([compare("lr", rates, twin_rates(schedule, epochs), rounding)])


def rates_do_not_depend_on_earlier_calls(case: Case, settings: Settings = Settings()) -> Outcome:
    """A schedule is a pure function: asked again, in another order, it gives the same rates."""
    epochs = range(settings.steps)
    rates, backwards = _rates(case, epochs), _rates(case, epochs[::-1])[::-1]
    return judged([compare("lr", rates, backwards, 0.0)])


def _rates(case: Case, epochs: range) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    schedule = case.subject
    assert isinstance(schedule, Schedule)  # noqa: S101  by PROPERTIES
    case.tally.evaluations += len(epochs)
    return np.array([schedule(epoch) for epoch in epochs], np.float64)
