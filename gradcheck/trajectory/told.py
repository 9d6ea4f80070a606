"""What every report on two programs does: it is a page of text, a JSON document, and an error where it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck import words
from gradcheck.numerics.agreement import Verdict

if TYPE_CHECKING:
    from gradcheck.trajectory.divergence import Divergence


class TrajectoryMismatch(AssertionError):  # noqa: N818  a mismatch, as GradientMismatch is
    """Two programs are not the same; ``report`` says where they differ first."""

    def __init__(self, message: str, report: Told) -> None:
        super().__init__(message)
        self.report = report


class Told:
    """A report with a verdict; ``str(report)`` is a page of text, ``bool(report)`` is True only on a pass."""

    verdict: Verdict
    first_divergence: Divergence | None

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS

    def __str__(self) -> str:
        return words.text(self)

    def __repr__(self) -> str:
        found = self.first_divergence
        where = "" if found is None else f" at step {found.step}, {found.phase}/{found.tensor}"
        return f"<{type(self).__name__}: {self.verdict}{where}>"

    def to_json(self) -> str:
        """Return the report as one strict JSON document."""
        return words.document(self)

    def raise_if_failed(self, inconclusive: bool = False) -> None:
        """Raise `TrajectoryMismatch` if the two are not the same program.

        An inconclusive report raises nothing, unless ``inconclusive`` is True; ``bool(report)`` is False for both.
        """
        __tracebackhide__ = True  # pytest shows the line that called
        if self.verdict is Verdict.FAIL or (inconclusive and self.verdict is Verdict.INCONCLUSIVE):
            raise TrajectoryMismatch(str(self), self)
