"""IDX folders: MNIST as it is published, in torchvision's layout ``ROOT/MNIST/raw``, and any like it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradcheck.contract import Array
from nets.datasets.dataset import BLACK, DataError, Dataset, checked, digest
from nets.datasets.idx import read_idx

# Shape and SHA-256 of the uncompressed bytes of each file.
FILES: dict[str, tuple[tuple[int, ...], str]] = {
    "train-images-idx3-ubyte": (
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


def raw_folder(root: Path) -> Path:
    """Return where MNIST's files are below ``root``."""
    return root / "MNIST" / "raw"


def find_mnist(roots: list[Path]) -> Path | None:
    """Return the first root that has any of MNIST's files, or None."""
    return next((root for root in roots if holds_idx(raw_folder(root))), None)


def holds_idx(folder: Path) -> bool:
    """Return whether a folder has any of the four files."""
    return any(locate(folder, name) for name in FILES)


def load_mnist(root: Path, files: Mapping[str, tuple[tuple[int, ...], str]] = FILES, name: str = "mnist") -> Dataset:
    """Return MNIST from ``root``; ``files`` gives shape and SHA-256 of each file.

    Raises `DataError` for a file that is missing, malformed, or has other bytes than the published ones.
    """
    folder = raw_folder(root)
    return _dataset(name, folder, [read_published(folder, file, *files[file]) for file in files])


def load_idx_folder(folder: Path, name: str) -> Dataset:
    """Return the digits of a folder with the four files, any number of samples in each; raises `DataError`.

    Nothing is compared with what is published: the digest says which data it is.
    """
    read = []
    for file, (shape, _) in FILES.items():
        read.append(read_idx(located(folder, file), (None, *shape[1:])))
    return _dataset(name, folder, read)


def read_published(folder: Path, name: str, shape: tuple[int, ...], sha256: str) -> tuple[Array, bytes]:
    """Return the array of one of MNIST's files, and its uncompressed bytes.

    Raises `DataError` if it is missing, malformed, or not the published one.
    """
    path = located(folder, name)
    array, content = read_idx(path, shape)
    if digest(content) != sha256:
        raise DataError(
            f"{path} is not the published file: SHA-256 of its uncompressed bytes is {digest(content)},"
            f" not {sha256}; fetch it again"
        )
    return array, content


def locate(folder: Path, name: str) -> Path | None:
    """Return one of the four files, unpacked or gzipped, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def located(folder: Path, name: str) -> Path:
    """Return one of the four files; raises `DataError` if it is missing."""
    path = locate(folder, name)
    if path is None:
        raise DataError(f"{folder} has no {name} and no {name}.gz, though other files of MNIST")
    return path


def _dataset(name: str, folder: Path, files: list[tuple[Array, bytes]]) -> Dataset:
    (images, _), (labels, _), (test_images, _), (test_labels, _) = files
    sha256 = digest(*(content for _, content in files))
    return Dataset(name, sha256, BLACK, checked(folder, images, labels), checked(folder, test_images, test_labels))
