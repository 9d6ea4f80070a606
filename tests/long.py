"""What the short run leaves to the long one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def later(values: Iterable[object], after: int) -> list[object]:
    """Return parameters of a test of which all but the first ``after`` are left to the long run.

    A tuple holds the values of several names.
    """
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=[pytest.mark.long] * (place >= after))
        for place, value in enumerate(values)
    ]
