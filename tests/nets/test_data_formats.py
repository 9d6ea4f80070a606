"""The same digits are the same arrays in every format; what is damaged, lying or code gets one line naming the file."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets.datasets.catalogue import find_dataset, load_dataset
from nets.datasets.csv import read_csv
from nets.datasets.dataset import MOST, SHOWN, DataError, reason, shown
from nets.datasets.idx import as_idx as our_idx
from nets.datasets.npz import load_npz
from nets.datasets.openml import fetch_openml
from nets.datasets.pickle_gz import load_pickle
from tests.nets.digits_written import KAGGLE, NAMES, WRITTEN, as_csv, as_idx, as_npz, drawn, pairs
from tests.nets.refused import refusal

DIGITS = drawn()
ROW = as_csv(DIGITS.x[:1], DIGITS.y[:1])
CELLS = ROW.decode().strip().split(",")


@pytest.mark.parametrize("form", WRITTEN)
def test_every_format_gives_the_same_arrays(tmp_path: Path, form: str) -> None:
    data = load_dataset(str(WRITTEN[form](tmp_path, DIGITS)), None)
    parts = [data.train] if data.validation is None else [data.train, data.validation]
    images, labels = np.concatenate([one.images for one in parts]), np.concatenate([one.labels for one in parts])
    assert (images.dtype, labels.dtype, data.black, len(data.sha256)) == (np.uint8, np.int64, 255, 64)
    assert np.array_equal(images, DIGITS.x)
    assert np.array_equal(labels, DIGITS.y)
    assert [len(one) for one in parts] == ([8, 4] if "pickle" in form else [12])
    if form.startswith("csv") and "folder" not in form:
        assert data.test is None
    else:
        assert data.test is not None
        assert np.array_equal(data.test.images, DIGITS.x_test)
        assert np.array_equal(data.test.labels, DIGITS.y_test)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["csv", "csv-gz", "npz", "pickle-2", "pickle-python-2", "idx-gz"]))
def test_any_digits_survive_any_format(tmp_path_factory: pytest.TempPathFactory, seed: int, form: str) -> None:
    digits = drawn(seed)
    data = load_dataset(str(WRITTEN[form](tmp_path_factory.mktemp("data"), digits)), None)
    train = data.train.images if data.validation is None else [*data.train.images, *data.validation.images]
    assert np.array_equal(train, digits.x)


def test_an_array_becomes_the_idx_file_that_others_write() -> None:
    assert our_idx(DIGITS.x) == as_idx(DIGITS.x)
    assert our_idx(DIGITS.y.astype(np.int64)) == as_idx(DIGITS.y)


def test_the_digest_is_of_what_is_unpacked(tmp_path: Path) -> None:
    forms = {form: (tmp_path / form) for form in ("csv", "csv-gz", "idx", "idx-gz")}
    for folder in forms.values():
        folder.mkdir()
    digests = {form: load_dataset(str(WRITTEN[form](folder, DIGITS)), None).sha256 for form, folder in forms.items()}
    assert digests["csv"] == digests["csv-gz"]
    assert digests["idx"] == digests["idx-gz"]


def one_line(path: Path, read: Callable[..., object], *arguments: object) -> str:
    """Return why a file is refused: one printable line that names it."""
    message = refusal(DataError, read, *arguments)
    assert str(path) in message
    assert message.isprintable()
    assert len(message.replace(str(path), "")) < 250
    return message


def peak_of(read: Callable[..., object], *arguments: object) -> int:
    """Return how many bytes are needed at most to refuse a file."""
    tracemalloc.start()
    try:
        refusal(DataError, read, *arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def with_cell(column: int, text: str) -> bytes:
    """Return a row with one cell replaced."""
    return ",".join([*CELLS[:column], text, *CELLS[column + 1 :]]).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROW + with_cell(3, "256"), "line 2, column 4 is '256', not a whole number from 0 to 255"),
        (ROW + b"\n" + with_cell(3, "-1"), "line 3, column 4 is '-1'"),
        (with_cell(3, "nan"), "line 1, column 4 is 'nan'"),
        (with_cell(3, "1.0"), "line 1, column 4 is '1.0'"),
        (with_cell(3, ""), "line 1, column 4 is empty"),
        (with_cell(3, "\u0663"), "line 1, column 4 is "),
        (with_cell(3, "9" * 4000), "line 1, column 4 is '99999999999999999999', not"),
        (with_cell(0, "10"), "has the label 10 (of sample 0, counted from 0); labels are 0 to 9"),
        (ROW + ROW.replace(b",", b"\t"), "line 2 has 1 cells, not 785: a label and 784 pixels"),
        (ROW + ROW[: len(ROW) // 2], "cells, not 785"),
        (b"1,2,3\n", "line 1 has 3 cells, not 785"),
        (ROW.split(b",", 1)[1], "line 1 has 784 cells, pixels without a label"),
        (
            KAGGLE.split(",", 1)[1].encode() + b"\n" + ROW.split(b",", 1)[1],
            "has no labels: its header starts with 'pixe",
        ),
        (KAGGLE.encode() + b"\n", "has no rows"),
        (b"0," * 1_000_000, "line 1 is longer than 785 cells can be"),
        (ROW.replace(b"\n", b"\r") * 20, "line 1 is longer than 785 cells can be"),
        (ROW + b"\x00" * 50, "line 2 has 1 cells"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_csv_file_is_refused_by_line_and_column(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "digits.csv"
    path.write_bytes(content)
    assert message in one_line(path, read_csv, path)


def test_kaggles_unlabelled_test_file_is_left_alone_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(as_csv(DIGITS.x, DIGITS.y, KAGGLE))
    unlabelled = KAGGLE.split(",", 1)[1].encode() + b"\n" + ROW.split(b",", 1)[1]
    (tmp_path / "test.csv").write_bytes(unlabelled)
    assert load_dataset(str(tmp_path), None).test is None
    with pytest.raises(DataError, match="has no labels"):
        load_dataset(str(tmp_path / "test.csv"), None)


class Runs:
    """Makes a pickle that runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_is_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, touched = tmp_path / "mnist.pkl.gz", tmp_path / "touched"
    path.write_bytes(gzip.compress(pickle.dumps(Runs(f"touch {touched}"), protocol=protocol), mtime=0))
    told = one_line(path, load_dataset, str(path), None)
    assert f"asks for '{os.name}.system', which no file of arrays needs; it was not run" in told
    assert not touched.exists()


