"""One factor for every element, by its name, and the loss that a gradient is of."""

from __future__ import annotations

from math import prod

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.fits import FITTED, Quantity, factor_of
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
    found = descents(evidence.comparison, evidence.dy, evidence.value, evidence.target, evidence.batch_axis)
    return Diagnosis(Cause.OTHER_LOSS, {"descents": found}) if found else None


def arguments_exchanged(evidence: Evidence) -> Diagnosis | None:
    """The gradient of the loss with its arguments exchanged, or of the target, or the negative of one of these."""
    if evidence.of_exchanged is None or evidence.dy.size != 1:
        return None
    comparison, dy = evidence.comparison, float(evidence.dy.reshape(()))
    for of, (gradient, unsure) in evidence.of_exchanged().items():
        for sign in (1, -1):
            if comparison.explained_by(sign * dy * gradient, abs(dy) * unsure, FITTED):
                return Diagnosis(Cause.ARGUMENTS_EXCHANGED, {"of": of, "negated": sign < 0})
    return None


def quantities(evidence: Evidence) -> tuple[Quantity, ...]:
    """Return the numbers that gradients are divided by; those of the prediction if y is the number that a loss is."""
    x = evidence.variables[evidence.inputs[0]] if evidence.inputs else evidence.y
    shape, of = (evidence.y.shape, "output") if evidence.y.ndim >= 2 else (x.shape, "input")
    axes = tuple(range(len(shape)))
    single: list[tuple[str, tuple[int, ...]]] = [("axes", (axis,)) for axis in axes]
    named = single + _of_one_row(axes) if evidence.batch_axis is None else _by_batch(evidence, x, shape) + single
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


def _by_batch(evidence: Evidence, x: Array, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Return what is counted in samples and in the outputs of each."""
    axes, batch = tuple(range(len(shape))), evidence.batch_axis
    if x.ndim < 2 or batch is None or shape[batch : batch + 1] != (x.shape[batch],):
        return [("outputs", axes)]
    outputs = [("outputs", axes[1:])] if batch == 0 else []
    return [("batch", (batch,)), *outputs, ("batch x outputs", axes)]


def _of_one_row(axes: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Return what the elements of a single row may be: outputs of one sample, or samples."""
    return [("outputs", axes[1:]), ("batch", axes[1:2]), ("batch x outputs", axes)]
