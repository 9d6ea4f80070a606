"""The functions of torch that no hook is told of: `backward`, and a gradient scaler's `scale` and `step`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

Around = Callable[..., Any]  # given torch's own function, then its arguments


def patched(backward: Around, scale: Around, step: Around) -> ExitStack:
    """Put functions around torch's own; closing what is returned puts these back."""
    import torch

    scaler: Any = torch.amp.GradScaler
    stack = ExitStack()
    for owner, name, around in (
        (torch.autograd, "backward", backward),
        (scaler, "scale", scale),
        (scaler, "step", step),
    ):
        own = getattr(owner, name)
        stack.callback(setattr, owner, name, own)
        setattr(owner, name, _within(around, own))
    return stack


def _within(around: Around, own: Callable[..., Any]) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as torch's own
        return around(own, *args, **kwargs)

    return function
