"""What pytest loads: the fixture ``gradcheck``, the front door whose functions fail the test themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

if TYPE_CHECKING:
    from gradcheck.report.results import Report
    from gradcheck.trajectory import TrajectoryReport

P = ParamSpec("P")
R = TypeVar("R", bound="Report | TrajectoryReport")


class FrontDoor:
    """The functions of the front door, called as usual; each returns its report if that passed.

    Else the test fails: by `GradientMismatch` or `TrajectoryMismatch`, or by one line where nothing could be told.
    Where it passed although some gradients were not found, it warns.
    """

    def __init__(self) -> None:
        from gradcheck import checks, trajectory

        self.check_layer = demanding(checks.check_layer)
        self.check_loss = demanding(checks.check_loss)
        self.check_optimizer = demanding(checks.check_optimizer)
        self.check_schedule = demanding(checks.check_schedule)
        self.check_gradients = demanding(checks.check_gradients)
        self.check_class = demanding(checks.check_class)
        self.check_trajectory = demanding(trajectory.check_trajectory)


def demanding(check: Callable[P, R]) -> Callable[P, R]:
    """Return a check that demands a pass of its report."""

    @functools.wraps(check)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        from gradcheck.report.checks import describe_silence
        from gradcheck.report.results import Report
        from gradcheck.subjects.attributes import AdapterError
        from gradcheck.testing.unchecked import warn_of_unchecked

        __tracebackhide__ = True
        try:
            report = check(*args, **kwargs)
        except AdapterError as error:
            raise error.with_traceback(None) from None  # the line that called is what is wrong
        report.raise_if_failed()
        if not report:
            pytest.fail(describe_silence(report), pytrace=False)
        if isinstance(report, Report):
            warn_of_unchecked(report)
        return report

    return checked


@pytest.fixture(scope="session")
def gradcheck() -> FrontDoor:
    """Return the checks of layers, losses, optimizers, schedules, functions and training runs; they fail the test."""
    return FrontDoor()
