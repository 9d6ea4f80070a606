"""Losses of class indices."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from gradcheck.contract import EVALUATION, Array, Case, Context, Loss, LossBackward, require_shape
from nets.floating import floating
from nets.losses.reduction import DEPRECATED, Reduced, Reduction, reduced
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class CrossEntropyLoss(Reduced):
    """Softmax cross-entropy of logits: ``sum_c q_c (logsumexp(z) - z_c)`` of every target, reduced.

    Predictions are logits z (batch, classes, ...), targets class indices t (batch, ...), and
    ``q = weight ((1 - label_smoothing) one_hot(t) + label_smoothing / classes)``, or 0 where t is ``ignore_index``.
    The mean is over the sum of weight_t of the targets that are not ignored, NaN if that is 0. Computed by log-softmax,
    ``(z - m) - log(sum(exp(z - m)))`` with m the largest of the logits, so that none overflows;
    ``dz = (softmax(z) sum(q) - q) dvalue``, over that sum of weights for the mean.

    Raises ValueError for another reduction than "mean", "sum" and "none", a label_smoothing outside [0, 1], and targets
    that are not indices of classes; torch's probabilities of classes are not supported.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html
    """

    class_targets: ClassVar[bool] = True

    weight: Array | None = None
    _: KW_ONLY  # torch has a deprecated argument in this place
    ignore_index: int = -100
    reduction: Reduction = "mean"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss needs label_smoothing in [0, 1], got {self.label_smoothing}")

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        rows = _rows(self, prediction, target, self.weight, self.ignore_index)
        shifted = rows.prediction - rows.prediction.max(axis=1, keepdims=True)
        # Where one class dominates, the sum is near 1 and its logarithm near 0: the rounding of the sum is then large
        # beside the logarithm, and beside softmax - 1.
        total = context.tapped("loss", "sum_exp", np.exp(shifted).sum(axis=1, keepdims=True))
        log_softmax = context.tapped("loss", "log_softmax", shifted - np.log(total))
        hard = (1 - self.label_smoothing) * rows.weight
        terms, mass = -hard * rows.of_counted(log_softmax[rows.chosen]), hard
        if self.label_smoothing:
            weights = np.ones_like(shifted[0]) if rows.weights is None else rows.weights
            soft = self.label_smoothing / len(weights) * weights
            terms, mass = rows.of_counted(terms - (log_softmax @ soft)[:, None]), mass + soft.sum()
        value, of_terms = reduced(terms.reshape(target.shape), self.reduction, rows.total)

        def backward(dvalue: Array) -> Array:
            dz = context.tapped("backward", "softmax", np.exp(log_softmax)) * mass
            dz[rows.chosen] -= hard
            if self.label_smoothing:
                dz -= soft
            return rows.back(dz, of_terms(dvalue), prediction.shape)

        return value, backward

    def twin(self) -> torch.nn.Module:
        import torch

        weight = None if self.weight is None else torch.tensor(self.weight, dtype=torch.float64)
        return torch.nn.CrossEntropyLoss(
            weight, ignore_index=self.ignore_index, reduction=self.reduction, label_smoothing=self.label_smoothing
        )

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from nets.losses.strategies import class_cases

        return class_cases(cls, label_smoothing=st.sampled_from([0.0, 0.1, 0.3, 1.0]))


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class NLLLoss(Reduced):
    """Negative log-likelihood ``-weight_t p_t`` of every target, reduced; 0 where that is ``ignore_index``.

    Predictions are logarithms of probabilities p (batch, classes, ...), such as a log-softmax gives, targets class
    indices t (batch, ...). The mean is over the sum of the weights of the targets that are not ignored, NaN if that
    is 0. ``dp = -weight_t one_hot(t) dvalue``, over that sum for the mean. Raises ValueError for another reduction than
    "mean", "sum" and "none", and for targets that are not indices of classes.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html
    """

    class_targets: ClassVar[bool] = True

    weight: Array | None = None
    _: KW_ONLY  # torch has a deprecated argument in this place
    ignore_index: int = -100
    reduction: Reduction = "mean"

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        rows = _rows(self, prediction, target, self.weight, self.ignore_index)
        terms = -rows.weight * rows.of_counted(rows.prediction[rows.chosen])
        value, of_terms = reduced(terms.reshape(target.shape), self.reduction, rows.total)

        def backward(dvalue: Array) -> Array:
            dp = np.zeros_like(rows.prediction)
            dp[rows.chosen] = -rows.weight
            return rows.back(dp, of_terms(dvalue), prediction.shape)

        return value, backward

    def twin(self) -> torch.nn.Module:
        import torch

        weight = None if self.weight is None else torch.tensor(self.weight, dtype=torch.float64)
        return torch.nn.NLLLoss(weight, ignore_index=self.ignore_index, reduction=self.reduction)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from nets.losses.strategies import class_cases

        return class_cases(cls)


class _Rows(NamedTuple):
    """Predictions (rows, classes), and ``chosen``, the indices of those of the targets, (rows, 1) each.

    ``counted`` (rows, 1) are the rows that are not ignored, None if all are. ``weight`` is that of each row, (rows, 1),
    and ``total`` their sum; 1 and None if all weigh the same. ``weights`` are those of the classes, if given.
    """

    prediction: Array
    chosen: tuple[Array, Array]
    counted: Array | None
    weight: Array | float
    total: Array | None
    weights: Array | None

    def of_counted(self, array: Array) -> Array:
        """Return an array (rows, ...), with 0 for ignored rows."""
        return array if self.counted is None else np.where(self.counted, array, 0)

    def back(self, dz: Array, of_terms: Array, shape: tuple[int, ...]) -> Array:
        """Return the gradient of the predictions in their own ``shape``, from that of each term; 0 of ignored rows."""
        scaled = self.of_counted(dz * of_terms.reshape(-1, 1))
        if len(shape) == 2:
            return scaled
        return np.moveaxis(scaled.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _rows(loss: Loss, prediction: Array, target: Array, weight: Array | None, ignore_index: int) -> _Rows:
    """Return predictions (batch, classes, ...) and targets (batch, ...) with one row for each target."""
    who = type(loss).__name__
    if target.dtype.kind not in "iu":
        soft = "; probabilities of classes are not supported" if target.shape == prediction.shape else ""
        raise ValueError(f"{who} needs classes as integers, got {target.dtype}{soft}")
    loss.require(prediction, target)
    classes = prediction.shape[1]
    rows = floating(prediction)
    if rows.ndim > 2:
        rows = np.moveaxis(rows, 1, -1).reshape(-1, classes)
    chosen, counted = target.reshape(-1, 1), None
    low, high = _range(chosen)
    if low <= ignore_index <= high:
        counted = chosen != ignore_index
        low, high = _range(chosen[counted])
        chosen = np.where(counted, chosen, 0)
    if low < 0 or high >= classes:
        raise ValueError(f"{who} needs classes 0 to {classes - 1}, got {low} to {high}")
    place = np.arange(len(rows))[:, None], chosen
    if weight is None and counted is None:
        return _Rows(rows, place, None, 1.0, None, None)
    weights = np.ones(classes, rows.dtype) if weight is None else np.asarray(weight).astype(rows.dtype, copy=False)
    require_shape(who, "weight", weights, classes)
    of_rows = weights[chosen] if counted is None else weights[chosen] * counted
    return _Rows(rows, place, counted, of_rows, of_rows.sum(), weights)


def _range(classes: Array) -> tuple[int, int]:
    """Return the least and the largest; of none, a range without numbers."""
    return (int(classes.min()), int(classes.max())) if classes.size else (0, -1)
