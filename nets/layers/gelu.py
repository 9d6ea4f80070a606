"""The Gaussian error linear unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Layer
from nets.floating import floating

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

Approximation = Literal["none", "tanh"]
CUBIC = 0.044715  # Hendrycks and Gimpel (2016), section 2


@dataclass(frozen=True, eq=False)
class GELU(Layer):
    """Gaussian error linear unit ``y = x * cdf(x)``, ``cdf = (1 + z) / 2``, element by element, any shape.

    With ``approximate`` "none" cdf is the normal distribution, ``z = erf(x / sqrt(2))``; with "tanh" it is close to it
    by 2e-4, ``z = tanh(sqrt(2 / pi) * (x + 0.044715 x^3))``. ``dx = dy * (cdf + x * density)``, where density is the
    derivative of cdf. Raises ValueError for another ``approximate``.
    Hendrycks and Gimpel (2016); https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html
    """

    approximate: Approximation = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ValueError(f"GELU needs approximate of none or tanh, got {self.approximate!r}")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        # In the lower tail 1 + z is small beside the rounding of z: so z is tapped.
        z = context.tapped("forward", "z", self._z(x))
        cdf = (1 + z) / 2

        def backward(dy: Array) -> tuple[Array, Gradients]:
            if self.approximate == "tanh":
                density = (1 - z * z) * (1 + 3 * CUBIC * (x * x)) / math.sqrt(2 * math.pi)
            else:
                density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
            return dy * (cdf + x * density), {}

        return x * cdf, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.GELU(self.approximate)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, elementwise_cases

        layers = st.builds(cls, st.sampled_from(["none", "tanh"]))
        return elementwise_cases(layers, arrays, lambda shape: arrays(shape, -8, 8))

    def _z(self, x: Array) -> Array:
        if self.approximate == "tanh":
            return np.asarray(np.tanh(math.sqrt(2 / math.pi) * (x + CUBIC * (x * x * x))))
        from scipy.special import erf  # so that the import of the layers stays quick

        return np.asarray(erf(x * math.sqrt(0.5)))
