"""How cost grows: python -m benchmarks.speed.curves [--only NAME] [--draw].

Measures a step against its width and batch, a check against its number of elements and a fair run against its width,
writes benchmarks/curves.json after each, and draws them into docs/images; with ``--draw`` only what is in that file.
The exponents go to docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gradcheck
from benchmarks.speed import fair_runs, tables
from benchmarks.speed.__main__ import data
from benchmarks.speed.layer_checks import Dense
from benchmarks.speed.steps import numpy_side, pair_of, prepared, torch_side
from benchmarks.speed.timing import Pair, measured, seconds
from cli.figures.drawing import BLUE, GREY, PURPLE, VERMILION, WIDE, caption, rendered
from nets.engines.torch_engine import one_thread_each
from nets.presets import PRESETS
from nets.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PATH = Path(__file__).parent.parent / "curves.json"
IMAGES = tables.PAGE.parent / "images"
REPEATS, LIMIT = 5, 5.0
LONG = 2.0  # seconds, after which a mode is tried on no larger layer

WIDTHS = tuple(2**power for power in range(4, 13))
BATCHES = tuple(2**power for power in range(10))
ELEMENTS = tuple(10**power for power in range(1, 7))

# By series: times in milliseconds at each abscissa.
Series = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Curve:
    """What is measured, and how its axes read."""

    title: str
    abscissa: str
    ordinate: str
    figure: str
    measure: Callable[[], Series]


def network(width: int, batch: int, steps: int) -> Run:
    """Return a run of 784-width-10 in float64."""
    preset = replace(PRESETS["fair"], network=f"Linear(784, {width}), Sigmoid(), Linear({width}, 10)")
    return prepared(preset, data(), batch, "float64", steps)


def steps_over(cells: list[tuple[int, int, int]]) -> Series:
    """Return the times of a step of both engines; a cell has an abscissa, a width and a batch."""
    found: Series = {"NumPy": [], "PyTorch": []}
    for x, width, batch in cells:
        row = measured(pair_of(f"width {width}, batch {batch}", network(width, batch, 8)), REPEATS, LIMIT)
        told(row.name, row.ours_ms)
        found["NumPy"].append((x, row.ours_ms))
        found["PyTorch"].append((x, row.theirs_ms))
    return found


def checks_over_elements() -> Series:
    """Return the times of a check of a dense layer with ten outputs, by mode."""
    found: Series = {}
    rng = np.random.default_rng(0)
    for mode in ("full", "auto", "fast"):
        found[mode] = []
        for count in ELEMENTS:
            layer = Dense(rng)
            layer.W = 0.3 * rng.standard_normal((count // 10, 10))
            call = partial(gradcheck.check_layer, layer, rng.standard_normal((2, count // 10)), mode=mode)
            taken = min(seconds(call) for _ in range(1 if found[mode] and found[mode][-1][1] > 1e3 else 3))
            told(f"{mode}, {count} elements", 1e3 * taken)
            found[mode].append((count, 1e3 * taken))
            if mode == "full" and taken > LONG:
                break
    return found


def fair_runs_over_widths() -> Series:
    """Return the times of a step of a fair run, and of one of both engines alone."""
    found: Series = {"fair run": [], "both alone": []}
    for width in WIDTHS[:-2:2]:
        run = network(width, 1, fair_runs.FEW)
        both, steps = (numpy_side(run), torch_side(run)), run.steps - fair_runs.BEGINNING
        pair = Pair(
            f"width {width}", partial(fair_runs.fair, run), partial(fair_runs.trained, both, steps), units=steps
        )
        row = measured(pair, REPEATS, LIMIT)
        told(row.name, row.ours_ms)
        found["fair run"].append((width, row.ours_ms))
        found["both alone"].append((width, row.theirs_ms))
    return found


CURVES = {
    "step-width": Curve(
        "batch 1", "hidden width", "a step, ms", "step-cost", lambda: steps_over([(w, w, 1) for w in WIDTHS])
    ),
    "step-batch": Curve(
        "128 hidden", "batch", "a step, ms", "step-cost", lambda: steps_over([(b, 128, b) for b in BATCHES])
    ),
    "check": Curve("", "elements of the weights", "a check, ms", "check-cost", checks_over_elements),
    "fair-run": Curve("", "hidden width", "a step, ms", "fair-run-cost", fair_runs_over_widths),
}
TEXTS = {
    "step-cost": "One training step of 784-hidden-10 in float64, SGD, one thread each.",
    "check-cost": "check_layer of a foreign dense layer with ten outputs, all properties, by its mode.",
    "fair-run-cost": "One step of 784-hidden-10 at batch 1 in float64: compared, and both engines alone.",
}
COLOURS = {
    "NumPy": BLUE, "PyTorch": VERMILION, "fair run": BLUE, "both alone": GREY, "full": VERMILION, "auto": BLUE,
    "fast": PURPLE,
}  # fmt: skip


def told(name: str, ms: float) -> None:
    """Say how far it is."""
    print(f"{name}: {ms:.3g} ms", file=sys.stderr, flush=True)


def exponent(points: list[tuple[int, float]]) -> tuple[float, float, int]:
    """Return the exponent of the upper half of a curve, its standard error, and the abscissa at which that begins.

    That is the slope of the logarithms by least squares.
    """
    upper = points[-max(3, len(points) // 2) :]
    x, y = np.log(np.array(upper, float)).T
    (slope, _), covariance = np.polyfit(x, y, 1, cov="unscaled")
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    error = float(np.sqrt(covariance[0, 0] * (residual @ residual) / max(1, len(x) - 2)))
    return float(slope), error, upper[0][0]


def table(found: Mapping[str, Series]) -> Iterator[str]:
    """Yield the lines of the table of exponents."""
    yield "| | of | smallest | largest | exponent of the upper half |"
    yield "|---|---|---|---|---|"
    for name, curve in CURVES.items():
        for series, points in found.get(name, {}).items():
            slope, error, start = exponent(points)
            ends = (
                f"{round(ms):,} ms at {x:,}" if ms >= 100 else f"{ms:.3g} ms at {x:,}"
                for x, ms in (points[0], points[-1])
            )
            what = f"{curve.ordinate.partition(',')[0]} over {curve.abscissa}"
            yield f"| {what} | {series} | {' | '.join(ends)} | {slope:.2f} ± {error:.2f}, from {start:,} |"


def figure(name: str, found: Mapping[str, Series]) -> Figure:
    """Return a figure, with a panel for each of its curves."""
    from matplotlib.figure import Figure

    names = [key for key, curve in CURVES.items() if curve.figure == name and key in found]
    drawn = Figure(figsize=(WIDE, 3.4), layout="constrained")
    panels = drawn.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, names, strict=True):
        panel(axes, CURVES[key], found[key])
    panels[0].set_ylabel(CURVES[names[0]].ordinate)
    caption(drawn, TEXTS[name])
    return drawn


def panel(axes: Axes, curve: Curve, series: Series) -> None:
    """Draw the lines of a curve on logarithmic axes, each with its name at its end."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(visible=True, which="major", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(curve.title, loc="left", fontsize=9, color=GREY)
    axes.set_xlabel(curve.abscissa)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        axis.set_minor_formatter(lambda *_: "")
    for name, points in series.items():
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=COLOURS[name], linewidth=1.6, marker="o", markersize=3.5, label=name)
    axes.legend(frameon=False, loc="upper left")


def draw(found: Mapping[str, Series]) -> None:
    """Write the figures of what was found, and the exponents."""
    for name in dict.fromkeys(CURVES[key].figure for key in found):
        (content,) = rendered(partial(figure, name, found), "svg")
        (IMAGES / f"{name}.svg").write_bytes(content)
    page = tables.PAGE.read_text(encoding="utf-8")
    tables.PAGE.write_text(tables.between(page, "curves", "\n".join(table(found))), encoding="utf-8")


def main() -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=CURVES, help="measure this alone")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    with one_thread_each():
        for name in [] if options.draw else options.only or CURVES:
            found[name] = CURVES[name].measure()
            PATH.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found)


if __name__ == "__main__":
    main()
