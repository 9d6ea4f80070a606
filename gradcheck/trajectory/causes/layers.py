"""What a layer is computed from, as far as a step shows it: earlier results, and its own weight and bias."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.trajectory.causes.scene import Scene

NEAREST = 8  # earlier results that a layer may be computed from

EPS_UNITS = 8.0  # roundings of each term in what is computed again here from numbers that were rounded


class Source(NamedTuple):
    """An earlier tensor of a step, of both sides, in float64."""

    name: str
    ours: Array
    theirs: Array


def sources(scene: Scene) -> Iterator[Source]:
    """Yield earlier results and inputs of a step that are the same on both sides, the nearest first."""
    moment = scene.moment
    names = list(moment.theirs)
    earlier = [name for name in names[: names.index(scene.name)] if name.startswith(("data/", "forward/"))]
    floating = [
        name for name in reversed(earlier) if moment.theirs[name].dtype.kind == "f" and moment.theirs[name].ndim
    ]
    for name in islice(floating, NEAREST):
        one = scene.compared(name)
        if not one.failing.any():
            yield Source(name, one.analytic, one.numeric)


class Linear(NamedTuple):
    """The last part of a layer: ``x W^T + b``, or nothing at all."""

    weight: Array | None
    bias: Array | None

    def __call__(self, x: Array) -> Array:
        return x if self.weight is None else x @ self.weight.T + (0.0 if self.bias is None else self.bias)

    def rounding(self, x: Array, unit: float) -> Array:
        """Return by how much rounding by ``unit`` moves what is computed from x."""
        if self.weight is None:
            return np.asarray(EPS_UNITS * unit * np.abs(x))
        bias = 0.0 if self.bias is None else np.abs(self.bias)
        return np.asarray(EPS_UNITS * unit * (np.abs(x) @ np.abs(self.weight).T + bias))

    def takes(self, shape: tuple[int, ...], given: tuple[int, ...]) -> bool:
        """Return whether it makes an array of a shape from one of a ``given`` shape."""
        made = given if self.weight is None else (*given[:-1], len(self.weight))
        return made == shape and (self.weight is None or given[-1] == self.weight.shape[1])


def lasts(scene: Scene) -> list[Linear]:
    """Return what a layer may end with: nothing, or its own matrix and bias."""
    weight, bias = (own(scene, name) for name in ("weight", "bias"))
    return [Linear(None, None), *([Linear(weight, bias)] if weight is not None and weight.ndim == 2 else [])]


def own(scene: Scene, name: str, kind: str = "param") -> Array | None:
    """Return a parameter or buffer of the layer whose result is wrong, before the step, in float64."""
    array = scene.moment.before.get(f"{kind}/{scene.tensor.rpartition('.')[0]}.{name}")
    return None if array is None else np.asarray(array, dtype=np.float64)


def unit(scene: Scene) -> float:
    """Return the unit of rounding of the wrong tensor, the coarser one of the two sides."""
    return max(float(np.finfo(array.dtype).eps) for array in (scene.ours, scene.theirs) if array.dtype.kind == "f")


def row(array: Array) -> Array:
    """Return the first of several rows, by which most that does not fit is seen at a glance."""
    return array[:1] if array.ndim > 1 else array
