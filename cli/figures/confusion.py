"""The figure of what is taken for what: confusion matrices, with the share of each class that is recognised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.figures import drawing
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcheck.contract import Array

SIZE, LARGE = 4.0, 5.1  # inches: of a matrix, and of one alone
DARK = 0.6  # of the colour's range: above it numbers are white
GAMMA = 0.4  # of the colours, so that a share of 1 % is seen beside one of 98 %

CAPTION = (
    "Test images: how many of each class are taken for which. Colour is the share of the class, rare mistakes enhanced."
)


def draw(matrices: Mapping[str, Array], width: float = drawing.WIDE) -> Figure:
    """Return the figure of counts (10, 10), true classes by predicted ones, by side.

    Two sides with equal matrices have one, which is twice as large as either would be.
    """
    import numpy as np
    from matplotlib.figure import Figure

    names = [SIDES[side] for side in matrices]
    found = list(matrices.values())
    if len(found) > 1 and all(np.array_equal(found[0], other) for other in found[1:]):
        names, found = [f"{' and '.join(names)}, which are equal"], found[:1]
    count, beside = len(found), width >= drawing.WIDE
    shape = (1, count) if beside else (count, 1)
    height = LARGE if beside and count == 1 else SIZE * shape[0]
    figure = Figure(figsize=(width, height + 0.5), layout="constrained")
    for axes, name, matrix in zip(figure.subplots(*shape, squeeze=False).flat, names, found, strict=True):
        _matrix(axes, name, matrix, 9.0 if height == LARGE else 6.0)
    drawing.caption(figure, CAPTION)
    return figure


def _matrix(axes: Axes, name: str, matrix: Array, size: float) -> None:
    import numpy as np

    totals = matrix.sum(axis=1, keepdims=True)
    shares = (matrix / np.maximum(totals, 1)) ** GAMMA
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, gid="confusion")
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=size,
                color="white" if shares[row, column] > DARK else "#20303C",
                fontweight="bold" if row == column else "normal",
            )  # fmt: skip
    classes = range(len(matrix))
    recalls = [f"{matrix[i, i] / totals[i, 0]:.1%}" if totals[i, 0] else "none" for i in classes]
    axes.set_xticks(classes, [str(i) for i in classes], fontsize=size + 1)
    axes.set_yticks(classes, [f"{recall}  {i}" for i, recall in zip(classes, recalls, strict=True)], fontsize=size + 1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("taken for", fontsize=8)
    axes.set_ylabel("class, and the share of it that is recognised", fontsize=8)
    axes.set_title(name, loc="left", fontsize=9, fontweight="bold")
