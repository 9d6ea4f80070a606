"""``mnist.pkl.gz``, as Theano's tutorials and Nielsen's book use it: training, validation and test pairs, pickled.

A pickle is a program, and this one is run on a machine that knows nothing but NumPy's arrays: every name that such a
file needs stands for an object that only remembers what it is given, and any other name is refused. The arrays are made
afterwards, from what is remembered.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from gradcheck.contract import Array
from nets.datasets.content import Content, opened
from nets.datasets.dataset import BLACK, MOST, PIXELS, SIDE, DataError, Dataset, Samples, checked, reason, shown

LEVELS = 256  # the file's pixels are k / 256, for k from 0 to 255
LIMIT = 2**29  # bytes uncompressed: twice the published file's, so that float64 pixels fit too
OPCODES = 10_000  # the published file has fewer than 200; each may cost memory that it does not have bytes for
ROWS = 4096  # converted at once, which bounds memory
# What hashes objects of the file: a tuple of itself twice over and over takes for ever, and no array needs any.
HASHING = ("DICT", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET")
ITEMS = ("f4", "f8", "u1", "i4", "i8")  # what NumPy calls the types of pixels and labels
ORDERS = ("<", ">", "|", "=")  # and the orders of their bytes


class _Remembered:
    """What is called or filled by a pickle, and does nothing but keep what it is given."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401  anything may be in a pickle
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401  as above
        self.state = state


class _Array(_Remembered):
    """An array whose shape, type and bytes are its state."""


class _Buffer(_Remembered):
    """An array whose bytes, type, shape and order are the arguments, as protocol 5 has it."""


class _Type(_Remembered):
    """A type of elements: its name is the first argument, the order of its bytes the second part of its state."""


class _Encoded(_Remembered):
    """Bytes as text and the name of its encoding, as Python 3 writes them for Python 2."""


NAMES: dict[tuple[str, str], type[_Remembered]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _Buffer,
    ("numpy", "ndarray"): _Remembered,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Encoded,
}
# What a broken pickle may raise.
DAMAGED = (
    pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError,
    RecursionError,
)  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Content) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2's bytes become text without loss
        self.path = file.path

    def find_class(self, module: str, name: str) -> type[_Remembered]:
        known = NAMES.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            asked = shown(f"{module}.{name}")
            raise DataError(f"{self.path} asks for '{asked}', which no file of arrays needs; it was not run")
        return known


def load_pickle(path: Path, name: str) -> Dataset:
    """Return the digits of a pickle of three pairs, pixels (n, 784) of k / 256 and labels (n,), gzipped or not.

    No code of the file is run, and no class of NumPy is made from what it says. The digest is that of the uncompressed
    bytes. Raises `DataError`. http://deeplearning.net/tutorial/gettingstarted.html
    """
    try:
        with opened(path, LIMIT) as file:
            _inspect(file)
        with opened(path, LIMIT) as file:
            pairs = _run(file)
        if not isinstance(pairs, (tuple, list)) or [len(pair) for pair in pairs] != [2, 2, 2]:
            raise DataError(f"{path} is no pickle of three pairs of images and labels: train, validation, test")
        train, validation, test = (_samples(path, *pair) for pair in pairs)
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{path} is no pickle of arrays: {reason(error)}") from None
    return Dataset(name, file.sha256, BLACK, train, test, validation)


def _run(file: Content) -> Any:  # noqa: ANN401  anything may be in a pickle
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an escape in a text pickle that Python will not know for ever
        made = _Unpickler(file).load()
    if file.read(1):
        raise DataError(f"{file.path} goes on after the end of its pickle")
    return made


def _inspect(file: Content) -> None:
    """Refuse a pickle whose program is long, counts far or hashes before it is run: few bytes take much by these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast("BinaryIO", file))):
            far = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > OPCODES
            if count > OPCODES or far:
                raise DataError(f"{file.path} is no pickle of six arrays: it has more than {OPCODES:,} parts")
            if opcode.name in HASHING:
                raise DataError(f"{file.path} is no pickle of six arrays: it fills a dictionary or a set")


def _samples(path: Path, images: object, labels: object) -> Samples:
    pixels, classes = _array(path, images), _array(path, labels)
    if pixels.dtype.kind != "f" or pixels.ndim != 2 or pixels.shape[1] != PIXELS or len(pixels) > MOST:
        raise DataError(f"{path} has pixels {pixels.dtype} {shown(str(pixels.shape))}, needed are floats (n, {PIXELS})")
    if classes.dtype.kind not in "iu":
        raise DataError(f"{path} has labels of {classes.dtype}, needed are integers")
    return checked(path, _inked(path, pixels).reshape(-1, SIDE, SIDE), classes)


def _inked(path: Path, pixels: Array) -> Array:
    """Return pixels k / 256 as k, exactly."""
    ink = np.empty(pixels.shape, np.uint8)
    for begin in range(0, len(pixels), ROWS):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is no whole number to 255, nor is NaN
            level = pixels[begin : begin + ROWS] * pixels.dtype.type(LEVELS)  # exact: a power of two
        wrong = ~((level == np.rint(level)) & (level >= 0) & (level <= BLACK))
        if wrong.any():
            value = (level[wrong] / LEVELS)[0]
            raise DataError(f"{path} has a pixel of {value:.9g}; MNIST's are whole 256ths, from 0 to 255/256")
        ink[begin : begin + ROWS] = level
    return ink


def _array(path: Path, made: object) -> Array:
    """Return the array that a pickle described."""
    if isinstance(made, _Array):
        _, shape, item, fortran, data = made.state
        order: Literal["C", "F"] = "F" if fortran else "C"
    elif isinstance(made, _Buffer):
        data, item, shape, order = made.arguments
    else:
        raise DataError(f"{path} has a {type(made).__name__} where an array should be")
    if not isinstance(item, _Type) or not _is_one(item.arguments[0], ITEMS):
        raise DataError(f"{path} has an array of a type that is none of {', '.join(ITEMS)}")
    endian = item.state[1] if item.state else "|"
    if not _is_one(endian, ORDERS):
        raise DataError(f"{path} has an array of a byte order that is none of {' '.join(ORDERS)}")
    if not _is_one(order, ("C", "F")):
        raise DataError(f"{path} has an array of an order that is neither C nor F")
    array: Array = np.frombuffer(_bytes(data), np.dtype(endian + item.arguments[0]))
    return array.reshape(shape, order=order)


def _is_one(value: object, names: tuple[str, ...]) -> bool:
    """Return whether what a pickle holds is one of some names; nothing but text is compared."""
    return isinstance(value, str) and value in names


def _bytes(data: object) -> bytes | bytearray:
    """Return what a pickle holds as bytes, or as text that stands for them."""
    if isinstance(data, _Encoded):
        data = data.arguments[0]
    if isinstance(data, str):
        return data.encode("latin-1")
    if isinstance(data, (bytes, bytearray)):
        return data
    raise TypeError(f"an array has {type(data).__name__} for bytes")
