"""The same small random digits, written in every format that is read."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradcheck.contract import Array

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Digits:
    """Images (n, 28, 28) and labels (n,), uint8: 12 to train on, of which 4 are also to validate on, and 5 to test."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array


def drawn(seed: int = 0) -> Digits:
    """Return random digits; every level of ink is among them."""
    rng = np.random.default_rng(seed)
    x, x_test = (rng.integers(0, 256, (count, 28, 28)).astype(np.uint8) for count in (12, 5))
    x[0].flat[:256] = np.arange(256)
    y, y_test = (rng.integers(0, 10, count).astype(np.uint8) for count in (12, 5))
    return Digits(x, y, x_test, y_test)


def as_idx(array: Array) -> bytes:
    """Return an IDX file of a uint8 array."""
    extents = b"".join(extent.to_bytes(4, "big") for extent in array.shape)
    return bytes([0, 0, 8, array.ndim]) + extents + array.astype(np.uint8).tobytes()


def as_csv(x: Array, y: Array, header: str = "", end: str = "\n") -> bytes:
    """Return rows of a label and 784 pixels."""
    rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(x, y, strict=True)]
    return end.join([*([header] if header else []), *rows, ""]).encode()


KAGGLE = ",".join(["label", *(f"pixel{number}" for number in range(784))])


def as_npz(digits: Digits) -> bytes:
    """Return an archive in Keras's layout."""
    content = io.BytesIO()
    np.savez_compressed(content, x_train=digits.x, y_train=digits.y, x_test=digits.x_test, y_test=digits.y_test)
    return content.getvalue()


def pairs(digits: Digits) -> tuple[tuple[Array, Array], ...]:
    """Return what mnist.pkl.gz holds: float32 pixels (n, 784) of k / 256, and int64 labels, in three pairs."""

    def pair(x: Array, y: Array) -> tuple[Array, Array]:
        return (x.reshape(len(x), -1) / np.float32(256)).astype(np.float32), y.astype(np.int64)

    return (
        pair(digits.x[:8], digits.y[:8]), pair(digits.x[8:], digits.y[8:]), pair(digits.x_test, digits.y_test),
    )  # fmt: skip


def as_python_2_wrote_it(digits: Digits) -> bytes:
    """Return a pickle of protocol 2 as Python 2's NumPy 1 wrote it: the bytes of arrays are its str."""

    def text(data: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(data)) + data if len(data) > 255 else b"U" + bytes([len(data)]) + data

    def whole(number: int) -> bytes:
        return b"J" + struct.pack("<i", number)

    def array(value: Array) -> bytes:
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + whole(0) + b"\x85" + text(b"b") + b"tR"
        kind = text(value.dtype.str[1:].encode())
        dtype = b"cnumpy\ndtype\n(" + kind + whole(0) + whole(1) + b"tR"
        dtype += b"(" + whole(3) + text(b"<") + b"NNN" + whole(-1) + whole(-1) + whole(0) + b"tb"
        shape = b"(" + b"".join(map(whole, value.shape)) + b"t"
        return made + b"(" + whole(1) + shape + dtype + b"\x89" + text(value.tobytes()) + b"tb"

    body = b"".join(array(images) + array(labels) + b"\x86" for images, labels in pairs(digits))
    return b"\x80\x02" + body + b"\x87."


def _idx_folder(folder: Path, digits: Digits, pack: Callable[[bytes], bytes], suffix: str) -> Path:
    for name, array in zip(NAMES, (digits.x, digits.y, digits.x_test, digits.y_test), strict=True):
        (folder / f"{name}{suffix}").write_bytes(pack(as_idx(array)))
    return folder


def _csv_folder(folder: Path, digits: Digits, names: tuple[str, str], header: str) -> Path:
    for name, x, y in zip(names, (digits.x, digits.x_test), (digits.y, digits.y_test), strict=True):
        (folder / name).write_bytes(as_csv(x, y, header))
    return folder


def _file(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _pickled(protocol: int) -> Callable[[Path, Digits], Path]:
    return lambda folder, digits: _file(
        folder, "mnist.pkl.gz", gzip.compress(pickle.dumps(pairs(digits), protocol=protocol), mtime=0)
    )


# By name: what writes some digits into an empty folder, and returns the path to pass.
WRITTEN: dict[str, Callable[[Path, Digits], Path]] = {
    "idx": lambda folder, digits: _idx_folder(folder, digits, bytes, ""),
    "idx-gz": lambda folder, digits: _idx_folder(folder, digits, gzip.compress, ".gz"),
    "csv-folder": lambda folder, digits: _csv_folder(folder, digits, ("mnist_train.csv", "mnist_test.csv"), ""),
    "csv-folder-kaggle": lambda folder, digits: _csv_folder(folder, digits, ("train.csv", "test.csv"), KAGGLE),
    "csv": lambda folder, digits: _file(folder, "digits.csv", as_csv(digits.x, digits.y)),
    "csv-kaggle": lambda folder, digits: _file(folder, "train.csv", as_csv(digits.x, digits.y, KAGGLE)),
    "csv-windows": lambda folder, digits: _file(
        folder, "a.csv", b"\xef\xbb\xbf" + as_csv(digits.x, digits.y, KAGGLE.replace("label", '"Label"'), "\r\n")
    ),
    "csv-gz": lambda folder, digits: _file(folder, "digits.csv.gz", gzip.compress(as_csv(digits.x, digits.y), mtime=0)),
    "csv-named-otherwise": lambda folder, digits: _file(
        folder, "x.npz", gzip.compress(as_csv(digits.x, digits.y), mtime=0)
    ),
    "npz": lambda folder, digits: _file(folder, "mnist.npz", as_npz(digits)),
    "pickle-0": _pickled(0),
    "pickle-2": _pickled(2),
    "pickle-4": _pickled(4),
    "pickle-5": _pickled(5),
    "pickle-python-2": lambda folder, digits: _file(
        folder, "mnist.pkl.gz", gzip.compress(as_python_2_wrote_it(digits), mtime=0)
    ),
    "pickle-numpy-1": lambda folder, digits: _file(
        folder, "mnist.pkl", pickle.dumps(pairs(digits), protocol=2).replace(b"numpy._core", b"numpy.core")
    ),
}
