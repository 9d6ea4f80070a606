"""Torch's arguments that a part does not have: each is refused by name, with the reason."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type)


class UnsupportedArgumentError(TypeError):
    """An argument that torch has and the part has not."""


# Of modules that make their own arrays.
PLACEMENT = {
    "device": "NumPy's arrays are in main memory",
    "dtype": "it is made in float64, and astype gives it in another precision",
}
IN_PLACE = {"inplace": "a pullback needs the input as it was"}


def refuses(**reasons: str) -> Callable[[C], C]:
    """Return a class decorator that refuses torch's arguments of these names, for these reasons.

    The constructor, and `create` where there is one, then raise `UnsupportedArgumentError` for them.
    """

    def decorate(cls: C) -> C:
        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(call)
            def checked(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  whatever the constructor takes
                for name in kwargs.keys() & reasons.keys():
                    owner = (self if isinstance(self, type) else type(self)).__name__
                    raise UnsupportedArgumentError(f"{owner} does not support {name}: {reasons[name]}")
                return call(self, *args, **kwargs)

            return checked

        cls.__init__ = guarded(cls.__init__)  # type: ignore[misc]  # a class's own, wrapped
        if "create" in vars(cls):
            cls.create = classmethod(guarded(vars(cls)["create"].__func__))  # type: ignore[attr-defined]  # seen there
        return cls

    return decorate
