"""The figure of a fair run: how far apart the two sides are at every step, and what rounding alone would do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cli.figures.drawing import BLUE, GREY, PURPLE, SKY, VERMILION, WIDE, caption
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cli.runs.finished import Curves, FinishedRun
    from gradcheck.contract import Array

HEIGHT = 6.6  # inches

# More columns than this are no wider than a pixel: of the steps in one, the worst is drawn.
COLUMNS = 800

# Up to so many steps each is marked, since a line through one of them alone is invisible.
FEW = 20

LINE = 110  # characters that a line of the title has room for

TITLES = {"pass": "#00664B", "fail": "#B34700", "inconclusive": "#7A5C00"}  # dark enough to be read as text
LABEL = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


def draw(run: FinishedRun, width: float = WIDE) -> Figure:
    """Return the figure: free-run above, lock-step below, over the number of steps taken, both axes logarithmic.

    One that is as narrow as a phone has no title: there the verdict is right above it.
    """
    from matplotlib.figure import Figure

    from gradcheck.report.runs import FIGURE, describe_setting, describe_verdict

    document, curves = run.document, run.curves
    if curves is None:
        raise ValueError("a figure needs a run with curves")
    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.5, 1))
    _free_run(upper, document, curves)
    _lock_step(lower, document, curves)
    for axes in (upper, lower):
        axes.grid(visible=True, which="major", color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
    upper.set_xlim(0.9, max(2.0, 1.04 * len(curves.noise)))
    lower.set_xlabel(FIGURE["steps"])
    lower.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    lower.xaxis.set_minor_formatter(lambda *_: "")
    caption(figure, FIGURE["caption"].format(ours=SIDES["numpy"]))
    if width < WIDE:
        return figure
    verdict, configuration = document["verdict"], document["configuration"]
    title = f"{verdict.upper()}: {describe_verdict(verdict, *SIDES.values())}"
    steps = f"{len(curves.noise):,} step{'' if len(curves.noise) == 1 else 's'}"
    setting = f"{document['dataset']['name']}, {describe_setting(document)}, {steps}"
    told = "\n".join(map(_shortened, (configuration["network"], setting)))
    upper.set_title(told, loc="left", fontsize=9, color=GREY, parse_math=False)
    upper.annotate(
        title, (0, 1), xytext=(0, 34), xycoords="axes fraction", textcoords="offset points", fontweight="bold",
        fontsize=13 if len(title) < 60 else 11, color=TITLES[verdict], gid="title",
    )  # fmt: skip
    return figure


def _shortened(line: str) -> str:
    return line if len(line) <= LINE else f"{line[: LINE - 3]}..."


def _free_run(axes: Axes, document: dict[str, Any], curves: Curves) -> None:
    import numpy as np

    from gradcheck.report.runs import FIGURE

    factor, horizon, found = document["factor"], document["free_run"]["horizon_step"], document["first_divergence"]
    eps = float(np.finfo(np.float32 if document["configuration"]["dtype"] == "float32" else np.float64).eps)
    axes.set_yscale("log")
    axes.set_xscale("log")
    taken, distance = _columns(curves.distance)
    spread_at, envelope = _columns(curves.envelope)
    # What is allowed is never less than one rounding: eps.
    allowed = np.where(np.isnan(envelope), np.nan, np.maximum(factor * envelope, eps))
    drawn = [array[np.isfinite(array) & (array > 0)] for array in (distance, envelope, allowed)]
    low, high = (edge(np.concatenate([*drawn, [eps]])) for edge in (np.min, np.max))
    # Beneath the curves there is room for the horizon's label, and above them for the legend.
    decades = max(math.log10(high) - math.log10(low), 2.0)
    bottom, top = (max(low * 10 ** (-decades / 5), 1e-300), min(high * 10 ** (decades / 3), 1e300))
    axes.set_ylim(bottom, top)
    label = FIGURE["allowed"].format(factor=factor)
    axes.fill_between(spread_at, bottom, allowed, color=SKY, alpha=0.15, linewidth=0)
    axes.fill_between(
        spread_at, np.maximum(envelope, bottom), allowed, color=SKY, alpha=0.25, linewidth=0, gid="allowed",
        label=label,
    )  # fmt: skip
    axes.plot(spread_at, _positive(envelope), color=SKY, linewidth=1.2, gid="envelope", label=FIGURE["spread"])
    ours, theirs = SIDES.values()
    label = FIGURE["distance"].format(ours=ours, theirs=theirs)
    axes.plot(
        taken, _positive(distance), color=BLUE, linewidth=1.8, gid="distance", label=label,
        marker="o" if len(taken) <= FEW else "", markersize=4,
    )  # fmt: skip
    equal = taken[distance == 0]
    if equal.size:
        axes.plot(
            equal, np.full(equal.size, bottom), "v", color=BLUE, markersize=4, clip_on=False, gid="equal",
            label=FIGURE["equal"],
        )  # fmt: skip
    _crossings(axes, curves, bottom)
    steps = len(curves.noise)
    if horizon is not None:
        _horizon(axes, horizon)
        axes.axvspan(horizon + 1, 2.0 * (steps + 1), color="#BDBDBD", alpha=0.35, linewidth=0, gid="beyond")
        _label(axes, FIGURE["horizon"].format(step=horizon), horizon, steps, 0.03, GREY)
    if found is not None:
        _divergence(axes, found["step"])
        _label(axes, FIGURE["divergence"].format(**found), found["step"], steps, 0.5, VERMILION)
    axes.set_ylabel(FIGURE["distances"])
    handles, labels = axes.get_legend_handles_labels()
    first = labels.index(FIGURE["distance"].format(ours=ours, theirs=theirs))
    order = [first, *(i for i in range(len(labels)) if i != first)]
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="upper left", fontsize=8, edgecolor="none",
        framealpha=0.85,
    )  # fmt: skip


def _crossings(axes: Axes, curves: Curves, bottom: float) -> None:
    import numpy as np

    from gradcheck.report.runs import FIGURE

    for kind, filled in (("explained", "full"), ("unexplained", "none")):
        steps = sorted({step for step, crossing in curves.crossings if crossing["explained"] == (kind == "explained")})
        if steps:
            heights = np.maximum(np.nan_to_num(curves.distance[steps], nan=bottom, posinf=bottom), bottom)
            axes.plot(
                np.array(steps) + 1, heights, "D", markersize=6, linestyle="none", gid=kind, zorder=4, clip_on=False,
                label=FIGURE[kind], color=PURPLE, fillstyle=filled,
            )  # fmt: skip


def _lock_step(axes: Axes, document: dict[str, Any], curves: Curves) -> None:
    import numpy as np

    from gradcheck.report.runs import FIGURE

    factor, horizon, found = document["factor"], document["free_run"]["horizon_step"], document["first_divergence"]
    taken, noise = _columns(curves.noise)
    taken, noise = taken[~np.isnan(noise)], noise[~np.isnan(noise)]  # steps that lock-step did not compare
    finite = noise[np.isfinite(noise) & (noise > 0)]
    low, high = (min(finite.min(initial=factor / 8), factor / 8) / 2, max(finite.max(initial=factor), factor) * 4)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    heights = np.clip(np.nan_to_num(noise, nan=high, posinf=high), low, high)
    wrong = ~(noise <= factor)
    axes.plot(taken[~wrong], heights[~wrong], ".", color=BLUE, markersize=2.5, gid="noise")
    if wrong.any():
        axes.plot(
            taken[wrong], heights[wrong], "x", color=VERMILION, markersize=4, gid="failures", label=FIGURE["failures"],
        )  # fmt: skip
        axes.legend(loc="center left", frameon=False, fontsize=8)
    axes.axhline(factor, color=GREY, linestyle="--", linewidth=1.0, gid="factor")
    axes.annotate(
        FIGURE["factor"].format(factor=factor), (1, factor), xytext=(5, 2), textcoords="offset points", color=GREY,
        fontsize=8,
    )  # fmt: skip
    if horizon is not None:
        _horizon(axes, horizon)
    if found is not None:
        _divergence(axes, found["step"])
    axes.set_ylabel(FIGURE["noises"])


def _horizon(axes: Axes, step: int) -> None:
    axes.axvline(step + 1, color=GREY, linewidth=1.2, gid="horizon")


def _divergence(axes: Axes, step: int) -> None:
    axes.axvline(step + 1, color=VERMILION, linewidth=1.2, linestyle=(0, (4, 2)), gid="divergence")


def _label(axes: Axes, text: str, step: int, steps: int, height: float, color: str) -> None:
    """Write beside the line at a step, on the side that has room on a logarithmic axis."""
    left = math.log(step + 1) > math.log(steps + 1) / 2
    axes.annotate(
        text, (step + 1, height), xytext=(-7 if left else 7, 0), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", ha="right" if left else "left", va="bottom", color=color, bbox=LABEL,
        annotation_clip=True, in_layout=False, parse_math=False,
    )  # fmt: skip


def _positive(values: Array) -> Array:
    """Return values with gaps where a logarithm has none."""
    import numpy as np

    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _columns(values: Array) -> tuple[Array, Array]:
    """Return numbers of steps taken, from 1 on, and values: the largest of each column of the figure."""
    import numpy as np

    taken = np.arange(1, len(values) + 1)
    if len(values) <= COLUMNS:
        return taken, values
    column = np.floor(np.log(taken) / math.log(len(values)) * COLUMNS)
    parts = np.split(np.arange(len(values)), np.flatnonzero(np.diff(column)) + 1)
    chosen = np.array([part[np.argmax(np.nan_to_num(values[part], nan=-1.0))] for part in parts])
    return taken[chosen], values[chosen]
