"""Mistakes where a value has several consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context
from nets.layers import Residual, Sequential, Sigmoid, Tanh
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, caught_by
from tests.nets.faults.passes import given, with_dx

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@caught_by(DIFFERENCES, tensor="input", name="ENG-01")
class SkipForgotten(Residual):
    """Assigns the branch's gradient and does not add the skip's: only one of two consumers counts."""

    forward = with_dx(lambda at, dy: at.right(dy)[0] - dy)


@caught_by(DIFFERENCES, tensor="input")
class SkipTwice(Residual):
    """Adds the gradient of the skip twice."""

    forward = with_dx(lambda at, dy: at.right(dy)[0] + dy)


@caught_by(DIFFERENCES, tensor="input", name="ENG-01")
class BranchForgotten(Residual):
    """Passes dy on unchanged: the last consumer's gradient replaces the first's."""

    forward = with_dx(lambda _, dy: dy.copy())


@caught_by(FORWARD, tensor="output")
class WithoutTheSkip(Residual):
    """Leaves the input out, forward and backward alike."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y - x, lambda dy: (right(dy)[0] - dy, right(dy)[1])


@caught_by(FORWARD, tensor="output")
class BranchEvaluates(Residual):
    """Calls its branch in evaluation mode always."""

    forward = given(context=lambda context: Context(False, context.key, context.tap, context.updates))


@caught_by(DIFFERENCES, TWIN, tensor="input", name="ENG-02")
class RecursesAtOnce(Sequential):
    """Propagates back from each consumer of a value at once: earlier layers get the first gradient twice."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        shared, before = self.layers[0].forward(x, context.child("0"))
        y, after = self.layers[1].forward(shared, context.child("1"))
        return y, lambda dy: before(dy + after(dy)[0])

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases

        return cases(st.just(cls((Tanh(), Residual(Sigmoid())))), arrays((3, 4)))
