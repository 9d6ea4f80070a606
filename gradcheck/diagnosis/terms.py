"""What a gradient is off by: a multiple of something, a constant, a line."""

from __future__ import annotations

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence, along
from gradcheck.diagnosis.fits import axes_of_fit, multiple_of


def term_in_value(evidence: Evidence) -> Diagnosis | None:
    """The error is a multiple of the tensor itself, as of a penalty."""
    multiple = multiple_of(evidence.comparison, evidence.value)
    return None if multiple is None else Diagnosis(Cause.TERM_IN_VALUE, {"multiple": multiple})


def term_in_dy(evidence: Evidence) -> Diagnosis | None:
    """The error is a multiple of dy, as of a path around a layer."""
    multiple = multiple_of(evidence.comparison, evidence.dy) if evidence.elementwise_shapes else None
    return None if multiple is None else Diagnosis(Cause.TERM_IN_DY, {"multiple": multiple})


def constant_term(evidence: Evidence) -> Diagnosis | None:
    """The error is the same along some axes, though the gradient is not."""
    return _fitted(evidence, None, Cause.CONSTANT_TERM)


def affine_term(evidence: Evidence) -> Diagnosis | None:
    """The error is ``a + b x`` along some axes, as without the terms of a normalisation's mean and variance."""
    return _fitted(evidence, evidence.value, Cause.AFFINE_TERM)


def _fitted(evidence: Evidence, regressor: Array | None, cause: Cause) -> Diagnosis | None:
    axes = axes_of_fit(evidence.comparison, regressor) if evidence.elementwise_shapes else None
    return None if axes is None else along(cause, axes, evidence.numeric.shape)
