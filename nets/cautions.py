"""What must be known of a result before it is believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nets.datasets.dataset import Samples
from nets.layers import Sigmoid
from nets.notation import written
from nets.run import Run
from nets.training import Outcome

# Of a set of images, those shared with another that are worth a word: MNIST has some that are equal by chance.
SHARED = 0.01

# What an output must pass to be nearer to 1, its target for images of its class, than to 0, that for all others.
HALF = 0.5


class Caution(StrEnum):
    """What is doubtful."""

    CLASS_NOT_RECALLED = "class not recalled"
    VALIDATED_ON_TEST = "validated on test images"
    TESTED_ON_TRAINING = "tested on training images"
    VALIDATED_ON_TRAINING = "validated on training images"
    OTHER_LOSS = "other loss reported"
    IMAGES_DROPPED = "images dropped"


@dataclass(frozen=True)
class Doubt:
    """One caution, in words; ``side`` is the engine that it is about, or None for the run."""

    caution: Caution
    text: str
    side: str | None = None


def doubts(run: Run, outcomes: Mapping[str, Outcome], *, told: bool = True) -> list[Doubt]:
    """Return what is doubtful about a run, and about what came of it; without ``told``, no loss was told on the way."""
    found = [*_of_the_run(run), *_of_outcomes(run, outcomes)]
    return found if told else [doubt for doubt in found if doubt.caution is not Caution.OTHER_LOSS]


def _of_the_run(run: Run) -> Iterator[Doubt]:
    pairs = (
        (Caution.VALIDATED_ON_TEST, "validation", run.validation, "test", run.test, "what is best was chosen by them"),
        (
            Caution.TESTED_ON_TRAINING,
            "test",
            run.test,
            "training",
            run.train,
            "the test accuracy is of what was learned",
        ),
        (Caution.VALIDATED_ON_TRAINING, "validation", run.validation, "training", run.train, "they say nothing new"),
    )
    for caution, name, samples, other, others, means in pairs:
        count = shared(samples, others)
        if count and count >= SHARED * len(samples):
            which = (
                f"the {name} images are"
                if count == len(samples)
                else f"{count:,} of {len(samples):,} {name} images are"
            )
            yield Doubt(caution, f"{which} {other} images, too: {means}")
    preset = run.preset
    if preset.reported_loss is not None and written(preset.reported_loss) != written(preset.loss):
        told, descended = (written(loss).removesuffix("()") for loss in (preset.reported_loss, preset.loss))
        yield Doubt(Caution.OTHER_LOSS, f"the loss told is {told}, but the one descended is {descended}")
    if preset.drop_last and run.dropped:
        text = f"the last {run.dropped:,} of {len(run.train):,} images are dropped in every epoch, others each time"
        yield Doubt(Caution.IMAGES_DROPPED, text)


def _of_outcomes(run: Run, outcomes: Mapping[str, Outcome]) -> Iterator[Doubt]:
    for side, outcome in outcomes.items():
        lost = [digit for digit, recall in enumerate(outcome.recalls) if recall == 0]
        if lost:
            classes = f"{'class' if len(lost) == 1 else 'classes'} {', '.join(map(str, lost))}"
            text = f"recognises no test image of {classes}, though its accuracy is {outcome.test_accuracy:.1%}"
            yield Doubt(Caution.CLASS_NOT_RECALLED, f"{text}{_stuck(run, outcome, lost)}", side)


def _stuck(run: Run, outcome: Outcome, lost: Sequence[int]) -> str:
    """Return that outputs of lost classes are stuck where they are sigmoids' and none of their values is near 1."""
    if outcome.peaks is None or run.preset.loss.class_targets or not isinstance(run.preset.layers[-1], Sigmoid):
        return ""
    low = {digit: outcome.peaks[digit] for digit in lost if outcome.peaks[digit] < HALF}
    if not low:
        return ""
    which, are, their = ("output", "is", "its") if len(low) == 1 else ("outputs", "are", "their")
    return (
        f": {which} {', '.join(map(str, low))}, which should come to 1, {are} stuck low:"
        f" {their} largest on all test images is {max(low.values()):.2g}"
    )


def shared(samples: Samples, others: Samples) -> int:
    """Return how many of some images are among others, pixel by pixel."""
    known = {image.tobytes() for image in others.images}
    return sum(image.tobytes() in known for image in samples.images)
