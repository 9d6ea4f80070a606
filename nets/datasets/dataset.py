"""What every reader returns, and how a run takes its training and test samples from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array


class DataError(ValueError):
    """Data is missing, damaged, or not what it says it is."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Images (n, 28, 28) of uint8 ink and their classes (n,) of int64."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Array | slice) -> Samples:
        return Samples(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Digits from one source. ``black`` is the value of full ink; ``test`` is None where the source has no split.

    ``sha256`` is that of the source's uncompressed bytes, and says which data a result is about.
    """

    name: str
    sha256: str
    black: int
    train: Samples
    test: Samples | None = None

    def split(self, train_size: int, test_size: int | None, seed: np.random.SeedSequence) -> tuple[Samples, Samples]:
        """Return ``train_size`` training and ``test_size`` test samples (None: all there are), drawn by ``seed``.

        A source's own test samples are the only ones tested on; a source without is divided. Raises ValueError if there
        are not enough.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.train))
        train, rest = self.train[order[:train_size]], self.train[order[train_size:]]
        test = rest if self.test is None else self.test[rng.permutation(len(self.test))]
        wanted = len(test) if test_size is None else test_size
        if train_size > len(self.train) or wanted > len(test) or not (train_size and wanted):
            raise ValueError(
                f"{self.name} has {len(self.train)} images to train on"
                + (", test images included" if self.test is None else f" and {len(self.test)} to test on")
                + f"; asked for {train_size} and {'the rest' if test_size is None else test_size}"
            )
        return train, test[slice(wanted)]

    def pixels(self, samples: Samples, dtype: DTypeLike) -> Array:
        """Return the images flattened, (n, 784), with ink in [0, 1]."""
        return (samples.images.reshape(len(samples), -1) / np.float64(self.black)).astype(dtype)


def digest(*arrays: bytes) -> str:
    """Return the SHA-256, in hexadecimal, of some bytes one after the other."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array)
    return total.hexdigest()
