"""What must hold of every layer, loss, optimizer and schedule.

A property is a function of a `Case` that returns a `Finding`; its name is its claim. ``PROPERTIES`` lists them by kind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from gradcheck.agreement import Verdict, Worst, compare, largest
from gradcheck.autograd import twin_of, twin_rates, twin_updates
from gradcheck.contract import Array, Case, Layer, Loss, Optimizer, Schedule, Tap, untapped
from gradcheck.differences import central_differences, elementwise_noise
from gradcheck.functions import Arrays, Function, cast, function_of, shadow
from gradcheck.trajectory.noise import FACTOR, Recorder, noise_of, nudged, spread, update_rounding

DTYPES = (np.float64, np.float32)

# Shadows of a check of small arrays. With few elements and cancelling terms all nudges of a shadow may cancel (with
# probability up to 3/8 for two terms); 16 of them do so less than once in a million times.
SHADOWS_OF_SMALL_ARRAYS = 16

# An allowance above this share of the tensor's largest element cannot tell right from wrong.
USEFUL = 1e-3

STEPS_OF_AN_OPTIMIZER = 20
EPOCHS_OF_A_SCHEDULE = 20


@dataclass(frozen=True)
class Finding:
    """What one property found in one case; ``message`` is a sentence about the failure."""

    verdict: Verdict
    worst: Worst | None = None
    message: str = ""


Property = Callable[[Case], Finding]


def gradients_agree_with_differences(case: Case) -> Finding:
    """The gradients of the input and of every parameter are the derivatives of <dy, f>, by central differences.

    In float64. Elements at which f is not smooth are skipped; the twin judges those.
    """
    function, rng = function_of(case), case.rng()
    y, pullback = function.call(function.variables, case.context())
    dy = _cotangent(y, rng)
    grads = pullback(dy)
    shadows = _shadows(case, function, function.variables, dy, rng)
    noise = spread(grads, shadows)
    output_noise = elementwise_noise(y, [one["output"] for one in shadows])
    worsts, told = [], False
    for name, x in function.variables.items():

        def f(array: Array, name: str = name) -> Array:
            return function.call({**function.variables, name: array}, case.context())[0]

        estimate = central_differences(f, x, dy, output_noise)
        allowed = estimate.error + FACTOR * noise_of(grads[name], noise[name], FACTOR)
        worsts.append(compare(name, grads[name], estimate.value, allowed))
        told |= _useful(allowed, grads[name], estimate.value)
    return _finding(worsts, told=told)


def forward_agrees_with_twin(case: Case) -> Finding:
    """The value is torch's, in both precisions, up to rounding."""
    return _agreement_with_twin(case, lambda name: name == "output")


def gradients_agree_with_twin(case: Case) -> Finding:
    """The gradients of the input and of every parameter are torch's, in both precisions, up to rounding."""
    return _agreement_with_twin(case, lambda name: name != "output")


def backward_is_linear(case: Case) -> Finding:
    """B(0) = 0 exactly, and B(u + 2v) = B(u) + 2 B(v) up to rounding."""
    function, rng = function_of(case), case.rng()
    y, pullback = function.call(function.variables, case.context())
    u, v = _cotangent(y, rng), _cotangent(y, rng)
    for name, grad in pullback(np.zeros_like(u)).items():
        if np.any(grad):
            worst = compare(name, grad, np.zeros_like(grad), 0.0)
            return _failure(f"{name}'s gradient is not zero for a zero cotangent", worst)
    of_u, of_v, of_sum = pullback(u), pullback(v), pullback(u + 2 * v)
    shadows = [
        shadow(function, function.variables, dy, rng, case.context(Recorder(rng)))
        for dy in (u, v, u + 2 * v)
        for _ in range(5)
    ]
    worsts = []
    for name, grad in of_sum.items():
        pieces = zip((of_u, of_v, of_sum), (shadows[:5], shadows[5:10], shadows[10:]), (1, 2, 1), strict=True)
        noise = sum(k * max(noise_of(b[name], 0, FACTOR), spread({name: b[name]}, s)[name]) for b, s, k in pieces)
        worsts.append(compare(name, grad, of_u[name] + 2 * of_v[name], FACTOR * noise))
    return _finding(worsts)


