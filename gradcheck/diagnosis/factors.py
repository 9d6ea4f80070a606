"""One factor for every element, by its name, and the loss that a gradient is of."""

from __future__ import annotations

from math import prod

from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.fits import Quantity, factor_of
from gradcheck.diagnosis.losses import descents


def constant_factor(evidence: Evidence) -> Diagnosis | None:
    """Every element is off by one factor."""
    details = factor_of(evidence.comparison, quantities(evidence))
    if details is None:
        return None
    # A factor without a name, such as 2, makes no other loss.
    other = other_loss(evidence) if details["quantities"] else None
    return Diagnosis(Cause.FACTOR, details | (other.details if other else {}))


def other_loss(evidence: Evidence) -> Diagnosis | None:
    """The gradient of another loss than the value that is told."""
    if evidence.target is None:
        return None
    found = descents(evidence.comparison, evidence.dy, evidence.value, evidence.target)
    return Diagnosis(Cause.OTHER_LOSS, {"descents": found}) if found else None


def quantities(evidence: Evidence) -> tuple[Quantity, ...]:
    """Return the numbers that gradients are divided by; those of the prediction if y is the number that a loss is."""
    x = evidence.variables[evidence.inputs[0]] if evidence.inputs else evidence.y
    shape, of = (evidence.y.shape, "output") if evidence.y.ndim >= 2 else (x.shape, "input")
    axes = tuple(range(len(shape)))
    batched = evidence.batch is not None and shape[:1] == (evidence.batch,)
    named = [("batch", axes[:1]), ("outputs", axes[1:]), ("batch x outputs", axes)] if batched else [("outputs", axes)]
    named += [("axes", (axis,)) for axis in axes]
    named += [("axes", some) for some in (axes[2:], axes[:1] + axes[2:], axes[:-1], axes[1:-1])]
    found: dict[tuple[int, ...], list[tuple[str, tuple[int, ...]]]] = {}
    for name, some in named:
        counted = tuple(axis for axis in some if shape[axis] > 1)
        if counted:
            found.setdefault(counted, []).append((name, some))
    return tuple(
        Quantity(*names[0][:1], of, names[0][1], prod(shape[axis] for axis in counted), tuple(names[1:]))
        for counted, names in found.items()
    )
