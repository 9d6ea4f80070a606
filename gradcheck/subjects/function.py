"""Any function and its pullback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.numerics.functions import Arrays, Function, GradientNamesError, Pullback, values_of_arguments
from gradcheck.numerics.memory import copied
from gradcheck.subjects.attributes import arguments_of, variables_of


@dataclass(frozen=True, eq=False)
class PlainFunction:
    """``f(*inputs) -> array`` with ``vjp(inputs, dy) -> gradients``, one of each input that is floating-point."""

    f: Callable[..., Array]
    vjp: Callable[[tuple[Array, ...], Array], Sequence[Array]]

    @property
    def name(self) -> str:
        """Return the name of the function."""
        return getattr(self.f, "__name__", type(self.f).__name__)

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return it as a function of named inputs."""
        arguments = arguments_of(inputs)

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            values = values_of_arguments(arguments, given)
            own = [copied(value) for value in values]  # vjp's, since f may change what it is given
            y = np.asarray(self.f(*values))

            def pullback(dy: Array) -> dict[str, Array]:
                result = self.vjp(tuple(own), dy)
                for value, changed in zip(values, own, strict=True):
                    if value.flags.writeable:
                        value[...] = changed
                results = list(result) if isinstance(result, (tuple, list)) else [result]
                wanted = [a for a in arguments if isinstance(a, str)]
                if len(results) == len(arguments):
                    results = [r for r, a in zip(results, arguments, strict=True) if isinstance(a, str)]
                if len(results) != len(wanted):
                    raise GradientNamesError(f"vjp returns {len(results)} gradients for {len(wanted)} inputs")
                return {name: np.asarray(value) for name, value in zip(wanted, results, strict=True)}

            return y, pullback

        return Function(variables_of(inputs), arguments, call, foreign=True)