def gradients_match_their_tensors(case: Case) -> Finding:
    """Every parameter and the input has a gradient of its own name and shape, and float32 stays float32."""
    function = function_of(case)
    for dtype in DTYPES:
        variables = cast(function.variables, dtype)
        y, pullback = function.call(variables, case.context())
        if y.dtype != dtype:
            return _failure(f"the output of {np.dtype(dtype)} input is {y.dtype}")
        grads = pullback(_cotangent(y, case.rng()))
        for name, grad in grads.items():
            if grad.shape != variables[name].shape or grad.dtype != dtype:
                return _failure(
                    f"{name} is {variables[name].shape} {np.dtype(dtype)}, its gradient {grad.shape} {grad.dtype}"
                )
    return Finding(Verdict.PASS)


def arguments_are_left_untouched(case: Case) -> Finding:
    """Forward and backward change neither inputs, nor parameters, nor dy, and read arrays that cannot be written."""
    function = function_of(case)
    before = {name: array.copy() for name, array in function.variables.items()}
    frozen = {name: _read_only(array) for name, array in before.items()}
    y, pullback = function.call(function.variables, case.context())
    dy = _cotangent(y, case.rng())
    kept = dy.copy()
    pullback(dy)
    for name, array in [*function.variables.items(), ("dy", dy)]:
        if not np.array_equal(array, kept if name == "dy" else before[name]):
            return _failure(f"{name} is changed by the call")
    try:
        function.call(frozen, case.context())[1](_read_only(kept))
    except ValueError as error:
        return _failure(f"read-only arrays are not taken: {error}")
    return Finding(Verdict.PASS)


def results_own_their_memory(case: Case) -> Finding:
    """Nothing returned shares memory with an argument or with the results of another call."""
    function = function_of(case)
    y, pullback = function.call(function.variables, case.context())
    dy = _cotangent(y, case.rng())
    first, second = pullback(dy), pullback(dy)
    again = function.call(function.variables, case.context())[0]
    given = {**function.variables, "dy": dy, "another output": again}
    results = {"the output": y, **{f"{name}'s gradient": grad for name, grad in first.items()}}
    for result, array in results.items():
        others = given | {f"another call's gradient of {name}": grad for name, grad in second.items()}
        for other, memory in others.items():
            if np.shares_memory(array, memory):
                return _failure(f"{result} shares memory with {other}")
    return Finding(Verdict.PASS)


def calls_do_not_interfere(case: Case) -> Finding:
    """Repeated and interleaved calls give bitwise the same answers, whichever pullback runs first."""
    function, rng = function_of(case), case.rng()
    y, pullback = function.call(function.variables, case.context())
    dy = _cotangent(y, rng)
    alone = pullback(dy)
    other = {name: array[::-1] if array.ndim else array for name, array in function.variables.items()}
    y_first, first = function.call(function.variables, case.context())
    _, second = function.call(other, case.context())
    second(dy)
    interleaved = first(dy)
    if not np.array_equal(y, y_first):
        return _failure("a second call gives another output")
    for name, grad in alone.items():
        if not np.array_equal(grad, interleaved[name]) or not np.array_equal(grad, pullback(dy)[name]):
            return _failure(f"{name}'s gradient depends on calls in between")
    return Finding(Verdict.PASS)


def taps_do_not_change_results(case: Case) -> Finding:
    """A call whose taps are recorded is bitwise the call without, and what was recorded stays as it was."""
    function = function_of(case)
    y, pullback = function.call(function.variables, case.context())
    shown: list[tuple[str, Array, Array]] = []

    def keep(name: str, array: Array) -> Array:
        shown.append((name, array, array.copy()))
        return array

    y_tapped, pullback_tapped = function.call(function.variables, case.context(keep))
    dy = _cotangent(y, case.rng())
    plain, tapped = {"output": y, **pullback(dy)}, {"output": y_tapped, **pullback_tapped(dy)}
    for name, array in plain.items():
        if not np.array_equal(array, tapped[name]):
            return _failure(f"recording the taps changes {name}")
    for name, array, kept in shown:
        if not np.array_equal(array, kept):
            return _failure(f"{name} is changed after it was shown to the tap")
    return Finding(Verdict.PASS)


