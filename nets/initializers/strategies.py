"""Hypothesis strategies for initialisers, with arrays of the shapes that they fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from gradcheck.contract import Case, Initializer

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Shapes = list[tuple[tuple[int, ...], ...]]

# Some thousands of elements, of other fans in than out.
WEIGHTS: Shapes = [((100, 40),), ((30, 120),), ((40, 20, 5),), ((20, 16, 3, 5),)]
ANY: Shapes = [((4000,),), *WEIGHTS]
# Weights, and biases, or what else is not the weight, with the weight.
OF_FANS: Shapes = [*WEIGHTS, ((4000,), (40, 100)), ((3600,), (20, 12, 3, 5)), ((60, 80), (40, 20, 6))]


def rule_cases(made: type[Initializer], shapes: Shapes, /, **arguments: Sequence[object]) -> SearchStrategy[Case]:
    """Cases of a rule that is made from any of the values of each argument."""
    rules = st.builds(made, **{name: st.sampled_from(values) for name, values in arguments.items()})
    inputs = st.sampled_from(shapes).map(lambda each: tuple(np.zeros(shape) for shape in each))
    return st.builds(Case, rules, inputs, st.integers(0, 2**32 - 1))
