"""Errors: differences of prediction and target, squared, absolute, or squared only where they are small."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Case, Context, Loss, LossBackward
from nets.losses.pairs import paired
from nets.losses.reduction import DEPRECATED, Reduced, Reduction, reduced
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class MSELoss(Reduced):
    """Squared error ``(p - t)^2`` of every element, reduced; prediction and target of one shape, any.

    ``dp = 2 (p - t) dvalue``, over the number of elements for the mean.
    Raises ValueError for another reduction than "mean", "sum" and "none".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MSELoss.html
    """

    _: KW_ONLY  # torch has a deprecated argument in this place
    reduction: Reduction = "mean"

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


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class L1Loss(Reduced):
    """Absolute error ``|p - t|`` of every element, reduced; prediction and target of one shape, any.

    ``dp = sign(p - t) dvalue``, over the number of elements for the mean; 0 where p = t or either is NaN, as in torch.
    Raises ValueError for another reduction than "mean", "sum" and "none".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.L1Loss.html
    """

    _: KW_ONLY  # torch has a deprecated argument in this place
    reduction: Reduction = "mean"

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        difference = prediction - target
        value, of_terms = reduced(np.abs(difference), self.reduction)
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * np.nan_to_num(np.sign(difference)))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.L1Loss(reduction=self.reduction)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from nets.losses.strategies import error_cases, reductions

        return error_cases(st.builds(cls, reduction=reductions()))


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class HuberLoss(Reduced):
    """Huber's error of every element, reduced: ``d^2 / 2`` where |d| < delta, else ``delta (|d| - delta / 2)``.

    d = p - t, prediction and target of one shape, any. ``dp = dvalue`` times d, clipped to [-delta, delta]; over the
    number of elements for the mean. Raises ValueError for another reduction than "mean", "sum" and "none", and unless
    delta > 0.
    Huber (1964), "Robust estimation of a location parameter".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.HuberLoss.html
    """

    reduction: Reduction = "mean"
    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.delta > 0:
            raise ValueError(f"HuberLoss needs a positive delta, got {self.delta}")

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        difference = prediction - target
        size = np.abs(difference)
        near = np.minimum(size, self.delta)  # |d| where the error is squared; the rest of it counts delta times
        value, of_terms = reduced(near * (size - near / 2), self.reduction)
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * np.copysign(near, difference))

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.HuberLoss(self.reduction, self.delta)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from nets.losses.strategies import error_cases, reductions

        return error_cases(st.builds(cls, reductions(), st.sampled_from([1.0, 0.5, 2.5])))
