"""Fetching MNIST: from the first mirror that has the published bytes, all four files or none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nets.datasets.dataset import DataError
from nets.datasets.mnist import FILES, locate, raw_folder, read_published

# Both serve the files as they were published, gzipped. The first is the one that torchvision takes them from.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# SHA-256 of the gzipped files.
GZIPPED = {
    "train-images-idx3-ubyte.gz": "129d61908aa56b5d4832bd9e26f8c7266c474cb183f05886ca383d5470865d17",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
TRIES = 3  # of each file at each mirror
TIMEOUT = 30.0  # seconds without a byte
LARGEST = 2**24  # bytes of a file: the largest is 9.9 MB, and a server need not come to an end
CHUNK = 2**16  # bytes

Progress = Callable[[str, int], None]  # of which file how many bytes have come so far


def fetch_mnist(
    root: Path,
    mirrors: Sequence[str],
    progress: Progress = lambda _file, _size: None,
    *,
    gzipped: Mapping[str, str] = GZIPPED,
    files: Mapping[str, tuple[tuple[int, ...], str]] = FILES,
    tries: int = TRIES,
) -> list[str]:
    """Put MNIST's files into ``root / "MNIST" / "raw"``, gzipped, and return the names of those that were not there.

    ``mirrors`` are the addresses of folders, tried in turn. ``gzipped`` and ``files`` give the SHA-256 of each file and
    of what it unpacks to: a file with other bytes is not kept, and none is put in place before all have come. A file
    that is there already, as published, is left alone. Raises `DataError` if no mirror has a file, or if one that is
    there is damaged.
    """
    folder = raw_folder(root)
    wanted = [name for name in files if not _is_there(folder, name, files)]
    if not wanted:
        return []
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as scratch:
        for name in wanted:
            _fetch(Path(scratch), f"{name}.gz", gzipped[f"{name}.gz"], mirrors, progress, tries)
            read_published(Path(scratch), name, *files[name])
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            fetched = Path(scratch) / f"{name}.gz"
            fetched.chmod(0o644)  # a temporary file, which is what it was, is its owner's alone
            fetched.replace(folder / fetched.name)
    return wanted


def _is_there(folder: Path, name: str, files: Mapping[str, tuple[tuple[int, ...], str]]) -> bool:
    """Return whether a file is there, as published. A damaged gzipped one is as good as none: it is replaced."""
    path = locate(folder, name)
    if path is None:
        return False
    try:
        read_published(folder, name, *files[name])
    except DataError:
        if path.suffix == ".gz":
            return False
        raise DataError(f"{path} is damaged and would hide what is fetched: remove it, then fetch again") from None
    return True


def _fetch(folder: Path, name: str, sha256: str, mirrors: Sequence[str], progress: Progress, tries: int) -> None:
    """Put one file into a folder, from the first mirror that has it; raises `DataError`."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # each download is news to it
    troubles = []
    for mirror in mirrors:
        store = pooch.create(folder, mirror, registry={name: f"sha256:{sha256}"}, retry_if_failed=tries - 1)
        meter = _Meter(mirror + name, lambda size: progress(name, size))
        try:
            store.fetch(name, downloader=pooch.HTTPDownloader(meter, CHUNK, timeout=TIMEOUT))
        except requests.HTTPError as error:
            troubles.append(f"{mirror} answers {error.response.status_code if error.response is not None else 'badly'}")
        except requests.Timeout:
            troubles.append(f"{mirror} does not answer")
        except requests.RequestException:
            troubles.append(f"{mirror} cannot be reached, or breaks off")
        except DataError as error:
            troubles.append(str(error))
        except ValueError:  # as pooch says that the digest is another one
            troubles.append(f"{mirror} has other bytes than the published ones")
        else:
            return
    raise DataError(f"{name} could not be fetched: {'; '.join(troubles) or 'there is no mirror'}")


class _Meter:
    """Counts the bytes of a download, with the methods that pooch asks of a progress bar, and stops an endless one."""

    def __init__(self, address: str, progress: Callable[[int], None]) -> None:
        self.address, self.progress, self.size = address, progress, 0

    @property
    def total(self) -> int:
        return LARGEST

    @total.setter
    def total(self, _: int) -> None:
        self.size = 0  # a download begins, perhaps once more

    def update(self, size: int) -> None:
        self.size += size
        if self.size > LARGEST + CHUNK:
            raise DataError(f"{self.address} sends more than {LARGEST:,} bytes")
        self.progress(self.size)

    def reset(self) -> None:
        self.size = 0

    def close(self) -> None:
        """Do nothing: the bar belongs to who gave ``progress``."""
