"""The same values, gradients and buffers as a torch twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case, Layer, Loss, Tap, untapped
from gradcheck.numerics.agreement import Verdict, Worst, compare
from gradcheck.numerics.functions import Arrays, Function, RefusedError, cast, function_of, precision_of
from gradcheck.numerics.rounding import Recorder, largest_difference, nudged, roughness, spread
from gradcheck.properties.apart import odd_one_out, with_causes
from gradcheck.properties.guarded_twins import Guarded
from gradcheck.properties.noise import SHADOWS, Rounding, Separation, factor_of, shadows_of
from gradcheck.properties.outcome import (
    USEFUL,
    Outcome,
    Settings,
    cotangent,
    failure,
    inconclusive,
    judged,
    useful,
)
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.twin import TwinError, twin_of


def forward_agrees_with_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """The value is torch's, in both precisions, up to rounding."""
    return _agreement(case, settings, lambda name: name == "output")


def gradients_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """The gradients of the input and of every parameter are torch's, in both precisions, up to rounding."""
    return _agreement(case, settings, lambda name: name != "output")


def _agreement(case: Case, settings: Settings, wanted: Callable[[str], bool]) -> Outcome | None:
    if not has_twin(case):
        return None
    # The output and the gradients come together, and two properties ask for them.
    kept = ("twin", *settings.dtypes)
    if kept not in case.found:
        case.found[kept] = compared_with_twin(case, function_of(case).variables, settings.dtypes)
    compared = case.found[kept]
    if isinstance(compared, Outcome):
        return compared
    chosen = [(worst, told) for name, worst, told in compared.tensors if wanted(name)]
    outcome = judged([worst for worst, _ in chosen], told=any(told for _, told in chosen))
    if outcome.verdict is Verdict.FAIL and outcome.worst is not None and outcome.worst.tensor != "output":
        outcome = replace(outcome, diagnosis=odd_one_out(case, outcome.worst))
    outcome = replace(outcome, remark="; ".join(said for name, said in compared.guards.items() if wanted(name)))
    if outcome.verdict is Verdict.FAIL:
        wrong = dict.fromkeys(name for name, worst, _ in compared.tensors if wanted(name) and worst and worst.ratio > 1)
        right = dict.fromkeys(name for name, _, _ in compared.tensors if wanted(name) and name not in wrong)
        return with_causes(case, outcome, [*wrong], [*right], explain=settings.explain)
    return outcome


class Compared(NamedTuple):
    """What a comparison with a twin has found.

    Of output and gradients, in each precision, the worst element and whether it is informative; and what is to be said
    of guards that one side has, by tensor.
    """

    tensors: list[tuple[str, Worst | None, bool]]
    guards: dict[str, str]


def compared_with_twin(
    case: Case, given: Arrays, dtypes: tuple[str, ...], terms: float = 0.0, *, excusing: bool = True
) -> Compared | Outcome:
    """Compare output and gradients with the twin's, in each precision.

    ``terms`` is the largest of extreme inputs: the output is allowed eps times that in addition. Any tensor is allowed
    ``tiny / eps``: near underflow it may be 0, since torch flushes subnormal numbers to 0, as of a sigmoid at -745.
    Unless ``excusing``, neither a `Separation` nor an eps is allowed for.
    """
    function, twin, rng = function_of(case), twin_of(case), case.rng("nudges")
    compared: list[tuple[str, Worst | None, bool]] = []
    guarded = Guarded(case, function, twin)
    refusals: list[str] = []
    for dtype in _dtypes(case, dtypes):
        variables = cast(given, dtype)
        try:
            y, pullback = function.call(variables, case.context())
        except RefusedError as refusal:  # of what rounding to this precision makes of the input
            refusals.append(str(refusal))
            continue
        dy = cotangent(y, case.rng("cotangent"))
        # If ours always computes in float64, its shadows do not show how a float32 twin rounds.
        kind = np.result_type(y, *variables.values())
        try:
            y_twin, pullback_twin = twin.call(cast(variables, kind), case.context())
        except TwinError as error:
            return inconclusive(str(error))
        if y.shape != y_twin.shape:
            return failure(f"the output has shape {y.shape}, the twin's {y_twin.shape}")
        ours, theirs = {"output": y, **pullback(dy)}, {"output": y_twin, **pullback_twin(dy.astype(y_twin.dtype))}
        rounding = Rounding(function, ours, shadows_of(case, function, variables, dy, rng))

        def of_twin(given: Arrays, dy: Array = dy) -> dict[str, Array]:
            value, back = twin.call(given, case.context())
            return {"output": value, **back(dy.astype(value.dtype))}

        second = _SecondOpinion(of_twin, cast(variables, kind), factor_of(function), rng)
        apart = Separation(function, twin, variables, (dy, dy.astype(y_twin.dtype)), case)
        for name, array in ours.items():
            if name in theirs:  # else it is an input for which the twin has no gradient
                info = np.finfo(theirs[name].dtype)
                more = float(info.tiny / info.eps + info.eps * terms * (name == "output"))
                allowed = rounding.allowed(name, array, theirs[name], more)
                allowed += second.of(name, array, theirs[name], allowed)
                allowed += apart.of(name, array, theirs[name], allowed) if excusing else 0.0
                told = useful(allowed, array, theirs[name], share=USEFUL[precision_of(case)])
                worst = compare(name, array, theirs[name], allowed)
                if excusing and worst is not None and worst.ratio > 1:
                    worst = guarded.worst(name, array, theirs[name], allowed, variables, dy) or worst
                compared.append((name, worst, told))
    return Compared(compared, guarded.said) if compared or not refusals else inconclusive(refusals[0])


