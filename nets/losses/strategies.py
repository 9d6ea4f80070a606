"""Hypothesis strategies for losses, with their predictions and targets."""

from __future__ import annotations

from collections.abc import Callable
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


# Values whose differences are often 0, and often where Huber's error becomes linear.
GRID = tuple(sign * half / 2 for half in range(1, 9) for sign in (1, -1))


def reductions() -> SearchStrategy[Reduction]:
    """Torch's three."""
    return st.sampled_from(["mean", "sum", "none"])


def error_cases(losses: SearchStrategy[Loss]) -> SearchStrategy[Case]:
    """Cases of losses of the difference of prediction and target."""

    def of_shape(shape: tuple[int, ...]) -> SearchStrategy[Case]:
        values = arrays(shape) | hnp.arrays(np.float64, shape, elements=st.sampled_from(GRID), fill=st.nothing())
        return cases(losses, values, values)

    return SHAPES.flatmap(of_shape)


def shares(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    """Targets in [0, 1], or all 0 or 1."""
    return arrays(shape, 0, 1) | arrays(shape, 0, 1).map(np.rint)


def probabilities(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    """Predictions in (0, 1), off its ends, where there is no derivative; some of them close to one."""
    return arrays(shape, 2.0**-5, 1 - 2.0**-5) | hnp.arrays(np.float64, shape, elements=st.sampled_from(NEAR_ENDS))


def logit_pairs(shape: tuple[int, ...]) -> SearchStrategy[tuple[Array, Array]]:
    """Logits and targets in [0, 1]: small ones, and large ones whose targets are not on their own side.

    The loss of a large logit on its target's side is far smaller than the logit. Ours has it to the last digit, but
    torch's is a difference of two numbers as large as the logit.
    """

    def face(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        logits, far = pair[0], np.rint(56 * pair[1]) / 64  # at most 7/8, and exact also as 1 - far
        return logits, np.where(logits > 0, far, 1 - far)

    large = st.tuples(arrays(shape, -100, 100), shares(shape)).map(face)
    return st.tuples(arrays(shape, -1, 1), shares(shape)) | large


def rescalings(shape: tuple[int, ...]) -> SearchStrategy[Array | None]:
    """None, or a weight that broadcasts to ``shape``: of the last axis, of the first, or of every element."""
    first = (shape[0], *(1,) * (len(shape) - 1))
    return st.sampled_from([shape[-1:], first, shape, None]).flatmap(
        lambda own: st.none() if own is None else _weights(own)
    )


def class_cases(loss: Callable[..., Loss], **options: SearchStrategy[object]) -> SearchStrategy[Case]:
    """Cases of a loss of class indices, with class weights and an ignored index, from predictions in [-8, 8].

    Some classes may weigh nothing and some targets may be ignored; rarely all, of which the mean is NaN.
    """

    @st.composite
    def draw(draw: st.DrawFn) -> Case:
        batch, classes = draw(sides()), draw(sides(minimum=2))
        extra = draw(st.lists(sides(maximum=3), max_size=2))
        # A class that always counts, and is the target of one prediction.
        counted = draw(st.integers(0, classes - 1))
        other = (counted + draw(st.integers(1, classes - 1))) % classes
        weight = draw(_weights((classes,)))
        weight[other] *= draw(st.sampled_from([1, 0]))
        given: dict[str, object] = {"weight": weight} if draw(st.sampled_from([True, True, False])) else {}
        ignore_index = draw(st.sampled_from([-100, other]))
        target = draw(hnp.arrays(np.int64, (batch, *extra), elements=st.sampled_from([*range(classes), ignore_index])))
        reduction = draw(reductions())
        if reduction == "mean" and draw(st.sampled_from([True, False, False, False])):
            target[...] = ignore_index
        else:
            target.flat[draw(st.integers(0, target.size - 1))] = counted
        given |= {name: draw(values) for name, values in options.items()}
        subject = loss(ignore_index=ignore_index, reduction=reduction, **given)
        prediction = draw(arrays((batch, classes, *extra), -8, 8))
        return Case(subject, (prediction, target), draw(seeds()), draw(st.booleans()))

    return draw()


def _weights(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    return hnp.arrays(np.float64, shape, elements=st.sampled_from(WEIGHTS), fill=st.nothing())
