"""The pullback against derivatives of the forward pass, and its linearity: no second implementation is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.numerics.agreement import Verdict, compare, largest
from gradcheck.numerics.directions import Point
from gradcheck.numerics.functions import cast, function_of, grains_of, precision_of, precision_taken, size_of
from gradcheck.numerics.precision import Precision
from gradcheck.numerics.rounding import largest_difference
from gradcheck.properties.explained import causes_of
from gradcheck.properties.guarded import freed, remarks_of
from gradcheck.properties.judge import Derivatives, Judge, TensorFinding
from gradcheck.properties.noise import FEW, Rounding, has_many, shadows_of
from gradcheck.properties.outcome import (
    Outcome,
    Settings,
    cotangent,
    counted,
    failure,
    inconclusive,
    judged,
)
from gradcheck.properties.stops import stopped_in_twin

SHADOWS_OF_A_SUM = 5  # of each of three gradients, whose allowances add up


def gradients_agree_with_differences(case: Case, settings: Settings = Settings()) -> Outcome:
    """The gradients of the input and of every parameter are the derivatives of <dy, f>, by finite differences.

    In float64, or for code that computes in float32 whatever it is given, in float32. At a kink the gradient must be a
    generalised one; of a domain that steps of single elements leave, it is judged along directions that do not.
    """
    known = f"wrong, training {case.training}"  # as a subject mostly is in all variations of a mode
    wrong = case.measured.get(known, False)
    if has_many(case, function_of(case).variables) and precision_of(case) is np.float64:
        # Of what is wrong in any case, and need not be explained, no more is asked than whether it is so here.
        outcome = None if wrong and settings.explain else _by_differences(case, settings, FEW, briefly=wrong)
        if outcome is not None:
            return outcome
    outcome = _by_differences(case, settings, None)
    assert outcome is not None
    case.measured[known] = wrong or outcome.verdict is Verdict.FAIL
    return outcome


def _by_differences(case: Case, settings: Settings, count: int | None, *, briefly: bool = False) -> Outcome | None:
    """Judge by what so many shadows show of rounding, or by all.

    None if by some alone there is more to say than that everything agrees; ``briefly`` it is not said.
    """
    function, rng = function_of(case), case.rng("nudges")
    precision = precision_of(case)
    variables = cast(function.variables, precision)
    y, pullback = function.call(variables, case.context())
    if y.dtype not in (np.float64, np.float32):
        kind = "it has no derivative" if y.dtype.kind != "f" else "differences tell too little in it"
        return inconclusive(f"the output is {y.dtype} where everything given is float64: {kind}")
    if not np.isfinite(y).all():
        return inconclusive("the output is not finite")
    dy = cotangent(y, case.rng("cotangent"))
    grads = pullback(dy)
    shadows = [*islice(shadows_of(case, function, variables, dy, rng), count)]
    point = Point(
        function, variables, case.context, y, dy, [one["output"] for one in shadows], size=_size(case, precision, y)
    )
    judge = Judge(case, point, pullback, grads, shadows, settings, rng, case.tally.evaluations)
    for name, x in variables.items():
        if grads[name].shape != x.shape:
            message = f"{name} has shape {x.shape}, its gradient {grads[name].shape}"
            return replace(failure(message), causes=causes_of(judge, [name], {}))
    found: dict[str, TensorFinding] = {}
    if settings.derived and settings.mode != "full":
        found = judge.together() or {}
    for name in (name for name, x in variables.items() if x.size and name not in found):
        found[name] = judge.tensor(name)
        if count is not None and (found[name].disagrees or found[name].remark) and not briefly:
            return None
    kept: dict[str, Derivatives] = {}
    found = freed(judge, found, kept)
    remark = "; ".join([*(one.remark for one in found.values() if one.remark), *remarks_of(found)])
    wrong = [name for name, one in found.items() if one.disagrees]
    if wrong and stopped_in_twin(case, wrong):
        return _meant(found, wrong, remark)
    if briefly and wrong:
        return replace(judged(one.worst for one in found.values()), causes=causes_of(judge, wrong, found, kept))
    outcome = judged([one.worst for one in found.values()], told=any(one.told for one in found.values()))
    if outcome.verdict is Verdict.INCONCLUSIVE and found and all(one.outside for one in found.values()):
        why = "; ".join(dict.fromkeys(point.refusals.values())) or "it gives what is not finite"
        outcome = inconclusive(f"the forward pass refuses every step: {why}")
    trait = "; ".join([*_precision(case, point, found.values()), *(one.domain for one in found.values() if one.domain)])
    if count is not None and (remark or trait or outcome.verdict is not Verdict.PASS):
        return None
    message = outcome.message
    if wrong:
        counts = {name: _wrong_elements(grads[name], found[name]) for name in wrong}
        message = counted(counts, [name for name in found if name not in wrong])
    causes = causes_of(judge, wrong, found, kept)
    if settings.explain and settings.late() and not all(causes.get(name) for name in wrong):
        late = f"what explains the failure was not sought further after {settings.limit:g} s (seconds= gives it more)"
        remark = "; ".join(part for part in (remark, late) if part)
    return replace(outcome, message=message, remark=remark, trait=trait, causes=causes)


def _wrong_elements(grad: Array, found: TensorFinding) -> tuple[int, int] | None:
    """Return how many elements disagree, of how many, where all were looked at one by one."""
    known = found.known
    if known is None:
        return None
    numeric, allowed = known
    wrong = int((np.abs(grad - numeric) > allowed).sum())
    return (wrong, grad.size) if wrong else None


def _meant(found: dict[str, TensorFinding], stopped: list[str], remark: str) -> Outcome:
    """Return that differences agree, but for what torch stops on the way back, too."""
    also = f"torch stops this gradient, too: {' and '.join(stopped)} has torch's, which is not what differences show"
    rest = [one.worst for name, one in found.items() if name not in stopped]
    return Outcome(Verdict.PASS, largest(*rest), remark="; ".join(part for part in (also, remark) if part))


def _size(case: Case, precision: Precision, y: Array) -> float:
    """Return the size of which outputs round, whatever their own: in float32, the largest here and of the input given.

    What is small there has mostly cancelled, as 1 + tanh(x) far below zero, by steps of what cancels. No nudge shows
    that: it reaches nothing inside code that casts the arrays that it is given.
    """
    rounded = grains_of(case).output / float(np.finfo(precision).eps)
    return max(size_of(case), float(np.abs(y).max(initial=0.0)), rounded) if precision is np.float32 else rounded


def _precision(case: Case, point: Point, found: Iterable[TensorFinding]) -> list[str]:
    """Return that code computes in float32, or rounds to some decimals, and what that hides; or takes float64 alone."""
    taken, grains = precision_taken(case), grains_of(case)
    seen = [one.seen for one in found if np.isfinite(one.seen)]
    least = f": a gradient that is off by {max(seen):.0e} of itself would have been seen" if seen else ""
    said = []
    if taken is np.float64:
        said.append("your code takes float64 alone, and is given it")
    if point.precision is np.float32:
        how = "computes in float32, whatever it is given" if taken is None else "takes float32 alone"
        said.append(f"your code {how}, and is judged in float32{least}")
    if grain := grains.output or grains.gradients:
        what = "output" if grains.output else "gradients"
        least = "" if said else least
        said.append(f"your code rounds its {what} to multiples of {grain:.0e}, below which nothing shows{least}")
    return said


def backward_is_linear(case: Case, settings: Settings = Settings()) -> Outcome:
    """B(0) = 0 exactly, and B(u + 2v) = B(u) + 2 B(v) up to rounding."""
    function, cotangents, rng = function_of(case), case.rng("cotangent"), case.rng("nudges")
    y, pullback = function.call(function.variables, case.context())
    if not np.isfinite(y).all():
        return inconclusive("the output is not finite")
    u, v = cotangent(y, cotangents), cotangent(y, cotangents)
    for name, grad in pullback(np.zeros_like(u)).items():
        if np.any(grad):
            worst = compare(name, grad, np.zeros_like(grad), 0.0)
            return failure(f"{name}'s gradient is not zero for dy = 0", worst)
    of_u, of_v, of_sum = pullback(u), pullback(v), pullback(u + 2 * v)

    def shadows(dy: Array) -> Iterator[dict[str, Array]]:
        return islice(shadows_of(case, function, function.variables, dy, rng), SHADOWS_OF_A_SUM)

    pieces = [
        (factor, grads, Rounding(function, grads, shadows(dy)))
        for factor, grads, dy in ((1, of_u, u), (2, of_v, v), (1, of_sum, u + 2 * v))
    ]
    worsts = []
    for name, grad in of_sum.items():
        expected, allowed = of_u[name] + 2 * of_v[name], 0.0
        for count in (0, None):
            allowed = sum(factor * rounding.after(count, name, grads[name]) for factor, grads, rounding in pieces)
            if largest_difference(grad, expected) <= allowed:
                break
        worsts.append(compare(name, grad, expected, allowed))
    return judged(worsts)
