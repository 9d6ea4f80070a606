"""Whether a backward pass takes dy, or is f'(x): of its input or of its output, by elements or as a Jacobian."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from inspect import Parameter
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.caller import Caller, equal, is_number, same_shape
from gradcheck.subjects.calls import RESULT, Calls, found
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

    def _may_take(self, needed: int, i: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return what a derivative may be given, and the names of these arguments: the input, the output, or both."""
        taken = positional(self.target(1) or getattr(self.base, self.calls.backward))
        names = [each.name for each in taken]
        ways: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        if needed == 1:
            ways = [((what,), (*names[:1],) or (what,)) for what in (f"input{i}", "y")]
        outputs = [plain(name) in OUTPUTS and not self._called_as_forward(name) for name in names[:2]]
        optional = any(each.default is unset for each in taken[1:2] for unset in (None, Parameter.empty))
        if needed in (1, 2) and optional and sum(outputs) == 1:
            ways.append((tuple("y" if output else f"input{i}" for output in outputs), (*names[:2],)))
        return ways

    def _called_as_forward(self, name: str) -> bool:
        """Return whether an argument is called as that of forward is, or as an input is."""
        return plain(name) in INPUTS | {plain(own) for own in self.own_names()[:1]}

    def _is_called_a_derivative(self) -> bool:
        return bool(self.calls.derive) or derives(self.spoken(1).rpartition(".")[2])

    def _derivatives(self, needed: int) -> Iterator[Calls]:
        """Yield the ways of calling backward that make it the derivative of each element or number, or a Jacobian.

        None if its argument is called as a gradient is, or if it disregards what it is given and uses what forward has
        left: it may have forgotten dy.
        """
        places = self.floating()
        name = self._argument_of_backward()
        own = bool(name) and self._called_as_forward(name)
        if len(self.calls.outputs) != 1 or len(places) != 1 or (plain(name) in COTANGENTS and not own):
            return
        (i,) = places
        called = self._is_called_a_derivative()
        unread: tuple[int, ...] = ()
        for given, names in self._may_take(needed, i):
            calls = replace(self.calls, given=given, names=names, local=True, gradients={i: RESULT})
            if (shapes := self._shapes(calls)) is None:
                continue
            ways = forms(shapes[0], self.inputs[i].shape, shapes[1])
            unread = shapes[1] if not ways and prod(shapes[1]) > self.inputs[i].size else unread
            if ways and (called or self._depends(calls, i) or (own and not self._depends(calls, i, by_forward=True))):
                yield from (replace(calls, contracted=form) for form in ways)
        if unread and needed == 1 and (called or own) and not self._pulls_back(calls):
            raise AdapterError(
                f"{self.spoken(1)}({name}) returns shape {unread}, in which no derivative of {self.spoken(0)} is read: "
                "return a Jacobian of shape y.shape + x.shape, or one for each sample, in a row"
            )

    def _elsewhere(self, i: int) -> list[Array]:
        other = np.asarray(ELSEWHERE * self.inputs[i].ravel()[::-1].reshape(self.inputs[i].shape))
        return [other.astype(v.dtype) if n == i else v for n, v in enumerate(self.inputs)]

    def _shapes(self, calls: Calls) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Return the shapes of the output and of what backward returns; None if it is not called in this way."""
        self.calls = calls
        try:
            layer, result, back, _ = self.both(training=True)
            (y,) = calls.values(layer, result)
        except Exception:  # noqa: BLE001  it is not called in this way
            return None
        return (y.shape, np.shape(back)) if is_number(back) else None

    def _jacobians(self, calls: Calls, y: Array, layer: Any, back: Any) -> list[Calls]:
        """Return how dy is contracted with the only derivative that was returned, if it has the shape of a Jacobian."""
        if len(calls.gradients) != 1:
            return []
        ((i, path),) = calls.gradients.items()
        shape = np.shape(found(path, layer, back))
        return [replace(calls, contracted=form) for form in forms(y.shape, self.inputs[i].shape, shape) if form]

    def _depends(self, calls: Calls, i: int, *, by_forward: bool = False) -> bool:
        """Return whether the derivative is another one for another argument, or after another forward pass."""
        self.calls = replace(calls, given=(f"input{i}",) * len(calls.given))
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

    def _pulls_back(self, calls: Calls) -> bool:
        """Return whether what backward returns has the input's shape, and is in proportion to what it is given."""
        self.calls = replace(calls, given=("dy",), local=False)
        try:
            *_, once, dys = self.both(training=True)
            *_, twice, _ = self.both(training=True, dys=[-2 * dy for dy in dys])
            like = all(same_shape(once, self.inputs[i]) for i in calls.gradients)
            return like and bool(np.allclose(twice, -2 * np.asarray(once), rtol=1e-6, atol=0))
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
        return derivative if (own and called) or ((own or called) and not self._pulls_back(derivative)) else taken[0]

    def _agreed(self, calls: Calls) -> Calls:
        """Return a way of calling that numbers speak for; raises `AdapterError` if the names contradict it."""
        if calls.elementwise and calls.given == ("y",) and self._called_as_forward(calls.names[0]):
            name, function = calls.names[0], self.spoken(1)
            raise AdapterError(
                f"{function}({name}) is the derivative of {self.spoken(0)} if it is given the output, not {name}: call "
                "its argument y if that is meant"
            )
        return calls


def forms(y: tuple[int, ...], x: tuple[int, ...], derivative: tuple[int, ...]) -> list[str]:
    """Return how dy is contracted with a derivative of some shape, as subscripts of ``np.einsum``; empty: multiplied.

    It is multiplied by a number for each element or one for all, and by the gradient of one number, or of one a sample.
    A Jacobian is of all elements, of each sample along the first axis or the last, or the same one of all samples.
    Where several fit, differences choose.

    >>> forms((5, 4), (5, 4), (5, 4)), forms((), (5, 4), (5, 4)), forms((2,), (3,), (2, 3))
    ([''], [''], ['a,ab->b'])
    >>> forms((5, 4), (5, 3), (5, 4, 3)), forms((1, 4), (1, 4), (4, 4))
    (['ab,abd->ad'], ['ab,bd->ad'])
    """
    multiplied = derivative == x and (y == x[: len(y)] or (prod(y) == 1 and len(y) <= len(x)))
    every = [""] if multiplied or (y == x and not derivative) else []
    if multiplied and prod(y) == 1:
        return every
    ys, xs = ascii_letters[: len(y)], ascii_letters[len(y) : len(y) + len(x)]
    ways = [(ys + xs, xs)]
    if len(y) > 1 and x and y[0] == x[0]:
        ways += [(of_y + xs[1:], ys[0] + xs[1:]) for of_y in (ys, ys[1:])]
    if len(y) > 1 and x and y[-1] == x[-1]:
        ways += [(of_y + xs[:-1], xs[:-1] + ys[-1]) for of_y in (ys[-1] + ys[:-1], ys[:-1])]
    extents = dict(zip(ys + xs, y + x, strict=True))
    every += [f"{ys},{way}->{dx}" for way, dx in ways if tuple(extents[letter] for letter in way) == derivative]
    if derivative == x and 0 < len(y) < len(x) and y == x[-len(y) :]:
        every.append(f"{xs[-len(y) :]},{xs}->{xs}")
    return every
