"""CSV files: a row an image, its label first and then its 784 pixels; gzipped or not, with or without a header."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gradcheck.contract import Array
from nets.datasets.content import Content, opened
from nets.datasets.dataset import BLACK, MOST, PIXELS, SIDE, DataError, Dataset, Samples, checked, digest

COLUMNS = 1 + PIXELS
LONGEST = 16 * COLUMNS  # bytes of a line: three digits and a comma a cell, with room for spaces and a header's names
ROWS = 4096  # parsed at once, which bounds memory

# The files of a folder, training and test, that are looked for: as they are usually named, and as Kaggle names them.
PAIRS = (("mnist_train.csv", "mnist_test.csv"), ("train.csv", "test.csv"))


def load_csv(path: Path, name: str) -> Dataset:
    """Return the digits of one file, which has no test samples of its own; raises `DataError`."""
    samples, sha256 = read_csv(path)
    return Dataset(name, sha256, BLACK, samples)


def load_csv_folder(folder: Path, name: str) -> Dataset:
    """Return the digits of a folder's training file and, where there is one with labels, its test file.

    Kaggle's test.csv has none, and is left alone. The digest is that of both files, one after the other. Raises
    `DataError`.
    """
    located = csv_files(folder)
    if located is None:
        raise DataError(f"{folder} has no mnist_train.csv and no train.csv")
    train_path, test_path = located
    train, sha256 = read_csv(train_path)
    if test_path is None or not _labelled(test_path):
        return Dataset(name, sha256, BLACK, train)
    test, test_sha256 = read_csv(test_path)
    return Dataset(name, digest(bytes.fromhex(sha256 + test_sha256)), BLACK, train, test)


def csv_files(folder: Path) -> tuple[Path, Path | None] | None:
    """Return a folder's training file and its test file, if there is one; None if it has no training file."""
    for pair in PAIRS:
        train, test = (
            next((path for path in (folder / file, folder / f"{file}.gz") if path.is_file()), None) for file in pair
        )
        if train is not None:
            return train, test
    return None


def read_csv(path: Path) -> tuple[Samples, str]:
    """Return the samples of a file, and the SHA-256 of its uncompressed bytes.

    Labels are whole numbers from 0 to 9, pixels whole numbers from 0 to 255. Raises `DataError`, naming file, line and
    column.
    """
    blocks: list[Array] = []
    with opened(path) as file:
        lines = _lines(file)
        while block := list(itertools.islice(lines, ROWS)):
            blocks.append(_parsed(path, block))
            if sum(map(len, blocks)) > MOST:
                raise DataError(f"{path} has more than {MOST:,} rows; no more are read")
    if not blocks:
        raise DataError(f"{path} has no rows")
    rows = np.concatenate(blocks)
    return checked(path, rows[:, 1:].reshape(-1, SIDE, SIDE), rows[:, 0]), file.sha256


def _lines(file: Content) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of a file with their line numbers, from 1; the header and blank lines left out."""
    for number in itertools.count(1):
        line = file.readline(LONGEST)
        if not line:
            return
        if len(line) == LONGEST:
            raise DataError(f"{file.path}, line {number} is longer than {COLUMNS} cells can be")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, which Excel writes
            if _is_header(line):
                _require_label(file.path, line)
                continue
        if not line.isspace():
            yield number, line


def _parsed(path: Path, block: list[tuple[int, bytes]]) -> Array:
    """Return rows (n, 785) of uint8."""
    try:
        rows: Array = np.loadtxt([line for _, line in block], np.uint8, comments=None, delimiter=",", ndmin=2)
    except ValueError:
        raise DataError(f"{path}, {_what_is_wrong(block)}") from None
    if rows.shape != (len(block), COLUMNS):  # every row has as many columns as the others
        raise DataError(f"{path}, {_what_is_wrong(block)}")
    return rows


def _what_is_wrong(block: list[tuple[int, bytes]]) -> str:
    """Return where the first row is that cannot be used, and why."""
    for number, line in block:
        cells = line.decode("latin-1").strip("\r\n").split(",")
        if len(cells) == PIXELS:
            return f"line {number} has {PIXELS} cells, pixels without a label: a file without labels teaches nothing"
        if len(cells) != COLUMNS:
            return f"line {number} has {len(cells)} cells, not {COLUMNS}: a label and {PIXELS} pixels"
        for column, cell in enumerate(cells, 1):
            text = cell.strip()
            if not (text.isascii() and text.isdigit() and len(text.lstrip("0")) <= 3 and int(text) <= BLACK):
                shown = repr(text[:20]) if text else "empty"
                return f"line {number}, column {column} is {shown}, not a whole number from 0 to {BLACK}"
    return f"line {block[0][0]} or one after it is no row of whole numbers from 0 to {BLACK}"


def _is_header(line: bytes) -> bool:
    first = line.lstrip()[:1]
    return first.isalpha() or first == b'"'


def _require_label(path: Path, header: bytes) -> None:
    first = header.split(b",")[0].strip().strip(b'"').decode("latin-1")
    if first.lower() != "label":
        raise DataError(
            f"{path} has no labels: its header starts with {first[:20]!r}, not with 'label'"
            " (Kaggle's test.csv has none; its train.csv has)"
        )


def _labelled(path: Path) -> bool:
    """Return whether a file has the columns of labelled digits, judged by its first line."""
    with opened(path) as file:
        return file.readline(LONGEST).count(b",") != PIXELS - 1
