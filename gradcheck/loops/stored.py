"""The steps of a run, of which only so many bytes are in memory: the others are in a temporary file."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.seen import Seen

HELD = 1 << 26  # bytes of a run that stay in memory


class _File:
    """Bytes, written one after the other; gone when nothing refers to them any more."""

    def __init__(self) -> None:
        self.bytes = tempfile.SpooledTemporaryFile(max_size=HELD)  # noqa: SIM115  it is read as long as any step is kept, and closed then
        self.size = 0
        weakref.finalize(self, self.bytes.close)

    def write(self, array: Array) -> int:
        """Return where an array begins that is written."""
        start = self.size
        self.bytes.seek(start)
        self.size += self.bytes.write(np.ascontiguousarray(array).tobytes())
        return start

    def read(self, start: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Return the array that begins there."""
        self.bytes.seek(start)
        count = int(np.prod(shape, dtype=int)) * dtype.itemsize
        return np.frombuffer(bytearray(self.bytes.read(count)), dtype).reshape(shape)


class StoredArrays(Mapping[str, Array]):
    """Arrays by name, each of which is read when it is asked for."""

    def __init__(self, arrays: Mapping[str, Array], file: _File) -> None:
        self.file = file
        self.places = {name: (file.write(array), array.shape, array.dtype) for name, array in arrays.items()}

    def __getitem__(self, name: str) -> Array:
        return self.file.read(*self.places[name])

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class StoredSteps(Sequence[Seen]):
    """The steps of a run, in order."""

    def __init__(self) -> None:
        self.file, self.steps = _File(), list[Seen]()

    def append(self, seen: Seen) -> None:
        """Store a step."""
        tensors, start = (StoredArrays(arrays, self.file) for arrays in (seen.tensors, seen.start))
        self.steps.append(replace(seen, tensors=tensors, start=start))

    @overload
    def __getitem__(self, place: int) -> Seen: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Seen]: ...
    def __getitem__(self, place: int | slice) -> Seen | Sequence[Seen]:
        return self.steps[place]

    def __len__(self) -> int:
        return len(self.steps)
