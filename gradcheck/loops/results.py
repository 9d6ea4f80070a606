"""What a comparison of two loops found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from gradcheck.contract import Array
from gradcheck.loops.names import Link
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory.divergence import Divergence
from gradcheck.trajectory.told import Told


class Doubt(StrEnum):
    """Why two loops cannot be told to be the same. Where there are several reasons, the first of these is given."""

    NO_NAMES = auto()  # parameters that the other does not have
    OTHER_START = auto()
    NOT_REPEATED = auto()  # a loop that does not repeat itself
    OTHER_RANDOMNESS = auto()  # units that one drops and the other does not
    KINKS = auto()  # too many steps with one side alone across a kink
    NO_INFORMATION = auto()


Doubts = dict[Doubt, tuple[str, ...]]  # what each reason is about


@dataclass(frozen=True)
class FreeLoops:
    """Both loops by themselves: relative ``distances`` of all parameters, and ``envelope``, those of ours when nudged.

    From ``horizon`` on nothing is compared, None if it was not reached.
    """

    distances: Array
    envelope: Array
    horizon: int | None
    first_failure: Divergence | None


@dataclass(frozen=True, repr=False)
class LoopsReport(Told):
    """The result of a comparison of two loops; ``bool(report)`` is True only on a pass.

    ``links`` say which of ours' tensors are which of theirs. ``ratios`` holds disagreement over allowance of every
    comparison that need not be equal. ``only_ours`` and ``only_theirs`` were compared with nothing, of those
    ``unmeasured`` no noise is known in some step, ``unseen`` is what could not be seen of each. ``loss_scale`` is by
    how much ours scales its loss up, and its gradients down again before the update. ``precisions`` are those of the
    two; where they differ, every tensor is judged by the rounding of the lower one. ``smallest`` is the smallest error
    of each gradient, as a share of its largest element, that would have been seen in the best of the steps. ``kinks``
    are the steps whose backward pass was not judged, since the two rounded to different sides of a kink. ``doubt`` says
    why the verdict is inconclusive, and ``told`` of what.
    """

    verdict: Verdict
    doubt: Doubt | None
    told: tuple[str, ...]
    steps: int
    counts: tuple[int, int]
    first_divergence: Divergence | None
    worst: Divergence | None
    ratios: Array
    factor: float
    links: tuple[Link, ...]
    only_ours: tuple[str, ...]
    only_theirs: tuple[str, ...]
    unmeasured: tuple[str, ...]
    loss_scale: float
    unseen: tuple[tuple[str, ...], tuple[str, ...]]
    kinks: tuple[int, ...]
    precisions: tuple[str, str]
    smallest: dict[str, float]
    free: FreeLoops | None

    def __repr__(self) -> str:
        return f"<LoopsReport: {self.verdict}, {steps_in_words(self.steps)}>"


def steps_in_words(count: int) -> str:
    """Return "1 step", "2 steps"."""
    return f"{count:,} step{'' if count == 1 else 's'}"