def pickled(train_x: object = None, train_y: object = None) -> bytes:
    """Return a pickle of the digits with other training pixels or labels."""
    (x, y), *others = pairs(DIGITS)
    train = (x if train_x is None else train_x, y if train_y is None else train_y)
    return pickle.dumps((train, *others), protocol=2)


PIXELS = pairs(DIGITS)[0][0]
NAN = PIXELS.copy()
NAN[2, 3] = np.nan
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DOUBLED = b")" + b"".join(b"q%cj%c\0\0\0\x86" % (n, n) for n in range(60))  # a tuple of 2**60 parts, by its memo
NESTED = b")" + b"\x85" * 8000


def described(order: bytes = b"U\x01<", fortran: bytes = b"\x89", shape: bytes = b"K\x00M\x10\x03\x86") -> bytes:
    """Return a pickle of three pairs of one empty array, which is described by parts of a program."""
    dtype = b"cnumpy\ndtype\nU\x02f4\x85R(K\x03" + order + b"tb"
    array = RECONSTRUCT + b")R(K\x01" + shape + dtype + fortran + b"U\x00tb"
    return (
        b"\x80\x02"
        + array
        + b"r\xff\x00\x00\x00j\xff\x00\x00\x00\x86r\xfe\x00\x00\x00"
        + b"j\xfe\x00\x00\x00" * 2
        + b"\x87."
    )


