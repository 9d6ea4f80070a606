"""Mistakes in embeddings."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Embedding
from tests.nets.faults.fault import DIFFERENCES, FORWARD, INDICES, TWIN, caught_by
from tests.nets.faults.passes import given


@caught_by(DIFFERENCES, TWIN, tensor="weight")
class PaddingFromTheStart(Embedding):
    """Takes the absolute value of a padding index, though a negative one counts from the end."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        padding = self.padding_idx
        own = None if padding is None else min(abs(padding), len(self.weight) - 1)
        return Embedding(self.weight, own).forward(x, context)


@caught_by(DIFFERENCES, tensor="weight", name="EMB-01")
class LastIndexWins(Embedding):
    """Assigns the gradients of a repeated index, where it must add them up."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dweight = np.zeros(self.weight.shape, dy.dtype)
            dweight[x] += dy
            if self.padding_idx is not None:
                dweight[self.padding_idx] = 0
            return right(dy)[0], {"weight": dweight}

        return y, backward


@caught_by(DIFFERENCES, tensor="weight", name="EMB-03")
class Gathered(Embedding):
    """Gathers gradients by index, where it must scatter them."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            rows, places = dy.reshape(-1, dy.shape[-1]), np.resize(x.reshape(-1), len(self.weight))
            dweight = rows[places % len(rows)]
            if self.padding_idx is not None:
                dweight[self.padding_idx] = 0
            return right(dy)[0], {"weight": dweight}

        return y, backward


@caught_by(TWIN, DIFFERENCES, tensor="weight")
class PaddingTrained(Embedding):
    """Gives the padding row a gradient."""

    forward = given(layer=lambda self: Embedding(self.weight))


@caught_by(FORWARD, tensor="output")
class PaddingIsZero(Embedding):
    """Returns zeros for the padding, whatever its row holds."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        padding = -1 if self.padding_idx is None else self.padding_idx % len(self.weight)
        return np.where((x == padding)[..., None], 0, y), right


@caught_by(DIFFERENCES, TWIN, tensor="weight")
class PaddingIfTrue(Embedding):
    """Tests ``if padding_idx``, so padding in row 0 is trained."""

    forward = given(layer=lambda self: Embedding(self.weight, self.padding_idx or None))


@caught_by(INDICES)
class NegativeFromTheEnd(Embedding):
    """Looks up a negative index from the end, as NumPy does."""

    forward = given(x=lambda self, x: np.where(x < 0, x + len(self.weight), x))


@caught_by(INDICES)
class ErrorOfNumPy(Embedding):
    """Does not check for a too large index: NumPy raises an error that does not name the layer."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        self.weight[x]
        return super().forward(x, context)
