"""MNIST from IDX files in torchvision's layout, ``ROOT/MNIST/raw/*-ubyte[.gz]``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import DataError, Dataset, Samples, digest
from nets.datasets.idx import read_idx

# Shape and SHA-256 of the uncompressed bytes of each file.
FILES: dict[str, tuple[tuple[int, ...], str]] = {
    "train-images-idx3-ubyte": (
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
BLACK = 255


def find_mnist(roots: list[Path]) -> Path | None:
    """Return the first root that has any of MNIST's files, or None."""
    return next((root for root in roots if any(_locate(root, name) for name in FILES)), None)


def load_mnist(root: Path, files: Mapping[str, tuple[tuple[int, ...], str]] = FILES) -> Dataset:
    """Return MNIST from ``root``; ``files`` gives shape and SHA-256 of each file.

    Raises `DataError` for a file that is missing, malformed, or has other bytes than the published ones.
    """
    arrays: list[Array] = []
    contents: list[bytes] = []
    for name, (shape, sha256) in files.items():
        path = _locate(root, name)
        if path is None:
            raise DataError(f"{root / 'MNIST' / 'raw'} has no {name} and no {name}.gz, though other files of MNIST")
        array, content = read_idx(path, shape)
        if digest(content) != sha256:
            raise DataError(
                f"{path} is not the published file: SHA-256 of its uncompressed bytes is {digest(content)},"
                f" not {sha256}; fetch it again"
            )
        arrays.append(array)
        contents.append(content)
    images, labels, test_images, test_labels = arrays
    return Dataset(
        "mnist",
        digest(*contents),
        BLACK,
        Samples(images, labels.astype(np.int64)),
        Samples(test_images, test_labels.astype(np.int64)),
    )


def _locate(root: Path, name: str) -> Path | None:
    paths = (root / "MNIST" / "raw" / f"{name}{suffix}" for suffix in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)
