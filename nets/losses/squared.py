"""Squared errors."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Case, Context, Loss, LossBackward
from nets.losses.pairs import paired
from nets.losses.reduction import DEPRECATED, Reduction, reduced, require_reduction
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class MSELoss(Loss):
    """Squared error ``(p - t)^2`` of every element, reduced; prediction and target of one shape, any.

    ``dp = 2 (p - t) dvalue``, over the number of elements for the mean.
    Raises ValueError for another reduction than "mean", "sum" and "none".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html
    """

    _: KW_ONLY  # torch has a deprecated argument in this place
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        require_reduction(self, self.reduction)

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        difference = prediction - target
        value, of_terms = reduced(difference * difference, self.reduction)
        return value, lambda dvalue: np.asarray(2 * of_terms(dvalue) * difference)

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.MSELoss(reduction=self.reduction)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from nets.losses.strategies import error_cases, reductions

        return error_cases(st.builds(cls, reduction=reductions()))


@dataclass(frozen=True, eq=False)
class QuadraticCost(Loss):
    """Half the squared error, summed over outputs, averaged over the batch: ``sum((p - t)^2) / (2 batch)``.

    Prediction and target are of one shape, (batch, ...); ``dp = (p - t) dvalue / batch``. For d outputs the gradient is
    d/2 times that of `MSELoss`.
    Nielsen, Neural Networks and Deep Learning (2015), equation 6.
    """

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        difference = prediction - target
        value, of_terms = reduced(difference * difference / 2, "mean", len(prediction))
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * difference)

    def twin(self) -> torch.nn.Module:
        import torch

        class Quadratic(torch.nn.Module):
            def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                return ((prediction - target) ** 2).sum() / (2 * len(prediction))

        return Quadratic()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from nets.losses.strategies import error_cases

        return error_cases(st.just(cls()))
