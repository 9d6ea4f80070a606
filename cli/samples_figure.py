"""A grid of images with their labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cli.drawing import rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradcheck.contract import Array
    from nets.datasets.dataset import Samples

FORMS = ("png", "svg")
CELL = 0.9  # inches, of an image with its label
HEAD = 0.45  # inches, of the title
RESOLUTION = 150  # dots an inch of the PNG


def render(samples: Samples, numbers: Array, black: int, title: str, form: str) -> bytes:
    """Return a picture of images, ``png`` or ``svg``, as a file's content: the same bytes for the same images.

    Each has its label above it and its number, from ``numbers`` (n,), counted from 0 in its source. ``black`` is the
    value of full ink, which is drawn black.
    """
    return rendered(lambda: _draw(samples, numbers, black, title), form, resolution=RESOLUTION)[0]


def _draw(samples: Samples, numbers: Array, black: int, title: str) -> Figure:
    from matplotlib.figure import Figure

    columns = math.ceil(math.sqrt(len(samples)))
    rows = math.ceil(len(samples) / columns)
    width = max(4.0, columns * CELL)  # a title needs some room
    figure = Figure(figsize=(width, rows * (CELL + 0.15) + HEAD), layout="constrained")
    figure.suptitle(title, fontsize=9, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label, number in zip(grid.flat, samples.images, samples.labels, numbers, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=black, interpolation="nearest")
        axes.set_title(f"$\\bf{{{label}}}$  #{number}", fontsize=7, pad=2)
    return figure
