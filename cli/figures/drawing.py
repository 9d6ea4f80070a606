"""What every figure has in common: palette, settings, and how one becomes a file."""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

from cli.extras import missing_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

T = TypeVar("T")

FORMS = ("svg", "png")
RESOLUTION = 200  # dots an inch of a PNG: 1,600 pixels wide, enough for a projector

# Inches: of a page's width; and of a phone's, on which a wider figure's text would be too small to read.
WIDE, NARROW = 8.0, 4.4

# Okabe and Ito's palette, which stays apart for every kind of colour blindness.
BLUE, SKY, VERMILION, PURPLE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#5B5B5B"

LETTERS = 17  # of a caption, that have room in an inch

# Of two lines that may be one, the first is wide and pale and the second thin and dark, so that both are seen.
SIDES: dict[str, dict[str, Any]] = {
    "numpy": {"color": SKY, "linewidth": 4.0, "solid_capstyle": "round"},
    "torch": {"color": "#20303C", "linewidth": 1.1},
}

# Identifiers that are not random, and glyphs instead of fonts that a reader may lack: the same run, the same file.
SETTINGS: Any = {
    "svg.hashsalt": "mnistcheck",
    "svg.fonttype": "path",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
METADATA: dict[str, dict[str, None]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "png": {"Software": None},
}


def rendered(draw: Callable[[], Figure], *forms: str, resolution: int = RESOLUTION) -> list[bytes]:
    """Return what ``draw`` draws as the content of files, ``svg`` or ``png``: the same bytes for the same numbers."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a cache that it makes or cannot make is no news
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font lacks is drawn as a box, which is no news
        mpl.rcdefaults()  # not the user's, so that it looks alike everywhere
        mpl.rcParams.update(SETTINGS)
        figure, contents = draw(), [io.BytesIO() for _ in forms]
        for form, content in zip(forms, contents, strict=True):
            figure.savefig(content, format=form, dpi=resolution, metadata=METADATA[form])
    return [content.getvalue() for content in contents]


def unless_undrawable(draw: Callable[[], T]) -> T | None:
    """Return what is drawn; None, with a remark, where there is no Matplotlib."""
    from cli.console import remark

    try:
        return draw()
    except ModuleNotFoundError as error:
        part = missing_part(error)
        if part is None:
            raise
        remark(f"no figure is drawn without {part}")
        return None


def caption(figure: Figure, text: str) -> None:
    """Write below a figure what it shows, in lines that have room."""
    letters = int(figure.get_figwidth() * LETTERS)
    told = "\n".join(textwrap.fill(line, letters) for line in text.splitlines())
    figure.supxlabel(told, x=0.015, ha="left", fontsize=7.5, color=GREY, parse_math=False)
