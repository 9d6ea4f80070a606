"""MNIST from OpenML, through scikit-learn: 70,000 images, of which the last 10,000 are tested on.

OpenML has it as text, which takes about a minute to read: what was fetched is kept as one NumPy archive instead, in
Keras's layout, and read as such. So nothing but `fetch_openml` asks OpenML for anything.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gradcheck.files import write_whole
from nets.datasets.dataset import BLACK, PIXELS, SIDE, DataError, checked, reason

TRAIN = 60_000


def archive(root: Path) -> Path:
    """Return where the fetched images are kept below ``root``."""
    return root / "openml" / "mnist_784.npz"


def find_openml(roots: list[Path]) -> Path | None:
    """Return the first root's archive that is there, or None."""
    return next((archive(root) for root in roots if archive(root).is_file()), None)


def fetch_openml(root: Path, train: int = TRAIN, fetch: Callable[..., Any] | None = None) -> Path:
    """Fetch ``mnist_784``, version 1, and keep it below ``root``; return where.

    The first ``train`` images are training images; ``fetch`` is scikit-learn's function of that name. Raises
    `DataError` if OpenML cannot be reached or sends something else; nothing is kept then.
    """
    if fetch is None:
        from sklearn import datasets

        fetch = datasets.fetch_openml
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each try that fails is news to it
            # parser: the other one needs pandas
            found = fetch(
                "mnist_784", version=1, as_frame=False, parser="liac-arff", data_home=scratch, n_retries=2, delay=1.0
            )
    except (OSError, ValueError) as error:
        raise DataError(f"OpenML's mnist_784 could not be fetched: {error}".splitlines()[0]) from None
    pixels, labels = np.asarray(found.data), np.asarray(found.target)
    if pixels.ndim != 2 or pixels.shape[1] != PIXELS or len(pixels) <= train:
        raise DataError(f"OpenML sent pixels {pixels.shape} as mnist_784, needed are more than {train} of {PIXELS}")
    with np.errstate(invalid="ignore"):  # of NaN, which does not equal what it becomes
        ink = pixels.astype(np.uint8)
    if not np.array_equal(ink, pixels):
        raise DataError(f"OpenML sent pixels as mnist_784 that are no whole numbers from 0 to {BLACK}")
    path = archive(root)
    try:
        classes = labels.astype(np.int64)
    except ValueError as error:
        raise DataError(f"OpenML sent labels as mnist_784 that are no digits: {reason(error)}") from None
    samples = checked(path, ink.reshape(-1, SIDE, SIDE), classes)
    content = io.BytesIO()
    labels = samples.labels.astype(np.uint8)
    np.savez_compressed(
        content,
        x_train=samples.images[:train], y_train=labels[:train], x_test=samples.images[train:], y_test=labels[train:],
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
    return path
