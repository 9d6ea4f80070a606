"""What a network is given instead of ink in [0, 1]: pixels with another mean and deviation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import Samples


@dataclass(frozen=True)
class Scaling:
    """``(x - mean) / deviation`` of ink in [0, 1], in the dtype of ``x``. `Scaling.UNIT` changes no bit.

    Raises ValueError unless both are finite and the deviation is positive.
    """

    mean: float
    deviation: float

    UNIT: ClassVar[Scaling]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.deviation) and self.deviation > 0):
            raise ValueError(
                "scaling needs a finite mean and a positive, finite deviation,"
                f" got {self.mean:g} and {self.deviation:g}"
            )

    def __call__(self, pixels: Array) -> Array:
        """Return the pixels, of any shape, scaled."""
        return (pixels - self.mean) / self.deviation

    @classmethod
    def of(cls, samples: Samples, black: int) -> Scaling:
        """Return the scaling that gives all pixels of some samples together mean 0 and (population) deviation 1.

        ``black`` is the value of full ink. Both come from a histogram, in whole numbers, so that no order of summation
        changes them. Raises ValueError if all pixels are equal.
        """
        counts: list[int] = np.bincount(samples.images.ravel(), minlength=256).tolist()
        count = sum(counts)
        total = sum(value * times for value, times in enumerate(counts))
        squares = sum(value * value * times for value, times in enumerate(counts))
        spread = count * squares - total * total  # count**2 times the variance
        if not spread:
            raise ValueError("standard scaling needs pixels that differ, these are all equal")
        return cls(total / (count * black), math.sqrt(spread) / (count * black))


Scaling.UNIT = Scaling(0.0, 1.0)


def scaling(text: str) -> Callable[[Samples, int], Scaling]:
    """Return what a text asks for, as a function of the training samples and the value of full ink.

    ``unit`` leaves ink in [0, 1], ``standard`` is `Scaling.of` the training samples, and two numbers with a comma
    between them, such as ``0.1307,0.3081``, are mean and deviation. Raises ValueError for any other text.
    """
    fixed = fixed_scaling(text)
    return Scaling.of if fixed is None else lambda _samples, _black: fixed


def fixed_scaling(text: str) -> Scaling | None:
    """Return what a text asks for if that needs no samples, else None; raises as `scaling`."""
    if text == "standard":
        return None
    return Scaling.UNIT if text == "unit" else _numbers(text)


def _numbers(text: str) -> Scaling:
    try:
        mean, deviation = map(float, text.split(","))
    except ValueError:
        raise ValueError(
            f"there is no scaling {text!r}; there are unit, standard, or MEAN,DEVIATION as in 0.1307,0.3081"
        ) from None
    return Scaling(mean, deviation)
