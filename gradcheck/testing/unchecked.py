"""The warning of a test that passes although a part of what it checks was not looked at."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.report.results import Report


class UncheckedWarning(UserWarning):
    """A check has passed, but the output depends on arrays of which no gradient was found."""


def warn_of_unchecked(report: Report, name: str = "") -> None:
    """Warn, at the line that has called the caller, of arrays without a gradient that the report names."""
    from gradcheck.report.readings import unchecked

    __tracebackhide__ = True
    line = unchecked(report.reading) if report.reading is not None else ""
    if line:
        warnings.warn(f"{name or report.subject}: {line}", UncheckedWarning, stacklevel=3)
