"""NumPy archives as Keras publishes MNIST: x_train, y_train, x_test and y_test in one ``.npz`` file."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import BLACK, MOST, SHOWN, SIDE, DataError, Dataset, checked, reason, shown

LONGEST_HEADER = 1024  # bytes; those of plain arrays have about 100
# How members may be packed: zipfile unpacks these no further than it is asked to, and others to any size at once.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What says of a member that it cannot be read: damaged, encrypted, or not what NumPy writes.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, tokenize.TokenError, MemoryError,
    struct.error, SyntaxError, TypeError, LookupError, ArithmeticError,
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
        raise DataError(f"{path} cannot be read: {reason(error)}") from None
    return Dataset(name, sha256, BLACK, checked(path, x_train, y_train), checked(path, x_test, y_test))


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> Array:
    if f"{name}.npy" not in archive.namelist():
        there = shown(", ".join(repr(member[:SHOWN].removesuffix(".npy")) for member in archive.namelist()[:8]))
        raise DataError(f"{path} has no {name}, it has {there or 'nothing'}; Keras's mnist.npz has four arrays")
    packed = archive.getinfo(f"{name}.npy").compress_type
    if packed not in PACKED:
        raise DataError(f"{path}: {name} is packed by zip's method {packed}, needed is 0 (stored) or 8 (deflated)")
    with archive.open(f"{name}.npy") as member:
        shape, fortran, dtype = _header(member, path, name)
        if name.startswith("x"):
            fits = dtype == np.uint8 and len(shape) == 3 and shape[1:] == (SIDE, SIDE)
            wanted = f"uint8 (n, {SIDE}, {SIDE})"
        else:
            fits, wanted = dtype.kind in "iu" and len(shape) == 1, "integers (n,)"
        if not fits or not 0 <= shape[0] <= MOST:
            raise DataError(f"{path}: {name} is {shown(f'{dtype} {shape}')}, needed is {wanted} with n up to {MOST:,}")
        size = math.prod(shape) * dtype.itemsize
        content = member.read(size + 1)
    if len(content) != size:
        problem = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path}: {name} should have {size} bytes, it has {problem}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(member: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and type; NumPy is given no header before its length is judged."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: {name} is of the .npy format's version {version[0]}.{version[1]}, not 1 or 2")
    parse, width = np.lib.format.read_array_header_1_0, 2
    if version == (2, 0):
        parse, width = np.lib.format.read_array_header_2_0, 4
    field = member.read(width)
    length = int.from_bytes(field, "little")
    if length > LONGEST_HEADER:
        raise DataError(f"{path}: {name} has a header of {length:,} bytes, needed is one of up to {LONGEST_HEADER:,}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a header that Python 2 wrote, or an odd literal in it
        return parse(io.BytesIO(field + member.read(length)), max_header_size=LONGEST_HEADER)
