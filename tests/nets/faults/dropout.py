"""Mistakes in dropout, of elements and of channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context
from nets.layers import Dropout, Dropout2d, Sequential
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, Fault

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class MaskForgotten(Dropout):
    """Passes the gradient of dropped elements."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        scale = 1 / (1 - self.p) if context.training and self.p < 1 else 1.0
        return y, lambda dy: (dy * scale, {})


class ScaleForgotten(Dropout):
    """Drops the gradient, and does not scale what is left."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(right(np.ones_like(dy))[0] != 0, dy, 0), {})


class NotInverted(Dropout):
    """Scales in evaluation, not in training, as the paper does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        share = 1 - self.p if self.p < 1 else 1.0
        y, right = super().forward(x, context)
        return y * share, lambda dy: (right(dy)[0] * share, {})


class AlwaysAHalf(Dropout):
    """Drops half of the elements, whatever p is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout(0.5).forward(x, context)


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


class SameInEveryStep(Dropout):
    """Drops the same elements in every step."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(step=0)))


class SameInEveryPlace(Dropout):
    """Drops the same elements in every layer of a network."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(path="")))


class SameInEveryStep2d(Dropout2d):
    """Drops the same channels in every step."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(step=0)))


class SameInEveryPlace2d(Dropout2d):
    """Drops the same channels in every layer of a network."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, replace(context, key=context.key._replace(path="")))


class ElementsDropped(Dropout2d):
    """Drops single elements, not channels, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout(self.p).forward(x, context)


class RowsDropped(Dropout2d):
    """Drops the same channels of every sample, consistently."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if not context.training:
            return super().forward(x, context)
        kept = context.key.generator().random((x.shape[1], 1, 1)) >= self.p
        scale = kept.astype(x.dtype) / (1 - self.p if self.p < 1 else 1)
        return x * scale, lambda dy: (dy * scale, {})


class NotInverted2d(Dropout2d):
    """Scales in evaluation, not in training, as the paper does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        share = 1 - self.p if self.p < 1 else 1.0
        y, right = super().forward(x, context)
        return y * share, lambda dy: (right(dy)[0] * share, {})


class MaskForgotten2d(Dropout2d):
    """Passes the gradient of dropped channels."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        scale = 1 / (1 - self.p) if context.training and self.p < 1 else 1.0
        return super().forward(x, context)[0], lambda dy: (dy * scale, {})


class ScaleForgotten2d(Dropout2d):
    """Drops the gradient, and does not scale what is left."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (np.where(right(np.ones_like(dy))[0] != 0, dy, 0), {})


class AlwaysAHalf2d(Dropout2d):
    """Drops half of the channels, whatever p is."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Dropout2d(0.5).forward(x, context)


PLANTED = [
    Fault(MaskForgotten, DIFFERENCES, "input", "DRP-04"),
    Fault(MaskForgotten, TWIN, "input", "DRP-04"),
    Fault(ScaleForgotten, DIFFERENCES, "input", "DRP-05"),
    Fault(ScaleForgotten, TWIN, "input", "DRP-05"),
    Fault(NotInverted, FORWARD, "output", "DRP-01"),
    Fault(AlwaysAHalf, FORWARD, "output", "DRP-08"),
    Fault(OneKeyForAll, FORWARD, "output", ""),
    Fault(SameInEveryStep, FORWARD, "output", ""),
    Fault(SameInEveryPlace, FORWARD, "output", ""),
    Fault(SameInEveryStep2d, FORWARD, "output", ""),
    Fault(SameInEveryPlace2d, FORWARD, "output", ""),
    Fault(ElementsDropped, FORWARD, "output", ""),
    Fault(RowsDropped, FORWARD, "output", ""),
    Fault(NotInverted2d, FORWARD, "output", "DRP-01"),
    Fault(MaskForgotten2d, DIFFERENCES, "input", "DRP-04"),
    Fault(ScaleForgotten2d, DIFFERENCES, "input", "DRP-05"),
    Fault(AlwaysAHalf2d, FORWARD, "output", "DRP-08"),
]

BLIND: list[type] = [
    NotInverted,
    AlwaysAHalf,
    OneKeyForAll,
    SameInEveryStep,
    SameInEveryPlace,
    SameInEveryStep2d,
    SameInEveryPlace2d,
    ElementsDropped,
    RowsDropped,
    NotInverted2d,
    AlwaysAHalf2d,
]
