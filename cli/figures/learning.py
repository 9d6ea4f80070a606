"""The figure of what both sides learned: loss and accuracy on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.figures import drawing
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cli.runs.finished import FinishedRun
    from gradcheck.contract import Array

HEIGHT = 3.4  # inches, of two panels beside each other
POINTS = 30  # that a fair run's steps are drawn as, at most: batches of one image tell only together
FEW = 20  # up to so many points each is marked

STEPS = "Training values of every batch, taken before its step and averaged over {parts} stretches of the run."
EPOCHS = "A point an epoch: of the training images in batches, each before its step; of validation images after it."


@dataclass(frozen=True, eq=False)
class Curve:
    """One side's loss or accuracy over epochs, which may be parts of one; ``validation`` where it was validated."""

    side: str
    epochs: Array
    values: Array
    validation: Array | None = None


def curves_of(run: FinishedRun, what: str) -> list[Curve]:
    """Return the curves of ``loss`` or ``accuracy``; none where a run has not kept them.

    A fair run keeps a value a step, of which the means over equal parts are drawn; any other keeps one an epoch.
    """
    import numpy as np

    if run.document["epochs"]:
        found = []
        for side in SIDES:
            epochs = [one for one in run.document["epochs"] if one[side] is not None]
            told = [[one[side][f"{part}_{what}"] for one in epochs] for part in ("train", "validation")]
            if epochs:
                ends = np.array([one["epoch"] + 1 for one in epochs], float)
                validation = None if None in told[1] else np.array(told[1])
                found.append(Curve(side, ends, np.array(told[0]), validation))
        return found
    if run.curves is None or np.isnan(run.curves.learned[f"torch_{what}"]).all():
        return []
    steps = len(run.curves.noise)
    parts = np.array_split(np.arange(steps), min(POINTS, steps))
    taken = np.array([part[-1] + 1 for part in parts])
    images, size = run.document["dataset"]["train_size"], run.document["configuration"]["batch_size"]
    dropped = (run.document["settings"] or {}).get("drop_last", False)
    per_epoch = images // size if dropped else math.ceil(images / size)
    return [
        Curve(side, taken / per_epoch, np.array([run.curves.learned[f"{side}_{what}"][part].mean() for part in parts]))
        for side in SIDES
    ]


def draw(run: FinishedRun, width: float = drawing.WIDE) -> Figure:
    """Return the figure: the loss, and right of it or below it the accuracy, over epochs, NumPy's beneath PyTorch's."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    beside = width >= drawing.WIDE
    figure = Figure(figsize=(width, HEIGHT if beside else 1.8 * HEIGHT), layout="constrained")
    left, right = figure.subplots(*((1, 2) if beside else (2, 1)))
    points = 0
    for axes, what in ((left, "loss"), (right, "accuracy")):
        for curve in curves_of(run, what):
            _curve(axes, curve)
            points = len(curve.epochs)
        axes.set_title(what, loc="left", fontsize=9, fontweight="bold")
        axes.set_xlabel("epochs")
        axes.grid(visible=True, color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlim(left=0)
    left.set_ylim(bottom=0)
    right.set_ylim(top=1.0)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles, labels = right.get_legend_handles_labels()
    columns = len(labels) if beside else 2
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=8, frameon=False)
    drawing.caption(figure, EPOCHS if run.document["epochs"] else STEPS.format(parts=points))
    return figure


def _curve(axes: Axes, curve: Curve) -> None:
    """Draw a side's curve, and dashed what it came to on the validation images."""
    name, style = SIDES[curve.side], drawing.SIDES[curve.side]
    marker = "o" if len(curve.epochs) <= FEW else ""
    size = 3.0 + style["linewidth"]
    axes.plot(
        curve.epochs,
        curve.values,
        marker=marker,
        markersize=size,
        label=f"{name}, training images",
        gid=f"{curve.side}-train",
        **style,
    )
    if curve.validation is not None:
        axes.plot(
            curve.epochs, curve.validation, linestyle=(0, (3, 1.5)), dash_capstyle="butt", marker=marker,
            markersize=size, markerfacecolor="white", label=f"{name}, validation images",
            gid=f"{curve.side}-validation", **{key: value for key, value in style.items() if "cap" not in key},
        )  # fmt: skip
