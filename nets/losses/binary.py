"""Cross-entropies of independent outputs, each with a target in [0, 1]."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import EVALUATION, Array, Case, Context, Loss, LossBackward
from nets.losses.pairs import paired, rescaling
from nets.losses.reduction import DEPRECATED, Reduced, Reduction, reduced
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

# Where torch bounds what is infinite at p = 0 and 1; the latter it holds in float32, whatever the precision.
LEAST_LOGARITHM, LEAST_VARIANCE = -100.0, float(np.float32(1e-12))


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class BCELoss(Reduced):
    """Binary cross-entropy ``-t log p - (1 - t) log(1 - p)`` of every element, times ``weight``, reduced.

    Prediction 0 <= p <= 1 and target 0 <= t <= 1 are of one shape, to which weight broadcasts; the mean is over the
    number of elements, whatever they weigh. As in torch a logarithm is at least -100, and
    ``dp = weight (p - t) / max(p (1 - p), 1e-12) dvalue``, so that both are finite at p = 0 and 1.
    Raises ValueError for another reduction than "mean", "sum" and "none". Outside [0, 1] the value is NaN.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCELoss.html
    """

    weight: Array | None = None
    _: KW_ONLY  # torch has a deprecated argument in this place
    reduction: Reduction = "mean"

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        weight = rescaling(self, "weight", self.weight, prediction)
        terms, slope = _of_probabilities(prediction, target, context)
        value, of_terms = reduced(weight * terms, self.reduction)
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * weight * slope)

    def twin(self) -> torch.nn.Module:
        import torch

        weight = None if self.weight is None else torch.tensor(self.weight, dtype=torch.float64)
        return torch.nn.BCELoss(weight, reduction=self.reduction)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases
        from nets.losses.strategies import SHAPES, probabilities, reductions, rescalings, shares

        def of_shape(shape: tuple[int, ...]) -> SearchStrategy[Case]:
            losses = st.builds(cls, rescalings(shape), reduction=reductions())
            return cases(losses, probabilities(shape), shares(shape))

        return SHAPES.flatmap(of_shape)


@dataclass(frozen=True, eq=False)
class SummedBCELoss(Loss):
    """Binary cross-entropy summed over outputs, averaged over the batch.

    ``sum(-t log p - (1 - t) log(1 - p)) / batch``, prediction and target of one shape (batch, ...). For d outputs d
    times `BCELoss`, and at p = 0 and 1 as that is. Behind a sigmoid the gradient of what goes into it is
    ``(p - t) / batch``, the plain difference.
    """

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        terms, slope = _of_probabilities(prediction, target, context)
        value, of_terms = reduced(terms, "mean", len(prediction))
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * slope)

    def twin(self) -> torch.nn.Module:
        import torch

        class Summed(torch.nn.Module):
            def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                of_all = torch.nn.functional.binary_cross_entropy(prediction, target, reduction="sum")
                return of_all / len(prediction)

        return Summed()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import cases
        from nets.losses.strategies import SHAPES, probabilities, shares

        return SHAPES.flatmap(lambda shape: cases(st.just(cls()), probabilities(shape), shares(shape)))


def _of_probabilities(prediction: Array, target: Array, context: Context) -> tuple[Array, Array]:
    """Return the binary cross-entropy of every element, and its derivative."""
    # The derivative divides by 1 - p, whose rounding is large beside it where p is near 1.
    rest = context.tapped("loss", "one_minus_p", 1 - prediction)
    with np.errstate(divide="ignore"):
        log_p = np.maximum(np.log(prediction), LEAST_LOGARITHM)
        log_rest = np.maximum(np.log1p(-prediction), LEAST_LOGARITHM)
    slope = (prediction - target) / np.maximum(rest * prediction, LEAST_VARIANCE)
    return (target - 1) * log_rest - target * log_p, slope


@refuses(**DEPRECATED)
@dataclass(frozen=True, eq=False)
class BCEWithLogitsLoss(Reduced):
    """Binary cross-entropy of ``p = sigmoid(z)``, of every element, times ``weight``, reduced.

    ``-pos_weight t log p - (1 - t) log(1 - p)`` for logits z and targets 0 <= t <= 1 of one shape, to which weight and
    pos_weight broadcast; the mean is over the number of elements, whatever they weigh. Computed as
    ``pos_weight t softplus(-z) + (1 - t) softplus(z)``, so that nothing overflows and neither tail cancels;
    ``dz = weight ((1 - t) p - pos_weight t (1 - p)) dvalue``.
    Raises ValueError for another reduction than "mean", "sum" and "none".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
    """

    weight: Array | None = None
    _: KW_ONLY  # torch has a deprecated argument in this place
    reduction: Reduction = "mean"
    pos_weight: Array | None = None

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        prediction, target = paired(self, prediction, target)
        weight = rescaling(self, "weight", self.weight, prediction)
        positive = rescaling(self, "pos_weight", self.pos_weight, prediction) * target
        negative = 1 - target
        of_positive, of_negative = np.logaddexp(0, -prediction), np.logaddexp(0, prediction)
        value, of_terms = reduced(weight * (positive * of_positive + negative * of_negative), self.reduction)
        # Where the two sides of the gradient cancel, their rounding is large beside it. Torch forms 1 - p from p: so a
        # nudge of p is one of the rest, which is otherwise as accurate as p.
        exact = np.exp(-of_positive)
        p = context.tapped("loss", "sigmoid", exact)
        rest = np.exp(-of_negative) + (exact - p)
        slope = negative * p - positive * rest
        return value, lambda dvalue: np.asarray(of_terms(dvalue) * weight * slope)

    def twin(self) -> torch.nn.Module:
        import torch

        weight, pos_weight = (
            None if array is None else torch.tensor(array, dtype=torch.float64)
            for array in (self.weight, self.pos_weight)
        )
        return torch.nn.BCEWithLogitsLoss(weight, reduction=self.reduction, pos_weight=pos_weight)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import seeds
        from nets.losses.strategies import SHAPES, logit_pairs, reductions, rescalings

        def of_shape(shape: tuple[int, ...]) -> SearchStrategy[Case]:
            losses = st.builds(cls, rescalings(shape), reduction=reductions(), pos_weight=rescalings(shape))
            return st.builds(Case, losses, logit_pairs(shape), seeds())

        return SHAPES.flatmap(of_shape)
