"""What both engines say of images, as tables, sentences and a JSON document."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.runs.tables import SIDES, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from cli.runs.kept import KeptRun
    from gradcheck.contract import Array
    from gradcheck.trajectory.check import EvaluationReport
    from nets.datasets.dataset import Samples

# Of the largest: two sides that are further apart show it in a percentage.
VISIBLE = 5e-5
PLURALS = {"probability": "probabilities", "output": "outputs"}


@dataclass(frozen=True, eq=False)
class Prediction:
    """What both engines say of one image, the ink (28, 28) in [0, 1] that they are given.

    ``source`` is a file, whose picture is ``seen``, or a number of the data, whose ``label`` is known; the run may be
    ``trained_on`` it. ``amounts`` has by side what each class (10,) is given, probabilities or outputs; ``agreement``
    is of both engines with the same weights.
    """

    source: Path | int
    ink: Array
    amounts: Mapping[str, Array]
    agreement: EvaluationReport
    seen: Array | None = None
    label: int | None = None
    trained_on: bool = False

    @property
    def name(self) -> str:
        """What it is called, in printable letters: the file's name, or the number."""
        from nets.datasets.dataset import printable

        return f"#{self.source}" if isinstance(self.source, int) else printable(self.source.name)

    @property
    def classes(self) -> dict[str, int]:
        """The class that each engine takes it for."""
        return {side: int(amounts.argmax()) for side, amounts in self.amounts.items()}


def predicted_picture(kept: KeptRun, path: Path) -> Prediction:
    """Return what a run's network says of a PNG or JPEG file; raises DataError."""
    from nets.datasets.picture import BOX, BOXES, ink_of, read_picture

    seen = read_picture(path)
    ink = ink_of(seen, BOXES.get(kept.finished.document["dataset"]["name"], BOX))
    return Prediction(path, ink, *_said(kept, ink), seen=seen)


def predicted_samples(kept: KeptRun, samples: Samples, *, from_training: bool) -> list[Prediction]:
    """Return what a run's network says of images of its data; ``from_training`` is whether those are training images.

    Raises DataError.
    """
    import numpy as np

    from nets.datasets.dataset import SIDE

    trained_on = set(kept.run.train.numbers.tolist()) if from_training else set()
    inks = kept.run.dataset.pixels(samples, np.float64).reshape(-1, SIDE, SIDE)
    return [
        Prediction(number, ink, *_said(kept, ink), label=label, trained_on=number in trained_on)
        for number, ink, label in zip(samples.numbers.tolist(), inks, samples.labels.tolist(), strict=True)
    ]


def of_tests(kept: KeptRun, samples: Samples) -> list[Prediction]:
    """Return what a run's network says of some of the run's test images; raises DataError."""
    from_training = kept.run.dataset.test is None or kept.run.preset.test_of == "train"
    return predicted_samples(kept, samples, from_training=from_training)


def surest_mistakes(kept: KeptRun, count: int) -> list[Prediction]:
    """Return what is said of the test images that the first side gets wrong, the surest first; raises DataError."""
    from nets.inference import mistakes

    test = kept.run.test
    return of_tests(kept, test[mistakes(kept.predictions[kept.network.sides[0]], test.labels, count)])


def _said(kept: KeptRun, ink: Array) -> tuple[dict[str, Array], EvaluationReport]:
    """Return what both engines say of an image by itself, so that the company it is in changes no bit."""
    import numpy as np

    from nets.datasets.dataset import DataError

    x = kept.inputs(ink[None])
    amounts = {side: rows[0] for side, rows in kept.network.predict(x).items()}
    if not all(np.isfinite(one).all() for one in amounts.values()):
        raise DataError(f"the network of {kept.finished.path} predicts nothing: its outputs are not finite")
    return amounts, kept.network.agreement(x)


def amount(value: float, told: str) -> str:
    """Return a probability as a percentage, or an output as it is."""
    return f"{value:.2%}" if told == "probability" else f"{value:.3f}"


def prediction_rows(predictions: Sequence[Prediction], told: str) -> list[tuple[str, ...]]:
    """Return a head and, for each image, its name, its label, what each engine takes it for, and who is wrong.

    What no image has, such as a label, has no column.
    """
    rows = [("image", "label", *SIDES.values(), "")]
    for one in predictions:
        classes = one.classes
        cells = (f"{classes[side]}  {amount(one.amounts[side].max(), told)}" for side in SIDES)
        label = "" if one.label is None else str(one.label)
        rows.append((one.name, label, *cells, describe_mistake(one)))
    told_of = [any(column) for column in zip(*rows[1:], strict=True)]
    return [tuple(compress(row, told_of)) for row in rows]


