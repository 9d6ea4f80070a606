"""Hypothesis strategies for losses, with their predictions and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradcheck.contract import Array, Case, Loss
from gradcheck.strategies import arrays, cases, seeds, sides
from nets.losses.reduction import Reduction

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SHAPES = st.lists(sides(), min_size=1, max_size=3).map(tuple)

# What weights are drawn from: far apart, so that a wrong denominator shows; exact in float32.
WEIGHTS = (1.0, 3.0, 0.25, 10.0)


# Probabilities that float32 holds exactly.
NEAR_ENDS = (0.25, 2.0**-12, 1 - 2.0**-12, 2.0**-20, 1 - 2.0**-20)


def reductions() -> SearchStrategy[Reduction]:
    """Torch's three."""
    return st.sampled_from(["mean", "sum", "none"])


def error_cases(losses: SearchStrategy[Loss]) -> SearchStrategy[Case]:
    """Cases of losses of the difference; on a grid differences of 0, and of exactly 1/2 or 1, are frequent."""

    def of_shape(shape: tuple[int, ...]) -> SearchStrategy[Case]:
        values = arrays(shape) | arrays(shape).map(lambda x: np.rint(2 * x) / 2)
        return cases(losses, values, values)

    return SHAPES.flatmap(of_shape)


def shares(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    """Targets in [0, 1], or all 0 or 1."""
    return arrays(shape, 0, 1) | arrays(shape, 0, 1).map(np.rint)


def probabilities(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    """Predictions in (0, 1), off its ends, where there is no derivative; some of them close to one."""
    return arrays(shape, 2.0**-5, 1 - 2.0**-5) | hnp.arrays(np.float64, shape, elements=st.sampled_from(NEAR_ENDS))


def rescalings(shape: tuple[int, ...]) -> SearchStrategy[Array | None]:
    """None, or a weight that broadcasts to ``shape``: of the last axis, of the first, or of every element."""
    first = (shape[0], *(1,) * (len(shape) - 1))
    return st.none() | st.sampled_from([shape[-1:], first, shape]).flatmap(_weights)


def class_cases(loss: type[Loss], low: float, high: float, **options: SearchStrategy[object]) -> SearchStrategy[Case]:
    """Cases of a loss of class indices, with class weights and an ignored index; predictions in [low, high].

    Some classes may weigh nothing and some targets may be ignored, but never all, of which the mean is NaN.
    """

    @st.composite
    def draw(draw: st.DrawFn) -> Case:
        batch, classes = draw(sides()), draw(sides(minimum=2))
        extra = draw(st.lists(sides(maximum=3), max_size=2))
        # A class that always counts, and is the target of one prediction.
        counted = draw(st.integers(0, classes - 1))
        other = (counted + draw(st.integers(1, classes - 1))) % classes
        weight = draw(st.none() | _weights((classes,)))
        if weight is not None and draw(st.booleans()):
            weight[other] = 0
        ignore_index = draw(st.sampled_from([-100, other]))
        target = draw(hnp.arrays(np.int64, (batch, *extra), elements=st.sampled_from([*range(classes), ignore_index])))
        target.flat[draw(st.integers(0, target.size - 1))] = counted
        given = {name: draw(values) for name, values in options.items()}
        subject = loss(weight=weight, ignore_index=ignore_index, reduction=draw(reductions()), **given)  # type: ignore[call-arg]
        prediction = draw(arrays((batch, classes, *extra), low, high))
        return Case(subject, (prediction, target), draw(seeds()), draw(st.booleans()))

    return draw()


def _weights(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    return hnp.arrays(np.float64, shape, elements=st.sampled_from(WEIGHTS), fill=st.nothing())
