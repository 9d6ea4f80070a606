"""The losses and their registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gradcheck.contract import EVALUATION, Array, Case, Context, Loss, LossBackward

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class MSELoss(Loss):
    """Mean squared error ``mean((p - t)^2)`` over all elements; prediction and target of one shape.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html
    """

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        self.require(prediction, target)
        difference = prediction - target

        def backward(dvalue: Array) -> Array:
            return np.asarray(dvalue * difference * difference.dtype.type(2 / difference.size))

        return np.asarray((difference * difference).mean()), backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.MSELoss()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _array_cases(cls, (-4, 4), (-4, 4))


@dataclass(frozen=True, eq=False)
class QuadraticCost(Loss):
    """Half the squared error, summed over outputs, averaged over the batch: ``sum((p - t)^2) / (2 batch)``.

    Prediction and target are of one shape, (batch, ...). For d outputs the gradient is d/2 times `MSELoss`'s.
    Nielsen, Neural Networks and Deep Learning (2015), equation 6.
    """

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        self.require(prediction, target)
        difference = prediction - target
        batch = prediction.dtype.type(len(prediction))

        def backward(dvalue: Array) -> Array:
            return np.asarray(dvalue * difference / batch)

        return np.asarray((difference * difference).sum() / (2 * batch)), backward

    def twin(self) -> torch.nn.Module:
        import torch

        class Quadratic(torch.nn.Module):
            def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                return ((prediction - target) ** 2).sum() / (2 * len(prediction))

        return Quadratic()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _array_cases(cls, (-4, 4), (-4, 4))


@dataclass(frozen=True, eq=False)
class BCELoss(Loss):
    """Binary cross-entropy ``mean(-t log p - (1 - t) log(1 - p))`` over all elements, for 0 < p < 1 and 0 <= t <= 1.

    At p = 0 or 1 the formula is infinite or undefined, and that is what it gives; torch clamps the logarithm at
    -100 there, so that the two agree only for p in [1e-43, 1 - 1e-16].
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html
    """

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        self.require(prediction, target)
        # The pullback divides by 1 - p, whose rounding is large beside it where p is near 1.
        rest = context.tapped("loss", "one_minus_p", 1 - prediction)
        terms = target * np.log(prediction) + (1 - target) * np.log1p(-prediction)

        def backward(dvalue: Array) -> Array:
            slope = (prediction - target) / (rest * prediction)
            return np.asarray(dvalue * slope / prediction.dtype.type(prediction.size))

        return np.asarray(-terms.mean()), backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.BCELoss()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        return _array_cases(cls, (2.0**-5, 1 - 2.0**-5), (0, 1))


@dataclass(frozen=True, eq=False)
class CrossEntropyLoss(Loss):
    """Softmax cross-entropy ``mean_n(logsumexp(z_n) - z_n[t_n])``.

    Predictions are logits z (batch, classes), targets class indices t (batch,). Computed as log-softmax,
    ``(z - m) - log(sum(exp(z - m)))`` with m the largest of a row, so that no logits overflow;
    the gradient is ``(softmax(z) - one_hot(t)) / batch``. Raises ValueError for what is not the index of a class.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html
    """

    class_targets: ClassVar[bool] = True

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        self.require(prediction, target)
        batch, classes = prediction.shape
        if target.dtype.kind not in "iu":
            raise ValueError(f"CrossEntropyLoss needs classes as integers, got {target.dtype}")
        if batch and not (target.min() >= 0 and target.max() < classes):
            raise ValueError(f"CrossEntropyLoss needs classes 0 to {classes - 1}, got {target.min()} to {target.max()}")
        rows = np.arange(batch)
        shifted = prediction - prediction.max(axis=1, keepdims=True)
        # Where one class dominates, the sum is near 1 and its logarithm near 0: the rounding of the sum is then large
        # beside the logarithm, and beside softmax - 1.
        total = context.tapped("loss", "sum_exp", np.exp(shifted).sum(axis=1, keepdims=True))
        log_softmax = context.tapped("loss", "log_softmax", shifted - np.log(total))

        def backward(dvalue: Array) -> Array:
            dz = context.tapped("backward", "softmax", np.exp(log_softmax)).copy()
            dz[rows, target] -= 1
            return np.asarray(dvalue * dz / prediction.dtype.type(batch))

        return np.asarray(-log_softmax[rows, target].mean()), backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.CrossEntropyLoss()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, labels, sides

        def of_sizes(batch: int, classes: int) -> SearchStrategy[Case]:
            return cases(st.just(cls()), arrays((batch, classes), -8, 8), labels(batch, classes))

        return st.tuples(sides(), sides(minimum=2)).flatmap(lambda sizes: of_sizes(*sizes))


def _array_cases(
    loss: type[Loss], predictions: tuple[float, float], targets: tuple[float, float]
) -> SearchStrategy[Case]:
    from hypothesis import strategies as st

    from gradcheck.strategies import arrays, cases, sides

    shapes = st.lists(sides(), min_size=2, max_size=3).map(tuple)
    return shapes.flatmap(lambda shape: cases(st.just(loss()), arrays(shape, *predictions), arrays(shape, *targets)))


LOSSES: tuple[type[Loss], ...] = (MSELoss, QuadraticCost, BCELoss, CrossEntropyLoss)
