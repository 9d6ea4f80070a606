"""In what words a call is refused: one line, that says who needs what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

Raised = type[Exception] | tuple[type[Exception], ...]


def refusal(error: Raised, call: Callable[..., object], *arguments: Any, **options: Any) -> str:  # noqa: ANN401  mistakes
    """Return the message of the error that a call raises, which is one line."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def needs(error: Raised, call: Callable[..., object], *arguments: Any) -> str:  # noqa: ANN401  as above
    """Return what a class, or the object whose method is called, says that it needs, and got."""
    function = call.func if isinstance(call, partial) else call
    owner = getattr(function, "__self__", function)
    name, message = (owner if isinstance(owner, type) else type(owner)).__name__, refusal(error, call, *arguments)
    assert message.startswith(f"{name} needs ")
    return message.removeprefix(f"{name} needs ")