def framed(order: bytes) -> bytes:
    """Return a pickle of three pairs whose first array is one of protocol 5, in an order."""
    dtype = b"cnumpy\ndtype\nU\x02f4\x85R"
    array = b"cnumpy.core.numeric\n_frombuffer\n(U\x00" + dtype + b"K\x00\x85" + order + b"tR"
    return b"\x80\x02" + array + b"N\x86NN\x86NN\x86\x87."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02", "is no pickle of arrays"),
        (b"\x80\x02}q\x00.", "is no pickle of three pairs of images and labels: train, validation, test"),
        (pickle.dumps(pairs(DIGITS)[:2]), "is no pickle of three pairs"),
        (pickle.dumps([[PIXELS]] * 3), "is no pickle of three pairs"),
        (pickle.dumps([("a", "b")] * 3), "has a str where an array should be"),
        (pickled()[:-200], "is no pickle of arrays"),
        (pickled() + b"x", "goes on after the end of its pickle"),
        (pickled(NAN), "has a pixel of nan; MNIST's are whole 256ths, from 0 to 255/256"),
        (pickled(PIXELS * np.float32(256 / 255)), "has a pixel of 0.0"),
        (pickled(PIXELS + 1), "has a pixel of 1"),
        (pickled(PIXELS * np.float32(3e38)), "MNIST's are whole 256ths"),
        (b"(S'\\q'\ncno such\nmodule\n.", "asks for 'no such.module', which no file of arrays needs; it was not run"),
        (pickled(-PIXELS), "has a pixel of -0"),
        (pickled(PIXELS[:, :100]), "has pixels float32 (8, 100), needed are floats (n, 784)"),
        (pickled(train_y=np.arange(8)[:5]), "has 8 images and labels of shape (5,): one each is needed"),
        (pickled(train_y=np.arange(8) + 3), "has the label 10 (of sample 7, counted from 0); labels are 0 to 9"),
        (pickled(train_y=np.arange(8) - 1), "has the label -1 (of sample 0, counted from 0); labels are 0 to 9"),
        (pickled(train_y=np.array([[]] * 8, object)), "has an array of a type that is none of f4, f8, u1, i4, i8"),
        (pickled(train_y=np.arange(8) / 8), "has labels of float64, needed are integers"),
        (b"\x80\x02" + b"\x8f" * 10**6 + b".", "has more than 10,000 parts"),  # each an empty set, of 216 bytes
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "has more than 10,000 parts"),  # a memo of 2**31 places
        (b"\x80\x02B\xff\xff\xff\x7fabc.", "is no pickle of arrays"),  # 2 GB of bytes, it says
        (b"\x80\x05\x8e" + struct.pack("<Q", 2**60) + b"abc.", "is no pickle of arrays"),
        (b"\x80\x02" + RECONSTRUCT + b")R" * 1 + b"\x85.", "is no pickle of"),
        (b"\x80\x02" + RECONSTRUCT + b"}b.", "is no pickle of"),  # state given to the class itself
        (b"(I" + b"9" * 9000 + b"\n.", "is no pickle of arrays"),
        (described(), "has labels of float32, needed are integers"),
        (described(order=DOUBLED), "has an array of a byte order that is none of < > | ="),
        (described(order=NESTED), "has an array of a byte order that is none of < > | ="),
        (described(order=b"U\x03<f4"), "has an array of a byte order that is none of < > | ="),
        (described(shape=DOUBLED), "is no pickle of arrays: "),
        (described(shape=NESTED), "is no pickle of arrays: "),
        (described(shape=b"(" + b"K\x00" * 50 + b"t"), "has pixels float32 (0, 0, 0, "),
        (framed(DOUBLED), "has an array of an order that is neither C nor F"),
        (framed(b"T\x00\x10\x00\x00" + b"C" * 4096), "has an array of an order that is neither C nor F"),
        (b"\x80\x02}" + DOUBLED + b"Ns.", "it fills a dictionary or a set"),
        (b"\x80\x02}(" + DOUBLED + b"Nu.", "it fills a dictionary or a set"),
        (b"\x80\x02(" + DOUBLED + b"Nd.", "it fills a dictionary or a set"),
        (b"\x80\x04\x8f(" + DOUBLED + b"\x90.", "it fills a dictionary or a set"),
        (b"\x80\x04(" + DOUBLED + b"\x91.", "it fills a dictionary or a set"),
        (b"c" + b"\x1b[2J" * 9000 + b"\nx\n.", "asks for '\\x1b[2J\\x1b[2J"),
        (b"S" + b"9" * 9000 + b"\n.", "is no pickle of arrays: no string quotes around b'999"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_pickle_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(content, mtime=0))
    assert message in one_line(path, load_pickle, path, "mnist.pkl.gz")


