"""The figures of a run: which ones it has, and the files that they become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.figures import drawing
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from cli.runs.finished import FinishedRun
    from cli.runs.kept import KeptRun
    from cli.runs.predictions import Prediction

SHOWN_IN_A_ROW = 8  # images, on a page


@dataclass(frozen=True)
class Sketch:
    """A figure that can be drawn, as wide as a page or as narrow as a phone.

    ``says`` is what somebody who cannot see it is told.
    """

    name: str
    says: str
    draw: Callable[[float], Figure]


def of_proof(run: FinishedRun) -> Iterator[Sketch]:
    """Yield the figure of what was compared, for a run with the numbers behind it."""
    from cli.figures import trajectory

    if run.curves is not None:
        says = (
            "How far apart the two sides are at every step, beside what rounding alone does: free-run above,"
            " lock-step below."
        )
        yield Sketch("trajectory", says, lambda width: trajectory.draw(run, width))


def of_learning(run: FinishedRun) -> Iterator[Sketch]:
    """Yield the figure of loss and accuracy, for a run that has kept them."""
    from cli.figures import learning

    if learning.curves_of(run, "loss"):
        says = "Loss and accuracy of each side over the epochs."
        yield Sketch("learning", says, lambda width: learning.draw(run, width))


def of_network(kept: KeptRun, mistakes: Sequence[Prediction]) -> Iterator[Sketch]:
    """Yield the figures of the weights, and of what they make of the test images; raises DataError without those."""
    from cli.figures import confusion as confusion_figure
    from cli.figures import predictions, weights
    from nets.inference import confusion

    network, labels = kept.network, kept.run.test.labels
    matrices = {side: confusion(kept.predictions[side], labels) for side in network.sides}
    says = "Confusion matrices: how many test images of each class are taken for which."
    yield Sketch("confusion", says, lambda width: confusion_figure.draw(matrices, width))
    if mistakes:
        side = network.sides[0]
        title = f"what {SIDES[side]} is surest of, and wrong"

        def draw(width: float) -> Figure:
            return predictions.grid(mistakes, side, network.told, title, 4 if width < drawing.WIDE else SHOWN_IN_A_ROW)

        yield Sketch("mistakes", "Misclassified test images, with what each is taken for.", draw)
    first = weights.first_weights(network.program.model(), network.weights)
    if first is not None:
        says = f"The first weights, {first.name}, as images, of each side."
        yield Sketch("weights", says, lambda width: weights.draw(first, width))


def written(folder: Path, sketches: Sequence[Sketch]) -> dict[str, bytes]:
    """Draw figures, write them into a run's folder as SVG and PNG, and return them as SVG by name.

    What is there already and is the same is left. Without Matplotlib there are none, and where nothing can be written
    they are returned all the same: a remark says so.
    """
    drawn = drawing.unless_undrawable(lambda: {one.name: _drawn(one, drawing.WIDE) for one in sketches}) or {}
    try:
        for one in sketches:
            if one.name in drawn:
                _write(folder, one, drawn[one.name])
    except OSError as error:
        from cli.console import remark

        remark(f"{folder}: the figures are not written: {error.strerror}")
    return drawn


def narrow(sketches: Sequence[Sketch]) -> dict[str, bytes]:
    """Return the same as for a phone."""
    return {one.name: _drawn(one, drawing.NARROW) for one in sketches}


def _drawn(sketch: Sketch, width: float) -> bytes:
    return drawing.rendered(lambda: sketch.draw(width), "svg")[0]


def _write(folder: Path, sketch: Sketch, svg: bytes) -> None:
    """Write a figure's files, unless they are there and are of these very numbers."""
    from gradcheck.files import write_whole

    vector, pixels = (folder / f"{sketch.name}.{form}" for form in drawing.FORMS)
    if vector.is_file() and pixels.is_file() and vector.read_bytes() == svg:
        return
    write_whole(pixels, drawing.rendered(lambda: sketch.draw(drawing.WIDE), "png")[0])
    write_whole(vector, svg)
