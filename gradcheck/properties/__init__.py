"""Properties that must hold for every layer, loss, optimizer, schedule and initialiser.

A property is a function of a `Case` and `Settings` that returns an `Outcome`; its name is its claim. ``PROPERTIES``
lists them by kind.
"""

from gradcheck.contract import Initializer, Layer, Loss, Optimizer, Schedule
from gradcheck.properties.behaviour import (
    arguments_are_left_untouched,
    calls_do_not_interfere,
    gradients_match_their_tensors,
    gradients_of_samples_do_not_mix,
    indices_out_of_range_are_refused,
    integers_are_taken_as_numbers,
    kinks_are_where_choices_change,
    precisions_agree,
    results_do_not_depend_on_memory_layout,
    results_own_their_memory,
    taps_do_not_change_results,
    wrong_shapes_are_refused,
)
from gradcheck.properties.draws import draws_agree_with_twin, draws_follow_their_generator
from gradcheck.properties.gradients import backward_is_linear, gradients_agree_with_differences
from gradcheck.properties.modes import (
    evaluation_is_not_random,
    modes_are_restored,
    repeated_calls_agree,
    statistics_agree_with_twin,
)
from gradcheck.properties.outcome import DTYPES, MODES, Mode, Outcome, Property, Settings
from gradcheck.properties.rates import rates_agree_with_twin, rates_do_not_depend_on_earlier_calls
from gradcheck.properties.twins import (
    buffers_agree_with_twin,
    extreme_values_agree_with_twin,
    extreme_values_stay_finite,
    forward_agrees_with_twin,
    gradients_agree_with_twin,
)
from gradcheck.properties.updates import (
    gradients_are_left_untouched,
    missing_gradients_are_skipped,
    non_finite_gradients_act_as_in_twin,
    parameters_are_moved_in_place,
    state_agrees_with_twin,
    state_is_all_that_is_kept,
    updates_agree_with_twin,
)
from gradcheck.subjects.function import PlainFunction
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss

_OF_FUNCTIONS: tuple[Property, ...] = (
    gradients_agree_with_differences,
    backward_is_linear,
    gradients_match_their_tensors,
    arguments_are_left_untouched,
    results_own_their_memory,
)
_OF_DIFFERENTIABLES: tuple[Property, ...] = (
    *_OF_FUNCTIONS,
    forward_agrees_with_twin,
    gradients_agree_with_twin,
    precisions_agree,
    results_do_not_depend_on_memory_layout,
    gradients_of_samples_do_not_mix,
    integers_are_taken_as_numbers,
    extreme_values_stay_finite,
)
_OF_OUR_OWN: tuple[Property, ...] = (
    *_OF_DIFFERENTIABLES,
    calls_do_not_interfere,
    taps_do_not_change_results,
    wrong_shapes_are_refused,
    indices_out_of_range_are_refused,
    extreme_values_agree_with_twin,
)
PROPERTIES: dict[type, tuple[Property, ...]] = {
    Layer: (*_OF_OUR_OWN, buffers_agree_with_twin, kinks_are_where_choices_change),
    Loss: _OF_OUR_OWN,
    Optimizer: (
        updates_agree_with_twin,
        missing_gradients_are_skipped,
        non_finite_gradients_act_as_in_twin,
        state_agrees_with_twin,
        state_is_all_that_is_kept,
        gradients_are_left_untouched,
        parameters_are_moved_in_place,
    ),
    Schedule: (rates_agree_with_twin, rates_do_not_depend_on_earlier_calls),
    Initializer: (draws_agree_with_twin, draws_follow_their_generator),
    ForeignLayer: (
        *_OF_DIFFERENTIABLES,
        buffers_agree_with_twin,
        repeated_calls_agree,
        modes_are_restored,
        evaluation_is_not_random,
        statistics_agree_with_twin,
    ),
    ForeignLoss: _OF_DIFFERENTIABLES,
    PlainFunction: _OF_FUNCTIONS,
}

__all__ = ["DTYPES", "MODES", "PROPERTIES", "Mode", "Outcome", "Property", "Settings"]
