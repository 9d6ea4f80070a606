"""Mistakes in losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcheck.contract import EVALUATION, Array, Context, LossBackward
from nets.losses import BCELoss, CrossEntropyLoss, MSELoss, QuadraticCost
from tests.nets.faults.fault import DIFFERENCES, FORWARD, TWIN, Fault


@dataclass(frozen=True, eq=False)
class WithoutBatchSize(CrossEntropyLoss):
    """Reports the mean, and descends the sum."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return value, lambda dvalue: right(dvalue) * len(prediction)


@dataclass(frozen=True, eq=False)
class MeanOverRows(MSELoss):
    """Averages over the batch only, consistently."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        share = prediction.size / len(prediction)
        return value * share, lambda dvalue: right(dvalue) * share


@dataclass(frozen=True, eq=False)
class WithoutDvalue(QuadraticCost):
    """Forgets the chain rule's factor."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return value, lambda dvalue: right(np.ones_like(dvalue))


@dataclass(frozen=True, eq=False)
class SoftenedDenominator(BCELoss):
    """Guards the division in the gradient, but not in the loss."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        guarded = prediction * (1 - prediction) + 1e-7
        return value, lambda dvalue: dvalue * (prediction - target) / guarded / prediction.size


PLANTED = [
    Fault(WithoutBatchSize, DIFFERENCES, "prediction", "LOS-03"),
    Fault(WithoutBatchSize, TWIN, "prediction", "LOS-03"),
    Fault(MeanOverRows, FORWARD, "output", ""),
    Fault(WithoutDvalue, DIFFERENCES, "prediction", ""),
    Fault(WithoutDvalue, "backward_is_linear", "prediction", ""),
    Fault(SoftenedDenominator, DIFFERENCES, "prediction", "LOS-14"),
]

BLIND: list[type] = [MeanOverRows]
