"""Mistakes in dropout, of elements and of channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context
from nets.layers import Dropout, Dropout2d, Sequential
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, caught_by

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@caught_by(DIFFERENCES, TWIN, tensor="input", name="DRP-04")
class MaskForgotten(Dropout):
    """Lets the gradient of dropped elements pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        scale = 1 / (1 - self.p) if context.training and self.p < 1 else 1.0
        return y, lambda dy: (dy * scale, {})


@caught_by(DIFFERENCES, TWIN, tensor="input", name="DRP-05")
class ScaleForgotten(Dropout):
    """Drops the gradient, and does not scale what is left."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(right(np.ones_like(dy))[0] != 0, dy, 0), {})


@caught_by(FORWARD, tensor="output", name="DRP-01")
class NotInverted(Dropout):
    """Scales in evaluation in place of in training, as the paper does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        share = 1 - self.p if self.p < 1 else 1.0
        y, right = super().forward(x, context)
        return y * share, lambda dy: (right(dy)[0] * share, {})


@caught_by(FORWARD, tensor="output", name="DRP-08")
class AlwaysAHalf(Dropout):
    """Drops half, whatever it is asked."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout(0.5).forward(x, context)


@caught_by(FORWARD, tensor="output")
class OneKeyForAll(Sequential):
    """Gives every layer the same key, so that all drop the same elements."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, first = self.layers[0].forward(x, context)
        y, second = self.layers[1].forward(y, context)
        return y, lambda dy: (first(second(dy)[0])[0], {})

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        return cases(st.just(cls((Dropout(0.5), Dropout(0.25)))), arrays((3, 5)))


@caught_by(FORWARD, tensor="output")
class SameInEveryStep(Dropout):
    """Drops the same elements in every step."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(step=0)))


@caught_by(FORWARD, tensor="output")
class SameInEveryPlace(Dropout):
    """Drops the same elements in every layer of a network."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(path="")))


@caught_by(FORWARD, tensor="output")
class SameInEveryStep2d(Dropout2d):
    """Drops the same channels in every step."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(step=0)))


@caught_by(FORWARD, tensor="output")
class SameInEveryPlace2d(Dropout2d):
    """Drops the same channels in every layer of a network."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(path="")))


@caught_by(FORWARD, tensor="output")
class ElementsDropped(Dropout2d):
    """Drops single elements, not channels, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout(self.p).forward(x, context)


@caught_by(FORWARD, tensor="output")
class RowsDropped(Dropout2d):
    """Drops the same channels of every sample, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if not context.training:
            return super().forward(x, context)
        kept = context.key.generator().random((x.shape[1], 1, 1)) >= self.p
        scale = kept.astype(x.dtype) / (1 - self.p if self.p < 1 else 1)
        return x * scale, lambda dy: (dy * scale, {})


@caught_by(FORWARD, tensor="output", name="DRP-01")
class NotInverted2d(Dropout2d):
    """Scales in evaluation in place of in training, as the paper does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        share = 1 - self.p if self.p < 1 else 1.0
        y, right = super().forward(x, context)
        return y * share, lambda dy: (right(dy)[0] * share, {})


@caught_by(DIFFERENCES, tensor="input", name="DRP-04")
class MaskForgotten2d(Dropout2d):
    """Lets the gradient of dropped channels pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        scale = 1 / (1 - self.p) if context.training and self.p < 1 else 1.0
        return super().forward(x, context)[0], lambda dy: (dy * scale, {})


@caught_by(DIFFERENCES, tensor="input", name="DRP-05")
class ScaleForgotten2d(Dropout2d):
    """Drops the gradient, and does not scale what is left."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(right(np.ones_like(dy))[0] != 0, dy, 0), {})


@caught_by(FORWARD, tensor="output", name="DRP-08")
class AlwaysAHalf2d(Dropout2d):
    """Drops half of the channels, whatever it is asked."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout2d(0.5).forward(x, context)
