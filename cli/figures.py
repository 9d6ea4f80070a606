"""The figures of a run: which ones it has, and the files that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.drawing import FORMS, rendered
from cli.extras import missing_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

    from cli.finished_run import FinishedRun
    from cli.kept_run import KeptRun

MISTAKES = 24  # misclassified images that are shown


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


def of_network(kept: KeptRun) -> Iterator[Sketch]:
    """Yield the figures of the weights, and of what they make of the test images; raises DataError without those."""
    from cli import confusion_figure, weights_figure
    from nets.inference import confusion

    network, labels = kept.network, kept.run.test.labels
    matrices = {side: confusion(kept.predictions[side], labels) for side in network.sides}
    says = "Confusion matrices: how many test images of each class are taken for which."
    yield Sketch("confusion", says, lambda: confusion_figure.draw(matrices))
    first = weights_figure.first_weights(network.program.model(), network.weights)
    if first is not None:
        says = f"The first weights, {first.name}, as images, of each side."
        yield Sketch("weights", says, lambda: weights_figure.draw(first))


def written(folder: Path, sketches: Iterable[Sketch]) -> dict[str, bytes]:
    """Draw figures, write those of their files that are not in a run's folder, and return them as SVG by name.

    Without Matplotlib there are none, which a remark says.
    """
    from cli.console import remarks
    from gradcheck.files import write_whole

    found = {}
    try:
        for sketch in sketches:
            lacking = [form for form in FORMS if not (folder / f"{sketch.name}.{form}").exists()]
            forms = ["svg", *(form for form in lacking if form != "svg")]
            drawn = dict(zip(forms, rendered(sketch.draw, *forms), strict=True))
            for form in lacking:
                write_whole(folder / f"{sketch.name}.{form}", drawn[form])
            found[sketch.name] = drawn["svg"]
    except ModuleNotFoundError as error:
        part = missing_part(error)
        if part is None:
            raise
        remarks().print(f"no figure is drawn without {part}", style="yellow", markup=False, soft_wrap=True)
    return found
