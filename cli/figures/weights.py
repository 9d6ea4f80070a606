"""The figure of a network's first weights, each unit or filter as the image that it answers to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from cli.figures import drawing
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from gradcheck.contract import Array, Layer

MOST = 25  # units or filters that are drawn, the first ones

CAPTION = "{name}, {shown} of {units}: blue is negative, red positive, both to {largest:.3g}."
APART = " The two sides' differ by at most {apart:.1e}."


class FirstWeights(NamedTuple):
    """The name of a network's first weights, and by side images of them (units, height, width)."""

    name: str
    images: Mapping[str, Array]


def first_weights(model: Layer, weights: Mapping[str, Mapping[str, Array]]) -> FirstWeights | None:
    """Return the first weights if they are of whole images, or are filters; None for a network that begins otherwise.

    ``weights`` holds parameters by side and name.
    """
    from nets.datasets.dataset import PIXELS, SIDE

    name, array = next(iter(model.parameters().items()), ("", None))
    if array is None or not (array.shape[1:] == (PIXELS,) or (array.ndim == 4 and array.shape[1] == 1)):
        return None
    shape = (SIDE, SIDE) if array.ndim == 2 else array.shape[2:]
    return FirstWeights(name, {side: found[name].reshape(-1, *shape) for side, found in weights.items()})


def draw(first: FirstWeights, width: float = drawing.WIDE) -> Figure:
    """Return the figure: the sides beside or below each other, one scale for all, blue below zero and red above."""
    import numpy as np
    from matplotlib.figure import Figure

    sides = list(first.images)
    units, height, _ = first.images[sides[0]].shape
    shown = min(units, MOST)
    columns = math.ceil(math.sqrt(shown))
    drawn = np.stack([first.images[side][:shown] for side in sides])
    largest = float(np.abs(drawn[np.isfinite(drawn)]).max(initial=0.0)) or 1.0
    shape = (1, len(sides)) if width >= drawing.WIDE else (len(sides), 1)
    panel = drawing.WIDE / 2 * math.ceil(shown / columns) / columns + 0.3
    figure = Figure(figsize=(min(width, 4.2 * shape[1]), 0.5 + shape[0] * panel), layout="constrained")
    for axes, side, images in zip(figure.subplots(*shape, squeeze=False).flat, sides, drawn, strict=True):
        axes.set_axis_off()
        together = mosaic(images, columns, max(1, height // 8))
        axes.imshow(together, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest", gid=side)
        axes.set_title(SIDES[side], loc="left", fontsize=9, fontweight="bold")
    told = CAPTION.format(name=first.name, shown=shown, units=units, largest=largest)
    if len(sides) > 1 and math.isfinite(apart := float(np.abs(np.subtract(*first.images.values())).max())):
        told += APART.format(apart=apart)
    drawing.caption(figure, told)
    return figure


def mosaic(images: Array, columns: int, gap: int) -> Array:
    """Return images (n, height, width) beside and below each other as one, NaN between and after them."""
    import numpy as np

    count, height, width = images.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + gap, width + gap), np.nan)
    cells[:count, :height, :width] = images
    together = cells.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    return together.reshape(rows * (height + gap), columns * (width + gap))
