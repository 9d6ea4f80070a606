"""A grid of images with their labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from cli.figures.drawing import FORMS, rendered

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcheck.contract import Array
    from nets.datasets.dataset import Samples

CELL = 0.9  # inches, of an image
GAP = 0.1  # inches, between two of them
LINE = 0.14  # inches, of a line of what is above one
HEAD = 0.45  # inches, of a title of two lines
RESOLUTION = 150  # dots an inch of the PNG


def form_of(path: Path) -> str:
    """Return the form that the name of a picture's file asks for; raises a usage error for one that is not drawn."""
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise click.UsageError(f"--out {path} is no {' or '.join(f'.{form}' for form in sorted(FORMS))} file")
    return form


def render(samples: Samples, numbers: Array, black: int, title: str, form: str) -> bytes:
    """Return a picture of images, ``png`` or ``svg``, as a file's content: the same bytes for the same images.

    Each has its label above it and its number, from ``numbers`` (n,), counted from 0 in its source. ``black`` is the
    value of full ink, which is drawn black.
    """

    def draw() -> Figure:
        figure, cells = grid_of(len(samples), 1, title)
        for axes, image, label, number in zip(cells, samples.images, samples.labels, numbers, strict=True):
            show_ink(axes, image, black)
            axes.set_title(f"$\\bf{{{label}}}$  #{number}", fontsize=7, pad=2)
        return figure

    return rendered(draw, form, resolution=RESOLUTION)[0]


def grid_of(count: int, lines: int, title: str, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure with room for so many images, about as many a row as rows, and so many lines above each.

    Every image has its place, so that nothing need be laid out, which takes long for some hundred of them.
    """
    from matplotlib.figure import Figure

    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    across, down = CELL + GAP, CELL + GAP + lines * LINE
    head = HEAD + LINE * max(0, title.count("\n") - 1)
    width, height = max(4.0, columns * across + GAP), rows * down + head  # a title needs some room
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=9, parse_math=False, y=1 - 0.08 / height, va="top")
    left = (width - columns * across + GAP) / 2
    cells = []
    for index in range(count):
        row, column = divmod(index, columns)
        place = (left + column * across) / width, (height - head - (row + 1) * down + GAP) / height
        axes = figure.add_axes((*place, CELL / width, CELL / height))
        axes.set_axis_off()
        cells.append(axes)
    return figure, cells


def show_ink(axes: Axes, image: Array, black: float) -> None:
    """Draw ink (28, 28) as on paper; full ink is ``black``."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=black, interpolation="nearest")
