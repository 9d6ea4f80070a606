"""Mistakes in dropout, of elements and of channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context
from nets.layers import Dropout, Dropout2d, Sequential
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, caught_by
from tests.nets.faults.passes import given, with_dx, with_factor

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@caught_by(DIFFERENCES, TWIN, tensor="input", name="DRP-04")
class MaskForgotten(Dropout):
    """Passes the gradient of dropped elements."""

    forward = with_dx(lambda at, dy: dy / (1 - at.subject.p) if at.context.training and at.subject.p < 1 else dy * 1.0)


@caught_by(DIFFERENCES, TWIN, tensor="input", name="DRP-05")
class ScaleForgotten(Dropout):
    """Drops the gradient, and does not scale what is left."""

    forward = with_dx(lambda at, dy: np.where(at.right(np.ones_like(dy))[0] != 0, dy, 0))


@caught_by(FORWARD, tensor="output", name="DRP-01")
class NotInverted(Dropout):
    """Scales in evaluation, not in training, as the paper does."""

    forward = with_factor(lambda at: 1 - at.subject.p if at.subject.p < 1 else 1.0)


@caught_by(FORWARD, tensor="output", name="DRP-08")
class AlwaysAHalf(Dropout):
    """Drops half of the elements, whatever p is."""

    forward = given(layer=lambda _: Dropout(0.5))


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

    forward = given(context=lambda context: replace(context, key=context.key._replace(step=0)))


@caught_by(FORWARD, tensor="output")
class SameInEveryPlace(Dropout):
    """Drops the same elements in every layer of a network."""

    forward = given(context=lambda context: replace(context, key=context.key._replace(path="")))


@caught_by(FORWARD, tensor="output")
class SameInEveryStep2d(Dropout2d):
    """Drops the same channels in every step."""

    forward = SameInEveryStep.forward


@caught_by(FORWARD, tensor="output")
class SameInEveryPlace2d(Dropout2d):
    """Drops the same channels in every layer of a network."""

    forward = SameInEveryPlace.forward


@caught_by(FORWARD, tensor="output")
class ElementsDropped(Dropout2d):
    """Drops single elements, not channels, consistently."""

    forward = given(layer=lambda self: Dropout(self.p))


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
    """Scales in evaluation, not in training, as the paper does."""

    forward = NotInverted.forward


@caught_by(DIFFERENCES, tensor="input", name="DRP-04")
class MaskForgotten2d(Dropout2d):
    """Passes the gradient of dropped channels."""

    forward = MaskForgotten.forward


@caught_by(DIFFERENCES, tensor="input", name="DRP-05")
class ScaleForgotten2d(Dropout2d):
    """Drops the gradient, and does not scale what is left."""

    forward = ScaleForgotten.forward


@caught_by(FORWARD, tensor="output", name="DRP-08")
class AlwaysAHalf2d(Dropout2d):
    """Drops half of the channels, whatever p is."""

    forward = given(layer=lambda _: Dropout2d(0.5))
