"""IDX files: big-endian arrays with a small header, gzipped or not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from gradcheck.contract import Array
from nets.datasets.content import opened
from nets.datasets.dataset import MOST, DataError

UINT8 = 0x08  # the only element type that MNIST's files use
START = bytes([0, 0, UINT8])


def read_idx(path: Path, shape: tuple[int | None, ...]) -> tuple[Array, bytes]:
    """Return the uint8 array of an IDX file and the file's uncompressed bytes.

    ``shape`` gives the extents that the header must name; a first one of None leaves their number to the header, up to
    `MOST`. Never more bytes are read than those need, whatever the header or a gzip stream claims. Raises `DataError`,
    naming the file, for anything that is not such a file. http://yann.lecun.com/exdb/mnist/
    """
    start = START + bytes([len(shape)])
    with opened(path) as file:
        header = file.read(len(start) + 4 * len(shape))
        if header[: len(start)] != start:
            raise DataError(
                f"{path} is no IDX file of {len(shape)}-dimensional bytes: it starts with"
                f" {header[: len(start)].hex(' ') or 'nothing'}, not {start.hex(' ')}"
            )
        named = header[len(start) :]
        extents = tuple(np.frombuffer(named[: len(named) // 4 * 4], ">u4").tolist())
        if len(extents) != len(shape) or any(
            want not in (None, extent) for want, extent in zip(shape, extents, strict=True)
        ):
            wanted = "x".join("n" if want is None else str(want) for want in shape)
            raise DataError(f"{path} says it holds {'x'.join(map(str, extents))}, not {wanted}")
        if shape[0] is None and extents[0] > MOST:
            raise DataError(f"{path} says it holds {extents[0]:,} samples; no more than {MOST:,} are read")
        size = len(header) + math.prod(extents)
        content = header + file.read(size - len(header) + 1)
    if len(content) != size:
        problem = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path} should have {size} bytes uncompressed, it has {problem}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(extents), content


def as_idx(array: Array) -> bytes:
    """Return an array of whole numbers from 0 to 255 as an IDX file."""
    extents = b"".join(extent.to_bytes(4, "big") for extent in array.shape)
    return START + bytes([array.ndim]) + extents + array.astype(np.uint8).tobytes()
