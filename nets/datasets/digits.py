"""The handwritten digits that scikit-learn brings: 1,797 of 8 x 8 pixels, offline."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import DataError, Dataset, Samples, digest

BLACK = 16  # each pixel counts the ink in a 4 x 4 block of the scan, 0 to 16


def load_digits() -> Dataset:
    """Return the digits at 28 x 28: every pixel becomes 3 x 3 equal ones, inside a blank border 2 wide.

    Nothing is interpolated, so that the ink of an image is exactly nine times that of the original, and the border is
    blank as MNIST's is. These are not MNIST's digits: they come from the UCI repository's test set (Alpaydin and
    Kaynak, 1998). They are made once a process, and cannot be written to. Raises `DataError` if scikit-learn is not
    installed.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(
            "the bundled digits need scikit-learn: pip install 'mnistcheck[digits]', or pass MNIST with --data-dir"
        )
    return _enlarged(Path(spec.origin).parent)


@cache
def _enlarged(library: Path) -> Dataset:
    pixels, labels = _bundled(library / "datasets" / "data" / "digits.csv.gz")
    small = pixels.astype(np.uint8).reshape(-1, 8, 8)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    labels = labels.astype(np.int64)
    sha256 = digest(small.tobytes(), labels.astype(np.uint8).tobytes())
    for array in (images, labels):
        array.setflags(write=False)
    return Dataset("digits", sha256, BLACK, Samples(images, labels))


def _bundled(file: Path) -> tuple[Array, Array]:
    """Return the pixels, (images, 64), and the classes of scikit-learn's file; its function is slow to import."""
    if not file.is_file():  # another release may keep it elsewhere
        from sklearn.datasets import load_digits as bundled

        pixels, labels = bundled(return_X_y=True)
        return pixels, labels
    table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return table[:, :-1], table[:, -1]