def describe_mistake(one: Prediction) -> str:
    """Return which engine takes an image for what its label does not say, or nothing."""
    wrong = [SIDES[side] for side, digit in one.classes.items() if one.label not in (None, digit)]
    return " ".join([*(wrong if len(wrong) == 1 else ()), "wrong"]) if wrong else ""


def print_predictions(out: Console, predictions: Sequence[Prediction], told: str) -> None:
    """Print a line an image."""
    head, *rows = prediction_rows(predictions, told)
    out.print(table(head, rows, left=("image", "")))


def print_classes(out: Console, one: Prediction, told: str) -> None:
    """Print a line a class, with what each engine gives to it."""
    head, rows = ("class", *SIDES.values(), "difference"), []
    for digit, (ours, theirs) in enumerate(zip(*(one.amounts[side] for side in SIDES), strict=True)):
        rows.append((str(digit), amount(ours, told), amount(theirs, told), f"{abs(ours - theirs):.1e}"))
    out.print(table(head, rows, left=()))


def describe_sides(predictions: Sequence[Prediction], sides: Sequence[str], told: str) -> str:
    """Return whose weights were asked and, where both sides have their own, how far apart these are."""
    import numpy as np

    if len(sides) == 1:
        other = next(name for side, name in SIDES.items() if side not in sides)
        return f"{other} was not trained in this run: it has {SIDES[sides[0]]}'s weights."
    ours, theirs = (np.array([one.amounts[side] for one in predictions]) for side in SIDES)
    apart = float(np.abs(ours - theirs).max())
    if apart <= VISIBLE * float(np.abs(theirs).max()):
        return f"Each engine used its own trained weights: {PLURALS[told]} at most {apart:.1e} apart."
    return (
        "The weights that the two sides have learned have parted: these are two trained networks, with"
        f" {PLURALS[told]} up to {apart:.1e} apart."
    )


def verdict_of(predictions: Sequence[Prediction]) -> str:
    """Return fail if the engines disagree on an image, inconclusive if one tells nothing, else pass."""
    from gradcheck.numerics.agreement import Verdict, worst

    return str(worst(one.agreement.verdict for one in predictions) or Verdict.PASS)


def describe_agreement(predictions: Sequence[Prediction]) -> str:
    """Return the sentence that ends a prediction: whether both engines, given the same weights, say the same."""
    from gradcheck.numerics.agreement import severity
    from gradcheck.numerics.rounding import FACTOR
    from gradcheck.report.steps import describe_divergence
    from gradcheck.report.text import noise_units

    verdict = verdict_of(predictions)
    worst = max(predictions, key=lambda one: severity(one.agreement.verdict, one.agreement.noise))
    engines = " and ".join(SIDES.values())
    count = f"{sum(one.agreement.verdict == verdict for one in predictions)} of {len(predictions)} images"
    if verdict == "inconclusive":
        return f"INCONCLUSIVE: of {count}, rounding alone may move the outputs by more than a hundredth of the largest"
    if verdict == "pass":
        noise = f"{noise_units(worst.agreement.noise, 1)} x rounding noise, {FACTOR:g} allowed"
        return f"PASS: {engines} give the same outputs with the same weights: worst {noise}"
    found = worst.agreement.first_divergence
    place = found and describe_divergence(found, FACTOR, *SIDES.values()).removeprefix("step 0, ")
    where = f". In {worst.name} they part {place}" if place else ""
    return f"FAIL: {engines} give other outputs with the same weights, for {count}{where}"


def prediction_to_json(one: Prediction, told: str) -> dict[str, Any]:
    """Return what both engines say of an image."""
    return {
        "source": one.source if isinstance(one.source, int) else unicode_of(one.source),
        "label": one.label,
        "trained_on": one.trained_on,
        "prediction": one.classes,
        PLURALS[told]: {side: amounts.tolist() for side, amounts in one.amounts.items()},
        "agreement": {"verdict": str(one.agreement.verdict), "rounding_noise": one.agreement.noise},
    }


def unicode_of(path: Path) -> str:
    """Return a path as JSON can hold it: what is not text in a file's name, as UTF-8 has it, is replaced."""
    return os.fsencode(path).decode("utf-8", "replace")
