"""What a check says of a class that cannot be drawn, raises, or tells nothing; the verdicts are tested elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck.agreement import Verdict
from gradcheck.checks import Subject, check_class, properties_of
from gradcheck.contract import EVALUATION, Array, Backward, Case, Context
from gradcheck.results import Finding
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


def test_a_strategy_that_raises_is_a_failure_of_its_class() -> None:
    class Undrawable(Flatten):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            raise LookupError("no idea")

    result = result_of(Undrawable, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "cases() raises LookupError: no idea")


def test_what_a_subject_raises_is_its_failure() -> None:
    class Broken(Flatten):
        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            raise RuntimeError("out of order")

    result = result_of(Broken, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "raises RuntimeError: out of order")
