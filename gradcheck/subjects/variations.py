"""From one ordinary input, what hides faults: other batches and sizes, zeros, ties, signs, parameters, modes, uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case, Layer, Loss
from gradcheck.numerics.functions import function_of
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss

AS_GIVEN = "as given"
TIES, ZEROS, SINGLE = "with ties", "with zeros", "with a batch of 1"

# In which the fault of a whole can seem that of a part, or a factor that of fewer axes.
DEGENERATE = (TIES, ZEROS, SINGLE)

# Calls in training mode that must all be what evaluation gives before a layer counts as one without modes.
DRAWS = 16


class Variation(NamedTuple):
    """A case derived from the one that was given, and what is special about it."""

    name: str
    case: Case


def variations(case: Case) -> Iterator[Variation]:
    """Yield the case as given, in every mode, and then those of its variations that the subject takes.

    A variation is left out if the forward pass raises, if anything of it is not finite, or if its output has not the
    shape that follows from that of the input: then it is outside the domain, or no variation at all.
    """
    subject = case.subject
    modes = not isinstance(subject, ForeignLayer) or subject.has_modes
    if isinstance(subject, (Layer, ForeignLayer)):
        yield from _in_modes(AS_GIVEN, case, both=modes)
        if not np.all([np.isfinite(array).all() for array in case.inputs if array.dtype.kind == "f"]):
            return
        case = replace(case, training=modes and _differs_in_training(case))
        moved = _moved_parameters(case)
        if moved is not None:
            yield from _taken(case, [Variation("with random parameters", moved)])
            case = moved
        yield from _taken(case, _of_inputs(case))
        if isinstance(subject, ForeignLayer) and case.training:
            yield from _used(case)
    elif isinstance(subject, (Loss, ForeignLoss)):
        yield Variation(AS_GIVEN, case)
        yield from _taken(case, _of_pairs(case))
    else:
        yield Variation(AS_GIVEN, case)


def _in_modes(name: str, case: Case, *, both: bool) -> Iterator[Variation]:
    yield Variation(name, case)
    if both and _differs_in_training(case):
        yield Variation(f"{name}, in training mode", replace(case, training=True))


def _differs_in_training(case: Case) -> bool:
    """Return whether training mode makes a difference, to the output or to buffers."""
    outputs = []
    for training in (False, True):
        one = replace(case, training=training)
        context = one.context()
        function = function_of(one)
        try:
            outputs.append(function.call(function.variables, context)[0])
        except Exception:  # noqa: BLE001  what it raises is for the properties to report
            return True
        if context.updates:
            return True
    if not np.array_equal(outputs[0], outputs[1], equal_nan=True):
        return True
    # One call of dropout may keep every element.
    drawn = case.subject.outputs_in_turn(case.inputs, DRAWS) if isinstance(case.subject, ForeignLayer) else ()
    return any(not np.array_equal(y, outputs[0], equal_nan=True) for y in drawn)


def _moved_parameters(case: Case) -> Case | None:
    """Return the case with every parameter off its value: one that is 0 or 1 hides what is multiplied by it."""
    subject, rng = case.subject, case.rng("parameters")
    parameters = subject.parameters()
    if not parameters:
        return None
    moved = {}
    for name, array in parameters.items():
        size = float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
        moved[name] = (array + 0.5 * (size or 1.0) * rng.standard_normal(array.shape)).astype(array.dtype)
    return replace(case, subject=subject.replace_arrays(moved))


def _of_inputs(case: Case) -> Iterator[Variation]:
    """Yield variations of the first floating-point input of a layer; several inputs keep their batch in common."""
    inputs = case.inputs
    place = next((i for i, array in enumerate(inputs) if array.dtype.kind == "f" and array.size), None)
    if place is None:
        yield from _of_indices(case)
        return
    x = inputs[place]

    def with_input(array: Array) -> Case:
        return replace(case, inputs=(*inputs[:place], array.astype(x.dtype), *inputs[place + 1 :]))

    low, high = float(x.min()), float(x.max())
    if high > low:
        yield Variation(TIES, with_input(low + np.rint((x - low) / (high - low) * 3) / 3 * (high - low)))
    flat = x.copy()
    if x.ndim:
        flat[..., : (x.shape[-1] + 1) // 2] = 0
        flat[..., ::3] = 0
    else:
        flat[...] = 0
    yield Variation(ZEROS, with_input(flat))
    yield Variation("with inputs eight times as large", with_input(8 * x))
    yield Variation("with negative inputs", with_input(-np.abs(x) - 0.25 * max(abs(low), abs(high))))
    if x.ndim >= 2 and all(array.ndim and len(array) == len(x) for array in inputs):
        yield Variation(SINGLE, replace(case, inputs=tuple(array[:1] for array in inputs)))
        rng = case.rng("samples")
        more = tuple(np.concatenate([a, _like(a[:2], rng)]) if a.dtype.kind == "f" else np.concatenate([a, a[:2]])
                     for a in inputs)  # fmt: skip
        yield Variation(f"with a batch of {len(more[place])}", replace(case, inputs=more))
    if x.ndim == 4 and len(inputs) == 1:
        for height, width in ((-1, 0), (0, -1), (1, 2)):
            rows, columns = x.shape[2] + height, x.shape[3] + width
            if rows > 0 and columns > 0:
                image = np.concatenate([x, _like(x, case.rng("rows"))], axis=2)[:, :, :rows]
                image = np.concatenate([image, _like(image, case.rng("columns"))], axis=3)[:, :, :, :columns]
                yield Variation(f"with images of {rows} x {columns}", with_input(image))


def _of_indices(case: Case) -> Iterator[Variation]:
    """Yield variations of whole numbers, such as the indices of an embedding: some repeated, or all, or one alone."""
    if all(array.size > 1 for array in case.inputs):
        repeated = tuple(np.resize(array.reshape(-1)[: (array.size + 1) // 2], array.shape) for array in case.inputs)
        yield Variation("with repeated indices", replace(case, inputs=repeated))
        same = tuple(np.full_like(array, array.reshape(-1)[0]) for array in case.inputs)
        yield Variation("with one index only", replace(case, inputs=same))
    if all(array.ndim and len(array) > 1 for array in case.inputs):
        yield Variation(SINGLE, replace(case, inputs=tuple(array[:1] for array in case.inputs)))


def _like(array: Array, rng: np.random.Generator) -> Array:
    """Return values between those of an array: a shuffle of them, shrunk a little."""
    return (0.875 * rng.permutation(array.reshape(-1)).reshape(array.shape)).astype(array.dtype)


def _of_pairs(case: Case) -> Iterator[Variation]:
    """Yield variations of a prediction and its target."""
    prediction, target = case.inputs
    if not prediction.ndim or not target.ndim or len(prediction) != len(target) or not prediction.size:
        return
    yield Variation(SINGLE, replace(case, inputs=(prediction[:1], target[:1])))
    rng = case.rng("samples")
    more = (np.concatenate([prediction, _like(prediction[:2], rng)]), np.concatenate([target, target[:2][::-1]]))
    yield Variation(f"with a batch of {len(more[0])}", replace(case, inputs=more))
    low, high = float(prediction.min()), float(prediction.max())
    if high > low:
        tied = low + np.rint((prediction - low) / (high - low) * 3) / 3 * (high - low)
        yield Variation(TIES, replace(case, inputs=(tied.astype(prediction.dtype), target)))
    yield Variation("with predictions eight times as large", replace(case, inputs=(8 * prediction, target)))
    if prediction.ndim == 2 and prediction.shape[1] > 2 and target.shape == prediction.shape:
        # An output that no target has a part in: what is left of a one-hot or a soft target still is one.
        unused = [int(i) for i in np.flatnonzero(~target.any(axis=0))]
        for column in unused[-1:]:
            narrow = (np.delete(prediction, column, axis=1), np.delete(target, column, axis=1))
            yield Variation("with an output less", replace(case, inputs=narrow))


def _used(case: Case) -> Iterator[Variation]:
    """Yield the layer after a step in training mode on other inputs, evaluating: nothing of that step may show."""
    rng = case.rng("others")
    others = tuple(_like(array, rng) if array.dtype.kind == "f" else array for array in case.inputs)
    try:
        used = case.subject.used(others)
    except Exception:  # noqa: BLE001  reported where the case as given is tried
        return
    twin = case.twin
    if twin is not None and any(b.ndim and name not in used.untrained for name, b in twin.named_buffers()):
        twin = None  # it has statistics of its own, which it cannot be given
    yield Variation("evaluating after a training step", replace(case, subject=used, training=False, twin=twin))


def _taken(case: Case, candidates: Iterator[Variation] | list[Variation]) -> Iterator[Variation]:
    """Yield those of the candidates that the subject takes."""
    expected = _output(case)
    for variation in candidates:
        y = _output(variation.case)
        if y is None or (expected is not None and not _fits(case, expected, variation.case, y)):
            continue
        yield variation


def _output(case: Case) -> Array | None:
    function = function_of(case)
    with np.errstate(all="ignore"):
        try:
            y, pullback = function.call(function.variables, case.context())
        except Exception:  # noqa: BLE001  a variation that is not taken is not one
            return None
        try:
            grads = pullback(np.ones_like(y))
        except Exception:  # noqa: BLE001  forward has taken it: the properties will tell what backward raises
            grads = {}
    # An infinite gradient, as that of a root at zero, is outside the domain as well.
    return y if all(np.isfinite(array).all() for array in (y, *grads.values())) else None


def _fits(case: Case, expected: Array, other: Case, y: Array) -> bool:
    """Return whether an output is that of the varied input: of its batch size if the given one had one."""
    if y.ndim != expected.ndim:
        return False
    if not y.ndim or not case.inputs[0].ndim or len(expected) != len(case.inputs[0]):
        return all(a.shape == b.shape for a, b in zip(case.inputs, other.inputs, strict=True)) or not y.ndim
    return len(y) == len(other.inputs[0])
