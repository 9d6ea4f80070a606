"""The figure of a comparison: how each variant learns, epoch by epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cli.figures.drawing import BLUE, GREY, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcheck.contract import Array

WIDTH, PANEL = 8.0, 3.2  # inches, of the figure and the height of a panel
FEW = 20  # epochs, up to which each is marked, since a line through one alone is invisible

# Two that should be equal have one colour: the first is drawn wide and pale, the second thin and dashed upon it. Of
# curves that happen to be equal each must be seen, too: the thinner is upon the wider and has gaps, the dashes of all
# pairs fall into each other's gaps, and marks differ in shape and size.
COLOURS = (BLUE, VERMILION, "#009E73", PURPLE, "#E69F00", SKY)
MARKS = ("o", "s", "^", "D", "v", "P")
UNDER: dict[str, Any] = {"linewidth": 5.0, "alpha": 0.35, "solid_capstyle": "butt", "markersize": 10, "zorder": 2.1}
UPON: dict[str, Any] = {"linewidth": 1.5, "markersize": 4, "zorder": 2.4}
ALONE: tuple[dict[str, Any], ...] = (
    {"linewidth": 2.6, "markersize": 7.5, "zorder": 2.2},
    {"linewidth": 1.8, "markersize": 5.5, "zorder": 2.3, "linestyle": (0, (5, 3))},
    {"linewidth": 1.5, "markersize": 2.5, "zorder": 2.5, "linestyle": (0, (1, 2))},
)

# From this ratio of epochs on, those with few would be a line at the edge.
UNLIKE = 4

CAPTION = (
    "{numbers} of the batches as they were learned from, each before its step.\n"
    "Of two variants that should be equal, the first is wide and pale, the second thin and dashed upon it."
)
BAND = "Lines are means of {count} seeds, bands reach from the least to the largest."
KINDS = "Their losses, {losses}, are of different kinds and not shown: no axis makes them comparable."


def draw(document: dict[str, Any]) -> Figure:
    """Return the figure: training accuracy and, where all have one loss, below it that loss, over the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from cli.comparison.tables import heading

    variants = document["variants"]
    losses = list(dict.fromkeys(one["loss"] for one in variants))
    fields = {"train_accuracy": "accuracy of the training images, %"}
    if len(losses) == 1:
        fields["train_loss"] = f"{losses[0]} of the training images"
    figure = Figure(figsize=(WIDTH, PANEL * len(fields) + 0.9), layout="constrained")
    panels = figure.subplots(len(fields), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (field, label) in zip(panels, fields.items(), strict=True):
        _panel(axes, document, field)
        axes.set_ylabel(label)
        axes.grid(visible=True, which="major", color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
    most = [one["epochs"] for one in variants]
    lower = panels[-1]
    lower.set_xlabel("epoch")
    if max(most) > UNLIKE * min(most):
        lower.set_xscale("log")
    else:
        lower.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    lower.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.align_ylabels()
    title, *setting = heading(document)
    name, _, network = title.partition(": ")
    figure.suptitle(name, x=0.015, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    panels[0].legend(
        loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0, ncols=math.ceil(len(variants) / 2), frameon=False,
        handlelength=3.2,
    )  # fmt: skip
    numbers = "Accuracies are those" if len(losses) > 1 else "Accuracies and losses are those"
    told = [network] if network else []
    told += [f"{', '.join(setting)}.", CAPTION.format(numbers=numbers)]
    if len(document["seeds"]) > 1:
        told.append(BAND.format(count=len(document["seeds"])))
    if len(losses) > 1:
        told.append(KINDS.format(losses=" and ".join(losses)))
    figure.supxlabel("\n".join(told), x=0.015, ha="left", fontsize=7.5, color=GREY, parse_math=False)
    return figure


def _panel(axes: Axes, document: Mapping[str, Any], field: str) -> None:
    """Draw each variant's numbers over the epochs, counted from 1."""
    import numpy as np

    styles = _styles(document)
    marked = max(one["epochs"] for one in document["variants"]) <= FEW
    for one in document["variants"]:
        curves = _curves(one, field)
        epochs = np.arange(1, curves.shape[1] + 1)
        style = styles[one["name"]] if marked else {**styles[one["name"]], "marker": ""}
        if len(curves) > 1:
            axes.fill_between(
                epochs, curves.min(axis=0), curves.max(axis=0), color=style["color"], alpha=0.08, linewidth=0,
                gid=f"band of {one['name']}",
            )  # fmt: skip
        axes.plot(epochs, curves.mean(axis=0), label=one["name"], gid=one["name"], **style)
    if field == "train_loss":
        _logarithmic(axes)


def _logarithmic(axes: Axes) -> None:
    """Make the axis of a loss logarithmic, with labels that have room, unless it spans too little to have any."""
    import numpy as np

    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()])
    values = values[values > 0]
    low, high = values.min(initial=math.inf), values.max(initial=0.0)
    if high < 2 * low:
        return
    axes.set_yscale("log")
    ratio = high / low
    labelled = () if ratio > 1000 else (2, 3, 5) if ratio > 3 else range(2, 10)

    def label(value: float, _: float) -> str:
        power = math.floor(math.log10(value) + 0.01)  # of a tick, which is 1 to 9 times it, within rounding
        digit = round(value / 10**power)
        return f"{value:g}" if digit == 1 or digit in labelled else ""

    axes.yaxis.set_major_formatter(label)
    axes.yaxis.set_minor_formatter(label)


def _curves(variant: Mapping[str, Any], field: str) -> Array:
    """Return a variant's numbers (seeds, epochs), as many epochs as all seeds have; gaps where none is finite."""
    import numpy as np

    scale = 100 if field == "train_accuracy" else 1
    runs = [[scale * float(epoch[field]) for epoch in done["epochs"]] for done in variant["runs"]]
    least = min(map(len, runs))
    curves = np.array([run[:least] for run in runs], dtype=float)
    return np.where(np.isfinite(curves), curves, np.nan)


def _styles(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the style of each variant's line."""
    styles: dict[str, dict[str, Any]] = {}
    looks = ({"color": color, "marker": mark} for color, mark in zip(COLOURS, MARKS, strict=True))
    pairs = [pair["variants"] for pair in document["pairs"]]
    for index, (under, upon) in enumerate(pairs):
        look = next(looks)
        styles[under] = look | UNDER
        styles[upon] = look | UPON | {"linestyle": _dashes(index, len(pairs))}
    others = (one["name"] for one in document["variants"] if one["name"] not in styles)
    return styles | {name: next(looks) | style for name, style in zip(list(others), ALONE, strict=False)}


def _dashes(index: int, count: int) -> tuple[float, tuple[float, float]]:
    """Return dashes that fall into the gaps of those of all other of ``count`` lines."""
    return (0, (4, 2)) if count == 1 else (3 * index, (3, 3 * (count - 1)))
