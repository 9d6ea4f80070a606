"""A picture of one digit, from a PNG or JPEG file, as the ink that a dataset would have of it."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import SIDE, DataError, printable, reason

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

WHITE = 255
MOST_PIXELS = 2**25  # as many as a large photograph has; with transparency they take 400 MB to be read, and a second

LONG = 1000  # pixels, of a side, to which larger pictures are shrunk: many more than become 28

# Of white: what varies by less is an empty page, whose grain would else be blown up to ink.
FAINT = 8

# Of full ink: what is fainter is paper, its grain, or what JPEG leaves around strokes. 1,500 of MNIST's test images,
# enlarged to 200 x 180 on paper with a grain of 6 of 255 levels, are recognised as often as they are themselves, 93 %;
# with a share of .1 it is 61 %.
NOISE = 0.2

# Of the largest piece of ink: what is smaller is a speck, which must not say where the digit is. 1,500 of MNIST's test
# images, enlarged to 140 x 140 with a speck of 4 x 4 beside them, are recognised as often as without, 97 %; it is 92 %
# with a share of .01, and 78 % with none. A second stroke is far larger.
SPECK = 0.05

# What a damaged file makes Pillow raise, besides its own errors.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error)


# https://yann.lecun.com/exdb/mnist (LeCun, Cortes and Burges) says how MNIST was made: in a box of 20, by its mass.
# In all 60,000 training images the centre of mass is within half a pixel of pixel 14, counted from 0.
BOX, MIDDLE = 20, SIDE // 2

# scikit-learn's digits are 24 pixels high. A network that has learned them recognises 59 % of 1,500 of MNIST's test
# images put into such a box, 44 % in MNIST's; the middle of the ink in the place of its centre of mass changes little.
BOXES = {"digits": 24}


def read_picture(path: Path) -> Array:
    """Return a picture as it is seen, (rows, columns) of float32 from 0, black, to 255, white.

    Colours become their luminance. What is transparent is white, or black where nothing stands out on white. A large
    picture is shrunk. Raises `DataError` for a file that is missing, damaged or no picture, for one of too many pixels,
    which are not decoded then, and for a blank one.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = printable(str(path))
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{name} is no file: a picture is a PNG or JPEG file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture, which is refused, and of what does not concern pixels
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                _require_size(name, *image.size)
                grey = _grey(ImageOps.exif_transpose(_shrunk(image)))
    except FileNotFoundError:
        raise DataError(f"there is no file {name}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name} has more than {MOST_PIXELS:,} pixels, which is as many as are read") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is no picture: a PNG or JPEG file is needed") from None
    except DataError:
        raise
    except DAMAGED as error:
        unread = isinstance(error, OSError) and error.errno is not None  # by the system, which has not found damage
        problem = "cannot be read" if unread else "is damaged, or was cut off"
        raise DataError(f"{name} {problem}: {reason(error)}") from None
    if _is_blank(grey):
        raise DataError(
            f"{name} is blank, or too faint: its pixels differ by {np.ptp(grey):.3g} of {WHITE} in brightness,"
            f" {FAINT} are needed"
        )
    return grey


def ink_of(grey: Array, box: int = BOX) -> Array:
    """Return the ink (28, 28), in [0, 1], of a picture that is not blank, (rows, columns) from 0 to 255.

    What differs most from the background, the median of the border, is full ink, be it darker or lighter. The ink is
    freed of specks, cut out, scaled so that its longer side is ``box`` pixels, and put so that its centre of mass is in
    the middle, or as near as it fits. A picture of 28 x 28 is in its place already, and is ink as it is, or turned
    round, where its background is black or white.
    """
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    background = float(np.median(border))
    framed = grey.shape == (SIDE, SIDE)
    if framed and background in (0, WHITE):
        return np.asarray(np.abs(grey - background), np.float64) / WHITE
    ink = grey - np.float32(background)
    if -ink.min() > ink.max():
        ink = -ink
    if framed:
        return np.asarray(_without_paper(ink), np.float64)
    small = _scaled(_cut(_without_specks(ink)), box)
    whole = np.zeros((SIDE, SIDE))
    top, left = (_place(small.sum(axis=axis)) for axis in (1, 0))
    whole[top : top + small.shape[0], left : left + small.shape[1]] = small
    return whole


def _require_size(name: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise DataError(f"{name} has {width:,} x {height:,} pixels; up to {MOST_PIXELS:,} are read: make it smaller")


def _shrunk(image: PillowImage) -> PillowImage:
    """Return an image whose longer side is at most `LONG`, each pixel the mean of a square of those it had."""
    longer = max(image.size)
    if longer <= LONG:
        return image
    image.draft(None, (LONG, LONG))  # a JPEG need not be decoded whole
    factor = math.ceil(max(image.size) / LONG)
    if image.mode.startswith("I"):
        image = image.convert("F")  # no mean is taken of 16 bits
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in ("1", "P"):
        image = image.convert("L")
    return image.reduce(factor)


def _grey(image: PillowImage) -> Array:
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 bits: Pillow would clip them to 8
        return np.asarray(image, np.float32) / np.float32(257)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return np.asarray(image.convert("L"), np.float32)
    drawn = image.convert("RGBA")
    for paper in ("white", "black"):
        seen = Image.alpha_composite(Image.new("RGBA", drawn.size, paper), drawn)
        grey = np.asarray(seen.convert("L"), np.float32)
        if not _is_blank(grey):
            break
    return grey


def _is_blank(grey: Array) -> bool:
    return bool(np.ptp(grey) < FAINT)


def _without_paper(ink: Array) -> Array:
    """Return ink of which the most is 1, and the faintest none."""
    ink = ink.clip(0) / ink.max()
    return np.where(ink < NOISE, 0, ink)


def _without_specks(ink: Array) -> Array:
    """Return ink as `_without_paper`, without the connected pieces that have little of it beside the largest."""
    from scipy.ndimage import label

    clean = _without_paper(ink)
    pieces, _ = label(clean, np.ones((3, 3)))  # what touches at a corner is one
    mass = np.bincount(pieces.ravel(), clean.ravel())  # of the paper, 0, first
    specks = ((mass > 0) & (mass < SPECK * mass.max()))[pieces]
    clean[specks] = 0
    # Where a speck was the darkest, it must not say either what is faint.
    return clean if clean.max() == 1 else _without_specks(np.where(specks, 0, ink))


def _cut(ink: Array) -> Array:
    """Return the smallest rectangle that holds all ink."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scaled(ink: Array, box: int) -> Array:
    """Return ink whose longer side is ``box`` pixels, and whose darkest pixel is full ink, however thin the pen was."""
    from PIL import Image

    height, width = (max(1, round(box * extent / max(ink.shape))) for extent in ink.shape)
    small = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    scaled = np.asarray(small, np.float64).clip(0)
    return np.asarray(scaled / scaled.max())


def _place(ink: Array) -> int:
    """Return where ink, summed along the other axis, begins on this one."""
    mean = float(ink @ np.arange(len(ink)) / ink.sum())
    return min(max(round(MIDDLE - mean), 0), SIDE - len(ink))
