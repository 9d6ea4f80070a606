"""Why gradients are wrong: what is known of them, gathered for a diagnosis."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from gradcheck.contract import Array, Case, Context
from gradcheck.diagnosis.evidence import Diagnosis, Evidence
from gradcheck.diagnosis.gradients import diagnose
from gradcheck.diagnosis.guards import Moved
from gradcheck.numerics.directions import coordinates
from gradcheck.numerics.functions import Arrays, Function, Pullback, cast, function_of, grains_of
from gradcheck.numerics.samples import batch_axis
from gradcheck.numerics.shrinking import shrunk
from gradcheck.properties.judge import LEVELS, Derivatives, Judge, TensorFinding, TooLongError
from gradcheck.properties.outcome import CERTAIN, DIAGNOSED


def causes_of(
    judge: Judge, wrong: list[str], found: dict[str, TensorFinding], kept: dict[str, Derivatives] | None = None
) -> dict[str, Diagnosis | None]:
    """Return the likely cause of each of these tensors' wrong gradients, None where it is unknown.

    Evaluations that are ``kept`` are not made again.
    """
    kept = {} if kept is None else kept
    causes = {name: found[name].cause for name in wrong if name in found and found[name].cause is not None}
    wrong = [name for name in wrong if name not in causes]
    for name in wrong if judge.settings.explain else ():
        if judge.settings.late():
            break
        if name in found and found[name].within:
            continue  # no numeric gradient is known
        x, worst = judge.point.variables[name], found[name].worst if name in found else None
        # Near the allowance it is an accident which elements fail and by how much.
        if x.size > DIAGNOSED or (worst is not None and worst.ratio < CERTAIN):
            continue
        numeric_of = partial(judge.numeric_of, kept, guards={name: found[name].guard} if name in found else {})
        try:
            numeric, allowed = (found[name].known if name in found else None) or numeric_of(name, judge.point.dy)
        except TooLongError:
            continue
        evidence = Evidence(
            tensor=name,
            analytic=judge.grads[name],
            numeric=numeric,
            allowed=allowed,
            value=x,
            inputs=judge.point.function.inputs,
            variables=dict(judge.point.variables),
            gradients=judge.grads,
            y=judge.point.y,
            dy=judge.point.dy,
            analytic_of=partial(judge.analytic, name),
            numeric_of=partial(numeric_of, name),
            other_numeric=partial(numeric_of, dy=judge.point.dy),
            levels=LEVELS[np.float32 if any(grains_of(judge.case)) else judge.point.precision],
            target=target_of(judge.point.function),
            batch_axis=batch_axis(judge.case),
            of_exchanged=partial(_of_exchanged, judge),
        )
        try:
            causes[name] = diagnose(evidence)
        except TooLongError:
            causes[name] = None
    return causes


def target_of(function: Function) -> Array | None:
    """Return what a loss, or a layer that ends in one, compares its only input with."""
    constants = [argument for argument in function.arguments if not isinstance(argument, str)]
    return constants[0] if len(function.inputs) == 1 and len(constants) == 1 else None


def moved_from(case: Case, function: Function, variables: Arrays, name: str, dy: Array) -> Moved | None:
    """Return a smaller input and its gradient, or None if the function is not defined there."""
    x = shrunk(variables[name], case.rng("smaller inputs"))
    try:
        return Moved(x, function.call({**variables, name: x}, case.context())[1](dy)[name])
    except Exception:  # noqa: BLE001  outside its domain it may raise anything
        return None


def _of_exchanged(judge: Judge) -> dict[str, tuple[Array, Array]]:
    """Return the numeric gradients, for dy = 1, of a loss whose arguments are exchanged, and of its target."""
    prediction, target = judge.case.inputs[0], target_of(judge.point.function)
    if target is None or target.dtype.kind != "f" or target.shape != prediction.shape or judge.point.y.ndim:
        return {}
    exchanged = function_of(replace(judge.case, inputs=(target, prediction)))

    def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
        of_target = function_of(replace(judge.case, inputs=(prediction, given["target"])))
        y, _ = of_target.call(cast(of_target.variables, np.float64), context)
        return y, lambda _: {}

    by_target = replace(exchanged, variables={"target": target}, arguments=("target",), call=call, values=None)
    found = {}
    for of, function in (("first argument", exchanged), ("target", by_target)):
        (name,) = function.inputs
        variables = cast(function.variables, np.float64)
        y, _ = function.call(variables, judge.point.context())
        if np.isfinite(y):
            there = replace(judge.point, function=function, variables=variables, y=y, dy=np.ones(()), outputs=[y])
            found[of] = judge.at(there).numeric(name, coordinates(there, name))
    return found
