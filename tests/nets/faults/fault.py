"""What a planted fault is, and the properties that most of them show in."""

from __future__ import annotations

from typing import NamedTuple

from gradcheck.trials import Subject

DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"
BUFFERS = "buffers_agree_with_twin"
EXTREMES = "extreme_values_agree_with_twin"
KINKS = "kinks_are_where_choices_change"
INDICES = "indices_out_of_range_are_refused"
SHAPES = "gradients_match_their_tensors"
UPDATES = "updates_agree_with_twin"


class Fault(NamedTuple):
    """A class with one mistake, the property that must see it, in which tensor if in one, and what it is known by.

    ``id`` names the fault in a collection of real ones; it is empty for one of our own.
    """

    subject: Subject
    claim: str
    tensor: str | None
    id: str
