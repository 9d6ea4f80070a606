"""Why a step is wrong: the likeliest cause, named only if it explains every element of the wrong tensor.

Gradients are judged by those hypotheses of `gradcheck.diagnosis.gradients` that need only one cotangent, all other
tensors of a step by those of this package. None is an acceptable answer, a wrong cause is not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcheck import words
from gradcheck.diagnosis.factors import constant_factor
from gradcheck.diagnosis.gradients import exchanged, not_finite
from gradcheck.diagnosis.patterns import part_wrong, rearranged
from gradcheck.diagnosis.shapes import reduced_too_far
from gradcheck.diagnosis.terms import term_in_value
from gradcheck.trajectory.causes.activations import activation
from gradcheck.trajectory.causes.attention import attention, attention_weights
from gradcheck.trajectory.causes.clipping import (
    clipped_in_parts,
    clipped_norm,
    clipped_values,
    one_before_clipping,
)
from gradcheck.trajectory.causes.data import labels_shifted, other_order, rescaled
from gradcheck.trajectory.causes.gradients import (
    accumulated,
    loss_factor,
    loss_scale,
    micro_batches,
    of_another_shape,
    of_gradient,
    stale,
)
from gradcheck.trajectory.causes.losses import factor_in_loss, other_loss, smoothing, unequal_parts
from gradcheck.trajectory.causes.moments import averaged, decay_in_slot, decay_in_squares, low_slot, other_beta
from gradcheck.trajectory.causes.normalisation import normalisation, running_momentum, running_variance
from gradcheck.trajectory.causes.outputs import all_zero, dropout, other_precision
from gradcheck.trajectory.causes.recurrence import not_carried
from gradcheck.trajectory.causes.rules import other_rule
from gradcheck.trajectory.causes.scene import Found, Hypothesis, Scene, is_floating
from gradcheck.trajectory.causes.slots import in_torchs_names
from gradcheck.trajectory.causes.truncation import cut_off
from gradcheck.trajectory.causes.updates import (
    correction,
    decay_after,
    moved_by_factor,
    not_updated,
    other_eps,
    weight_decay,
)
from gradcheck.trajectory.causes.velocities import carried_over, hidden_velocity, momentum, nesterov
from gradcheck.trajectory.divergence import Divergence, Moment, split

HYPOTHESES: dict[str, tuple[Hypothesis, ...]] = {
    "data": (other_order, labels_shifted, rescaled),
    "forward": (
        other_precision,
        dropout,
        of_gradient(not_finite),
        not_carried,
        all_zero,
        activation,
        normalisation,
        attention,
        attention_weights,
        of_gradient(constant_factor),
        of_gradient(rearranged),
        of_gradient(part_wrong),
    ),
    "loss": (loss_factor, factor_in_loss, smoothing, unequal_parts, other_loss),
    "backward": (
        of_gradient(not_finite),
        all_zero,
        stale,
        accumulated,
        cut_off,
        micro_batches,
        loss_scale,
        clipped_norm,
        clipped_values,
        clipped_in_parts,
        one_before_clipping,
        of_gradient(constant_factor),
        of_gradient(rearranged),
        of_gradient(exchanged),
        of_gradient(reduced_too_far),
        of_gradient(part_wrong),
        of_gradient(term_in_value),
        other_precision,
    ),
    "update": (
        averaged,
        not_updated,
        running_variance,
        running_momentum,
        low_slot,
        decay_in_slot,
        decay_in_squares,
        momentum,
        other_beta,
        correction,
        other_eps,
        nesterov,
        hidden_velocity,
        other_rule,
        moved_by_factor,
        carried_over,
        weight_decay,
        decay_after,
    ),
}


def explained(found: Divergence, moment: Moment) -> str | None:
    """Return why the tensor of a divergence is wrong, as a sentence, or None if no cause is found."""
    name, moment = in_torchs_names(f"{found.phase}/{found.tensor}", moment)
    why = diagnose_step(name, moment)
    return None if why is None else words.cause(why, replace(found, tensor=split(name)[1]))


def diagnose_step(name: str, moment: Moment) -> Found | None:
    """Return the first cause that explains the tensor ``phase/tensor`` of a step, or None."""
    scene = Scene(name, moment)
    alike = scene.ours.shape == scene.theirs.shape
    if not all(is_floating(array) or np.issubdtype(array.dtype, np.integer) for array in (scene.ours, scene.theirs)):
        return None
    with np.errstate(all="ignore"):
        for hypothesis in HYPOTHESES[split(name)[0]] if alike else (of_another_shape,):
            if found := hypothesis(scene):
                return found
    return None
