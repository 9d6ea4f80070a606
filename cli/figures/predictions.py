"""Labelled pictures of predictions: images with what both engines give to every class, and a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.figures.drawing import BLUE, GREY, SKY, VERMILION
from cli.figures.samples import grid_of, show_ink
from cli.runs.predictions import amount, describe_mistake
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cli.runs.predictions import Prediction

WIDTH, ROW, HEAD = 7.5, 1.55, 0.35  # inches: of a page, of an image's row, and of what heads the first
MOST_ROWS = 50  # that are drawn: a page of 12 metres would be no picture
SHOWN = 40  # characters of a file's name
BAR = 0.38  # of the distance between two classes
COLOURS = {"numpy": BLUE, "torch": SKY}  # dark and light, so that grey tells them apart, too


def grid(predictions: Sequence[Prediction], side: str, told: str, title: str, columns: int | None = None) -> Figure:
    """Return a figure of images with what a side takes them for, or what each does where they differ.

    What is wrong is framed, and has its label. ``told`` is what the numbers are: ``probability`` or ``output``.
    """
    lines = 3 if any(map(_differ, predictions)) else 2
    figure, cells = grid_of(len(predictions), lines, title, columns)
    for axes, one in zip(cells, predictions, strict=True):
        show_ink(axes, one.ink, 1.0)
        wrong = describe_mistake(one)
        given = f", label {one.label}" if wrong else ""
        axes.set_title("\n".join([*_taken_for(one, side, told), f"{one.name}{given}"]), fontsize=7, pad=3)
        if wrong:
            _frame(axes)
    return figure


def _differ(one: Prediction) -> bool:
    return len(set(one.classes.values())) > 1


def _taken_for(one: Prediction, side: str, told: str) -> list[str]:
    """Return a line of what a side takes an image for, or a line of each side where they differ."""
    return [
        f"$\\bf{{{digit}}}$  {amount(one.amounts[name].max(), told)}{f' {SIDES[name]}' if _differ(one) else ''}"
        for name, digit in one.classes.items()
        if name == side or _differ(one)
    ]


def rows(predictions: Sequence[Prediction], told: str) -> Figure:
    """Return a figure with a row for each image, at most `MOST_ROWS`.

    A row has the picture as it was given, if it is a file's, the ink that the network sees, and what both engines give
    to every class.
    """
    from matplotlib.figure import Figure

    predictions = predictions[:MOST_ROWS]
    pictures = any(one.seen is not None for one in predictions)
    figure = Figure(figsize=(WIDTH, HEAD + ROW * len(predictions)), layout="constrained")
    ratios = (1, 1, 3.6) if pictures else (1, 4.6)
    grid = figure.subplots(len(predictions), len(ratios), squeeze=False, width_ratios=ratios)
    for one, (*before, ink, bars) in zip(predictions, grid, strict=True):
        for axes in (*before, ink):
            axes.set_axis_off()
        for axes in before:
            if one.seen is not None:
                axes.imshow(one.seen, cmap="gray", vmin=0, vmax=255)
                _frame(axes, GREY, 0.6)
        show_ink(ink, one.ink, 1.0)
        _frame(ink, GREY, 0.6)
        _bars(bars, one, told)
    for axes, text in zip(grid[0], ("as given", "as it is seen") if pictures else ("as it is seen",), strict=False):
        axes.set_title(text, fontsize=8, color=GREY)
    grid[-1][-1].set_xlabel("class")
    grid[0][-1].legend(loc="upper right", fontsize=7, framealpha=0.85, edgecolor="none")
    return figure


def _bars(axes: Axes, one: Prediction, told: str) -> None:
    import numpy as np

    digits = np.arange(len(one.amounts["numpy"]))
    for side, shift in zip(SIDES, (-BAR / 2, BAR / 2), strict=True):
        axes.bar(digits + shift, one.amounts[side], BAR, color=COLOURS[side], label=SIDES[side])
    if told == "probability":
        axes.set_ylim(0, 1)
    axes.set_xticks(digits)
    axes.set_ylabel(told, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_title(_title(one, told), loc="left", fontsize=9, fontweight="bold", parse_math=False)


def _title(one: Prediction, told: str) -> str:
    """Return an image's name, what it is taken for, how surely, and its label where that is known."""
    name = one.name if len(one.name) <= SHOWN else f"{one.name[: SHOWN - 3]}..."
    each = {side: f"{digit}, {amount(one.amounts[side].max(), told)}" for side, digit in one.classes.items()}
    ours, theirs = each.values()
    text = f"{name}: {ours}" if ours == theirs else f"{name}: {SIDES['numpy']} {ours}; {SIDES['torch']} {theirs}"
    if one.label is None:
        return text
    wrong = describe_mistake(one)
    return f"{text}; label {one.label}{wrong and f': {wrong}'}"


def _frame(axes: Axes, color: str = VERMILION, linewidth: float = 2.0) -> None:
    from matplotlib.patches import Rectangle

    outline = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=color, linewidth=linewidth)
    outline.set_clip_on(False)
    axes.add_patch(outline)
