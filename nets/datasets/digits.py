"""The handwritten digits that scikit-learn brings: 1,797 of 8 x 8 pixels, offline."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from nets.datasets.dataset import DataError, Dataset, Samples, digest

BLACK = 16  # each pixel counts the ink in a 4 x 4 block of the scan, 0 to 16


def load_digits() -> Dataset:
    """Return the digits at 28 x 28: every pixel becomes 3 x 3 equal ones, inside a blank border 2 wide.

    Nothing is interpolated, so that the ink of an image is exactly nine times that of the original, and the border is
    blank as MNIST's is. These are not MNIST's digits: they come from the UCI repository's test set (Alpaydin and
    Kaynak, 1998). They are made once a process, and cannot be written to. Raises `DataError` if scikit-learn is not
    installed.
    """
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        raise DataError(
            "the bundled digits need scikit-learn: pip install 'mnistcheck[digits]', or pass MNIST with --data-dir"
        ) from None
    return _enlarged(bundled)


@cache
def _enlarged(bundled: Callable[[], Any]) -> Dataset:
    source = bundled()
    small = source.images.astype(np.uint8)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    labels = source.target.astype(np.int64)
    sha256 = digest(small.tobytes(), labels.astype(np.uint8).tobytes())
    for array in (images, labels):
        array.setflags(write=False)
    return Dataset("digits", sha256, BLACK, Samples(images, labels))
