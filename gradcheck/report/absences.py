"""Why a property does not apply to a subject, in words."""

from __future__ import annotations

NO_TWIN = "there is no twin"
NO_INPUT = "no input has a gradient"

# By property, all that it may lack: it does not say which of them.
ABSENCES = {
    "precisions_agree": "float32 is not among the dtypes",
    "forward_agrees_with_twin": NO_TWIN,
    "gradients_agree_with_twin": NO_TWIN,
    "buffers_agree_with_twin": f"there are no buffers, or {NO_TWIN}",
    "statistics_agree_with_twin": f"the twin draws no random numbers, or {NO_TWIN}",
    "extreme_values_agree_with_twin": f"{NO_INPUT}, or large ones are outside the domain",
    "extreme_values_stay_finite": f"{NO_INPUT}, or {NO_TWIN} and no second sample",
    "gradients_of_samples_do_not_mix": (
        "outputs depend on more than their own sample, there is one sample only, or masks are drawn for a whole batch"
    ),
    "integers_are_taken_as_numbers": f"whole numbers are refused or outside the domain, or {NO_INPUT}",
    "repeated_calls_agree": "a state goes on from call to call",
    "modes_are_restored": "the layer has no modes, or does the same in both",
    "evaluation_is_not_random": "the layer has no modes, or is checked in training mode alone",
    "wrong_shapes_are_refused": "every shape is taken",
    "indices_out_of_range_are_refused": "there are no indices",
    "kinks_are_where_choices_change": "the layer names no kinks, or has too many inputs to move one by one",
    "missing_gradients_are_skipped": "there is one tensor only, or the optimizer is not meant for missing gradients",
    "state_agrees_with_twin": "nothing is kept, or the optimizer is a foreign one, whose state has no contract",
    "state_is_all_that_is_kept": "the optimizer is a foreign one, whose state has no contract",
    "non_finite_gradients_act_as_in_twin": "the optimizer is a foreign one, which may guard itself against them",
    "parameters_are_moved_in_place": "the optimizer is a foreign one, which may return what it has moved",
    "rates_do_not_depend_on_earlier_calls": "the schedule makes each rate from the one before",
}


def describe_absence(claim: str) -> str:
    """Return why a property, by its name, does not apply where it found nothing."""
    why = ABSENCES.get(claim, "there is nothing of its kind")
    return f"{claim} does not apply: {why}"
