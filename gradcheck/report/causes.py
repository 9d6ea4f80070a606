"""Why a step is wrong, in words."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradcheck import words
from gradcheck.diagnosis.evidence import Diagnosis
from gradcheck.report.diagnoses import SENTENCES
from gradcheck.report.text import Json
from gradcheck.trajectory.causes import StepCause, StepDiagnosis
from gradcheck.trajectory.divergence import Divergence


@words.cause.register
def _of_a_step(why: StepDiagnosis, found: Divergence) -> str:
    return STEP_SENTENCES[why.cause](found.tensor.rpartition("/")[2], why.details)


@words.cause.register
def _of_a_gradient(why: Diagnosis, found: Divergence) -> str:
    is_gradient = found.phase == "backward" and not found.tensor.endswith((".input", ".prediction"))
    name = f"{found.tensor}'s gradient" if is_gradient else found.tensor
    if found.phase == "backward" and not is_gradient:
        name = f"the gradient of {found.tensor}"
    return SENTENCES[why.cause](name, why.details | {"reference": "the reference's"})


SIDES = {"ours": "ours", "theirs": "the reference"}


def _other_order(tensor: str, found: Json) -> str:
    whose = {"x": "the samples", "y": "the labels"}.get(tensor, tensor)
    if found["rolled"] is not None:
        by = found["rolled"]
        return (
            f"{whose} are the reference's, moved along the batch by {abs(by)} {'forwards' if by > 0 else 'backwards'}"
        )
    return f"{whose} are the reference's in another order"


def _labels_shifted(_: str, found: Json) -> str:
    by = found["by"]
    return (
        f"every label is {abs(by)} class{'' if abs(by) == 1 else 'es'} {'above' if by > 0 else 'below'} the reference's"
    )


def _rescaled(tensor: str, found: Json) -> str:
    offset = f" {'+' if found['offset'] > 0 else '-'} {abs(found['offset']):g}" if found["offset"] else ""
    return f"{tensor} is {found['factor']:g} times the reference's{offset}: another range of the input"


def _other_precision(tensor: str, found: Json) -> str:
    if found["lower"]:
        return f"{tensor} is the reference's, rounded to {found['precision']}"
    return f"{tensor} holds the reference's numbers in {found['precision']}"


def _dropout(tensor: str, found: Json) -> str:
    if found["on"]:
        where = "where the reference has none" if found["training"] else "which is left on in evaluation"
        return f"{tensor} has dropout in it, p = {found['p']:g}, {where}"
    return f"{tensor} has no dropout in it, of which the reference has p = {found['p']:g}"


def _moved_by_factor(tensor: str, found: Json) -> str:
    what = "every update" if found["everything"] else f"the update of {tensor}"
    moved = f"{what} is {_times(found['factor'])} times the reference's"
    if found["lr"] is None:
        return moved
    given, used = found["lr"]
    if given == used:
        return f"{moved}, though both show a learning rate of {given:g}"
    return f"{moved}: as with a learning rate of {used:g} in place of {given:g}"


def _momentum(tensor: str, found: Json) -> str:
    velocity = f"{tensor}'s velocity (momentum_buffer)"
    if found["lost"]:
        return f"{velocity} is the gradient alone: what it was before the step is not kept"
    return f"{velocity} is off by {found['multiple']:g} times what it was before the step: another momentum, or none"


def _correction(tensor: str, found: Json) -> str:
    if math.isinf(found["t"]):
        return f"{tensor} moved as by Adam without its bias correction"
    power = ": the power t is missing, or t is not counted on" if found["t"] == 1 else ""
    return f"{tensor} moved as by Adam's bias correction for t = {found['t']:g}, where t is {found['given']}{power}"


def _weight_decay(tensor: str, found: Json) -> str:
    if found["coupled"]:
        sides = ("ours", "the reference") if found["more"] else ("the reference", "ours")
        return (
            f"{tensor}: {sides[0]} adds a weight decay of {found['decay']:g} to the gradient, where {sides[1]} takes "
            "it off the parameter itself, as AdamW does"
        )
    how = "more" if found["more"] else "less"
    return (
        f"{tensor}'s update is off by a multiple of the parameter: as by a weight decay of {found['decay']:g} {how} "
        "than the reference's"
    )


def _decay_after(tensor: str, found: Json) -> str:
    whose, other = ("the reference", "ours") if found["reference"] else ("ours", "the reference")
    does = "has none" if found["alone"] else "does so before the step"
    return f"{tensor}: {whose} decays it after its step, by lr x {found['decay']:g}, where {other} {does}"


def _averaged(tensor: str, found: Json) -> str:
    if found["ours"] is None:
        return f"the mean of {tensor} is what it was: it is not updated, or takes in the parameter before the step"
    if found["late"]:
        return f"{tensor}'s mean takes in the parameter before the step, where the reference's takes in that after it"
    return f"{tensor}'s mean keeps {found['ours']:g} of itself, where the reference's keeps {found['theirs']:g}"


def _low_slot(tensor: str, found: Json) -> str:
    return f"{tensor}'s {found['slot']} is kept in {found['ours']}, where the reference's is in {found['theirs']}"


def _nesterov(tensor: str, found: Json) -> str:
    whose, other = ("the reference", "ours") if found["reference"] else ("ours", "the reference")
    return (
        f"{tensor}: {whose} moves by g + {found['momentum']:g} v, which is Nesterov's momentum, where {other} moves by "
        "its velocity v"
    )


def _hidden_velocity(tensor: str, found: Json) -> str:
    ours = f"a momentum of {found['ours']:g}" if found["ours"] else "no momentum"
    return f"{tensor} moved as by {ours}, where the reference's is {found['theirs']:g}"


def _accumulated(tensor: str, found: Json) -> str:
    whose, of = ("the reference's gradient", "ours") if found["reference"] else ("the gradient", "the reference's")
    where = " in the reference" if found["reference"] else ""
    return (
        f"{whose} of {tensor} is the sum of {of} of this step and of the step before: gradients accumulate, as where "
        f"zero_grad is missing{where}"
    )


def _micro_batches(_: str, found: Json) -> str:
    parts, whose = found["parts"], "the reference" if found["reference"] else "ours"
    factor = f"1/{parts}" if found["reference"] else f"{parts} times"
    what = "the loss and every gradient are" if found["loss"] else "every gradient is"
    return (
        f"{what} exactly {factor} the reference's: as where {whose} adds up {parts} micro-batches without "
        f"dividing their losses by {parts}"
    )


def _times(factor: tuple[int, int] | float) -> str:
    return f"{factor:.12g}" if isinstance(factor, float) else "/".join(map(str, factor)).removesuffix("/1")


def _loss_factor(_: str, found: Json) -> str:
    whose = "the reference" if found["reference"] else "ours"
    parts = f", or 2 micro-batches that {whose} adds up without dividing their losses by 2" if found["parts"] else ""
    return (
        f"the loss and every gradient are {_times(found['factor'])} times the reference's: a factor in the loss{parts}"
    )


def _loss_scale(_: str, found: Json) -> str:
    scale = found["scale"]
    if found["late"]:
        return (
            f"every gradient is 1/{scale} of the reference's: as where ours clips its gradients before it divides out "
            f"a loss scale of {scale}, or divides it out twice, or the reference does not divide it out"
        )
    factor, whose = (f"1/{scale} of", "the reference") if found["reference"] else (f"{scale} times", "ours")
    what = "the loss and every gradient are" if found["loss"] else "every gradient is"
    summed = f", or sums {scale} terms of which the other takes the mean" if found["loss"] else ""
    return f"{what} {factor} the reference's: as where {whose} does not divide out a loss scale of {scale}{summed}"


def _smoothing(_: str, found: Json) -> str:
    ours, theirs = (f"{found[side]:g}" if found[side] else "none" for side in ("ours", "theirs"))
    return f"the loss is cross-entropy with a label smoothing of {ours}, where the reference's is {theirs}".replace(
        "a label smoothing of none", "no label smoothing"
    )


def _unequal_parts(_: str, found: Json) -> str:
    whose = "the reference" if found["reference"] else "ours"
    sizes = ", ".join(map(str, found["sizes"]))
    return (
        f"{whose} takes the mean of the means over {len(found['sizes'])} micro-batches of {sizes} samples: with "
        "unequal sizes that is not the mean over the batch; weight each by its size"
    )


def _clipped(_: str, found: Json) -> str:
    by = found["by"]
    said = [f"the gradients of {who} are {_bound(found[side], by)}" for side, who in SIDES.items()]
    norms = f", norms {found['norms'][0]:.4g} and {found['norms'][1]:.4g}" if by == "norm" else ""
    return f"{', '.join(said)}{norms}"


def _bound(bound: float | None, by: str) -> str:
    return "not clipped" if bound is None else f"clipped to a {by} of {bound:g}"


def _one_before_clipping(_: str, found: Json) -> str:
    wrong = (
        "zero" if found["zero"] else f"{_times(found['times'])} times the reference's" if found["times"] else "wrong"
    )
    return (
        f"{found['odd']}'s gradient is {wrong} before clipping, which divides by the norm of all: hence the others are "
        f"{found['factor']:.6g} times the reference's"
    )


HOW = {
    "sum so far": "after each of {parts} micro-batches, the sum so far",
    "its own": "of each of {parts} micro-batches before they are added up",
    "its own, then all": "of each of {parts} micro-batches before they are added up, and then their sum",
    "of the mean": "of each of {parts} micro-batches before these are averaged",
}


def _clipped_in_parts(_: str, found: Json) -> str:
    how = HOW[found["how"]].format(parts=found["parts"])
    return f"ours clips the gradients {how}, where the reference clips them once, to a norm of {found['bound']:.4g}"


def _not_carried(tensor: str, found: Json) -> str:
    whose, other = ("the reference", "ours") if found["reference"] else ("ours", "the reference")
    if found["inside"]:
        return f"{tensor} begins from a hidden state of zero in {whose}: it is not carried from the step before"
    return (
        f"{tensor} is zero in {whose} and not in {other}: as where a hidden state is not carried from the step before"
    )


def _cut_off(_: str, found: Json) -> str:
    whole, cut = ("ours", "the reference") if found["reference"] else ("the reference", "ours")
    return (
        f"gradients reach back through the state that {found['layer']} hands on to its next call in {whole} alone: in "
        f"{cut} it is detached"
    )


def _running_variance(tensor: str, found: Json) -> str:
    kinds = ("biased", "unbiased") if found["biased"] else ("unbiased", "biased")
    return f"{tensor} moved by the {kinds[0]} variance of the batch, where the reference's moved by the {kinds[1]} one"


def _beta(tensor: str, found: Json) -> str:
    return (
        f"{tensor}'s {found['slot']} moved as by {found['name']} = {found['ours']:g}, where the reference's is "
        f"{found['theirs']:g}"
    )


def _eps(tensor: str, found: Json) -> str:
    if found["place"] == "after":
        return f"{tensor} moved as by an eps of {found['ours']:g}, where the reference's is {found['theirs']:g}"
    where = {
        "inside": "inside the root, sqrt(v + eps)",
        "before": "before the bias correction of the mean of squares",
    }[found["place"]]
    return f"{tensor} moved as with eps {where}, where the reference adds it after both"


def _carried_over(tensor: str, found: Json) -> str:
    whose, other = ("the reference", "ours") if found["reference"] else ("ours", "the reference")
    off = f"{tensor} is off by {found['multiple']:g} times its move in the step before"
    shown = "whose velocity state() does not show" if found["engine"] else "whose velocity is not shown"
    if found["none"]:
        return f"{off}: as by a momentum of {found['multiple']:g} in {whose}, {shown}"
    return f"{off}: as by a momentum that is {found['multiple']:g} more in {whose} than in {other}"


STEP_SENTENCES: dict[StepCause, Callable[[str, Json], str]] = {
    StepCause.OTHER_ORDER: _other_order,
    StepCause.LABELS_SHIFTED: _labels_shifted,
    StepCause.RESCALED: _rescaled,
    StepCause.OTHER_PRECISION: _other_precision,
    StepCause.DROPOUT: _dropout,
    StepCause.STALE: lambda tensor, _: f"{tensor}'s gradient is the reference's of the step before: it is stale",
    StepCause.NOT_UPDATED: lambda tensor, _: f"{tensor} is what it was before the step: it is not updated",
    StepCause.MOVED_BY_FACTOR: _moved_by_factor,
    StepCause.MOMENTUM: _momentum,
    StepCause.CORRECTION: _correction,
    StepCause.WEIGHT_DECAY: _weight_decay,
    StepCause.ACCUMULATED: _accumulated,
    StepCause.MICRO_BATCHES: _micro_batches,
    StepCause.LOSS_FACTOR: _loss_factor,
    StepCause.LOSS_SCALE: _loss_scale,
    StepCause.SMOOTHING: _smoothing,
    StepCause.UNEQUAL_PARTS: _unequal_parts,
    StepCause.OTHER_LOSS: lambda _, found: f"the loss is {found['ours']}, where the reference's is {found['theirs']}",
    StepCause.ACTIVATION: lambda tensor, found: (
        f"the activation in {tensor} is {found['ours']}, where the reference's is {found['theirs']}"
    ),
    StepCause.NORMALISATION: lambda tensor, found: (
        f"{tensor} is normalised by {found['ours']}, where the reference's is by {found['theirs']}"
    ),
    StepCause.RUNNING_VARIANCE: _running_variance,
    StepCause.RUNNING_MOMENTUM: lambda tensor, found: (
        f"{tensor} moved by a momentum of {found['ours']:g}, where the reference's is {found['theirs']:g}"
    ),
    StepCause.ATTENTION: lambda tensor, found: (
        f"the attention in {tensor} has {found['ours']}, where the reference's has {found['theirs']}"
    ),
    StepCause.CLIPPED: _clipped,
    StepCause.ONE_BEFORE_CLIPPING: _one_before_clipping,
    StepCause.CLIPPED_IN_PARTS: _clipped_in_parts,
    StepCause.NOT_CARRIED: _not_carried,
    StepCause.DECAY_IN_SQUARES: lambda tensor, found: (
        f"{tensor}'s {found['slot']} is of the gradient with a weight decay of {found['decay']:g} "
        f"{'more' if found['more'] else 'less'} in it than the reference's"
    ),
    StepCause.DECAY_AFTER: _decay_after,
    StepCause.AVERAGED: _averaged,
    StepCause.LOW_SLOT: _low_slot,
    StepCause.NESTEROV: _nesterov,
    StepCause.HIDDEN_VELOCITY: _hidden_velocity,
    StepCause.DAMPENING: lambda tensor, found: (
        f"the gradient enters {tensor}'s velocity {found['share']:g} times, where it enters the reference's once: "
        "as by a dampening"
    ),
    StepCause.BETA: _beta,
    StepCause.EPS: _eps,
    StepCause.CUT_OFF: _cut_off,
    StepCause.OTHER_RULE: lambda tensor, found: (
        f"ours updates {tensor} by {found['ours']}, the reference by {found['theirs']}"
    ),
    StepCause.CARRIED_OVER: _carried_over,
}
