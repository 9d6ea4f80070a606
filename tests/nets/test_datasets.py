"""Data that is right is read bit for bit; data that is missing, damaged or lying gets one clear line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from gradcheck.contract import Array
from nets.datasets.catalogue import cache_dir, load_dataset
from nets.datasets.dataset import DataError, Dataset, Samples, digest
from nets.datasets.digits import _enlarged, load_digits
from nets.datasets.idx import read_idx
from nets.datasets.mnist import FILES, find_mnist, load_mnist
from tests.nets.refused import refusal

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 2, 5)).astype(np.uint8)
HEADER = bytes([0, 0, 8, 3]) + (3).to_bytes(4, "big") + (2).to_bytes(4, "big") + (5).to_bytes(4, "big")


def as_idx(array: Array) -> bytes:
    """Return an IDX file of a uint8 array."""
    extents = b"".join(extent.to_bytes(4, "big") for extent in array.shape)
    return bytes([0, 0, 8, array.ndim]) + extents + array.astype(np.uint8).tobytes()


def fake_mnist(root: Path, *, zipped: bool) -> dict[str, tuple[tuple[int, ...], str]]:
    """Write a small MNIST and return what its files are."""
    rng = np.random.default_rng(0)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    files: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, count in zip(FILES, (6, 6, 4, 4), strict=True):
        shape: tuple[int, ...] = (count, 28, 28) if "images" in name else (count,)
        content = as_idx(rng.integers(0, 10, shape))
        path = raw / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
        files[name] = (shape, digest(content))
    return files


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_gzipped_or_not(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    content = HEADER + IMAGES.tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if suffix else content)
    array, read = read_idx(path, (3, 2, 5))
    assert np.array_equal(array, IMAGES)
    assert read == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file of 3-dimensional bytes: it starts with nothing, not 00 00 08 03"),
        (b"\x89PNG....", "is no IDX file of 3-dimensional bytes: it starts with 89 50 4e 47, not 00 00 08 03"),
        (b"\x00\x00\x08\x01" + HEADER[4:], "it starts with 00 00 08 01, not 00 00 08 03"),
        (HEADER[:10], "says it holds 3, not 3x2x5"),
        (HEADER[:4] + b"\xff\xff\xff\xff" + HEADER[8:], "says it holds 4294967295x2x5, not 3x2x5"),
        (HEADER[:4] + b"\x03\x00\x00\x00" + HEADER[8:], "says it holds 50331648x2x5, not 3x2x5"),
        (HEADER + IMAGES.tobytes()[:-1], "should have 46 bytes uncompressed, it has only 45"),
        (HEADER + IMAGES.tobytes() + b"x", "should have 46 bytes uncompressed, it has more"),
    ],
)
def test_a_lying_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    told = refusal(DataError, read_idx, path, (3, 2, 5))
    assert message in told
    assert str(path) in told


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(HEADER + IMAGES.tobytes(), mtime=0)[:-9],
        gzip.compress(b"x" * 100, mtime=0)[:12] + b"\xff" * 30,
    ],
    ids=["no gzip", "truncated", "garbled"],  # the bytes hold the time of compression
)
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images.gz (cannot be read|is no IDX file)"):
        read_idx(path, (3, 2, 5))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(HEADER + bytes(50_000_000), mtime=0))
    with pytest.raises(DataError, match="should have 46 bytes uncompressed, it has more"):
        read_idx(path, (3, 2, 5))


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_is_read_in_torchvisions_layout(tmp_path: Path, zipped: bool) -> None:
    files = fake_mnist(tmp_path, zipped=zipped)
    data = load_mnist(tmp_path, files)
    assert data.test is not None
    assert (data.train.images.shape, data.test.images.shape) == ((6, 28, 28), (4, 28, 28))
    assert (data.train.labels.dtype, data.black) == (np.int64, 255)


def test_other_bytes_than_the_published_are_refused(tmp_path: Path) -> None:
    files = fake_mnist(tmp_path, zipped=False)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is not the published file: SHA-256 .* fetch it again"):
        load_mnist(tmp_path, files)


def test_a_missing_file_among_others_is_named(tmp_path: Path) -> None:
    files = fake_mnist(tmp_path, zipped=True)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz").unlink()
    assert find_mnist([tmp_path / "nowhere", tmp_path]) == tmp_path
    with pytest.raises(DataError, match=r"has no train-labels-idx1-ubyte and no train-labels-idx1-ubyte\.gz"):
        load_mnist(tmp_path, files)


def test_real_mnist_is_the_published_one(mnist_dir: Path) -> None:
    data = load_dataset("auto", mnist_dir)
    assert data.test is not None
    assert data.name == "mnist"
    assert np.bincount(data.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The published mean and deviation of the training pixels.
    shades = np.arange(256) / 255
    shares = np.bincount(data.train.images.reshape(-1), minlength=256) / data.train.images.size
    mean = float(shares @ shades)
    deviation = float(shares @ (shades - mean) ** 2) ** 0.5
    assert (round(mean, 4), round(deviation, 4)) == (0.1307, 0.3081)


def test_the_digits_are_enlarged_without_interpolation() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    source, data = sklearn.load_digits(), load_digits()
    assert data.train.images.shape == (1797, 28, 28)
    assert np.array_equal(data.train.images[:, 3:26:3, 3:26:3], source.images)  # the middle of each 3 x 3
    assert data.train.images.sum() == 9 * source.images.sum()
    border = data.train.images.copy()
    border[:, 2:26, 2:26] = 0
    assert not border.any()
    pixels = data.pixels(data.train, np.float32)
    assert (pixels.shape, pixels.dtype, pixels.min(), pixels.max()) == ((1797, 784), np.float32, 0, 1)
    assert np.array_equal(pixels, data.pixels(data.train, np.float64))  # sixteenths are exact in both


def test_digits_that_are_kept_elsewhere_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    elsewhere = _enlarged(tmp_path)
    assert elsewhere.sha256 == load_digits().sha256
    assert np.array_equal(elsewhere.train.labels, load_digits().train.labels)


def test_mnist_is_looked_for_in_the_cache_and_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    where = tmp_path / "here"
    told = refusal(DataError, load_dataset, "mnist", where)
    assert str(where / "MNIST" / "raw") in told
    assert str(cache_dir() / "MNIST" / "raw") in told
    assert "torchvision.datasets.MNIST(DIR, download=True)" in told
    assert load_dataset("auto", where).name == "digits"
    with pytest.raises(ValueError, match="there is no dataset 'cifar'; there are auto, mnist, digits"):
        load_dataset("cifar", None)


def numbered(train: int, test: int | None) -> Dataset:
    """Return samples whose image and label carry their number."""

    def samples(count: int) -> Samples:
        numbers = np.arange(count)
        return Samples(np.broadcast_to(numbers[:, None, None], (count, 28, 28)).astype(np.uint8), numbers)

    return Dataset("numbered", "", 255, samples(train), None if test is None else samples(test))


@pytest.mark.parametrize("test", [None, 30])
def test_a_split_keeps_images_with_their_labels_and_never_tests_on_training_samples(test: int | None) -> None:
    data = numbered(100, test)
    train, _, held_out = data.split(60, 0, 20, np.random.SeedSequence(1))
    for samples in (train, held_out):
        assert np.array_equal(samples.images[:, 5, 5], samples.labels)
        assert len(set(samples.labels.tolist())) == len(samples)
    assert (len(train), len(held_out)) == (60, 20)
    if test is None:
        assert not set(train.labels) & set(held_out.labels)
    again = data.split(60, 0, 20, np.random.SeedSequence(1))
    assert np.array_equal(again[0].labels, train.labels)
    assert not np.array_equal(data.split(60, 0, 20, np.random.SeedSequence(2))[0].labels, train.labels)


@pytest.mark.parametrize(
    ("test", "sizes", "message"),
    [
        (None, (101, None), "numbered has 100 images to train on, test images included; asked for 101 and the rest"),
        (None, (100, None), "asked for 100 and the rest"),
        (None, (60, 41), "asked for 60 and 41"),
        (30, (60, 31), "numbered has 100 images to train on and 30 to test on; asked for 60 and 31"),
    ],
)
def test_more_samples_than_there_are_is_refused(test: int | None, sizes: tuple[int, int | None], message: str) -> None:
    assert message in refusal(ValueError, numbered(100, test).split, sizes[0], 0, sizes[1], np.random.SeedSequence(0))
