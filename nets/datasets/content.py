"""The bytes of a data file, unpacked where gzip packed it, and never more of them than are wanted."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from nets.datasets.dataset import DataError, reason

GZIP = b"\x1f\x8b"  # RFC 1952
LIMIT = 2**30  # bytes: the most images that are read are no more, even as text


class Content:
    """What a file holds, read once from its beginning; the digest is that of the bytes read so far.

    Reading past ``limit`` bytes raises `DataError`, so that a small packed file cannot fill the memory.
    """

    def __init__(self, path: Path, file: BinaryIO | gzip.GzipFile, limit: int) -> None:
        self.path, self._file, self._limit = path, file, limit
        self._taken, self._sha256 = 0, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256, in hexadecimal."""
        return self._sha256.hexdigest()

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end; all that are left if it is negative."""
        return self._counted(self._file.read(self._bounded(size)))

    def readline(self, size: int = -1) -> bytes:
        """Return the next line with its end, or its first ``size`` bytes."""
        return self._counted(self._file.readline(self._bounded(size)))

    def _bounded(self, size: int) -> int:
        most = self._limit - self._taken + 1
        return most if size < 0 else min(size, most)

    def _counted(self, data: bytes) -> bytes:
        self._taken += len(data)
        if self._taken > self._limit:
            raise DataError(f"{self.path} holds more than {self._limit:,} bytes uncompressed: too many for digits")
        self._sha256.update(data)
        return data


@contextmanager
def opened(path: Path, limit: int = LIMIT) -> Iterator[Content]:
    """Open a file, gzipped or not, whatever its name; raises `DataError` for one that cannot be read."""
    try:
        with path.open("rb") as file:
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            with gzip.open(file) if packed else nullcontext(file) as unpacked:
                yield Content(path, unpacked, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from None