def buffers_agree_with_twin(case: Case) -> Finding:
    """A call leaves the buffers as they are, and the new values that it proposes are torch's, up to rounding."""
    layer = case.subject
    assert isinstance(layer, Layer)  # noqa: S101  by PROPERTIES
    function, twin, rng = function_of(case), twin_of(case), case.rng()
    before = {name: array.copy() for name, array in layer.buffers().items()}

    def after(called: Function, variables: Arrays, tap: Tap = untapped) -> dict[str, Array]:
        context = case.context(tap)
        called.call(variables, context)
        return cast(before, variables[function.main].dtype) | (context.updates or {})

    worsts = []
    for dtype in DTYPES:
        variables = cast(function.variables, dtype)
        ours, theirs = after(function, variables), after(twin, variables)
        for name, array in layer.buffers().items():
            if not np.array_equal(array, before[name]):
                return _failure(f"{name} is changed by the call")
        for name, array in ours.items():
            if name not in theirs:
                return _failure(f"a new {name} is proposed, which is no buffer")
            if array.shape != theirs[name].shape or array.dtype != theirs[name].dtype:
                want = f"{theirs[name].shape} {theirs[name].dtype}"
                return _failure(f"{name} is {want}, its new value {array.shape} {array.dtype}")
        shadows = [
            after(function, {name: nudged(array, rng) for name, array in variables.items()}, Recorder(rng))
            for _ in range(SHADOWS_OF_SMALL_ARRAYS)
        ]
        noise = spread(ours, shadows)
        for name, array in ours.items():
            exact = array.dtype.kind != "f"
            allowed = 0.0 if exact else FACTOR * noise_of(theirs[name], noise[name], FACTOR)
            worsts.append(compare(name, array, theirs[name], allowed))
    return _finding(worsts) if before else Finding(Verdict.PASS)


