"""How many terms become a loss: their mean, their sum, or each its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from gradcheck.contract import Array, Loss

Reduction = Literal["mean", "sum", "none"]

# Torch's older names for a reduction.
DEPRECATED = {
    "size_average": "torch has replaced it by reduction",
    "reduce": "torch has replaced it by reduction",
}


class Reduced(Loss):
    """A loss of terms, which become one by its field ``reduction``.

    Raises ValueError for another reduction than torch's "mean", "sum" and "none".
    """

    reduction: Reduction

    def __post_init__(self) -> None:
        if self.reduction not in get_args(Reduction):
            wanted = ", ".join(map(repr, get_args(Reduction)))
            raise ValueError(f"{type(self).__name__} needs reduction of {wanted}, got {self.reduction!r}")


def reduced(
    terms: Array, reduction: Reduction, total: Array | int | None = None
) -> tuple[Array, Callable[[Array], Array]]:
    """Return the terms' mean (their sum over ``total``, by default their number), their sum, or themselves.

    And the pullback from dvalue to the gradient of each term, which is one number where it is the same for all. A mean
    over a total of 0 is NaN, as in torch.
    """
    if reduction == "none":
        return terms, lambda dvalue: dvalue
    if reduction == "sum":
        return np.asarray(terms.sum()), lambda dvalue: dvalue
    number = terms.size if total is None else total
    count = terms.dtype.type(number if number else np.nan)  # 0 / 0, without NumPy's warning
    return np.asarray(terms.sum() / count), lambda dvalue: dvalue / count
