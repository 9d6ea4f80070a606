"""The figures of a run: which ones it has, and the files that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.drawing import FORMS, rendered, unless_undrawable
from cli.run_tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from cli.finished_run import FinishedRun
    from cli.kept_run import KeptRun
    from cli.predictions import Prediction


@dataclass(frozen=True)
class Sketch:
    """A figure that can be drawn; ``says`` is what somebody who cannot see it is told."""

    name: str
    says: str
    draw: Callable[[], Figure]


def of_proof(run: FinishedRun) -> Iterator[Sketch]:
    """Yield the figure of what was compared, for a run with the numbers behind it."""
    from cli import trajectory_figure

    if run.curves is not None:
        says = (
            "How far apart the two sides are at every step, beside what rounding alone does: free-run above,"
            " lock-step below."
        )
        yield Sketch("trajectory", says, lambda: trajectory_figure.draw(run))


def of_learning(run: FinishedRun) -> Iterator[Sketch]:
    """Yield the figure of loss and accuracy, for a run that has kept them."""
    from cli import learning_figure

    if learning_figure.curves_of(run, "loss"):
        says = "Loss and accuracy of each side over the epochs."
        yield Sketch("learning", says, lambda: learning_figure.draw(run))


def of_network(kept: KeptRun, mistakes: Sequence[Prediction]) -> Iterator[Sketch]:
    """Yield the figures of the weights, and of what they make of the test images; raises DataError without those."""
    from cli import confusion_figure, predictions_figure, weights_figure
    from nets.inference import confusion

    network, labels = kept.network, kept.run.test.labels
    matrices = {side: confusion(kept.predictions[side], labels) for side in network.sides}
    says = "Confusion matrices: how many test images of each class are taken for which."
    yield Sketch("confusion", says, lambda: confusion_figure.draw(matrices))
    if mistakes:
        title, side = f"what {SIDES[network.sides[0]]} is surest of, and wrong", network.sides[0]
        says = "Misclassified test images, with what each is taken for."
        yield Sketch("misclassified", says, lambda: predictions_figure.grid(mistakes, side, network.told, title))
    first = weights_figure.first_weights(network.program.model(), network.weights)
    if first is not None:
        says = f"The first weights, {first.name}, as images, of each side."
        yield Sketch("weights", says, lambda: weights_figure.draw(first))


def written(folder: Path, sketches: Iterable[Sketch]) -> dict[str, bytes]:
    """Draw figures, write those of their files that are not in a run's folder, and return them as SVG by name.

    Without Matplotlib there are none, which a remark says.
    """
    return unless_undrawable(lambda: {sketch.name: _written(folder, sketch) for sketch in sketches}) or {}


def _written(folder: Path, sketch: Sketch) -> bytes:
    from gradcheck.files import write_whole

    lacking = [form for form in FORMS if not (folder / f"{sketch.name}.{form}").exists()]
    forms = ["svg", *(form for form in lacking if form != "svg")]
    drawn = dict(zip(forms, rendered(sketch.draw, *forms), strict=True))
    for form in lacking:
        write_whole(folder / f"{sketch.name}.{form}", drawn[form])
    return drawn["svg"]
