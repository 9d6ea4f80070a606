"""What the process ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command; main.py maps errors to them."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    MISSING = 4
    INTERNAL = 5
    INTERRUPTED = 130

    @classmethod
    def of(cls, verdict: str) -> ExitCode:
        """Return the code of a verdict: pass, fail or inconclusive."""
        return cls[verdict.upper()]
