"""Rectifiers: with nothing, a given slope or a learnt one below 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer, parameter
from nets.floating import floating
from nets.initializers import Constant
from nets.layers.masking import masked
from nets.refusals import IN_PLACE, PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class ReLU(Layer):
    """Rectifier ``y = max(x, 0)``, element by element, any shape; ``dx = dy`` where x > 0, else 0, as in torch.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return masked(dy, ~(x <= 0)), {}  # of NaN, too, as torch

        return np.maximum(x, 0), backward

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.ReLU()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, elementwise_cases

        return elementwise_cases(st.just(cls()), arrays_off_kinks, arrays)


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class LeakyReLU(Layer):
    """Leaky rectifier ``y = x`` where x > 0, else ``negative_slope * x``, element by element, any shape.

    ``dx = dy`` where x > 0, else ``negative_slope * dy``, also at 0, as in torch.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html
    """

    negative_slope: float = 0.01

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        mask = x > 0

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return np.where(mask, dy, self.negative_slope * dy), {}

        return np.where(mask, x, self.negative_slope * x), backward

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.LeakyReLU(self.negative_slope)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, elementwise_cases

        # Slopes of 0, above 1 and below 0 tell a mask of the input from one of the output.
        layers = st.builds(cls, st.sampled_from([-0.25, 1.5, 0.0, -0.25, 1.5, 0.3, 0.01]))
        return elementwise_cases(layers, arrays_off_kinks, arrays)


@refuses(**PLACEMENT)
@dataclass(frozen=True, eq=False)
class PReLU(Layer):
    """Rectifier of learnt slope ``y = x`` where x > 0, else ``weight * x``, element by element.

    One slope serves an input of any shape; several are those of the channels of (batch, channels, ...). ``dx = dy``
    where x > 0, else ``weight * dy``, also at 0, as in torch; a slope's gradient is the sum of ``dy * x`` over all
    elements of its own that are not positive. Raises `ShapeError` for another number of channels, ValueError for no
    slope at all.
    He et al. (2015), section 2.1; https://docs.pytorch.org/docs/stable/generated/torch.nn.PReLU.html
    """

    weight: Array = parameter(Constant(0.25))  # (1,) or (channels,)

    def __post_init__(self) -> None:
        if len(self.weight) < 1:
            raise ValueError(f"PReLU needs num_parameters of at least 1, got {len(self.weight)}")

    @classmethod
    def create(cls, num_parameters: int = 1, init: float = 0.25) -> Self:
        """Return a layer whose slopes are all ``init``."""
        return cls(np.full(num_parameters, init, np.float64))

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        slopes = len(self.weight)
        if slopes > 1 and (x.ndim < 2 or x.shape[1] != slopes):
            self.require(x, "batch", slopes, "...")
        weight = self.weight.reshape(-1, *[1] * (x.ndim - 2)) if slopes > 1 else self.weight[0]
        others = tuple(axis for axis in range(x.ndim) if slopes == 1 or axis != 1)
        # Of the input: with a negative slope the output's sign tells nothing.
        mask = x > 0

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dweight = np.where(mask, 0, dy * x).sum(axis=others)
            return np.where(mask, dy, weight * dy), {"weight": dweight.reshape(slopes)}

        return np.where(mask, x, weight * x), backward

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.PReLU(len(self.weight))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            slopes, shape = 1, draw(st.lists(sides(maximum=4), min_size=1, max_size=3))
            if draw(st.sampled_from([True, True, False])):
                slopes = draw(sides(minimum=2, maximum=4))
                shape.insert(1, slopes)
            # Slopes of 0, above 1 and below 0 tell a mask of the input from one of the output.
            layer = arrays((slopes,), -2, 2).map(cls)
            return draw(cases(layer, arrays_off_kinks(tuple(shape)) | arrays(tuple(shape))))

        return drawn()
