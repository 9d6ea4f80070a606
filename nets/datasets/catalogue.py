"""Datasets by name or by path, and which one ``auto`` means."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nets.datasets.content import opened
from nets.datasets.csv import csv_files, load_csv, load_csv_folder
from nets.datasets.dataset import DataError, Dataset
from nets.datasets.digits import load_digits
from nets.datasets.idx import START
from nets.datasets.mnist import find_mnist, holds_idx, load_idx_folder, load_mnist, raw_folder
from nets.datasets.npz import load_npz
from nets.datasets.openml import archive, find_openml
from nets.datasets.pickle_gz import load_pickle

# What each name stands for.
NAMES = {
    "auto": "mnist where it is found, else digits",
    "mnist": "MNIST, the four published IDX files",
    "digits": "handwritten digits of 8 x 8 pixels that scikit-learn brings, enlarged",
    "openml": "MNIST as OpenML has it (mnist_784), fetched through scikit-learn",
}
# How to come by what is not there.
HOW = {
    "mnist": "mnistcheck data fetch mnist",
    "digits": "pip install 'mnistcheck[digits]'",
    "openml": "mnistcheck data fetch openml",
}
SIZES = {"mnist": (60_000, 10_000), "digits": (1_797, 0), "openml": (60_000, 10_000)}  # to train on, to test on
# What a path may lead to; the reader of each is below.
FORMATS = {
    "idx": "a folder with the four IDX files, gzipped or not, such as Fashion-MNIST's, or with MNIST/raw in it",
    "csv": "rows of a label and 784 pixels, gzipped or not: a file, or a folder with mnist_train.csv or train.csv",
    "pickle": "mnist.pkl.gz: pairs to train on, validate on and test on",
    "npz": "mnist.npz, as Keras has it",
}

READERS: dict[str, Callable[[Path, str], Dataset]] = {
    "digits": lambda _path, _name: load_digits(),
    "mnist": lambda path, name: load_mnist(path, name=name),
    "idx": load_idx_folder,
    "csv": load_csv,
    "csv folder": load_csv_folder,
    "pickle": load_pickle,
    "npz": load_npz,
}


@dataclass(frozen=True)
class Source:
    """Where a dataset is and how it is read: a key of `READERS`, and a file, a folder or, of MNIST, its root."""

    name: str
    kind: str
    path: Path

    def load(self) -> Dataset:
        """Read it; raises `DataError`."""
        return READERS[self.kind](self.path, self.name)


def load_dataset(name_or_path: str, data_dir: Path | None) -> Dataset:
    """Return a dataset by name, or what a file or folder holds; ``auto`` is MNIST where it is found, else the digits.

    Raises what `find_dataset` does, and `DataError`. Nothing is downloaded.
    """
    return find_dataset(name_or_path, data_dir).load()


def find_dataset(name_or_path: str, data_dir: Path | None) -> Source:
    """Return where a dataset is; what has a name is looked for in ``data_dir`` and in the user's cache.

    What a path leads to is told by its content, not by its name. Raises `DataError` for what is missing or of no known
    format, ValueError for what is neither a name nor a path.
    """
    roots = [root for root in (data_dir, cache_dir()) if root is not None]
    if name_or_path == "openml":
        path = find_openml(roots)
        if path is None:
            looked = " or ".join(str(archive(root)) for root in roots)
            raise DataError(f"OpenML's MNIST is not in {looked}; 'mnistcheck data fetch openml' fetches it")
        return Source("openml", "npz", path)
    if name_or_path not in NAMES:
        return _at(name_or_path)
    root = find_mnist(roots) if name_or_path != "digits" else None
    if root is not None:
        return Source("mnist", "mnist", root)
    if name_or_path == "mnist":
        looked = " or ".join(str(raw_folder(root)) for root in roots)
        raise DataError(
            f"MNIST is not in {looked}; 'mnistcheck data fetch mnist' fetches it, as does"
            " torchvision.datasets.MNIST(DIR, download=True): then pass --data-dir DIR"
        )
    return Source("digits", "digits", Path())


def cache_dir() -> Path:
    """Return the folder where datasets are kept for this user."""
    from platformdirs import user_cache_path

    return user_cache_path("mnistcheck", appauthor=False)


def _at(text: str) -> Source:
    path = Path(text)
    if path.is_dir():
        return Source(text, _kind_of_folder(path), path)
    if path.is_file():
        return Source(text, _kind_of_file(path), path)
    if path.exists():
        raise DataError(f"{text} is neither a file nor a folder: a device or a pipe is not read")
    if path.suffix or os.sep in text or (os.altsep and os.altsep in text):
        raise DataError(f"there is no file or folder {text}")
    raise ValueError(f"there is no dataset {text!r}; there are {', '.join(NAMES)}, and paths of files and folders")


def _kind_of_folder(folder: Path) -> str:
    if find_mnist([folder]):
        return "mnist"
    if holds_idx(folder):
        return "idx"
    if csv_files(folder):
        return "csv folder"
    raise DataError(
        f"{folder} holds no digits: a folder needs MNIST/raw, the four files of MNIST (train-images-idx3-ubyte[.gz]"
        " and so on), mnist_train.csv or train.csv"
    )


def _kind_of_file(path: Path) -> str:
    """Return the format that the first bytes of a file are of, those of what it unpacks to if it is gzipped."""
    with opened(path) as file:
        begin = file.read(64)
    if begin.startswith(b"PK"):
        return "npz"
    if begin.startswith(START):
        raise DataError(f"{path} is one IDX file of four: pass the folder {path.parent}")
    if begin[:1] in (b"\x80", b"(", b"c"):  # PROTO, or what a text pickle of tuples or of one name begins with
        return "pickle"
    first = begin.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]  # without the byte order mark that Excel writes
    if first.isalnum() or first == b'"':
        return "csv"
    raise DataError(
        f"{path} is of no known format, it starts with {begin[:8].hex(' ') or 'nothing'}; known are"
        " IDX, CSV, mnist.pkl.gz and mnist.npz"
    )
