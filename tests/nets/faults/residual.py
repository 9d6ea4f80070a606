"""Mistakes where a value has several consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck.contract import Case
from nets.layers import Sequential, Sigmoid, Tanh
from tests.nets.faults.fault import TWIN

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Context
from nets.layers import Residual
from tests.nets.faults.fault import DIFFERENCES, FORWARD, Fault


class SkipForgotten(Residual):
    """Assigns the branch's gradient and does not add the skip's: only one of two consumers counts."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0] - dy, right(dy)[1])


class SkipTwice(Residual):
    """Adds the gradient of the skip twice."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0] + dy, right(dy)[1])


class BranchForgotten(Residual):
    """Passes dy on unchanged: the last consumer's gradient replaces the first's."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (dy.copy(), right(dy)[1])


class WithoutTheSkip(Residual):
    """Leaves the input out, forward and backward alike."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y - x, lambda dy: (right(dy)[0] - dy, right(dy)[1])


class BranchEvaluates(Residual):
    """Calls its branch in evaluation mode always."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(x, Context(False, context.key, context.tap, context.updates))


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


PLANTED = [
    Fault(RecursesAtOnce, DIFFERENCES, "input", "ENG-02"),
    Fault(RecursesAtOnce, TWIN, "input", "ENG-02"),
    Fault(SkipForgotten, DIFFERENCES, "input", "ENG-01"),
    Fault(SkipTwice, DIFFERENCES, "input", ""),
    Fault(BranchForgotten, DIFFERENCES, "input", "ENG-01"),
    Fault(WithoutTheSkip, FORWARD, "output", ""),
    Fault(BranchEvaluates, FORWARD, "output", ""),
]

BLIND: list[type] = [WithoutTheSkip, BranchEvaluates]
