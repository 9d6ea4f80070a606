"""Properties of the calls themselves: nothing is shared, changed or remembered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from gradcheck.contract import Array, Case, Kinks, Layer, Loss, ShapeError
from gradcheck.numerics.agreement import Verdict, Worst, compare
from gradcheck.numerics.directions import Point, samples_are_independent
from gradcheck.numerics.functions import (
    Arrays,
    Function,
    RefusedError,
    cast,
    function_of,
    function_on_copies,
    function_on_its_arguments,
    precision_of,
    precision_taken,
)
from gradcheck.numerics.memory import read_only
from gradcheck.properties.changes import changes_of, not_judged_if_changed
from gradcheck.properties.noise import FEW, Rounding, Separation, allowance, shadows_of
from gradcheck.properties.outcome import (
    DTYPES,
    Outcome,
    Settings,
    cotangent,
    failure,
    inconclusive,
    judged,
    useful,
)

KEYS = 8  # so many keys that a layer that draws random numbers does not do the same by chance under all
# In 8 bits squares and sums wrap around; in unsigned numbers negatives do.
INTEGERS = (np.int64, np.int8, np.uint8)
MORE_THAN_ROWS = 2**31  # no table has so many rows
UNITS = 4  # that are tried in one case
MOST_MOVED = 256  # elements of an input that are moved one by one
BESIDE = 2.0**-10  # relative distance from a margin at which a choice is tried, far above rounding
LARGEST_INTEGER = 2.0**53  # beyond it float64 lacks some integers, and int64 ends soon after


def gradients_match_their_tensors(case: Case, settings: Settings = Settings()) -> Outcome:
    """Every parameter and the input has a gradient of its own name and shape, and float32 stays float32.

    That is so also of a loss whose target has the other precision. A foreign object's results must be in float32 only
    where that was given. A gradient of its may lack axes of one element, as (3,) does of a tensor (1, 3): a step
    ``tensor -= rate * gradient`` does what it should.
    """
    function = function_on_copies(case)
    own = {array.dtype.name for array in function.variables.values()}
    lacking: dict[str, str] = {}
    for dtype in settings.dtypes:
        variables = cast(function.variables, dtype)
        try:
            y, pullback = function.call(variables, case.context())
        except RefusedError:
            continue  # it is not defined at what rounding to this precision makes of the input
        asked = not function.foreign or own == {dtype} == {"float32"}
        if asked and y.dtype != dtype:
            return failure(f"the output of {dtype} input is {y.dtype}")
        grads = pullback(cotangent(y, case.rng("cotangent")))
        for name, grad in grads.items():
            shapes = f"{name} has shape {variables[name].shape}, its gradient {grad.shape}"
            if function.foreign and _lacks_axes_alone(grad, variables[name]):
                lacking[name] = f"{shapes}: axes of one element are missing"
            elif grad.shape != variables[name].shape:
                return failure(shapes)
            if asked and grad.dtype != dtype:
                return failure(f"{name} is {dtype}, its gradient {grad.dtype}")
    passed = _prediction_decides(case) if isinstance(case.subject, Loss) else Outcome(Verdict.PASS)
    return replace(passed, trait="; ".join(lacking.values()))


def _lacks_axes_alone(gradient: Array, tensor: Array) -> bool:
    """Return whether a gradient has another shape than its tensor, to which it broadcasts without being repeated."""
    leading = tensor.ndim - gradient.ndim
    return leading > 0 and tensor.shape == (1,) * leading + gradient.shape


def _prediction_decides(case: Case) -> Outcome:
    """Call a loss with a prediction of either precision and a target of the other."""
    prediction, target = case.inputs
    for dtype, other in (DTYPES, DTYPES[::-1]):
        mixed = target.astype(other) if target.dtype.kind == "f" else target
        value, backward = case.subject.forward(prediction.astype(dtype), mixed, case.context())
        grad = backward(cotangent(value, case.rng("cotangent")))
        for name, array in (("value", value), ("gradient", grad)):
            if array.dtype != dtype:
                return failure(f"the {name} of a {dtype} prediction and a {mixed.dtype} target is {array.dtype}")
    return Outcome(Verdict.PASS)


def precisions_agree(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """Values and gradients in float32 are those in float64, up to the rounding of float32."""
    if "float32" not in settings.dtypes:
        return None  # float32 was not asked for
    if precision_of(case) is np.float32 or precision_taken(case) is not None:
        return None  # it has one precision
    function, rng = function_of(case), case.rng("nudges")
    narrow = cast(function.variables, np.float32)
    y, pullback = function.call(narrow, case.context())
    dy = cotangent(y, case.rng("cotangent")).astype(np.float32)
    wide, dy_wide = cast(narrow, np.float64), dy.astype(np.float64)
    y_wide, pullback_wide = function.call(wide, case.context())
    ours, theirs = {"output": y, **pullback(dy)}, {"output": y_wide, **pullback_wide(dy_wide)}
    if function.foreign:  # without taps its rounding shows only in float32
        rounding = Rounding(function, ours, shadows_of(case, function, narrow, dy, rng))
    else:  # computed in float64, so that a cancellation in float32 excuses nothing
        rounding = Rounding(function, theirs, shadows_of(case, function, wide, dy_wide, rng, np.float32))
    apart = Separation(function, function, narrow, (dy, dy_wide), case)
    worsts, told = [], False
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            return failure(f"{name} has shape {array.shape} in float32 and {theirs[name].shape} in float64")
        allowed = rounding.allowed(name, array, theirs[name], precision=np.float32)
        allowed += apart.of(name, array, theirs[name], allowed)
        if function.foreign and not np.isfinite(array).all() and np.isfinite(theirs[name]).all():
            return inconclusive(f"{name} is not finite in float32, and is in float64")
        worsts.append(compare(name, array, theirs[name], allowed))
        told |= useful(allowed, array, theirs[name])
    return judged(worsts, told=told)


def arguments_are_left_untouched(case: Case, settings: Settings = Settings()) -> Outcome:
    """Forward and backward change neither inputs, nor parameters, nor dy, and read arrays that cannot be written.

    A foreign object that changes nothing may still refuse what cannot be written, which is not judged.
    """
    changes = changes_of(case)
    if changes:
        return failure("; ".join(map(str, changes)))
    function = function_on_its_arguments(case)
    frozen = {name: read_only(array) for name, array in function.variables.items()}
    try:
        y, pullback = function.call(frozen, case.context())
        pullback(read_only(cotangent(y, case.rng("cotangent"))))
    except ValueError as error:
        message = f"read-only arrays are not taken: {error}"
        return inconclusive(message) if function.foreign else failure(message)
    return Outcome(Verdict.PASS)


def results_own_their_memory(case: Case, settings: Settings = Settings()) -> Outcome:
    """Nothing returned shares memory with an argument or with the results of another call.

    A foreign object may return a view of an argument; that is inconclusive.
    """
    function = function_on_its_arguments(case)
    constants = function.constants if function.foreign else {}
    variables = {name: array.copy() for name, array in {**function.variables, **constants}.items()}
    y, pullback = function.call(variables, case.context())
    dy = cotangent(y, case.rng("cotangent"))
    # Each call has its own arguments, so that a view of an argument is not taken for memory that calls share.
    first, second = pullback(dy), pullback(dy.copy())
    again = function.call({name: array.copy() for name, array in function.variables.items()}, case.context())[0]
    given: dict[str, Array] = {**variables, "dy": dy}
    results = {"the output": y, **{f"{name}'s gradient": grad for name, grad in first.items()}}
    later = {"another output": again, **{f"another call's gradient of {k}": g for k, g in second.items()}}
    for result, array in results.items():
        for other, memory in (later | given).items():
            if np.shares_memory(array, memory):
                message = f"{result} shares memory with {other}"
                if function.foreign and other in (*function.inputs, *constants, "dy"):
                    return inconclusive(f"{message}: a later change in place changes both")
                return failure(message)
    return Outcome(Verdict.PASS)


def calls_do_not_interfere(case: Case, settings: Settings = Settings()) -> Outcome:
    """Repeated and interleaved calls give bitwise the same answers, whichever pullback runs first, and in any mode."""
    function = function_of(case)
    y, pullback = function.call(function.variables, case.context())
    dy = cotangent(y, case.rng("cotangent"))
    alone = pullback(dy)
    other = {name: array[::-1] if array.ndim else array for name, array in function.variables.items()}
    y_first, first = function.call(function.variables, case.context())
    _, second = function.call(other, case.context())
    second(dy)
    interleaved = first(dy)
    if not _same(y, y_first):
        return failure("a second call gives another output")
    for name, grad in alone.items():
        if not _same(grad, interleaved[name]) or not _same(grad, pullback(dy)[name]):
            return failure(f"{name}'s gradient depends on calls in between")
    return _mode_is_forgotten(case, dy) if isinstance(case.subject, Layer) else Outcome(Verdict.PASS)


def _mode_is_forgotten(case: Case, dy: Array) -> Outcome:
    """Call the same layer in the other mode too: a call leaves nothing on it."""
    layer, x = case.subject, case.inputs[0]
    y, pullback = layer.forward(x, case.context())
    alone = {"input": pullback(dy)[0], **pullback(dy)[1]}
    _, kept = layer.forward(x, case.context())
    with suppress(ShapeError):  # a single sample has no statistics
        layer.forward(x[::-1] if x.ndim else x, replace(case, training=not case.training).context())
    after = {"input": kept(dy)[0], **kept(dy)[1]}
    for name, grad in alone.items():
        if not _same(grad, after[name]):
            return failure(f"{name}'s gradient depends on calls of the same layer in between")
    again, _ = layer.forward(x, case.context())
    return Outcome(Verdict.PASS) if _same(y, again) else failure("a call in the other mode changes the next output")


def taps_do_not_change_results(case: Case, settings: Settings = Settings()) -> Outcome:
    """A call with recorded taps is bitwise the call without, and later changes none of the recorded arrays."""
    function = function_of(case)
    y, pullback = function.call(function.variables, case.context())
    shown: list[tuple[str, Array, Array]] = []

    def keep(name: str, array: Array) -> Array:
        shown.append((name, array, array.copy()))
        return array

    y_tapped, pullback_tapped = function.call(function.variables, case.context(keep))
    dy = cotangent(y, case.rng("cotangent"))
    plain, tapped = {"output": y, **pullback(dy)}, {"output": y_tapped, **pullback_tapped(dy)}
    for name, array in plain.items():
        if not _same(array, tapped[name]):
            return failure(f"recording the taps changes {name}")
    for name, array, kept in shown:
        if not _same(array, kept):
            return failure(f"{name} is changed after it was shown to the tap")
    return Outcome(Verdict.PASS)


def results_do_not_depend_on_memory_layout(case: Case, settings: Settings = Settings()) -> Outcome:
    """Fortran order, negative strides, strides of zero and gaps give the same values and gradients, up to rounding.

    What is changed in place may reach memory or not, by its layout, and is reported elsewhere.
    """
    if (unjudged := not_judged_if_changed(case)) is not None:
        return unjudged
    function, rng = function_of(case), case.rng("nudges")
    y, pullback = function.call(function.variables, case.context())
    dy = cotangent(y, case.rng("cotangent"))
    constant = np.full_like(dy, dy.reshape(-1)[0] if dy.size else 0.0)
    plain = {"output": y, **pullback(dy)}
    of_constant = pullback(constant)
    rounding, of_constants = (
        Rounding(function, results, shadows_of(case, function, function.variables, given, rng))
        for results, given in ((plain, dy), (of_constant, constant))
    )
    worsts = []
    for layout in (_fortran, _reversed, _gapped):
        variables = {name: layout(array) for name, array in function.variables.items()}
        y_other, pullback_other = function.call(variables, case.context())
        for name, array in {"output": y_other, **pullback_other(layout(dy))}.items():
            worsts.append(_within(rounding, name, array, plain[name]))
    scalar = np.broadcast_to(constant.reshape(-1)[:1].reshape((1,) * dy.ndim), dy.shape) if dy.size else constant
    try:
        of_scalar = function.call(function.variables, case.context())[1](scalar)
    except ValueError as error:
        if not function.foreign or "read-only" not in str(error):
            raise
        of_scalar = {}  # it asks for arrays that it can write, which is reported elsewhere
    for name, array in of_scalar.items():
        worsts.append(_within(of_constants, name, array, of_constant[name]))
    outcome = judged(worsts)
    if outcome.verdict is Verdict.FAIL and function.foreign and outcome.worst is not None:
        worst = outcome.worst  # a layout of our own making: who never gives another than NumPy's own is not wrong
        return inconclusive(
            f"{worst.tensor} depends on the memory layout: {worst.analytic:.3g} for an array in Fortran order or with "
            f"gaps, {worst.numeric:.3g} in NumPy's own; np.ascontiguousarray at the door makes it safe"
        )
    return outcome


def _within(rounding: Rounding, name: str, array: Array, plain: Array) -> Worst | None:
    return compare(name, array, plain, rounding.allowed(name, array, plain))


def gradients_of_samples_do_not_mix(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """Where each sample's output depends on that sample alone, so does its gradient; those of parameters add up."""
    function, rng = function_of(case), case.rng("nudges")
    if not function.inputs:
        return None  # no input has a gradient
    name = function.inputs[0]
    variables = function.variables
    x = variables[name]
    y, pullback = function.call(variables, case.context())
    dy = cotangent(y, case.rng("cotangent"))
    if not _independent(case, function, variables, dy, rng):
        return None  # outputs depend on more than their own sample
    if len(x) < 2:
        return None  # there is one sample only
    if len(variables) > 1:
        # With a weight of zero, outputs do not show what the weight's gradient depends on.
        shifts = {k: 2.0**-7 * rng.uniform(0.5, 1, a.shape).astype(a.dtype) for k, a in variables.items()}
        moved = {k: a if k == name else a + shifts[k] for k, a in variables.items()}
        if not _independent(case, function, moved, dy, rng):
            return None
    together = pullback(dy)
    if case.training and _draws(case, function, together, dy):
        return None  # masks are drawn for the whole batch
    samples = [(x[i : i + 1], dy[i : i + 1]) for i in range(len(x))]
    try:
        alone = [function.call({**variables, name: one}, case.context())[1](done) for one, done in samples]
    except (ShapeError, RefusedError):
        return None  # no sample is taken by itself: its statistics would be of nothing else
    rounding = Rounding(function, together, shadows_of(case, function, variables, dy, rng))
    worsts = []
    for tensor, grad in together.items():
        pieces = [one[tensor] for one in alone]
        joined = np.concatenate(pieces) if tensor == name else np.sum(pieces, axis=0)
        if joined.shape != grad.shape:
            return failure(f"{tensor}'s gradient has shape {grad.shape} for the batch, {joined.shape} for its samples")
        # The samples' gradients round too: besides what shadows of the whole show, by one floor each.
        of_pieces = sum(allowance(function, piece, 0.0) for piece in pieces)
        worsts.append(compare(tensor, grad, joined, rounding.allowed(tensor, grad, joined, of_pieces)))
    return judged(worsts)


