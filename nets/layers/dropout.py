"""Dropping elements, or whole channels, at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Key, Layer
from nets.floating import floating
from nets.refusals import IN_PLACE, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """Inverted dropout ``y = mask * x / (1 - p)`` in training, ``y = x`` in evaluation, element by element, any shape.

    ``dx`` is ``dy`` times the same. The mask is 1 where a uniform number of [0, 1) is at least ``p``; the numbers are
    ``context.key.generator().random(x.shape)``, float64 whatever x is, and so the same for the same key: of the same
    seed, step and place in the network. With p = 1 all is 0. Raises ValueError for p outside [0, 1].
    Srivastava et al. (2014); https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"{type(self).__name__} needs a probability p in [0, 1], got {self.p}")

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x = floating(x)
        mask_shape = self._mask_shape(x)
        if not context.training:
            return x.copy(), lambda dy: (dy.copy(), {})
        kept = context.key.generator().random(mask_shape) >= self.p
        scale = kept.astype(x.dtype) / (1 - self.p if self.p < 1 else 1)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            return dy * scale, {}

        return x * scale, backward

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Dropout):
            """torch's dropout, but for where its random numbers come from."""

            key = Key()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if not self.training or self.p in (0, 1):
                    return super().forward(x)  # nothing is left to chance
                uniforms = torch.from_numpy(np.asarray(self.key.generator().random(tuple(x.shape))))
                return x.masked_fill((uniforms < self.p).to(x.device), 0) / (1 - self.p)

        return Twin(self.p)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import sides

        return cls._cases(st.lists(sides(), min_size=1, max_size=3))

    @classmethod
    def _cases(cls, shapes: SearchStrategy[list[int]]) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        layers = st.builds(cls, st.sampled_from([0.5, 0.1, 0.25, 0.8, 0.0, 1.0]))
        return shapes.flatmap(lambda shape: cases(layers, arrays(tuple(shape))))

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        return x.shape


@refuses(**IN_PLACE)
@dataclass(frozen=True, eq=False)
class Dropout2d(Dropout):
    """`Dropout` of whole channels of images (batch, channels, height, width): the same formula, a number a channel.

    The numbers are ``context.key.generator().random((batch, channels, 1, 1))``. Raises `ShapeError` for other axes.
    Tompson et al. (2015); https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout2d.html
    """

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Dropout2d):
            """torch's dropout of channels, but for where its random numbers come from."""

            key = Key()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if not self.training or self.p in (0, 1):
                    return super().forward(x)  # nothing is left to chance
                uniforms = torch.from_numpy(self.key.generator().random((x.shape[0], x.shape[1])))
                return x.masked_fill((uniforms < self.p).to(x.device)[:, :, None, None], 0) / (1 - self.p)

        return Twin(self.p)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import sides

        return cls._cases(st.lists(sides(maximum=3), min_size=4, max_size=4))

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        self.require(x, "batch", "channels", "height", "width")
        return (*x.shape[:2], 1, 1)
