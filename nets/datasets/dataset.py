"""What every reader returns, and how a run takes its training, validation and test samples from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from gradcheck.contract import Array

SIDE = 28  # pixels: of an image, both ways
PIXELS = SIDE * SIDE
CLASSES = 10
BLACK = 255  # full ink, of every source but the digits of scikit-learn

# No reader takes more samples than this from one file, so that a hostile one cannot fill the memory: 235 MB of ink.
# EMNIST's digits, the largest set of this kind, are 280,000.
MOST = 300_000

SHOWN = 80  # characters of what a file says that a message repeats


class DataError(ValueError):
    """Data is missing, damaged, or not what it says it is."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Images (n, 28, 28) of uint8 ink, their classes (n,) of int64, and their numbers in the source, counted from 0."""

    images: Array
    labels: Array
    numbers: Array = field(default_factory=lambda: np.empty(0, np.int64))  # if none are given, their places here

    def __post_init__(self) -> None:
        if len(self.numbers) != len(self.labels):
            object.__setattr__(self, "numbers", np.arange(len(self.labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Array | slice) -> Samples:
        return Samples(self.images[index], self.labels[index], self.numbers[index])


class Split(NamedTuple):
    """What a run learns from, chooses by and is judged by; ``validation`` may be empty. No sample is in two of them."""

    train: Samples
    validation: Samples
    test: Samples


@dataclass(frozen=True, eq=False)
class Dataset:
    """Digits from one source. ``black`` is the value of full ink; ``test`` is None where the source has no split.

    ``validation`` is the source's own, None where it has none. ``sha256`` is that of the source's uncompressed bytes,
    and says which data a result is about.
    """

    name: str
    sha256: str
    black: int
    train: Samples
    test: Samples | None = None
    validation: Samples | None = None

    def split(
        self,
        train_size: int,
        validation_size: int,
        test_size: int | None,
        seed: np.random.SeedSequence,
        *,
        first: bool = False,
    ) -> Split:
        """Return ``train_size`` training, ``validation_size`` validation and ``test_size`` test samples.

        They are drawn by ``seed``; a ``test_size`` of None is all there are. A source's own test samples are the only
        ones tested on, and its own validation samples, where it has any, the only ones validated on. What it lacks
        comes from its training samples: validation samples right after those trained on, then test samples. With
        ``first`` the source's training samples are taken in their order instead of a drawn one; what it has of its own
        beside them is drawn as ever. Raises ValueError if there are not enough.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.train))
        if first:
            order = np.arange(len(self.train))
        train, rest = self.train[order[:train_size]], self.train[order[train_size:]]
        test = None if self.test is None else self.test[rng.permutation(len(self.test))]
        if self.validation is None:
            validation, rest = rest[:validation_size], rest[validation_size:]
        else:
            validation = self.validation[rng.permutation(len(self.validation))][:validation_size]
        test = rest if test is None else test
        wanted = len(test) if test_size is None else test_size
        enough = len(train) == train_size and len(validation) == validation_size and wanted <= len(test)
        if not (enough and train_size > 0 and wanted > 0):
            raise ValueError(self._too_few(train_size, validation_size, test_size))
        return Split(train, validation, test[:wanted])

    def pixels(self, samples: Samples, dtype: DTypeLike) -> Array:
        """Return the images flattened, (n, 784), with ink in [0, 1]."""
        return (samples.images.reshape(len(samples), PIXELS) / np.float64(self.black)).astype(dtype)

    def _too_few(self, train_size: int, validation_size: int, test_size: int | None) -> str:
        """Return what there is and what was asked for; of validation only where it was."""
        has, asked, shared = [f"{len(self.train)} images to train on"], [str(train_size)], []
        if validation_size:
            asked.append(str(validation_size))
            if self.validation is None:
                shared.append("validation")
            else:
                has.append(f"{len(self.validation)} to validate on")
        asked.append("the rest" if test_size is None else str(test_size))
        if self.test is None:
            shared.append("test")
        else:
            has.append(f"{len(self.test)} to test on")
        if shared:
            has[0] += f", {_listed(shared)} images included"
        return f"{self.name} has {_listed(has)}; asked for {_listed(asked)}"


def checked(path: Path, images: Array, labels: Array) -> Samples:
    """Return images (n, 28, 28) and labels (n,) of any integers as samples.

    Raises `DataError`, naming ``path``, if there are none, not as many labels as images, or a label that is no digit.
    """
    if labels.shape != (len(images),):
        shape = shown(str(labels.shape))
        raise DataError(f"{path} has {len(images):,} images and labels of shape {shape}: one each is needed")
    if not len(images):
        raise DataError(f"{path} has no samples")
    wrong = (labels < 0) | (labels >= CLASSES)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{path} has the label {labels[first]} (of sample {first:,}, counted from 0); labels are 0 to {CLASSES - 1}"
        )
    return Samples(images, labels.astype(np.int64))


def shown(text: str) -> str:
    """Return what a file says as a message may repeat it: its first characters, the unprintable ones escaped."""
    escaped = printable(text[:SHOWN])
    return escaped if len(text) <= SHOWN >= len(escaped) else f"{escaped[:SHOWN]}..."


def printable(text: str) -> str:
    """Return text, such as a file's name, with what a terminal would obey or could not show escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def reason(error: Exception) -> str:
    """Return why a file could not be read, as `shown`: the first line of an error's message, which may quote it."""
    text = getattr(error, "strerror", None) or str(error)
    first = text[: SHOWN + 1].splitlines()[:1]
    return shown(first[0]) if first else type(error).__name__


def digest(*arrays: bytes) -> str:
    """Return the SHA-256, in hexadecimal, of some bytes one after the other."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array)
    return total.hexdigest()


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
