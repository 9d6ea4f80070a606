"""Whether a backward pass takes dy, or is f'(x): of its input or of its output, element by element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.caller import Caller, equal, is_number
from gradcheck.subjects.calls import RESULT, Calls
from gradcheck.subjects.signatures import COTANGENTS, plain, positional
from gradcheck.subjects.ways import derives

INPUTS = {"x", "z", "xs", "input", "inputs", "data"}  # what an argument is called that is no output
OUTPUTS = {"y", "a", "s", "h", "out", "output", "outputs", "activation", "activations", "act", "result"}
ELSEWHERE = -2.0  # times the input, backwards: no derivative is the same there, not even an odd function's


class DerivativeReader(Caller):
    """Finds out of a function whether it is the derivative of another."""

    def _argument_of_backward(self) -> str:
        """Return the name of the first argument of backward; empty where Python does not know it."""
        return next((each.name for each in positional(self.target(1) or getattr(self.base, self.calls.backward))), "")

    def _called_as_forward(self, name: str) -> bool:
        """Return whether an argument is called as that of forward is, or as an input is."""
        return plain(name) in INPUTS | {plain(own) for own in self.own_names()[:1]}

    def _is_called_a_derivative(self) -> bool:
        return bool(self.calls.derive) or derives(self.spoken(1).rpartition(".")[2])

    def _derivatives(self, needed: int) -> Iterator[Calls]:
        """Yield the ways of calling backward that make it the derivative of each element.

        None if its argument is called as a gradient is, or if it disregards what it is given and uses what forward has
        left: it may have forgotten dy.
        """
        places = self.floating()
        name = self._argument_of_backward()
        own = bool(name) and self._called_as_forward(name)
        if needed != 1 or len(self.calls.outputs) != 1 or len(places) != 1 or (plain(name) in COTANGENTS and not own):
            return
        (i,) = places
        for what in (f"input{i}", "y"):
            calls = replace(self.calls, given=(what,), names=(name or what,), local=True, gradients={i: RESULT})
            if self._of_each_element(calls, i) and (
                self._is_called_a_derivative()
                or self._depends(calls, i)
                or (own and not self._depends(calls, i, by_forward=True))
            ):
                yield calls

    def _elsewhere(self, i: int) -> list[Array]:
        other = np.asarray(ELSEWHERE * self.inputs[i].ravel()[::-1].reshape(self.inputs[i].shape))
        return [other.astype(v.dtype) if n == i else v for n, v in enumerate(self.inputs)]

    def _of_each_element(self, calls: Calls, i: int) -> bool:
        """Return whether backward, called in one way, returns a number for each element, or one for all."""
        self.calls = calls
        try:
            layer, result, back, _ = self.both(training=True)
            (y,) = calls.values(layer, result)
        except Exception:  # noqa: BLE001  it is not called in this way
            return False
        return is_number(back) and y.shape == self.inputs[i].shape and np.shape(back) in ((), y.shape)

    def _depends(self, calls: Calls, i: int, *, by_forward: bool = False) -> bool:
        """Return whether the derivative is another one for another argument, or after another forward pass."""
        self.calls = replace(calls, given=(f"input{i}",))
        try:
            backs = []
            for elsewhere in (False, True):
                other = self._elsewhere(i) if elsewhere else self.inputs
                layer, result = self.go(training=True, inputs=other if by_forward else self.inputs)
                given = [np.array(v) for v in (self.inputs if by_forward else other)]
                backs.append(np.asarray(self.calls.go_backward(layer, result, given, ())))
        except Exception:  # noqa: BLE001  it refuses the other argument, so it looks at it
            return True
        return not equal(*backs)

    def _linear(self, calls: Calls) -> bool:
        """Return whether what backward returns is in proportion to what it is given, as a pullback's result is."""
        self.calls = replace(calls, given=("dy",), local=False)
        try:
            *_, once, dys = self.both(training=True)
            *_, twice, _ = self.both(training=True, dys=[-2 * dy for dy in dys])
            return bool(np.allclose(twice, -2 * np.asarray(once), rtol=1e-6, atol=0))
        except Exception:  # noqa: BLE001  it does not take this
            return False

    def _likeliest(self, taken: list[Calls]) -> Calls:
        """Return the way of calling that names speak for, where numbers speak for none."""
        derivatives = [each for each in taken if each.elementwise]
        if not derivatives:
            return taken[0]
        name = derivatives[0].names[0]
        of_output = plain(name) in OUTPUTS
        derivative = next((each for each in derivatives if (each.given == ("y",)) is of_output), derivatives[0])
        own = self._called_as_forward(name) or derivative.given == ("y",)
        called = self._is_called_a_derivative()
        return derivative if (own and called) or ((own or called) and not self._linear(derivative)) else taken[0]

    def _agreed(self, calls: Calls) -> Calls:
        """Return a way of calling that numbers speak for; raises `AdapterError` if the names contradict it."""
        if calls.elementwise and calls.given == ("y",) and self._called_as_forward(calls.names[0]):
            name, function = calls.names[0], self.spoken(1)
            raise AdapterError(
                f"{function}({name}) is the derivative of {self.spoken(0)} if it is given the output, not {name}: call "
                "its argument y if that is meant"
            )
        return calls
