"""What a check says of a class that cannot be drawn, raises, or tells nothing; the verdicts are tested elsewhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck import AdapterError
from gradcheck.checks import check_class
from gradcheck.contract import EVALUATION, Array, Backward, Case, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import Outcome, Settings
from gradcheck.report.results import Finding
from gradcheck.trials import Subject, drawn_cases, properties_of
from nets.layers import Flatten, Linear
from nets.schedules import MultiStepLR
from tests.nets.faults.batch_norm import CountsInFloats, CountsInPlace, Misnamed
from tests.nets.faults.fault import BUFFERS, DIFFERENCES, FORWARD

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def result_of(subject: Subject, name: str) -> Finding:
    """Return what one property finds in a class."""
    (finding,) = check_class(
        subject, claims=[claim for claim in properties_of(subject) if claim.__name__ == name]
    ).findings
    return finding


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (CountsInPlace, "num_batches_tracked is changed by the call"),
        (CountsInFloats, "num_batches_tracked is () int64, its new value () float64"),
        (Misnamed, "a new mean is proposed, which is no buffer"),
    ],
)
def test_what_is_wrong_with_a_buffer_is_said(subject: Subject, message: str) -> None:
    assert result_of(subject, BUFFERS).message == message


def test_properties_of_a_class_may_be_named() -> None:
    (finding,) = check_class(MultiStepLR, claims=["rates_agree_with_twin"], examples=2).findings
    assert (finding.property, finding.verdict) == ("rates_agree_with_twin", Verdict.PASS)
    with pytest.raises(AdapterError, match="which is no property; did you mean 'rates_agree_with_twin'"):
        check_class(MultiStepLR, claims="rates_agree_with_twins", examples=2)


def test_a_schedule_that_remembers_is_caught() -> None:
    calls: list[int] = []

    class Compounding(MultiStepLR):
        def __call__(self, epoch: int, history: object = ()) -> float:
            calls.append(epoch)
            return super().__call__(epoch) * 0.9 ** len(calls)

    assert result_of(Compounding, "rates_do_not_depend_on_earlier_calls").verdict is Verdict.FAIL


def test_an_allowance_too_wide_to_tell_is_inconclusive() -> None:
    class Noisy(Linear):
        """Adds what is zero but for rounding, magnified until nothing can be told."""

        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            y, backward = super().forward(x * 1.1 / 1.1, context)
            zero = np.asarray((x * 1.1 / 1.1 - x).sum() + 1e-17)
            return y + zero * 1e17, lambda dy: backward(dy)

    result = result_of(Noisy, FORWARD)
    assert result.inconclusive > result.examples / 2


def test_a_strategy_that_raises_says_nothing_of_its_class() -> None:
    class Undrawable(Flatten):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            raise LookupError("no idea\nwhatever")

    said = (
        "^Undrawable.cases\\(\\) raises LookupError: no idea; it returns a Hypothesis strategy of Case objects to try"
    )
    with pytest.raises(AdapterError, match=said):
        result_of(Undrawable, DIFFERENCES)


def test_what_a_subject_raises_is_its_failure() -> None:
    class Broken(Flatten):
        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            raise RuntimeError("out of order")

    result = result_of(Broken, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "raises RuntimeError: out of order")


class Spoilt(Linear):
    """Counts how often its cases are drawn."""

    drawn = 0

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        cls.drawn += 1
        return super().cases()


def spoil(case: Case, _: Settings = Settings()) -> Outcome:
    """Find what the case is, and leave nothing of it as it was."""
    arrays = [*case.inputs, *case.subject.parameters().values()]
    found = Outcome(Verdict.PASS, None, repr([[array.tolist(), array.dtype, array.strides] for array in arrays]))
    for array in arrays:
        array[...] = np.nan
    case.tally.evaluations += 1
    case.found["spoilt",] = True
    return found


def test_claims_have_the_same_cases_drawn_once_and_share_what_they_find_and_nothing_else() -> None:
    Spoilt.drawn = 0
    seen: list[tuple[bool, str]] = []

    def noted(case: Case, _: Settings) -> Outcome:
        known = bool(case.found)
        outcome = spoil(case)
        seen.append((known, outcome.message))
        return outcome

    for _ in range(2):
        assert check_class(Spoilt, claims=[noted, noted], examples=5).evaluations == 10
    assert Spoilt.drawn == 1
    messages = [spoil(case).message for case in drawn_cases(Linear, 5, 0)]
    assert "nan" not in str(messages)
    assert seen == [(second, message) for _ in range(2) for second in (False, True) for message in messages]


def test_other_cases_are_drawn_for_another_seed_and_count_and_where_the_strategy_is_another() -> None:
    def said(subject: Subject, examples: int, seed: int) -> list[str]:
        return [spoil(case).message for case in drawn_cases(subject, examples, seed)]

    class Other(Spoilt):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            return super().cases().filter(lambda case: len(case.inputs[0]) > 1)

    assert len(said(Spoilt, 5, 0)) == 5
    assert len(said(Spoilt, 6, 0)) == 6
    assert len({str(said(subject, 5, seed)) for subject in (Spoilt, Other) for seed in (0, 1)}) == 4


def test_what_cannot_be_copied_is_drawn_anew() -> None:
    class Locked(Spoilt):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            def locked(case: Case) -> Case:
                object.__setattr__(case.subject, "lock", threading.Lock())
                return case

            return super().cases().map(locked)

    first, second = ([spoil(case).message for case in drawn_cases(Locked, 5, 0)] for _ in range(2))
    assert first == second == [spoil(case).message for case in drawn_cases(Linear, 5, 0)]
