"""Mistakes in embeddings."""

from __future__ import annotations

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients
from nets.layers import Embedding
from tests.nets.faults.fault import DIFFERENCES, FORWARD, INDICES, TWIN, Fault


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


class PaddingTrained(Embedding):
    """Gives the padding row a gradient."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Embedding(self.weight).forward(x, context)


class PaddingFromTheStart(Embedding):
    """Takes the absolute value of a padding index, though a negative one counts from the end."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        padding = self.padding_idx
        own = None if padding is None else min(abs(padding), len(self.weight) - 1)
        return Embedding(self.weight, own).forward(x, context)


class PaddingIsZero(Embedding):
    """Returns zeros for the padding, whatever its row holds."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        padding = -1 if self.padding_idx is None else self.padding_idx % len(self.weight)
        return np.where((x == padding)[..., None], 0, y), right


class PaddingIfTrue(Embedding):
    """Tests ``if padding_idx``, so padding in row 0 is trained."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return Embedding(self.weight, self.padding_idx or None).forward(x, context)


class NegativeFromTheEnd(Embedding):
    """Looks up a negative index from the end, as NumPy does."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return super().forward(np.where(x < 0, x + len(self.weight), x), context)


class ErrorOfNumPy(Embedding):
    """Does not check for a too large index: NumPy raises an error that does not name the layer."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        self.weight[x]
        return super().forward(x, context)


PLANTED = [
    Fault(PaddingFromTheStart, DIFFERENCES, "weight", ""),
    Fault(LastIndexWins, DIFFERENCES, "weight", "EMB-01"),
    Fault(Gathered, DIFFERENCES, "weight", "EMB-03"),
    Fault(PaddingTrained, TWIN, "weight", ""),
    Fault(PaddingTrained, DIFFERENCES, "weight", ""),
    Fault(PaddingFromTheStart, TWIN, "weight", ""),
    Fault(PaddingIsZero, FORWARD, "output", ""),
    Fault(PaddingIfTrue, DIFFERENCES, "weight", ""),
    Fault(PaddingIfTrue, TWIN, "weight", ""),
    Fault(NegativeFromTheEnd, INDICES, None, ""),
    Fault(ErrorOfNumPy, INDICES, None, ""),
]

BLIND: list[type] = [PaddingIsZero, NegativeFromTheEnd, ErrorOfNumPy]
