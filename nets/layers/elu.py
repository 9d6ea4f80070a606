"""The exponential linear units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer
from nets.floating import floating
from nets.refusals import IN_PLACE, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

# Klambauer et al. (2017), equation 14: with these, units of mean 0 and variance 1 keep both.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class ELU(Layer):
    """Exponential linear unit ``y = x`` where x > 0, else ``alpha * (exp(x) - 1)``, element by element, any shape.

    ``dx = dy`` where x > 0, else ``alpha * exp(x) * dy``, also at 0, as in torch. Only with alpha = 1 are the slopes
    to both sides of 0 the same.
    Clevert et al. (2016), equation 15; https://docs.pytorch.org/docs/stable/generated/torch.nn.ELU.html
    """

    alpha: float = 1.0

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return _exponential_unit(x, 1.0, self.alpha)

    def kinks(self, x: Array) -> Kinks | None:
        return None if self.alpha == 1 else Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.ELU(self.alpha)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, elementwise_cases

        layers = st.builds(cls, st.sampled_from([2.5, 1.0, 0.5, 0.0, -0.75]))
        return elementwise_cases(layers, arrays_off_kinks, lambda shape: arrays(shape, -8, 8))


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class SELU(Layer):
    """Scaled exponential linear unit: `ELU` with ``alpha`` = 1.6733, times ``scale`` = 1.0507, any shape.

    ``dx = scale * dy`` where x > 0, else ``scale * alpha * exp(x) * dy``, also at 0, as in torch.
    Klambauer et al. (2017), equation 2; https://docs.pytorch.org/docs/stable/generated/torch.nn.SELU.html
    """

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return _exponential_unit(x, SELU_SCALE, SELU_SCALE * SELU_ALPHA)

    def kinks(self, x: Array) -> Kinks:
        return Kinks(choice=x > 0, margin=np.abs(x))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.SELU()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, arrays_off_kinks, elementwise_cases

        return elementwise_cases(st.just(cls()), arrays_off_kinks, lambda shape: arrays(shape, -8, 8))


def _exponential_unit(x: Array, above: float, below: float) -> tuple[Array, Backward]:
    """Return ``above * x`` where x > 0, else ``below * (exp(x) - 1)``, and its pullback."""
    x = floating(x)
    mask = ~(x <= 0)  # with NaN, as torch
    negative = np.minimum(x, 0)  # no exponential of what is positive, which may overflow

    def backward(dy: Array) -> tuple[Array, Gradients]:
        return dy * np.where(mask, above, below * np.exp(negative)), {}

    return above * np.maximum(x, 0) + below * np.expm1(negative), backward
