"""Properties of objects that keep state between calls, which only foreign ones do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.changes import not_judged_if_changed
from gradcheck.properties.outcome import Outcome, Settings, cotangent, failure, inconclusive
from gradcheck.subjects.caller import other_values
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.twin import TwinError, twin_outputs, twin_outputs_by_mode

# Calls of a random layer and of its twin whose means are compared, and how many standard errors apart they may be:
# exceeded by chance less than once in 1e8.
DRAWS, STANDARD_ERRORS = 200, 6.0

CLOSE = 1e-6  # relative: far above the rounding of either precision's sums here, far below any fault of this kind
EVALUATIONS = 8  # calls in evaluation mode, which must all give the same


def repeated_calls_agree(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A second pair of forward and backward on the same object gives what the first gave."""
    layer = case.subject
    assert isinstance(layer, ForeignLayer)
    if layer.reading.keeps or layer.reading.goes_on:
        return None  # a state goes on from call to call, as in a recurrent cell
    if (unjudged := not_judged_if_changed(case, parameters_alone=True)) is not None:
        return unjudged
    y = layer.function(case.inputs).call(layer.function(case.inputs).variables, case.context())[0]
    case.tally.evaluations += 3
    first, second = layer.pairs(case.inputs, cotangent(y, case.rng("cotangent")), training=case.training)
    for name, array in first.items():
        again = second[name]
        if array.shape == again.shape and np.array_equal(array, again, equal_nan=True):
            continue
        if name == "output":
            found = "a second forward pass gives another output"
            if _close(array, again):
                return failure(found)  # a twin that gives the same twice is no excuse
            return _unless_twin(case, (case.training,) * 2, (array, again), found)
        if array.shape == again.shape and np.allclose(again, 2 * array, rtol=CLOSE, atol=0):
            return failure(
                f"a second pass gives another gradient of {name}", None, f"{name}'s gradient is added to the last one's"
            )
        return failure(f"a second pass gives another gradient of {name}")
    return Outcome(Verdict.PASS)


def modes_are_restored(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """An evaluation in between does not leave a training layer in evaluation mode, nor the other way round."""
    layer = case.subject
    assert isinstance(layer, ForeignLayer)
    if not layer.has_modes:
        return None
    if (unjudged := not_judged_if_changed(case, parameters_alone=True)) is not None:
        return unjudged
    evaluated, trained = layer.outputs_by_mode(case.inputs, (False, True))
    case.tally.evaluations += 5
    (only,) = layer.outputs_by_mode(case.inputs, (True,))
    if np.array_equal(only, evaluated, equal_nan=True):
        return None  # it does the same in both modes
    if np.array_equal(trained, evaluated, equal_nan=True):
        message = "once evaluated, it does in training mode what it does in evaluation mode"
        return _unless_twin(case, (False, True), (evaluated, trained), message)
    _, after = layer.outputs_by_mode(case.inputs, (True, False))
    if np.array_equal(after, only, equal_nan=True) and _trains_on(case):
        message = "once trained, it does in evaluation mode what it does in training mode"
        return _unless_twin(case, (True, False), (only, after), message)
    return Outcome(Verdict.PASS)


def _trains_on(case: Case) -> bool:
    """Return whether it evaluates other inputs, too, as it would train on them; so it is where they are refused.

    Of the inputs that it was trained on, statistics that keep the last batch alone give the same in either mode.
    """
    rng = case.rng("inputs to evaluate")
    others = tuple(other_values(array, rng) for array in case.inputs)
    case.tally.evaluations += 3
    try:
        _, evaluated = case.subject.outputs_by_mode(case.inputs, (True, False), others)
        (trained,) = case.subject.outputs_by_mode(others, (True,))
    except Exception:  # noqa: BLE001  they may lie outside its domain
        return True
    return bool(np.array_equal(evaluated, trained, equal_nan=True))


def _unless_twin(case: Case, modes: Sequence[bool], outputs: Sequence[Array], message: str) -> Outcome:
    """Return a failure, unless a twin that is called in these modes in turn has the same outputs.

    As where each forward pass in training mode moves a state that the output depends on.
    """
    theirs = twin_outputs_by_mode(case, modes)
    if theirs is None or not all(map(_close, outputs, theirs)):
        return failure(message)
    return Outcome(Verdict.PASS, remark=f"{message}, as torch's does")


def _close(ours: Array, theirs: Array) -> bool:
    scale = float(np.abs(theirs).max(initial=0.0))
    return ours.shape == theirs.shape and bool(np.all(np.abs(ours - theirs) <= CLOSE * scale))


def evaluation_is_not_random(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """In evaluation mode the same input gives the same output, whatever the random numbers."""
    layer = case.subject
    assert isinstance(layer, ForeignLayer)
    if not layer.has_modes or (case.training and not layer.reading.evaluates):
        return None
    if (unjudged := not_judged_if_changed(case, parameters_alone=True)) is not None:
        return unjudged
    case.tally.evaluations += EVALUATIONS
    first, *others = layer.outputs_in_turn(case.inputs, EVALUATIONS, training=False)
    if all(np.array_equal(first, other, equal_nan=True) for other in others):
        return Outcome(Verdict.PASS)
    return failure(
        "outputs differ from call to call in evaluation mode",
        None,
        "it is random in evaluation, as a dropout that is left on",
    )


def statistics_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """Outputs of a layer and a twin that draw their own random numbers agree in mean, square and share of zeros.

    The means of 200 calls each are compared, to within 6 standard errors of their difference.
    """
    layer = case.subject
    assert isinstance(layer, ForeignLayer)
    if case.twin is None or not case.training:
        return None
    if (unjudged := not_judged_if_changed(case, parameters_alone=True)) is not None:
        return unjudged
    try:
        theirs = twin_outputs(case, DRAWS)
    except TwinError as refusal:
        return inconclusive(str(refusal))
    if theirs is None:
        return None  # it draws no random numbers
    ours = np.array(list(layer.outputs_in_turn(case.inputs, DRAWS)))
    case.tally.evaluations += DRAWS
    if ours.shape != theirs.shape:
        return failure(f"the output has shape {ours.shape[1:]}, the twin's {theirs.shape[1:]}")
    weights = np.sign(theirs.mean(axis=0))
    for what, statistic in (("mean", lambda y: y * weights), ("square", np.square), ("share of zeros", _zeros)):
        mine, other = (_per_call(statistic(sample)) for sample in (ours, theirs))
        error = np.sqrt((mine.var(ddof=1) + other.var(ddof=1)) / DRAWS)
        gap = abs(float(mine.mean() - other.mean()))
        if gap > STANDARD_ERRORS * error + CLOSE * abs(float(other.mean())):
            values = f"{mine.mean():.4g}, the twin's {other.mean():.4g}"
            return failure(f"over {DRAWS} calls the {what} of the outputs is {values}, {gap / max(error, 1e-300):.0f} "
                           "standard errors apart")  # fmt: skip
    return Outcome(Verdict.PASS)


def _zeros(y: Array) -> Array:
    return np.asarray(y == 0, np.float64)


def _per_call(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))