@given(st.binary(max_size=60))
def test_no_bytes_that_begin_like_a_pickle_do_anything_but_be_refused(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("data") / "mnist.pkl"
    path.write_bytes(b"\x80\x02" + tail)
    with pytest.raises(DataError):
        load_pickle(path, "mnist.pkl")


def zipped(**members: bytes) -> bytes:
    """Return a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return content.getvalue()


def header(text: str) -> bytes:
    """Return the beginning of a .npy file."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def packed(method: int, content: bytes) -> bytes:
    """Return a zip archive whose one member is packed by some method."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        archive.writestr("x_train.npy", content)
    return whole.getvalue()


def damaged(archive: bytes) -> bytes:
    """Return an archive with other bytes in its first member."""
    return archive[:50] + bytes(20) + archive[70:]


def keras(**arrays: object) -> bytes:
    """Return Keras's archive with other arrays; None leaves one out."""
    whole: Any = {"x_train": DIGITS.x, "y_train": DIGITS.y, "x_test": DIGITS.x_test, "y_test": DIGITS.y_test} | arrays
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in whole.items() if array is not None})
    return content.getvalue()


SHAPED = "{{'descr': '|u1', 'fortran_order': False, 'shape': ({}), }}"
HUGE = header(SHAPED.format("300000, 28, 28"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and no more", "cannot be read: File is not a zip file"),
        (as_npz(DIGITS)[:-30], "cannot be read: "),
        (b"PK", "cannot be read: "),
        (keras(y_test=None), "has no y_test, it has 'x_train', 'y_train', 'x_test'; Keras's mnist.npz has four arrays"),
        (keras(x_train=DIGITS.x / 255), "x_train is float64 (12, 28, 28), needed is uint8 (n, 28, 28)"),
        (keras(x_train=DIGITS.x[:, :27]), "x_train is uint8 (12, 27, 28), needed is"),
        (keras(y_train=DIGITS.y.astype(object)), "y_train is object (12,), needed is integers (n,)"),
        (keras(y_train=DIGITS.y[:3]), "has 12 images and labels of shape (3,)"),
        (keras(y_train=DIGITS.y + 10), "; labels are 0 to 9"),
        (keras(x_test=DIGITS.x[:0], y_test=DIGITS.y[:0]), "has no samples"),
        (zipped(x_train=b"no array"), "cannot be read: "),
        (zipped(x_train=header("__import__('os').system('true')")), "cannot be read: "),
        (zipped(x_train=header("{" + " " * 5000 + "}")), "x_train has a header of 5,003 bytes, needed is one of "),
        (zipped(x_train=b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "x_train has a header of 4,294,967,295 bytes, needed "),
        (zipped(x_train=b"\x93NUMPY\x03\x00\xff\xff\xff\xff"), "x_train is of the .npy format's version 3.0, not 1"),
        (zipped(x_train=b"\x93NUMPY\x02\x00\xff"), "cannot be read: "),
        (zipped(x_train=header("{1: 1, 'a': 2}")), "cannot be read: "),
        (zipped(x_train=header("{[]: 1}")), "cannot be read: "),
        (zipped(x_train=header("if 1:\n    2\n  3")), "cannot be read: "),
        (zipped(x_train=header("{'descr': (), 'fortran_order': False, 'shape': ()}")), "cannot be read: "),
        (zipped(x_train=HUGE.replace(b"(300000, 28", b"(" + b"9" * 900)), "cannot be read: "),
        (zipped(x_train=header(SHAPED.format("0, " * 300))), "x_train is uint8 (0, 0, 0, "),
        (zipped(**{"\x1b[2J\n" * 9000: b""}), "has no x_train, it has '\\x1b[2J\\n\\x1b[2J"),
        (packed(zipfile.ZIP_BZIP2, HUGE), "x_train is packed by zip's method 12, needed is 0 (stored) or 8 (deflated)"),
        (packed(zipfile.ZIP_LZMA, HUGE), "x_train is packed by zip's method 14, needed is 0 (stored) or 8 (deflated)"),
        (damaged(packed(zipfile.ZIP_LZMA, HUGE)), "x_train is packed by zip's method 14"),
        (damaged(packed(zipfile.ZIP_DEFLATED, HUGE)), "cannot be read: "),
        (zipped(x_train=header("{'descr'")), "cannot be read: "),
        (zipped(x_train=HUGE.replace(b"300000", b"300001")), "needed is uint8 (n, 28, 28) with n up to 300,000"),
        (zipped(x_train=HUGE.replace(b"300000", b"    -1")), "x_train is uint8 (-1, 28, 28), needed"),
        (zipped(x_train=HUGE + bytes(100)), "x_train should have 235200000 bytes, it has only 100"),
        (
            zipped(x_train=HUGE.replace(b"300000", b"     2") + bytes(50_000_000)),
            "x_train should have 1568 bytes, it has more",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_wrong_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mnist.npz"
    path.write_bytes(content)
    assert message in one_line(path, load_npz, path, "mnist.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("begin", [b"\x93NUMPY\x02\x00\xff\xff\xff\xff", HUGE.replace(b"300000", b"     2")])
def test_an_archive_that_is_a_bomb_fills_no_memory(tmp_path: Path, method: int, begin: bytes) -> None:
    path = tmp_path / "mnist.npz"
    path.write_bytes(packed(method, begin + bytes(10_000_000)))
    assert peak_of(load_npz, path, "mnist.npz") < 5_000_000


def test_what_a_file_says_is_repeated_in_short_and_printable() -> None:
    assert shown("x_train") == "x_train"
    assert shown("a" * SHOWN) == "a" * SHOWN
    assert shown("a" * (SHOWN + 1)) == "a" * SHOWN + "..."
    assert shown("\x00" * SHOWN) == "\\x00" * (SHOWN // 4) + "..."
    assert shown("\n\u202e\ud800") == "\\n\\u202e\\ud800"
    assert reason(ValueError("one\ntwo")) == "one"
    assert reason(MemoryError()) == "MemoryError"
    assert reason(OSError(2, "No such file", "mnist.npz")) == "No such file"


def test_an_archive_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "mnist.npz", bytearray(keras())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        load_npz(path, "mnist.npz")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (0, as_idx(DIGITS.x)[:4] + struct.pack(">I", 2**32 - 1) + as_idx(DIGITS.x)[8:], "4,294,967,295 samples"),
        (0, as_idx(DIGITS.x)[:4] + struct.pack(">I", MOST) + as_idx(DIGITS.x)[8:], "bytes uncompressed, it has only"),
        (0, as_idx(DIGITS.x[:, :27]), "says it holds 12x27x28, not nx28x28"),
        (0, as_idx(DIGITS.y), "is no IDX file of 3-dimensional bytes"),
        (1, as_idx(DIGITS.y[:4]), "has 12 images and labels of shape (4,): one each is needed"),
        (1, as_idx(DIGITS.y + 10), "; labels are 0 to 9"),
        (2, None, "has no t10k-images-idx3-ubyte and no t10k-images-idx3-ubyte.gz"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_wrong_idx_folder_is_refused(tmp_path: Path, file: int, content: bytes | None, message: str) -> None:
    folder = WRITTEN["idx"](tmp_path, DIGITS)
    (folder / NAMES[file]).unlink()
    if content is not None:
        (folder / NAMES[file]).write_bytes(content)
    assert message in one_line(folder, load_dataset, str(folder), None)


@cache
def bomb() -> bytes:
    """Return 200 MB of zeros as a file of 200 kB, made where it is used: not wherever this file is collected."""
    return gzip.compress(bytes(200_000_000), 9, mtime=0)


@pytest.mark.parametrize("prefix", [b"\x80\x02", ROW, as_idx(DIGITS.x)[:4] + struct.pack(">3I", 2, 28, 28)])
def test_a_gzip_bomb_fills_no_memory(tmp_path: Path, prefix: bytes) -> None:
    path = tmp_path / NAMES[0]
    path.write_bytes(gzip.compress(prefix, mtime=0) + bomb())  # members one after the other are one file
    where = tmp_path if prefix.startswith(b"\x00") else path
    assert peak_of(load_dataset, str(where), None) < 20_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\x89PNG\r\n\x1a\n",
            "is of no known format, it starts with 89 50 4e 47 0d 0a 1a 0a; known are IDX, CSV",
        ),
        (b"", "is of no known format, it starts with nothing"),
        (gzip.compress(b"", mtime=0), "is of no known format, it starts with nothing"),
        (gzip.compress(ROW, mtime=0)[:20], "cannot be read: "),
        (as_idx(DIGITS.x), "is one IDX file of four: pass the folder "),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(content)
    assert message in one_line(path, find_dataset, str(path), None)


def test_what_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder .*nowhere"):
        find_dataset(str(tmp_path / "nowhere"), None)
    with pytest.raises(DataError, match=r"there is no file or folder mnist\.pkl\.gz"):
        find_dataset("mnist.pkl.gz", None)
    with pytest.raises(DataError, match="holds no digits: a folder needs MNIST/raw, the four files of MNIST"):
        find_dataset(str(tmp_path), None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="for want of named pipes (another system)")
def test_a_device_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        told = one_line(path, find_dataset, str(path), None)
        assert "is neither a file nor a folder: a device or a pipe is not read" in told


class OpenML:
    """Answers as scikit-learn's fetch_openml does, once."""

    def __init__(self, data: object, target: object) -> None:
        self.data, self.target = data, target

    def __call__(self, name: str, *, version: int, as_frame: bool, **_: object) -> OpenML:
        assert (name, version, as_frame) == ("mnist_784", 1, False)
        return self


def test_openml_is_fetched_once_and_read_from_the_cache(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'mnistcheck data fetch openml' fetches it"):
        load_dataset("openml", tmp_path)
    x, y = np.concatenate([DIGITS.x, DIGITS.x_test]), np.concatenate([DIGITS.y, DIGITS.y_test])
    fetch_openml(tmp_path, 12, OpenML(x.reshape(17, 784).astype(float), y.astype(str).astype(object)))
    data = load_dataset("openml", tmp_path)
    assert data.test is not None
    assert data.name == "openml"
    assert np.array_equal(data.train.images, DIGITS.x)
    assert np.array_equal(data.train.labels, DIGITS.y)
    assert np.array_equal(data.test.images, DIGITS.x_test)
    assert np.array_equal(data.test.labels, DIGITS.y_test)


FLAT = DIGITS.x.reshape(12, 784).astype(float)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (OpenML(FLAT / 2, DIGITS.y), "pixels as mnist_784 that are no whole numbers from 0 to 255"),
        (OpenML(FLAT * np.nan, DIGITS.y), "that are no whole numbers from 0 to 255"),
        (OpenML(FLAT[:, :9], DIGITS.y), r"pixels \(12, 9\) as mnist_784, needed are more than 8 of 784"),
        (OpenML(FLAT, np.array(["a"] * 12)), "labels as mnist_784 that are no digits"),
        (OpenML(FLAT, DIGITS.y + 10), "labels are 0 to 9"),
    ],
)
def test_what_openml_should_not_send_is_not_kept(tmp_path: Path, answer: OpenML, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch_openml(tmp_path, 8, answer)
    assert list(tmp_path.rglob("*")) == []


def test_openml_out_of_reach_is_one_line(tmp_path: Path) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise OSError("<urlopen error no route>\nand more")

    with pytest.raises(DataError, match=r"OpenML's mnist_784 could not be fetched: <urlopen error no route>$"):
        fetch_openml(tmp_path, 8, fetch)
