"""The figure of what both sides learned: loss and accuracy on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli import drawing
from cli.run_tables import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cli.finished_run import FinishedRun
    from gradcheck.contract import Array

WIDTH, HEIGHT = 8.0, 3.4  # inches
POINTS = 30  # that a fair run's steps are drawn as: batches of one image tell only together
FEW = 20  # up to so many points each is marked

STEPS = "Of every batch before its step, in means over {parts} equal parts of the run."
EPOCHS = "Of every batch before its step, a point an epoch; of the validation images after the epoch."


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
    per_epoch = math.ceil(run.document["dataset"]["train_size"] / run.document["configuration"]["batch_size"])
    return [
        Curve(side, taken / per_epoch, np.array([run.curves.learned[f"{side}_{what}"][part].mean() for part in parts]))
        for side in SIDES
    ]


def draw(run: FinishedRun) -> Figure:
    """Return the figure: the loss on the left, the accuracy on the right, over epochs, NumPy's beneath PyTorch's."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, what in ((left, "loss"), (right, "accuracy")):
        for curve in curves_of(run, what):
            _curve(axes, curve)
        axes.set_title(f"{what} of the training images", loc="left", fontsize=9)
        axes.set_xlabel("epochs")
        axes.grid(visible=True, color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlim(left=0)
    left.set_ylim(bottom=0)
    right.set_ylim(top=1.0)
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.legend(loc="lower right", fontsize=8, edgecolor="none", framealpha=0.85)
    told = STEPS.format(parts=POINTS) if run.document["epochs"] is None else EPOCHS
    figure.supxlabel(told, x=0.015, ha="left", fontsize=7.5, color=drawing.GREY)
    return figure


def _curve(axes: Axes, curve: Curve) -> None:
    """Draw a side's curve, and dashed what it came to on the validation images."""
    name, style = SIDES[curve.side], drawing.SIDES[curve.side]
    marker = "o" if len(curve.epochs) <= FEW else ""
    size = 3.0 + style["linewidth"]
    axes.plot(
        curve.epochs, curve.values, marker=marker, markersize=size, label=name, gid=f"{curve.side}-train", **style
    )
    if curve.validation is not None:
        axes.plot(
            curve.epochs, curve.validation, linestyle=(0, (3, 1.5)), dash_capstyle="butt", marker=marker,
            markersize=size, markerfacecolor="white", label=f"{name}, validation images",
            gid=f"{curve.side}-validation", **{key: value for key, value in style.items() if "cap" not in key},
        )  # fmt: skip
