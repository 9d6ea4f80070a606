"""Hypothesis strategies for the inputs of numerical code, described by their domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

from gradcheck.contract import Array, Case, Layer, Loss, Optimizer, Schedule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# The smallest non-zero magnitude drawn. Products of several numbers this small stay far from underflow, where
# rounding is no longer relative; underflow is a matter for a property about extreme values.
SMALLEST = 2.0**-6
OFFSET = 1000.0  # far above the deviations of what is drawn, so that their squares are lost in its square


DRAWN_ANEW = "gradcheck"  # the name of `DrawnAnew` among Hypothesis's backends


class DrawnAnew(HypothesisProvider):
    """Draws every case anew, and the same ones from the same seed.

    Hypothesis's own backend varies cases that it has, so that of 25 half are alike in mode and hyper-parameters; and it
    takes numbers from the source of whatever modules have been imported, so that a seed gives other cases elsewhere.
    """

    def _maybe_draw_constant(self, *_: object, **__: object) -> None:
        return None


AVAILABLE_PROVIDERS[DRAWN_ANEW] = DrawnAnew


def sides(minimum: int = 1, maximum: int = 5) -> SearchStrategy[int]:
    """Extents of an axis."""
    return st.integers(minimum, maximum)


def seeds() -> SearchStrategy[int]:
    """Seeds for a NumPy generator."""
    return st.integers(0, 2**32 - 1)


def arrays(shape: tuple[int, ...], low: float = -4.0, high: float = 4.0) -> SearchStrategy[Array]:
    """Draw float64 arrays with elements in [low, high] that float32 holds exactly, so that a cast changes nothing.

    Half of them come element by element, which finds zeros, ties and repeated values and shrinks well; half are
    uniform, which fills the mantissas.
    """
    # Without a fill value of its own an array is rarely constant, and so rarely has only gradients that are zero.
    elementwise = hnp.arrays(np.float64, shape, elements=_floats(low, high), fill=st.nothing())
    return st.one_of(elementwise, _uniform(shape, low, high))


def arrays_off_kinks(shape: tuple[int, ...], margin: float = 0.125, high: float = 4.0) -> SearchStrategy[Array]:
    """Draw float64 arrays whose elements are at least ``margin`` away from zero, of either sign."""
    signs = hnp.arrays(np.float64, shape, elements=st.sampled_from([-1.0, 1.0]))
    return st.tuples(arrays(shape, margin, high), signs).map(lambda pair: pair[0] * pair[1])


def arrays_with_offset(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    """Draw float64 arrays of `arrays`, all moved by ``OFFSET``, exact in float32: squares hide deviations."""
    return arrays(shape).map(lambda x: (x + OFFSET).astype(np.float32).astype(np.float64))


def distinct_arrays(shape: tuple[int, ...], margin: float = 2.0**-4) -> SearchStrategy[Array]:
    """Draw float64 arrays without ties: all elements at least ``margin`` apart, and exact in float32.

    Each element has a place of its own among steps of ``2 * margin``, and is uniform in one half of it.
    """

    def draw(seed: int) -> Array:
        rng, size = np.random.default_rng(seed), math.prod(shape)
        places = 2 * (rng.permutation(size) - size // 2)
        return (margin * (places + rng.uniform(0.5, 1.5, size))).astype(np.float32).astype(np.float64).reshape(shape)

    return seeds().map(draw)


def labels(samples: int, classes: int) -> SearchStrategy[Array]:
    """Class indices 0 .. classes - 1, as int64."""
    return hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1))


def cases(
    subject: SearchStrategy[Layer] | SearchStrategy[Loss] | SearchStrategy[Optimizer] | SearchStrategy[Schedule],
    *inputs: SearchStrategy[Array],
) -> SearchStrategy[Case]:
    """Cases, in either mode, from a strategy for the subject and one for each input."""
    return st.builds(Case, subject, st.tuples(*inputs), seeds(), st.booleans())


def elementwise_cases(
    layers: SearchStrategy[Layer], *inputs: Callable[[tuple[int, ...]], SearchStrategy[Array]]
) -> SearchStrategy[Case]:
    """Cases of layers that take any shape, on inputs of one to three axes that one of ``inputs`` draws from a shape."""
    shapes = st.lists(sides(), min_size=1, max_size=3).map(tuple)
    return shapes.flatmap(lambda shape: cases(layers, st.one_of([drawn(shape) for drawn in inputs])))


def _floats(low: float, high: float) -> SearchStrategy[float]:
    parts = [st.just(0.0)] if low <= 0 <= high else []
    if high > SMALLEST:
        parts.append(st.floats(max(low, SMALLEST), high, width=32))
    if low < -SMALLEST:
        parts.append(st.floats(low, min(high, -SMALLEST), width=32))
    return st.one_of(parts)


def _uniform(shape: tuple[int, ...], low: float, high: float) -> SearchStrategy[Array]:
    def draw(seed: int) -> Array:
        x = np.random.default_rng(seed).uniform(low, high, shape)
        x = np.asarray(x).astype(np.float32).astype(np.float64)
        return np.asarray(np.where(np.abs(x) < SMALLEST, SMALLEST, x).clip(low, high))

    return seeds().map(draw)
