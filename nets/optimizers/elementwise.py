"""What the rules have in common: they move every element by itself, one tensor at a time or all of them at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Gradients, Optimizer, require_shape
from nets.optimizers.flat_arrays import FlatArrays

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# Of torch's arguments, those of every rule that there are not.
UNSUPPORTED = {
    "params": "step is given the parameters",
    "lr": "step is given the rate",
    "foreach": "FlatArrays are moved in one pass",
    "fused": "FlatArrays are moved in one pass",
    "capturable": "there are no CUDA graphs of NumPy",
    "differentiable": "a step moves its arrays in place",
}


# So many elements are moved at a time: an array that a rule passes over a dozen times stays near the processor.
BLOCK = 16384


@dataclass(eq=False)
class ElementwiseOptimizer(Optimizer):
    """A rule ``(parameter, gradient, what is kept) -> (parameter, what is kept)`` for each element by itself.

    The contract is per tensor. But if the parameters are `FlatArrays`, all of them have a gradient, and all have been
    moved equally often, then the rule is applied to the flat arrays, with the same result bit for bit; what is
    kept is then flat, too, and ``state`` holds the views. Raises what `require_gradients` does.
    """

    maximize: bool = field(default=False, kw_only=True)
    _kept: dict[str, FlatArrays] = field(default_factory=dict, init=False, repr=False)

    @abstractmethod
    def slots(self) -> dict[str, float]:
        """Return the names of what is kept of each tensor, with the number that its arrays are filled by at first.

        ``step``, if named, is one number a tensor: how often it was moved.
        """

    @abstractmethod
    def move(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        """Move ``param`` and ``kept``, by slot, in place, for the time ``t`` (1, 2, ...); ``grad`` may be overwritten.

        A rule that has no slot ``step`` is told 2 for all but the first time.
        """

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        require_gradients(self, params, grads)
        slots = self.slots()
        times = {name: self._updates(name, slots) for name in grads} if slots else dict.fromkeys(grads, 1)
        if isinstance(params, FlatArrays) and grads.keys() == params.keys() and len(set(times.values())) == 1:
            kept = {slot: self._flat(slot, initial, params) for slot, initial in slots.items()}
            self._move_at_once(params.flat, params.gathered(grads), kept, lr, times.popitem()[1] + 1)
            return
        for name, grad in grads.items():
            # At least one axis, because what NumPy makes of arrays without one cannot be written into.
            param = np.atleast_1d(params[name])
            kept = {slot: np.atleast_1d(self._array(slot, name, params[name], slots[slot])) for slot in slots}
            _count(kept)
            self._move(param, np.array(grad, param.dtype, ndmin=1), kept, lr, times[name] + 1)

    def _move_at_once(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        """Move flat arrays, a block after the other; ``grad`` is not overwritten."""
        _count(kept)
        spare = np.empty_like(param[:BLOCK])
        for begin in range(0, param.size, BLOCK):
            block = slice(begin, begin + BLOCK)
            own = spare[: param.size - begin]
            own[...] = grad[block]
            within = {slot: array if slot == "step" else array[block] for slot, array in kept.items()}
            self._move(param[block], own, within, lr, t)

    def _move(self, param: Array, grad: Array, kept: dict[str, Array], lr: float, t: int) -> None:
        if self.maximize:
            np.negative(grad, out=grad)
        self.move(param, grad, kept, float(lr), t)  # NumPy's float64 numbers would turn float32 arrays into float64

    def _updates(self, name: str, slots: Mapping[str, float]) -> int:
        """Return how often a tensor was moved, or by a rule that does not count, whether it was."""
        if "step" in slots:
            return int(self.state.get(f"step/{name}", 0))
        return int(all(f"{slot}/{name}" in self.state for slot in slots))

    def _array(self, slot: str, name: str, param: Array, initial: float) -> Array:
        """Return what is kept of a tensor, from now on if it was not before."""
        key = f"{slot}/{name}"
        if key not in self.state:
            # torch, too, counts in a float32.
            self.state[key] = np.zeros((), np.float32) if slot == "step" else np.full_like(param, initial)
        return self.state[key]

    def _flat(self, slot: str, initial: float, params: FlatArrays) -> Array:
        """Return what is kept of all tensors in one array, gathered anew unless the state holds its views."""
        flat = self._kept.get(slot)
        if (
            flat is None
            or [*flat] != [*params]
            or any(self.state.get(f"{slot}/{name}") is not array for name, array in flat.items())
        ):
            flat = FlatArrays({name: self._array(slot, name, param, initial) for name, param in params.items()})
            self._kept[slot] = flat
            self.state.update({f"{slot}/{name}": array for name, array in flat.items()})
        return flat.flat


def _count(kept: Mapping[str, Array]) -> None:
    if "step" in kept:
        kept["step"][...] += 1


def require_gradients(optimizer: Optimizer, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
    """Raise an error unless every gradient is an array of a parameter's name and shape.

    ValueError for another name, `ShapeError` for another shape, TypeError for what is no array.
    """
    who = type(optimizer).__name__
    for what, arrays in (("params", params), ("grads", grads)):
        if not isinstance(arrays, Mapping):
            raise TypeError(f"{who} needs {what} as a dict of arrays by name, got a {type(arrays).__name__}")
    for name, grad in grads.items():
        if name not in params:
            raise ValueError(f"{who} needs gradients of {', '.join(params)}, got one of {name}")
        if not isinstance(grad, (np.ndarray, np.generic)):  # arithmetic makes numbers of arrays without axes
            fix = ": leave it out to skip the parameter" if grad is None else ""
            raise TypeError(f"{who} needs an array as the gradient of {name}, got {grad!r:.60}{fix}")
        if grad.shape != params[name].shape:
            require_shape(who, f"the gradient of {name}", grad, *params[name].shape)


def require_numbers(optimizer: Optimizer, *names: str) -> None:
    """Raise TypeError unless the hyper-parameters of these names are numbers, as torch's first two are not."""
    for name in names:
        value = getattr(optimizer, name)
        if not isinstance(value, Real):
            fix = "the parameters and the rate are given to step"
            raise TypeError(f"{type(optimizer).__name__} needs a number as {name}, got a {type(value).__name__}: {fix}")


def require_at_least_zero(optimizer: Optimizer, *names: str) -> None:
    """Raise ValueError unless the hyper-parameters of these names are 0 or more, TypeError unless numbers."""
    require_numbers(optimizer, *names)
    for name in names:
        value = getattr(optimizer, name)
        if not value >= 0:
            raise ValueError(f"{type(optimizer).__name__} needs {name} of at least 0, got {value}")


def average(mean: Array, value: Array, weight: float) -> None:
    """Move ``mean`` by ``weight`` of the way to ``value``, in place.

    Beyond half-way the rest is taken from ``value``, as torch does: a difference rounds to the size of the larger.
    """
    if weight < 0.5:
        way = value - mean
        way *= weight
        mean += way
    else:
        mean -= value
        mean *= 1 - weight
        mean += value


def drawn_cases(optimizers: SearchStrategy[Optimizer]) -> SearchStrategy[Case]:
    """Draw an optimizer and four tensors for it, one of a single element and one without axes."""
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, cases, sides

    def of_sizes(first: int, second: int) -> SearchStrategy[Case]:
        return cases(optimizers, arrays((first, second)), arrays((second,)), arrays((1,)), arrays(()))

    return st.tuples(sides(), sides()).flatmap(lambda sizes: of_sizes(*sizes))
