"""Another activation: each side's numbers are those of one, of the same inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ONE
from gradcheck.diagnosis.losses import sigmoid
from gradcheck.trajectory.causes.layers import Linear, lasts, row, sources, unit
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis

erf = np.vectorize(math.erf, otypes=[float])


def _leaky(slope: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, slope * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "ReLU": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "the sigmoid": sigmoid,
    "GELU by erf": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "GELU by its tanh approximation": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "GELU by the sigmoid of 1.702 x": lambda x: x * sigmoid(1.702 * x),
    "SiLU": lambda x: x * sigmoid(x),
    "Softplus": lambda x: np.logaddexp(0.0, x),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0.0, x)),
    "ReLU6": lambda x: np.clip(x, 0.0, 6.0),
    "the hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0.0, 1.0),
    "hard Swish": lambda x: x * np.clip(x / 6 + 0.5, 0.0, 1.0),
    **{f"leaky ReLU with a slope of {slope:g}": _leaky(slope) for slope in (0.01, 0.02, 0.1, 0.2, 0.3)},
    "none at all": lambda x: x,
}  # fmt: skip


def activation(scene: Scene) -> StepDiagnosis | None:
    """Another activation, of an earlier result of the step, alone or before the layer's own matrix."""
    one, eps = scene.comparison, unit(scene)
    for source, last in product(sources(scene), lasts(scene)):
        if not last.takes(one.numeric.shape, source.theirs.shape):
            continue
        theirs = [
            name for name, f in ACTIVATIONS.items() if _gives(f, last, source.theirs, one.numeric, one.allowed, eps)
        ]
        ours = list[str]()
        for name, f in ACTIVATIONS.items() if theirs else ():
            if _gives(f, last, source.ours, one.analytic, one.allowed, eps):
                made = f(source.ours)
                if one.explained_by(last(made), one.allowed + last.rounding(made, eps), ONE):
                    ours.append(name)
        if theirs and ours:
            return StepDiagnosis(StepCause.ACTIVATION, {"ours": " or ".join(ours), "theirs": " or ".join(theirs)})
    return None


def _gives(
    function: Callable[[Array], Array], last: Linear, x: Array, result: Array, allowed: Array, eps: float
) -> bool:
    """Return whether an activation gives a result, in the first row and then in all."""
    for some in (row, np.asarray):
        made = function(some(x))
        if not np.all(np.abs(some(result) - last(made)) <= 2 * some(allowed) + last.rounding(made, eps)):
            return False
    return True
