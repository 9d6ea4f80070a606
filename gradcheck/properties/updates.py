"""An optimizer against torch's, or against another, over many steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Case, Optimizer
from gradcheck.diagnosis.updates import Run, explain_updates
from gradcheck.numerics.agreement import Verdict, Worst, compare
from gradcheck.numerics.rounding import FACTOR, largest_difference, nudged, update_rounding
from gradcheck.properties.noise import SHADOWS
from gradcheck.properties.outcome import Outcome, Settings, failure, inconclusive, judged
from gradcheck.subjects.optimizer import ForeignOptimizer
from gradcheck.subjects.twin import twin_rule, twin_updates


class Step(NamedTuple):
    """The gradients, by parameter, and the learning rate of one step."""

    grads: dict[str, Array]
    lr: float


History = list[dict[str, Array]]  # what is held after each step


class _Compared(NamedTuple):
    """What is ours after a step, what is the reference's, and by how much rounding may set them apart, by tensor."""

    step: int
    ours: dict[str, Array]
    theirs: dict[str, Array]
    allowed: dict[str, float]


def updates_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome:
    """Each of 20 steps moves several tensors as torch does; the rate falls half-way, and gradients vary."""
    return _agreement(case, settings, missing=False)


def missing_gradients_are_skipped(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A tensor without a gradient in some steps is skipped in them wholly, state, decay and count, as torch does.

    Of a foreign optimizer that is not known to be meant: the published rules have one count of steps for all tensors.
    """
    if not isinstance(case.subject, ForeignOptimizer):
        return _agreement(case, settings, missing=True)
    if len(case.inputs) < 2:
        return None  # of one tensor no gradient is left out
    try:
        found = _agreement(case, replace(settings, explain=False), missing=True)
    except Exception as error:  # noqa: BLE001  whatever it raises where a gradient is not there
        return inconclusive(f"a step without one tensor's gradient raises {type(error).__name__}: {error}")
    if found.verdict is not Verdict.FAIL or _agreement(case, settings, missing=False).verdict is Verdict.FAIL:
        return found if found.verdict is not Verdict.FAIL else None
    return inconclusive(
        "where a tensor has no gradient in some steps, it moves otherwise than the reference, which skips it, and "
        "counts its steps alone: no matter where every tensor has a gradient in every step"
    )


def state_agrees_with_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """After every step ``state`` holds what torch keeps, by the same names, in the same shapes and precisions."""
    if isinstance(case.subject, ForeignOptimizer):
        return None  # its state has no contract
    worsts = []
    for params, compared in _runs(case, settings, missing=True):
        for index, ours, theirs, allowed in compared:
            if ours.keys() != theirs.keys():
                kept, wanted = (", ".join(sorted(each.keys() - params.keys())) or "nothing" for each in (ours, theirs))
                return failure(f"after step {index} {kept} is kept, in torch {wanted}")
            for name in ours.keys() - params.keys():
                own, torchs = (f"{each[name].shape} {each[name].dtype}" for each in (ours, theirs))
                if own != torchs:
                    return failure(f"{name} is {own}, in torch {torchs}")
                worsts.append(compare(f"{name} after step {index}", ours[name], theirs[name], allowed[name]))
    return judged(worsts) if worsts else None  # nothing is kept


def state_is_all_that_is_kept(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A new optimizer with a copy of ``state``, made half-way, continues bitwise as the old one does."""
    if isinstance(case.subject, ForeignOptimizer):
        return None  # as above
    params, steps = _trial(case, "float64", settings.steps, missing=True)
    old, new = copy.deepcopy(case.subject), copy.deepcopy(case.subject)
    assert isinstance(old, Optimizer)
    first = {name: array.copy() for name, array in params.items()}
    half = len(steps) // 2
    for step in steps[:half]:
        old.step(first, step.grads, step.lr)
    second = {name: array.copy() for name, array in first.items()}
    new.state = {name: array.copy() for name, array in old.state.items()}
    for index, step in enumerate(steps[half:], half):
        for optimizer, arrays in ((old, first), (new, second)):
            optimizer.step(arrays, step.grads, step.lr)
        for name, array in first.items():
            if not np.array_equal(array, second[name], equal_nan=True):
                return failure(f"{name} goes on otherwise in step {index}: state is not all that is kept")
    case.tally.evaluations += half + 2 * (len(steps) - half)
    return Outcome(Verdict.PASS)


def non_finite_gradients_act_as_in_twin(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """A NaN or an infinity in one gradient makes the same elements NaN or infinite as in torch, and no others."""
    if isinstance(case.subject, ForeignOptimizer):
        return None  # it may guard itself against them
    worsts = []
    for dtype in settings.dtypes:
        for value in (math.nan, math.inf):
            params, steps = _trial(case, dtype, 3, missing=False)
            grad = steps[-1].grads[list(params)[case.seed % len(params)]]
            if grad.size:
                grad.flat[case.seed % grad.size] = value
            ours, theirs = _run(case.subject, params, steps)[-1], twin_updates(case.subject, params, steps)[-1]
            for name in params:
                own, torchs = (np.where(np.isfinite(each[name]), 0, each[name]) for each in (ours, theirs))
                worsts.append(compare(f"{name} after a gradient of {value}", own, torchs, 0.0))
    case.tally.evaluations += 2 * len(settings.dtypes) * 3
    return judged(worsts)


def gradients_are_left_untouched(case: Case, settings: Settings = Settings()) -> Outcome:
    """A step does not change the gradients it is given, and keeps no reference to them.

    What an optimizer does to gradients that it holds itself is its own affair.
    """
    optimizer, (params, steps) = copy.deepcopy(case.subject), _trial(case, "float64", settings.steps, missing=False)
    assert isinstance(optimizer, Optimizer)
    holds = isinstance(optimizer, ForeignOptimizer) and optimizer.holds
    fresh = {name: array.copy() for name, array in params.items()}
    for step in steps[:3]:
        kept = {name: grad.copy() for name, grad in step.grads.items()}
        optimizer.step(fresh, step.grads, step.lr)
        for name, grad in step.grads.items():
            if not holds and not np.array_equal(grad, kept[name]):
                return failure(f"{name}'s gradient is changed by the step")
    # Training refills the same arrays, which overwrites whatever is kept by reference.
    own = _run(case.subject, params, steps)
    again, refilled = copy.deepcopy(case.subject), {name: np.empty_like(p) for name, p in params.items()}
    assert isinstance(again, Optimizer)
    fresh = {name: array.copy() for name, array in params.items()}
    for index, step in enumerate(steps):
        for name, grad in step.grads.items():
            refilled[name][...] = grad
        again.step(fresh, refilled, step.lr)
        for name, array in fresh.items():
            if not np.array_equal(array, own[index][name], equal_nan=True):
                return failure(f"{name} moves otherwise from step {index} on if gradient arrays are refilled in place")
    return Outcome(Verdict.PASS)


def parameters_are_moved_in_place(case: Case, settings: Settings = Settings()) -> Outcome | None:
    """The arrays that were given are what is moved, in their own shape and precision."""
    if isinstance(case.subject, ForeignOptimizer):
        return None  # which may return them; how it was read is said
    for dtype in settings.dtypes:
        params, steps = _trial(case, dtype, settings.steps, missing=False)
        optimizer, rng = copy.deepcopy(case.subject), case.rng("gradients")
        given = {name: array.copy() for name, array in params.items()}
        held = dict(given)
        # So large that no update is lost in a parameter's rounding.
        grads = {name: np.asarray(rng.uniform(1, 2, array.shape)).astype(dtype) for name, array in params.items()}
        optimizer.step(held, grads, steps[0].lr)
        (theirs,) = twin_updates(case.subject, params, [Step(grads, steps[0].lr)])
        for name, array in held.items():
            if array is not given[name]:
                return failure(f"{name} is bound to a new array: a layer that holds the old one never moves")
            if array.size and np.array_equal(array, params[name]) and not np.array_equal(theirs[name], params[name]):
                return failure(f"{name} does not move")
    return Outcome(Verdict.PASS)


def _agreement(case: Case, settings: Settings, *, missing: bool) -> Outcome:
    worsts: list[Worst | None] = []
    finite, not_finite = False, ""
    for params, compared in _runs(case, settings, missing=missing):
        for index, ours, theirs, allowed in compared:
            for name, param in params.items():
                if ours[name].dtype != param.dtype:
                    return failure(f"{name} is {param.dtype}, and {ours[name].dtype} after step {index}")
                worst = compare(f"{name} after step {index}", ours[name], theirs[name], allowed[name])
                worsts.append(worst)
                if worst is not None and worst.ratio > 1:
                    why = _why(case, settings, params, compared, index) if settings.explain and not missing else ""
                    return failure(_since(index, settings.steps), worst, why)
                known = np.isfinite(ours[name])
                finite |= bool(known.any())
                if not known.all() and not not_finite:
                    not_finite = f"{name} is not finite from step {index} on, in {param.dtype}, as the reference's is"
    if not finite and any(worst is not None for worst in worsts):
        return inconclusive(f"nothing is finite on either side: {not_finite}")
    remarks = [not_finite, "" if missing else _of_two_rates(case)]
    return replace(judged(worsts), remark="; ".join(filter(None, remarks)))


def _of_two_rates(case: Case) -> str:
    """Say that the two sides were made with different rates, which the check sets alike."""
    subject = case.subject
    if not isinstance(subject, ForeignOptimizer) or subject.reference is not None or subject.rate.base is None:
        return ""
    rule = twin_rule(subject, {"p": np.zeros(1)}, subject.base_lr)
    theirs = subject.base_lr if rule is None else float(rule[1].get("lr", subject.base_lr))
    if math.isclose(theirs, subject.base_lr) or not subject.sets_rate:
        return ""
    return f"{subject.name} was made with a rate of {subject.base_lr:g}, its twin with {theirs:g}: both were set alike"


def _why(case: Case, settings: Settings, params: dict[str, Array], compared: list[_Compared], first: int) -> str:
    """Return why the parameters are wrong from a step on, of a run without missing gradients."""
    subject = case.subject
    assert isinstance(subject, Optimizer)
    dtype = next(iter(params.values())).dtype.name
    _, steps = _trial(case, dtype, settings.steps, missing=False)
    foreign = isinstance(subject, ForeignOptimizer)
    referred = isinstance(subject, ForeignOptimizer) and subject.reference is not None
    rule = None if referred else twin_rule(subject, params, steps[0].lr)
    rates = [step.lr for step in steps]
    if isinstance(subject, ForeignOptimizer) and not subject.sets_rate:
        rates = [float(rule[1]["lr"]) if rule is not None else subject.base_lr] * len(steps)
    run = Run(
        params,
        [step.grads for step in steps],
        rates,
        [one.ours for one in compared],
        [one.theirs for one in compared],
        [one.allowed for one in compared],
        rule,
    )
    return explain_updates(run, first, pairs=foreign)


def _runs(case: Case, settings: Settings, *, missing: bool) -> list[tuple[dict[str, Array], list[_Compared]]]:
    """Return, in each precision, the initial parameters, and parameters and state after each step, compared.

    Parameters and state are computed together, because two properties need them.
    """
    missing = missing and len(case.inputs) > 1  # of one tensor no gradient is left out
    kept = ("updates", str(missing), str(settings.steps), *settings.dtypes)
    if kept not in case.found:
        trials = [_trial(case, dtype, settings.steps, missing=missing) for dtype in settings.dtypes]
        case.found[kept] = [(params, _compared(case, params, steps)) for params, steps in trials]
        case.tally.evaluations += len(settings.dtypes) * settings.steps
    found: list[tuple[dict[str, Array], list[_Compared]]] = case.found[kept]
    return found


def _compared(case: Case, params: dict[str, Array], steps: list[Step]) -> list[_Compared]:
    """Return both sides after each step, by no shadows where they agree without, since these only allow more."""
    ours, theirs = _run(case.subject, params, steps), _reference(case.subject, params, steps)
    found = list(_beside(params, ours, theirs, []))
    if all(map(_agrees, found)):
        return found
    rng = case.rng("nudges")
    case.tally.evaluations += SHADOWS * len(steps)
    return list(_beside(params, ours, theirs, [_run(case.subject, params, steps, rng) for _ in range(SHADOWS)]))


def _agrees(one: _Compared) -> bool:
    """Return whether what both sides hold after a step is apart by no more than is allowed."""
    return all(
        array.shape == one.theirs[name].shape and largest_difference(array, one.theirs[name]) <= one.allowed[name]
        for name, array in one.ours.items()
        if name in one.theirs
    )


def _beside(params: dict[str, Array], ours: History, theirs: History, shadows: list[History]) -> Iterator[_Compared]:
    """Yield both sides after each step; where they are not finite in the same way, that is no disagreement.

    Where rounding alone decides whether an element is finite, as in the root of a difference, nothing is judged: the
    reference's is put in its place.
    """
    rounding: dict[str, float] = {}
    before: Mapping[str, Array] = params
    for index, (held, wanted) in enumerate(zip(ours, theirs, strict=True)):
        allowed = {}
        judged_as = dict(held)
        for name, array in held.items():
            previous = before.get(name, np.zeros_like(array))
            sides = (array, previous, wanted.get(name, array))
            if not shadows and array.dtype.kind == "f" and all(np.isfinite(one).all() for one in sides):
                allowed[name] = rounding[name] = rounding.get(name, 0.0) + update_rounding(previous, array)
                continue
            around = np.array([run[index][name] for run in shadows]).reshape(len(shadows), *array.shape)
            known, same = np.isfinite(array), np.isfinite(around).all(axis=0)
            if name in wanted and wanted[name].shape == array.shape:
                undecided = np.isfinite(around).any(axis=0) & ~same | known & ~same
                judged_as[name] = np.where(undecided, wanted[name], array).astype(array.dtype)
                known &= np.isfinite(wanted[name])
            known &= same
            was = np.where(known, previous, 0).astype(array.dtype)
            is_now = np.where(known, array, 0).astype(array.dtype)
            rounding[name] = rounding.get(name, 0.0) + update_rounding(was, is_now)
            spread = largest_difference(np.where(known, around, 0), np.broadcast_to(is_now, around.shape))
            allowed[name] = max(FACTOR * spread, rounding[name])
        yield _Compared(index, judged_as, wanted, allowed)
        before = held


def _reference(subject: object, params: dict[str, Array], steps: list[Step]) -> list[dict[str, Array]]:
    """Return what becomes of parameters by the rule that an optimizer is compared with."""
    assert isinstance(subject, Optimizer)
    if isinstance(subject, ForeignOptimizer) and subject.reference is not None:
        return _run(subject.reference, params, steps)
    return twin_updates(subject, params, steps)


def _since(step: int, steps: int) -> str:
    """Return what the first wrong step points to: the rule itself, its state, or a rate that it keeps."""
    if step == 0:
        return "wrong from the first step on: the rule itself"
    if step == (steps + 1) // 2:
        return f"right until the learning rate changes, wrong from step {step} on: it is kept where it should not be"
    if step == 1:
        return "right in the first step, wrong from the second on: what is kept between steps, or their count"
    return f"right in the first {step} steps, wrong from step {step} on"


def _trial(case: Case, dtype: str, count: int, *, missing: bool) -> tuple[dict[str, Array], list[Step]]:
    """Return parameters and ``count`` steps, with a rate that falls half-way.

    Gradients are Gaussian, most of a size of 1e-3 to 10. Some are a millionth of that, which shows what is added to
    them. Some are zero, in part or wholly, which is not the same as missing.
    """
    names = getattr(case.subject, "names", ()) or [f"p{i}" for i in range(len(case.inputs))]
    params = {name: array.astype(dtype) for name, array in zip(names, case.inputs, strict=True)}
    rng, steps = case.rng("steps"), []
    rate = float(getattr(case.subject, "base_lr", 0.1))
    for index in range(count):
        grads = {}
        for name, param in params.items():
            grad = 10.0 ** rng.uniform(-3, 1) * rng.standard_normal(param.shape)
            kind = rng.choice(["usual", "tiny", "sparse", "zero"], p=[0.7, 0.1, 0.1, 0.1])
            if kind == "tiny":
                grad *= 1e-6
            elif kind != "usual" and index > 2:  # earlier, a rule might divide by zeros only
                grad *= (rng.random(param.shape) < 0.5) & (kind == "sparse")
            grads[name] = np.asarray(grad).astype(dtype)
        if missing and index % 3 == 1 and len(params) > 1:
            del grads[names[1]]
        if missing and index < 2 and len(params) > 2:
            del grads[names[2]]  # no gradient at first: its count begins later
        steps.append(Step(grads, rate if index < (count + 1) // 2 else rate / 10))
    return params, steps


def _run(
    subject: object, params: Mapping[str, Array], steps: list[Step], rng: np.random.Generator | None = None
) -> list[dict[str, Array]]:
    """Run a fresh copy of the optimizer over copies of the parameters, with nudged gradients if given a generator.

    In how many sums a foreign rule moves its parameters is not known, and each of them rounds: so these are nudged,
    too, after every step. Returns the parameters and the state after each step.
    """
    optimizer = copy.deepcopy(subject)
    assert isinstance(optimizer, Optimizer)
    params = {name: array.copy() for name, array in params.items()}
    history = []
    for step in steps:
        grads = {k: nudged(g, rng) if rng else g.copy() for k, g in step.grads.items()}
        optimizer.step(params, grads, step.lr)
        if rng and isinstance(subject, ForeignOptimizer):
            for array in params.values():
                array[...] = nudged(array, rng)
        history.append({name: array.copy() for name, array in (optimizer.state | params).items()})
    return history