def _independent(case: Case, function: Function, variables: Arrays, dy: Array, rng: np.random.Generator) -> bool:
    """Return whether each sample's output depends on that sample alone, by few shadows or, if not, by all."""
    point = Point(function, variables, case.context, function.call(variables, case.context())[0], dy, [])
    shadows = shadows_of(case, function, variables, dy, rng)
    for count in (FEW, None):
        point.outputs.extend(one["output"] for one in islice(shadows, count))
        if samples_are_independent(point, function.inputs[0]):
            return True
    return False


def _draws(case: Case, function: Function, grads: dict[str, Array], dy: Array) -> bool:
    """Return whether gradients depend on the key; several keys are tried, since small masks are often the same."""
    for seed in range(case.seed + 1, case.seed + 1 + KEYS):
        again = function.call(function.variables, replace(case, seed=seed).context())[1](dy)
        if not all(_same(grad, again[name]) for name, grad in grads.items()):
            return True
    return False


def integers_are_taken_as_numbers(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """Integer input is refused, or gives what the same numbers as float64 give: nothing is truncated or wraps around.

    A foreign object that was given floats may not be meant for integers, so it is not failed.
    """
    function = function_of(case)
    if not function.inputs:
        return None  # no input has a gradient
    passed = None
    for kind in INTEGERS:
        outcome = _as_integers(case, function, np.dtype(kind))
        if outcome is not None and outcome.verdict is not Verdict.PASS:
            return outcome
        passed = passed or outcome
    return passed


def _as_integers(case: Case, function: Function, kind: np.dtype[np.integer[Any]]) -> Outcome | None:
    """Compare the rounded input as integers (absolute values if unsigned) with the same numbers as floats."""
    name, rng = function.inputs[0], case.rng("nudges")
    whole, range_ = np.rint(np.nan_to_num(function.variables[name])), np.iinfo(kind)
    if kind.itemsize < 8:
        whole = np.clip(whole if range_.min else np.abs(whole), range_.min, range_.max)
    elif np.abs(whole).max(initial=0.0) >= LARGEST_INTEGER:
        return None  # some of these numbers are no integers of this kind
    variables = {**function.variables, name: whole}
    try:
        y, pullback = function.call(variables, case.context())
    except RefusedError:
        return None  # whole numbers are outside the domain
    dy = cotangent(y, case.rng("cotangent"))
    plain = {"output": y, **pullback(dy)}
    if not all(np.isfinite(array).all() for array in plain.values()):
        return None  # whole numbers are outside the domain
    try:
        with np.errstate(all="ignore"):  # integers may wrap around
            y_integer, pullback_integer = function.call({**variables, name: whole.astype(kind)}, case.context())
            integer = {"output": y_integer, **pullback_integer(dy)}
    except (TypeError, ValueError, OverflowError):
        return None  # integer input is refused
    rounding = Rounding(function, plain, shadows_of(case, function, variables, dy, rng))
    outcome = judged(_within(rounding, k, np.asarray(a, np.float64), plain[k]) for k, a in integer.items())
    if outcome.verdict is not Verdict.FAIL or outcome.worst is None:
        return outcome
    worst = outcome.worst
    lost = f"{worst.tensor} of {kind} is {worst.analytic:g}, of the same floats {worst.numeric:g}"
    if function.foreign:
        return inconclusive(f"{lost}: cast integers before they come here")
    return failure(lost, worst)


def wrong_shapes_are_refused(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """An input of a wrong shape raises `ShapeError` with the needed shape and the given one."""
    subject, inputs = case.subject, case.inputs
    assert isinstance(subject, (Layer, Loss))
    refused = 0
    for wrong in _wrong(subject, inputs[0]):
        try:
            if isinstance(subject, Layer):
                subject.forward(wrong, case.context())
            else:
                subject.forward(wrong, inputs[1], case.context())
        except ShapeError as error:
            refused += 1
            if not ("needs" in str(error) and "got (" in str(error)):
                return failure(f"the error for shape {wrong.shape} does not say what is needed and what came: {error}")
        except Exception as error:  # noqa: BLE001  any other error is the finding
            return failure(f"input of shape {wrong.shape} raises {type(error).__name__}, no ShapeError: {error}")
        else:
            if isinstance(subject, Loss):
                return failure(f"predictions of shape {wrong.shape} are taken with targets of {inputs[1].shape}")
    return Outcome(Verdict.PASS) if refused else None


def indices_out_of_range_are_refused(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """An index below 0 and one too large raise ValueError or IndexError with the needed range and the given index.

    Indices are the targets of a loss of classes, except the ignored one, and the input of a layer of integers.
    """
    subject, (*others, indices) = case.subject, case.inputs
    assert isinstance(subject, (Layer, Loss))
    if indices.dtype.kind not in "iu" or not indices.size:
        return None
    ignored = getattr(subject, "ignore_index", None)
    high = others[0].shape[1] if isinstance(subject, Loss) else MORE_THAN_ROWS
    for wrong in (-2 if ignored == -1 else -1, high + (high == ignored)):
        changed = indices.astype(np.int64)
        changed.flat[-1] = wrong
        try:
            if isinstance(subject, Loss):
                subject.forward(others[0], changed, case.context())
            else:
                subject.forward(changed, case.context())
        except (ValueError, IndexError) as error:
            if not ("needs" in str(error) and "got" in str(error)):
                return failure(f"the error for index {wrong} does not say what is needed and what came: {error}")
        else:
            return failure(f"the index {wrong} is taken")
    return Outcome(Verdict.PASS)


def kinks_are_where_choices_change(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A unit's margin is the smallest movement of one element of the input that changes the unit's choice."""
    subject, x = case.subject, case.inputs[0]
    assert isinstance(subject, Layer)
    kinks, rng = subject.kinks(x), case.rng("units")
    if kinks is None or not x.size or x.size > MOST_MOVED:
        return None
    if kinks.choice.shape != kinks.margin.shape:
        return failure(f"choices have shape {kinks.choice.shape}, their margins {kinks.margin.shape}")
    if not (kinks.margin >= 0).all():
        return failure("a margin is negative or NaN")
    far = 4 * float(np.abs(x).max()) + 1
    for unit in rng.choice(kinks.margin.size, min(UNITS, kinks.margin.size), replace=False):
        choice, margin = kinks.choice.flat[unit], float(kinks.margin.flat[unit])
        what = f"the choice {np.unravel_index(unit, kinks.margin.shape)}, whose margin is {margin:g},"
        less = (1 - BESIDE) * margin if margin < np.inf else far
        if any(moved.choice.flat[unit] != choice for moved in _kinks_around(subject, x, less)):
            return failure(f"{what} changes where an element moves by {less:g}")
        more = (1 + BESIDE) * margin + BESIDE
        if margin < np.inf and all(moved.choice.flat[unit] == choice for moved in _kinks_around(subject, x, more)):
            return failure(f"{what} changes nowhere where an element moves by {more:g}")
    return Outcome(Verdict.PASS)


def _kinks_around(layer: Layer, x: Array, distance: float) -> Iterator[Kinks]:
    """Yield the kinks with each element of the input moved up by ``distance``, and down."""
    for step in (distance, -distance) if distance else ():
        for place in np.ndindex(x.shape):
            moved = x.copy()
            moved[place] += step
            kinks = layer.kinks(moved)
            if kinks is not None:
                yield kinks


def _wrong(subject: Layer | Loss, x: Array) -> list[Array]:
    """Return arrays like ``x`` with one axis more, with one less, and with one element more along an axis."""
    longer = {axis: np.concatenate([x, x.take([0], axis)], axis) for axis in range(x.ndim) if x.shape[axis]}
    if isinstance(subject, Layer) and x.ndim > 1:
        longer.pop(0, None)  # another number of samples
    elif isinstance(subject, Loss) and subject.class_targets:
        longer = {axis: array for axis, array in longer.items() if axis != 1}  # another number of classes is not wrong
    return [*longer.values(), x[None], *([x[0]] if x.ndim and len(x) else [])]


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _fortran(array: Array) -> Array:
    """Return the same array with its first axis varying fastest; np.asfortranarray would add an axis to a number."""
    return np.array(array, order="F")


def _reversed(array: Array) -> Array:
    """Return the same array with negative strides."""
    flip = (slice(None, None, -1),) * array.ndim
    return array[flip].copy()[flip]


def _gapped(array: Array) -> Array:
    """Return the same array in memory where every second element of the last axis is unused."""
    if not array.ndim:
        return array.copy()
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), math.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]