def updates_agree_with_twin(case: Case) -> Finding:
    """20 steps move the parameters as torch does: the rate changes half-way, a tensor at times has no gradient."""
    optimizer = case.subject
    assert isinstance(optimizer, Optimizer)  # noqa: S101  by PROPERTIES
    worsts = []
    for dtype in DTYPES:
        params = {f"p{i}": array.astype(dtype) for i, array in enumerate(case.inputs)}
        rng = case.rng()
        steps: list[tuple[dict[str, Array], float]] = []
        for step in range(STEPS_OF_AN_OPTIMIZER):
            grads = {name: rng.standard_normal(p.shape).astype(dtype) for name, p in params.items()}
            if step % 3 == 1:
                del grads["p1"]
            steps.append((grads, 0.1 if step < STEPS_OF_AN_OPTIMIZER // 2 else 0.01))
        theirs = twin_updates(optimizer, params, steps)
        shadows = [_updates(optimizer, params, steps, rng) for _ in range(SHADOWS_OF_SMALL_ARRAYS)]
        rounding, before = dict.fromkeys(params, 0.0), params
        for step, ours in enumerate(_updates(optimizer, params, steps)):
            wide = spread(ours, [run[step] for run in shadows])
            for name, array in ours.items():
                rounding[name] += update_rounding(before[name], array)
                allowed = max(FACTOR * wide[name], rounding[name])
                worsts.append(compare(f"{name} after step {step}", array, theirs[step][name], allowed))
            before = ours
    return _finding(worsts)


def rates_agree_with_twin(case: Case) -> Finding:
    """The rates of 20 epochs are torch's, up to the rounding of one product a milestone."""
    schedule = case.subject
    assert isinstance(schedule, Schedule)  # noqa: S101  by PROPERTIES
    rates = np.array([schedule(epoch) for epoch in range(EPOCHS_OF_A_SCHEDULE)])
    rounding = EPOCHS_OF_A_SCHEDULE * np.finfo(np.float64).eps * np.abs(rates)
    return _finding([compare("lr", rates, twin_rates(schedule, EPOCHS_OF_A_SCHEDULE), rounding)])


def rates_do_not_depend_on_earlier_calls(case: Case) -> Finding:
    """A schedule is a pure function: asked again, in another order, it gives the same rates."""
    schedule = case.subject
    assert isinstance(schedule, Schedule)  # noqa: S101  by PROPERTIES
    rates = [schedule(epoch) for epoch in range(EPOCHS_OF_A_SCHEDULE)]
    backwards = [schedule(epoch) for epoch in reversed(range(EPOCHS_OF_A_SCHEDULE))][::-1]
    return _finding([compare("lr", np.array(rates), np.array(backwards), 0.0)])


_DIFFERENTIABLE: tuple[Property, ...] = (
    gradients_agree_with_differences,
    forward_agrees_with_twin,
    gradients_agree_with_twin,
    backward_is_linear,
    gradients_match_their_tensors,
    arguments_are_left_untouched,
    results_own_their_memory,
    calls_do_not_interfere,
    taps_do_not_change_results,
)
PROPERTIES: dict[type, tuple[Property, ...]] = {
    Layer: (*_DIFFERENTIABLE, buffers_agree_with_twin),
    Loss: _DIFFERENTIABLE,
    Optimizer: (updates_agree_with_twin,),
    Schedule: (rates_agree_with_twin, rates_do_not_depend_on_earlier_calls),
}


def _agreement_with_twin(case: Case, judged: Callable[[str], bool]) -> Finding:
    function, twin, rng = function_of(case), twin_of(case), case.rng()
    worsts, told = [], False
    for dtype in DTYPES:
        variables = cast(function.variables, dtype)
        y, pullback = function.call(variables, case.context())
        dy = _cotangent(y, rng)
        y_twin, pullback_twin = twin.call(variables, case.context())
        ours, theirs = {"output": y, **pullback(dy)}, {"output": y_twin, **pullback_twin(dy)}
        noise = spread(ours, _shadows(case, function, variables, dy, rng))
        for name in filter(judged, ours):
            allowed = FACTOR * noise_of(theirs[name], noise[name], FACTOR)
            worsts.append(compare(name, ours[name], theirs[name], allowed))
            told |= _useful(allowed, ours[name], theirs[name])
    return _finding(worsts, told=told)


def _useful(allowed: Array | float, *values: Array) -> bool:
    """Return whether an allowance can tell right from wrong beside the largest element that it is about."""
    top = max(float(np.abs(array).max(initial=0.0)) for array in values)
    return bool(np.any(np.asarray(allowed) < USEFUL * top))


def _shadows(
    case: Case, function: Function, variables: Arrays, dy: Array, rng: np.random.Generator
) -> list[dict[str, Array]]:
    return [shadow(function, variables, dy, rng, case.context(Recorder(rng))) for _ in range(SHADOWS_OF_SMALL_ARRAYS)]


def _updates(
    optimizer: Optimizer,
    params: Mapping[str, Array],
    steps: list[tuple[dict[str, Array], float]],
    rng: np.random.Generator | None = None,
) -> list[dict[str, Array]]:
    """Run a fresh copy of the optimizer over copies of the parameters, with nudged gradients if given a generator."""
    optimizer = copy.deepcopy(optimizer)
    params = {name: array.copy() for name, array in params.items()}
    history = []
    for grads, lr in steps:
        optimizer.step(params, {k: nudged(g, rng) if rng else g for k, g in grads.items()}, lr)
        history.append({name: array.copy() for name, array in params.items()})
    return history


def _cotangent(y: Array, rng: np.random.Generator) -> Array:
    return np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.setflags(write=False)
    return array


def _failure(message: str, worst: Worst | None = None) -> Finding:
    return Finding(Verdict.FAIL, worst, message)


def _finding(worsts: Iterable[Worst | None], *, told: bool = True) -> Finding:
    worst = largest(*worsts)
    if worst is not None and worst.ratio > 1:
        return Finding(Verdict.FAIL, worst)
    return Finding(Verdict.PASS if worst is not None and told else Verdict.INCONCLUSIVE, worst)
