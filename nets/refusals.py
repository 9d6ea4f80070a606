"""Torch's arguments that a part does not have: each is refused by name, with the reason."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from gradcheck.contract import Layer

C = TypeVar("C", bound=type)


class UnsupportedArgumentError(TypeError):
    """An argument that torch has and the part has not."""


# Of modules that make their own arrays.
PLACEMENT = {
    "device": "NumPy's arrays are in main memory",
    "dtype": "it is made in float64, and astype gives it in another precision",
}
IN_PLACE = {"inplace": "a pullback needs the input as it was"}
GENERATOR = {"generator": "draw is given a NumPy generator"}  # of rules that draw

# What torch does anyway: it may be said, as copied code does.
DEFAULTS = {
    **dict.fromkeys(
        ("_weight", "device", "dtype", "foreach", "fused", "generator", "max_norm", "reduce", "size_average")
    ),
    **dict.fromkeys(("capturable", "decoupled_weight_decay", "differentiable", "error_if_nonfinite"), False),
    **dict.fromkeys(("_freeze", "inplace", "return_indices", "scale_grad_by_freq", "sparse"), False),
    "end_factor": 1.0,
    "last_epoch": -1,
    "norm_type": 2.0,
    "padding_mode": "zeros",
}


def refuses(**reasons: str) -> Callable[[C], C]:
    """Return a class decorator that refuses torch's arguments of these names, for these reasons.

    The constructor, and `create` where there is one, then raise `UnsupportedArgumentError` for them, unless they are
    as torch has them by default, and for more arguments by position than they have. Where there is a `create`, the
    constructor takes arrays, and raises TypeError for what only `create` takes.
    """

    def decorate(cls: C) -> C:
        def guarded(call: Callable[..., Any], suffix: str = "") -> Callable[..., Any]:
            kinds = [parameter.kind for parameter in inspect.signature(call).parameters.values()]
            most = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) - 1  # without self

            @functools.wraps(call)
            def checked(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  whatever the constructor takes
                owner = (self if isinstance(self, type) else type(self)).__name__
                for name in [name for name in kwargs if name in reasons]:
                    value, default = kwargs.pop(name), DEFAULTS.get(name)
                    if name not in DEFAULTS or not (isinstance(value, type(default)) and value == default):
                        raise UnsupportedArgumentError(f"{owner} does not support {name}: {reasons[name]}")
                if arrays and not suffix:
                    _require_arrays(owner, arrays, args, kwargs)
                if len(args) > most:
                    others = f"others are given by name, and there is no {', '.join(reasons)}"
                    raise UnsupportedArgumentError(
                        f"{owner}{suffix} takes {most} arguments by position, got {len(args)}: {others}"
                    )
                return call(self, *args, **kwargs)

            return checked

        made = hasattr(cls, "create") and is_dataclass(cls)
        arrays = {spec.name: "role" in spec.metadata for spec in fields(cls)} if made else {}
        cls.__init__ = guarded(cls.__init__)  # type: ignore[misc]  # a class's own, wrapped
        if "create" in vars(cls):
            cls.create = classmethod(guarded(vars(cls)["create"].__func__, ".create"))  # type: ignore[attr-defined]  # seen there
        return cls

    return decorate


def _require_arrays(owner: str, is_array: dict[str, bool], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError for an argument that is no field's, or no array where the field holds one, and for none."""
    given = [*zip(is_array, args, strict=False), *kwargs.items()]
    wrong = next((each for each in given if not _fits(is_array, *each)), None)
    if wrong is None and given:
        return
    name, value = wrong or ("none", None)
    got = name if name not in is_array else repr(value) if np.isscalar(value) else kind_of(value)
    needed = ", ".join(field for field, array in is_array.items() if array)
    raise TypeError(f"{owner} is made of arrays ({needed}), got {got}: {owner}.create(...) takes torch's arguments")


def _fits(is_array: dict[str, bool], name: str, value: object) -> bool:
    return name in is_array and (not is_array[name] or value is None or isinstance(value, np.ndarray))


def require_layer(needed: str, value: object) -> None:
    """Raise TypeError, which begins as ``needed``, unless ``value`` is a layer."""
    if not isinstance(value, Layer):
        made = ": make one" if isinstance(value, type) else ""
        raise TypeError(f"{needed}, got {kind_of(value)}{made}")


def kind_of(value: object) -> str:
    """Return what a message says of a value of the wrong kind."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
