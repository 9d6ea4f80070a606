"""IDX files: big-endian arrays with a small header, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from gradcheck.contract import Array
from nets.datasets.dataset import DataError

UINT8 = 0x08  # the only element type that MNIST's files use


def read_idx(path: Path, shape: tuple[int, ...]) -> tuple[Array, bytes]:
    """Return the uint8 array of an IDX file and the file's uncompressed bytes.

    ``shape`` gives the extents that the header must name. Never more bytes are read than those need, whatever the
    header or a gzip stream claims. Raises `DataError`, naming the file, for anything that is not such a file.
    http://yann.lecun.com/exdb/mnist/
    """
    header = bytes([0, 0, UINT8, len(shape)]) + b"".join(extent.to_bytes(4, "big") for extent in shape)
    size = len(header) + math.prod(shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if content[:4] != header[:4]:
        raise DataError(
            f"{path} is no IDX file of {len(shape)}-dimensional bytes: it starts with"
            f" {content[:4].hex(' ') or 'nothing'}, not {header[:4].hex(' ')}"
        )
    if content[: len(header)] != header:
        named = content[4 : len(header)]
        extents = np.frombuffer(named[: len(named) // 4 * 4], ">u4")
        raise DataError(f"{path} says it holds {'x'.join(map(str, extents))}, not {'x'.join(map(str, shape))}")
    if len(content) != size:
        problem = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path} should have {size} bytes uncompressed, it has {problem}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape), content
