"""What is fetched is what was published, from whichever mirror has it, and nothing else is ever kept."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from nets.datasets.dataset import DataError, digest
from nets.datasets.download import GZIPPED, LARGEST, MIRRORS, fetch_mnist
from nets.datasets.mnist import FILES, load_mnist
from tests.nets.digits_written import NAMES, WRITTEN, drawn
from tests.nets.refused import refusal

pytest.importorskip("pooch")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, quietly, and remembers what was asked for; ``endless`` has no end."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "/endless/" not in self.path:
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(2**20))
        except OSError:
            pass  # the reader has had enough

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yields its address."""
    Handler.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between tries, and use no proxy."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Return a folder with a small MNIST as a mirror has it."""
    folder = tmp_path / "served" / "good"
    folder.mkdir(parents=True)
    return WRITTEN["idx-gz"](folder, drawn())


def published(mirror: Path) -> dict[str, dict[str, object]]:
    """Return the arguments that say what the small MNIST's files are."""
    contents = {name: (mirror / f"{name}.gz").read_bytes() for name in NAMES}
    shapes = dict(zip(NAMES, ((12, 28, 28), (12,), (5, 28, 28), (5,)), strict=True))
    return {
        "gzipped": {f"{name}.gz": digest(content) for name, content in contents.items()},
        "files": {name: (shapes[name], digest(gzip.decompress(content))) for name, content in contents.items()},
    }


def kept(root: Path) -> list[str]:
    """Return the files below a folder."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


WHOLE = sorted(f"MNIST/raw/{name}.gz" for name in NAMES)


def test_the_files_are_fetched_where_they_are_found(tmp_path: Path, mirror: Path) -> None:
    what, seen = published(mirror), dict[str, int]()
    with served(tmp_path / "served") as address:
        fetched = fetch_mnist(tmp_path / "here", [f"{address}good/"], seen.__setitem__, **what)  # type: ignore[arg-type]  # two kinds of mapping
        assert fetched == list(NAMES)
        assert kept(tmp_path / "here") == WHOLE
        assert load_mnist(tmp_path / "here", what["files"]).test is not None  # type: ignore[arg-type]  # as above
        assert {f"{name}.gz" for name in NAMES} == set(seen)
        Handler.asked.clear()
        assert fetch_mnist(tmp_path / "here", [f"{address}good/"], **what) == []  # type: ignore[arg-type]  # as above
        assert Handler.asked == []  # what is there is not asked for again


def test_a_broken_mirror_is_followed_by_the_next(tmp_path: Path, mirror: Path) -> None:
    with served(tmp_path / "served") as address:
        mirrors = [f"{address}nowhere/", f"{address}good/"]
        fetch_mnist(tmp_path / "here", mirrors, **published(mirror))  # type: ignore[arg-type]  # two kinds of mapping
    assert kept(tmp_path / "here") == WHOLE
    assert Handler.asked[:4] == [f"/nowhere/{NAMES[0]}.gz"] * 3 + [f"/good/{NAMES[0]}.gz"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("bad", "has other bytes than the published ones"),
        ("nowhere", "answers 404"),
        ("endless", f"sends more than {LARGEST:,} bytes"),
    ],
)
def test_what_cannot_be_trusted_is_not_kept(tmp_path: Path, mirror: Path, where: str, message: str) -> None:
    what = published(mirror)
    bad = tmp_path / "served" / "bad"
    bad.mkdir()
    for name in NAMES:  # the last file only is damaged
        content = (mirror / f"{name}.gz").read_bytes()
        (bad / f"{name}.gz").write_bytes(content if name != NAMES[3] else content[:-9] + bytes(9))
    with served(tmp_path / "served") as address, pytest.raises(DataError) as caught:
        fetch_mnist(tmp_path / "here", [f"{address}{where}/"], tries=1, **what)  # type: ignore[arg-type]  # as above
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "here").iterdir()) == []


def test_without_a_network_it_is_said_of_every_mirror(tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9/"  # the port of discard, where nothing listens
    assert refusal(DataError, fetch_mnist, tmp_path, [closed, f"{closed}other/"]) == (
        f"train-images-idx3-ubyte.gz could not be fetched: {closed} cannot be reached, or breaks off;"
        f" {closed}other/ cannot be reached, or breaks off"
    )
    assert kept(tmp_path) == []


def test_a_damaged_file_is_replaced_or_said_to_be_in_the_way(tmp_path: Path, mirror: Path) -> None:
    raw = tmp_path / "here" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / f"{NAMES[1]}.gz").write_bytes(b"damaged")
    with served(tmp_path / "served") as address:
        what = partial(fetch_mnist, tmp_path / "here", [f"{address}good/"], **published(mirror))  # type: ignore[arg-type]  # as above
        assert what() == list(NAMES)
        assert kept(tmp_path / "here") == WHOLE
        (raw / NAMES[2]).write_bytes(b"damaged")
        with pytest.raises(DataError, match=f"{NAMES[2]} is damaged and would hide what is fetched: remove it"):
            what()


def test_the_published_digests_are_those_of_real_mnist(tmp_path: Path, mnist_dir: Path) -> None:
    raw = mnist_dir / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in GZIPPED):
        pytest.skip("for want of MNIST as it is published, gzipped (mnistcheck data fetch mnist --data-dir D)")
    with served(raw) as address:
        assert fetch_mnist(tmp_path, [address]) == list(FILES)
    assert len(load_mnist(tmp_path).train) == 60_000
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in MIRRORS)
