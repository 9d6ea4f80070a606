"""From one ordinary input, what hides faults: other batches and sizes, zeros, ties, signs, parameters, modes, uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case, Layer, Loss
from gradcheck.numerics.functions import function_of
from gradcheck.subjects.attributes import raised
from gradcheck.subjects.domains import Domain, domain_of
from gradcheck.subjects.function import PlainFunction
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss
from gradcheck.subjects.reading import Reading

AS_GIVEN = "as given"
TIES, ZEROS, SINGLE = "with ties", "with zeros", "with a batch of 1"
AFTER_ANOTHER = "after an earlier call on another input"

# In which the fault of a whole can seem that of a part, or a factor that of fewer axes.
DEGENERATE = (TIES, ZEROS, SINGLE)

# Calls in training mode that must all be what evaluation gives before a layer counts as one without modes.
DRAWS = 16

LARGE = 2.0**10  # an input that is larger than this is not made larger still


class Variation(NamedTuple):
    """A case derived from the one that was given, and what is special about it."""

    name: str
    case: Case


def variations(
    case: Case, *, training: bool | None = None, domain: Domain | None = None, notes: list[str] | None = None
) -> Iterator[Variation]:
    """Yield the case as given, in every mode, and then those of its variations that the subject takes.

    A variation is left out if the forward pass raises, if anything of it is not finite, or if its output has not the
    shape that follows from that of the input: then it is outside the domain, or no variation at all. Where backward
    raises on a variation of our own making, that is added to ``notes``. ``training`` asks for one mode alone.
    """
    notes = [] if notes is None else notes
    subject = case.subject
    if isinstance(subject, (Layer, ForeignLayer)):
        yield from _in_modes(case, training)
        if not _all_finite(case):
            return
        case = replace(case, training=_varied_in_training(case, training))
        if isinstance(subject, ForeignLayer):
            yield from _taken(case, _after_another(case), notes)
        moved = _moved_parameters(case)
        if moved is not None:
            yield from _taken(case, [Variation("with random parameters", moved)], notes)
            case = moved
        yield from _taken(case, _of_inputs(case, domain), notes)
        if isinstance(subject, ForeignLayer) and case.training and training is None and not subject.reading.evaluates:
            yield from _used(case)
    elif isinstance(subject, (Loss, ForeignLoss)):
        yield Variation(AS_GIVEN, case)
        yield from _taken(case, _of_pairs(case, domain), notes)
    elif isinstance(subject, PlainFunction):
        yield Variation(AS_GIVEN, case)
        if _all_finite(case):
            yield from _taken(case, _of_inputs(case, domain), notes)
    else:
        yield Variation(AS_GIVEN, case)


def _all_finite(case: Case) -> bool:
    """Return whether every input that has a gradient is finite; a mask may hold infinities."""
    return all(np.isfinite(array).all() for array in function_of(case).variables.values())


def _in_modes(case: Case, training: bool | None) -> Iterator[Variation]:
    reading = case.subject.reading if isinstance(case.subject, ForeignLayer) else None
    if training is not None:
        yield Variation(AS_GIVEN, replace(case, training=training))
        return
    if reading is not None and reading.evaluates:
        yield Variation(AS_GIVEN, replace(case, training=True))
        return
    yield Variation(AS_GIVEN, case)
    if (reading is None or case.subject.has_modes) and _differs_in_training(case):
        yield Variation(f"{AS_GIVEN}, in training mode", replace(case, training=True))


def _varied_in_training(case: Case, training: bool | None) -> bool:
    if training is not None:
        return training
    if isinstance(case.subject, ForeignLayer):
        modes: bool = case.subject.has_modes
        return modes and (bool(case.subject.reading.evaluates) or _differs_in_training(case))
    return _differs_in_training(case)


def _differs_in_training(case: Case) -> bool:
    """Return whether training mode makes a difference, to the output or to buffers."""
    outputs = []
    for training in (False, True):
        one = replace(case, training=training)
        context = one.context()
        function = function_of(one)
        try:
            outputs.append(function.call(function.variables, context)[0])
        except Exception:  # noqa: BLE001  both modes are judged, and report it
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
        changed = (array + 0.5 * (size or 1.0) * rng.standard_normal(array.shape)).astype(array.dtype)
        moved[name] = np.abs(changed) if (array > 0).all() else changed  # a scale, or a variance, stays positive
    return replace(case, subject=subject.replace_arrays(moved))


def _after_another(case: Case) -> Iterator[Variation]:
    """Yield the layer after a call on other inputs, of this size and of another: nothing of that call may show.

    A layer that keeps the input, the output or a mask of its first call for ever is right in every first call.
    """
    if case.subject.reading.goes_on:
        return
    for name, inputs in ((AFTER_ANOTHER, _others(case)), (f"{AFTER_ANOTHER}, of another size", _fewer(case))):
        if inputs is None:
            continue
        try:
            used = case.subject.used(inputs, training=case.training)
        except Exception:  # noqa: BLE001, S112  it does not take these: there is no such variation
            continue
        yield Variation(name, replace(case, subject=used))


def _others(case: Case) -> tuple[Array, ...]:
    rng = case.rng("others")
    return tuple(_like(array, rng) if array.dtype.kind == "f" else array for array in case.inputs)


def _fewer(case: Case) -> tuple[Array, ...] | None:
    axis = _batch_axis(case)
    if axis is None or any(array.ndim <= axis or array.shape[axis] < 2 for array in case.inputs):
        return None
    return tuple(array.take(range(1, array.shape[axis]), axis) for array in _others(case))


def _place(case: Case) -> int | None:
    """Return the number of the first input that has a gradient and elements."""
    reading = _reading(case)
    having = None if reading is None else set(reading.calls.gradients)
    for i, array in enumerate(case.inputs):
        if array.dtype.kind == "f" and array.size and (having is None or i in having or not having):
            return i
    return None


def _reading(case: Case) -> Reading | None:
    return case.subject.reading if isinstance(case.subject, (ForeignLayer, ForeignLoss)) else None


def _batch_axis(case: Case) -> int | None:
    """Return the axis of the samples of the first input; where nothing shows it, the first axis."""
    reading = _reading(case)
    return 0 if reading is None or reading.batch is None else reading.batch[0]


def _of_inputs(case: Case, given: Domain | None) -> Iterator[Variation]:
    """Yield variations of the first floating-point input of a layer; several inputs keep their batch in common."""
    inputs = case.inputs
    place = _place(case)
    if place is None:
        yield from _of_indices(case)
        return
    x = inputs[place]
    domain = domain_of(x) if given is None else given

    def with_input(name: str, array: Array) -> Iterator[Variation]:
        kept = domain.kept(array)
        if kept is not None and np.isfinite(kept).all():
            yield Variation(name, replace(case, inputs=(*inputs[:place], kept.astype(x.dtype), *inputs[place + 1 :])))

    low, high = float(x.min()), float(x.max())
    if high > low:
        yield from with_input(TIES, low + np.rint((x - low) / (high - low) * 3) / 3 * (high - low))
    flat = x.copy()
    if x.ndim:
        flat[..., : (x.shape[-1] + 1) // 2] = 0
        flat[..., ::3] = 0
    else:
        flat[...] = 0
    if domain.low < 0 or low == 0:
        yield from with_input(ZEROS, flat)
    if np.abs(x).max() <= LARGE:
        yield from with_input("with inputs eight times as large", 8 * x)
    yield from with_input("with negative inputs", -np.abs(x) - 0.25 * max(abs(low), abs(high)))
    yield from _of_batches(case, place, domain)
    if len(inputs) == 1:
        yield from _of_sizes(case, x, domain)


def _of_batches(case: Case, place: int, domain: Domain) -> Iterator[Variation]:
    """Yield a batch of one, and a larger one, where every input has the axis of the samples in common."""
    axis, inputs = _batch_axis(case), case.inputs
    x = inputs[place]
    if axis is None or x.ndim < 2 or not all(a.ndim > axis and a.shape[axis] == x.shape[axis] for a in inputs):
        return
    yield Variation(SINGLE, replace(case, inputs=tuple(array.take([0], axis) for array in inputs)))
    rng = case.rng("samples")
    more = []
    for i, array in enumerate(inputs):
        first = array.take(range(min(2, array.shape[axis])), axis)
        added = _like(first, rng) if array.dtype.kind == "f" and np.isfinite(first).all() else first
        kept = domain.kept(added) if i == place else added
        more.append(np.concatenate([array, first if kept is None else kept.astype(array.dtype)], axis))
    yield Variation(f"with a batch of {more[place].shape[axis]}", replace(case, inputs=tuple(more)))


def _of_sizes(case: Case, x: Array, domain: Domain) -> Iterator[Variation]:
    """Yield inputs of other extents along the axes whose extent nothing that the object holds has."""
    reading = _reading(case)
    if isinstance(case.subject, PlainFunction):
        return
    held = reading.extents if reading is not None else frozenset()
    batch = _batch_axis(case)
    free = [a for a in range(x.ndim) if a != batch and (reading is None or x.shape[a] not in held) and x.shape[a] > 0]
    sizes: list[tuple[str, Array]] = []
    if x.ndim == 4:
        if reading is None:
            free = [2, 3]
        images = next((pair for pair in ((2, 3), (1, 2)) if set(pair) <= set(free)), None)
        if images is None:
            return
        down, across = images
        for height, width in ((-1, 0), (0, -1), (1, 2)):
            rows, columns = x.shape[down] + height, x.shape[across] + width
            if rows > 0 and columns > 0:
                image = _resized(_resized(x, down, rows, case), across, columns, case)
                sizes.append((f"with images of {rows} x {columns}", image))
        if x.shape[down] != x.shape[across]:
            sizes.append(("with the images transposed", x.swapaxes(down, across)))
    elif reading is not None:
        for axis in free if x.ndim in (2, 3) else ():
            extents = (1, x.shape[axis] - 1, x.shape[axis] + 1) if x.ndim == 3 else (x.shape[axis] + 1,)
            sizes += [
                (f"with an extent of {extent} along axis {axis}", _resized(x, axis, extent, case))
                for extent in dict.fromkeys(extents)
                if 0 < extent != x.shape[axis]
            ]
    for name, array in sizes:
        kept = domain.kept(np.ascontiguousarray(array))
        if kept is not None:
            yield Variation(name, replace(case, inputs=(kept.astype(x.dtype),)))


def _resized(x: Array, axis: int, extent: int, case: Case) -> Array:
    """Return an array with another extent along an axis, by values like its own where it is longer."""
    longer = np.concatenate([x, _like(x, case.rng(f"axis {axis}"))], axis=axis)
    return longer.take(range(extent), axis) if extent <= longer.shape[axis] else longer


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


def _of_pairs(case: Case, given: Domain | None) -> Iterator[Variation]:
    """Yield variations of a prediction and its target."""
    prediction, target, *others = case.inputs
    axis = _batch_axis(case) or 0
    if not prediction.ndim or not target.ndim or not prediction.size or prediction.ndim <= axis:
        return
    other = axis if target.ndim > axis and target.shape[axis] == prediction.shape[axis] else 0
    if target.shape[other] != prediction.shape[axis]:
        return
    domain = domain_of(prediction) if given is None else given

    def with_pair(name: str, changed: Array, targets: Array = target) -> Iterator[Variation]:
        kept = domain.kept(changed)
        if kept is not None and np.isfinite(kept).all():
            yield Variation(name, replace(case, inputs=(kept.astype(prediction.dtype), targets, *others)))

    if others:
        yield from with_pair("with predictions eight times as large", 8 * prediction)
        return
    yield Variation(SINGLE, replace(case, inputs=(prediction.take([0], axis), target.take([0], other))))
    first = prediction.take(range(min(2, prediction.shape[axis])), axis)
    added = domain.kept(_like(first, case.rng("samples")))
    more = np.concatenate([prediction, first if added is None else added.astype(prediction.dtype)], axis)
    behind = np.flip(target.take(range(first.shape[axis]), other), other)
    yield Variation(
        f"with a batch of {more.shape[axis]}", replace(case, inputs=(more, np.concatenate([target, behind], other)))
    )
    if target.shape[other] > 1:
        yield from with_pair("with the targets in another order", prediction, np.roll(target, 1, other))
        if target.dtype.kind in "iu":
            yield from with_pair("with one target for all", prediction, np.full_like(target, target.reshape(-1)[0]))
    low, high = float(prediction.min()), float(prediction.max())
    if high > low:
        yield from with_pair(TIES, low + np.rint((prediction - low) / (high - low) * 3) / 3 * (high - low))
    yield from with_pair("with predictions eight times as large", 8 * prediction)
    if prediction.ndim == 2 and prediction.shape[1 - axis] > 2 and target.shape == prediction.shape and axis < 2:
        # An output that no target has a part in: what is left of a one-hot or a soft target still is one.
        unused = [int(i) for i in np.flatnonzero(~target.any(axis=axis))]
        for column in unused[-1:]:
            less, without = np.delete(prediction, column, axis=1 - axis), np.delete(target, column, axis=1 - axis)
            yield from with_pair("with an output less", less, without)


def _used(case: Case) -> Iterator[Variation]:
    """Yield the layer after a step in training mode on other inputs, evaluating: nothing of that step may show."""
    if case.subject.reading.goes_on:
        return
    try:
        used = case.subject.used(_others(case))
    except Exception:  # noqa: BLE001  it does not take these: there is no such variation
        return
    twin = case.twin
    if twin is not None and any(b.ndim and name not in used.untrained for name, b in twin.named_buffers()):
        twin = None  # it has statistics of its own, which it cannot be given
    yield Variation("evaluating after a training step", replace(case, subject=used, training=False, twin=twin))


def _taken(case: Case, candidates: Iterator[Variation] | list[Variation], notes: list[str]) -> Iterator[Variation]:
    """Yield those of the candidates that the subject takes."""
    expected = _output(case)[0]
    for variation in candidates:
        y, raised = _output(variation.case)
        if y is None or (expected is not None and not _fits(case, expected, variation.case, y)):
            continue
        if raised:
            notes.append(f"{variation.name}: not judged, as backward raises {raised}")
        else:
            yield variation


def _output(case: Case) -> tuple[Array | None, str]:
    """Return the output, or None outside the domain, and what backward raises where forward does not."""
    function = function_of(case)
    with np.errstate(all="ignore"):
        try:
            y, pullback = function.call(function.variables, case.context())
        except Exception:  # noqa: BLE001  outside its domain
            return None, ""
        try:
            grads = pullback(np.ones_like(y))
        except Exception as error:  # noqa: BLE001  passed on in words
            return y, raised(error)
    # An infinite gradient, as that of a root at zero, is outside the domain as well.
    return (y if all(np.isfinite(array).all() for array in (y, *grads.values())) else None), ""


def _fits(case: Case, expected: Array, other: Case, y: Array) -> bool:
    """Return whether an output is that of the varied input: of its batch size if the given one had one."""
    if y.ndim != expected.ndim:
        return False
    reading = _reading(case)
    if reading is not None and len(reading.calls.outputs) > 1:
        return True  # several outputs in a row
    axis, out = (0, 0) if reading is None or reading.batch is None else reading.batch
    if not y.ndim or not case.inputs[0].ndim or out >= y.ndim or axis >= case.inputs[0].ndim:
        return all(a.shape == b.shape for a, b in zip(case.inputs, other.inputs, strict=True)) or not y.ndim
    if expected.shape[out] != case.inputs[0].shape[axis]:
        return all(a.shape == b.shape for a, b in zip(case.inputs, other.inputs, strict=True))
    return int(y.shape[out]) == int(other.inputs[0].shape[axis])