def _dtypes(case: Case, dtypes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the precisions in which to compare: code that computes in float32 has no other."""
    return ("float32",) if precision_of(case) is np.float32 else dtypes


class _SecondOpinion:
    """The twin's own rounding, from fourth differences, measured where a comparison exceeds its allowance.

    Torch's sums of many terms of one sign round by many units in the last place; our pairwise sums do not. The error of
    our own side excuses nothing more.
    """

    def __init__(
        self, of_twin: Callable[[Arrays], dict[str, Array]], variables: Arrays, factor: float, rng: np.random.Generator
    ) -> None:
        self._of_twin, self._variables, self._factor, self._rng = of_twin, variables, factor, rng
        self._spread: dict[str, float] | None = None

    def of(self, name: str, array: Array, reference: Array, allowed: float) -> float:
        """Return what is added to an allowance: 0 where it is enough."""
        if array.shape != reference.shape or largest_difference(array, reference) <= allowed:
            return 0.0
        if self._spread is None:
            try:
                rounded = roughness(self._of_twin, self._variables, self._rng)
                self._spread = spread(self._of_twin(self._variables), rounded)
            except TwinError:  # nudged, a probability of 1 is outside its domain: it excuses nothing
                self._spread = {}
        error = self._factor * self._spread.get(name, 0.0)
        return error if np.isfinite(error) else 0.0


def buffers_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A call leaves the buffers unchanged, and the new values that it proposes are torch's, up to rounding."""
    subject = case.subject
    buffers = subject.buffers() if isinstance(subject, (Layer, ForeignLayer)) else {}
    if not buffers or not has_twin(case):
        return None
    function, twin, rng = function_of(case), twin_of(case), case.rng("nudges")
    before = {name: array.copy() for name, array in buffers.items()}

    def after(called: Function, variables: Arrays, tap: Tap = untapped) -> dict[str, Array]:
        context = case.context(tap)
        called.call(variables, context)
        kind = next(iter(variables.values())).dtype
        updates, place = context.updates or {}, f"{context.key.path}."
        own = {name.removeprefix(place): array for name, array in updates.items() if name.startswith(place)}
        return cast(before, kind) | {name: np.asarray(array) for name, array in own.items()}

    worsts = []
    for dtype in _dtypes(case, settings.dtypes):
        variables = cast(function.variables, dtype)
        try:
            ours, theirs = after(function, variables), after(twin, variables)
        except TwinError as error:
            return inconclusive(str(error))
        for name, array in subject.buffers().items():
            if not np.array_equal(array, before[name], equal_nan=True):
                return failure(f"{name} is changed by the call")
        for name, array in ours.items():
            if name not in theirs:
                return failure(f"a new {name} is proposed, which is no buffer")
            if array.shape != theirs[name].shape or (not function.foreign and array.dtype != theirs[name].dtype):
                want = f"{theirs[name].shape} {theirs[name].dtype}"
                return failure(f"{name} is {want}, its new value {array.shape} {array.dtype}")
        moved = ({name: nudged(array, rng) for name, array in variables.items()} for _ in range(SHADOWS))
        rounding = Rounding(function, ours, (after(function, one, Recorder(rng)) for one in moved))
        values = max(array.size for array in case.inputs)
        for name, array in ours.items():
            allowed = 0.0
            if array.dtype.kind == "f":
                # A sum of m terms of one sign rounds in any order by up to m eps / 2 of itself: Higham (1993).
                terms = values / max(1, array.size)
                summed = terms * float(np.finfo(dtype).eps) / 2 * float(np.abs(theirs[name]).max(initial=0.0))
                allowed = rounding.allowed(name, array, theirs[name], summed)
            worsts.append(compare(name, array, theirs[name], allowed))
    return judged(worsts)


def extreme_values_stay_finite(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """Where an input is large, or one sample is, values and gradients are finite wherever torch's are.

    Without a twin only this is checked: a finite sample stays finite when another one is large.
    """
    function = function_of(case)
    if not function.inputs:
        return None
    main = function.inputs[0]
    x = function.variables[main]
    twin = twin_of(case) if has_twin(case) else None
    compared = False
    as_given = np.isfinite(function.call(function.variables, case.context())[0])
    for name, large in _extremes(x):
        variables = {**function.variables, main: large}
        with np.errstate(all="ignore"):
            try:
                y, pullback = function.call(variables, case.context())
            except RefusedError:
                continue  # outside its domain
            dy = cotangent(y, case.rng("cotangent"))
            ours = {"output": y, **pullback(dy)}
        if twin is not None:
            try:
                y_twin, pullback_twin = twin.call(variables, case.context())
            except TwinError:
                continue  # outside its domain
            theirs = {"output": y_twin, **pullback_twin(dy.astype(y_twin.dtype))}
            for tensor, array in ours.items():
                compared = True
                lost = np.isfinite(theirs.get(tensor, array)) & ~np.isfinite(array)
                if lost.any():
                    index = tuple(int(i) for i in np.argwhere(lost)[0])
                    worst = compare(tensor, array[index], theirs[tensor][index], np.inf)
                    where = replace(worst, index=index) if worst else None
                    return failure(f"{tensor} is not finite for {name}, where the twin's is", where)
        elif name.startswith("one sample") and y.shape == as_given.shape and y.shape[:1] == x.shape[:1]:
            compared = True
            if not (np.isfinite(y[1:]) | ~as_given[1:]).all():
                return failure(f"other samples' outputs are not finite for {name}")
        elif np.isnan(y).any():
            return inconclusive(f"the output is NaN for {name}, and there is no twin to tell whether it must be")
    return Outcome(Verdict.PASS) if compared else None


def extreme_values_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """Values and gradients of inputs of up to a million, of tiny ones and of whole numbers are torch's, up to rounding.

    Whole numbers include the ends of a domain, such as that of probabilities, where foreign layers may clip.
    """
    function = function_of(case)
    if not function.inputs:
        return None
    main, worsts, told = function.inputs[0], [], False
    x = function.variables[main]
    huge = x * (1e6 / (float(np.abs(x).max(initial=0.0)) or 1.0))
    # Torch's formula may add and subtract the input, as that of binary cross-entropy does.
    for name, large in [*_extremes(x), ("inputs of up to 1e6", huge), ("whole numbers", np.floor(x))]:
        terms = float(np.abs(large).max(initial=0.0))
        compared = compared_with_twin(case, {**function.variables, main: large}, settings.dtypes[:1], terms)
        if isinstance(compared, Outcome):
            if compared.verdict is Verdict.FAIL:
                return compared
            continue  # outside the twin's domain
        for _, worst, tells in compared.tensors:
            if worst is None or not np.isfinite(worst.numeric):
                continue  # the twin's own formula ends here
            if worst.ratio > 1:
                return failure(f"differs for {name}", worst)
            worsts.append(worst)
            told |= tells
    return judged(worsts, told=told) if worsts else None


def _extremes(x: Array) -> list[tuple[str, Array]]:
    """Return inputs of extreme size, with their names; signs are kept, and with them most domains."""
    top = float(np.abs(x).max(initial=0.0))
    if not top or x.dtype.kind != "f":
        return []
    found = [("inputs of up to 1000", x * (1000 / top)), ("inputs of up to 1e-30", x * (1e-30 / top))]
    if x.ndim >= 2 and len(x) > 1 and np.any(x[0]):
        one = x.copy()
        one[0] *= 2000 / float(np.abs(x[0]).max())
        found.append(("one sample of up to 2000 among smaller ones", one))
    return found


def has_twin(case: Case) -> bool:
    """Return whether a case has a twin: one that was given, or that of a part of the contract."""
    return case.twin is not None or isinstance(case.subject, (Layer, Loss))
