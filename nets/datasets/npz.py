"""NumPy archives as Keras publishes MNIST: x_train, y_train, x_test and y_test in one ``.npz`` file."""

from __future__ import annotations

import hashlib
import math
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import MOST, SIDE, DataError, Dataset, checked

BLACK = 255
LONGEST_HEADER = 1024  # characters; those of plain arrays have about 100
# What says of a member that it cannot be read: damaged, encrypted, or not what NumPy writes.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, tokenize.TokenError, MemoryError,
)  # fmt: skip


def load_npz(path: Path, name: str) -> Dataset:
    """Return the digits of an archive of images (n, 28, 28) of uint8 and labels (n,) of any integers.

    Nothing is unpickled, and of a member no more is unpacked than its header says, which is judged first. The digest is
    that of the file as it lies. Raises `DataError`.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with zipfile.ZipFile(path) as archive:
            x_train, y_train, x_test, y_test = (
                _member(archive, path, member) for member in ("x_train", "y_train", "x_test", "y_test")
            )
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{path} cannot be read: {error}".splitlines()[0]) from None
    return Dataset(name, sha256, BLACK, checked(path, x_train, y_train), checked(path, x_test, y_test))


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> Array:
    if f"{name}.npy" not in archive.namelist():
        there = ", ".join(repr(member.removesuffix(".npy")) for member in archive.namelist()[:8])
        raise DataError(f"{path} has no {name}, it has {there or 'nothing'}; Keras's mnist.npz has four arrays")
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"{path}: {name} is of the .npy format's version {version[0]}.{version[1]}, not 1 or 2")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(member, max_header_size=LONGEST_HEADER)
        if name.startswith("x"):
            fits = dtype == np.uint8 and len(shape) == 3 and shape[1:] == (SIDE, SIDE)
            wanted = f"uint8 (n, {SIDE}, {SIDE})"
        else:
            fits, wanted = dtype.kind in "iu" and len(shape) == 1, "integers (n,)"
        if not fits or not 0 <= shape[0] <= MOST:
            raise DataError(f"{path}: {name} is {dtype} {shape}, needed is {wanted} with n up to {MOST:,}")
        size = math.prod(shape) * dtype.itemsize
        content = member.read(size + 1)
    if len(content) != size:
        problem = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path}: {name} should have {size} bytes, it has {problem}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
