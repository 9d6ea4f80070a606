"""What the tests of the command line share: blank pictures where nobody looks, and processes that hear Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from cli.figures import drawing

BLANK = {"svg": b"<svg></svg>\n", "png": b"\x89PNG"}
RENDERED = drawing.rendered


def blank(_: Callable[[], object], *forms: str, resolution: int = drawing.RESOLUTION) -> list[bytes]:  # noqa: ARG001  as rendered
    """Return files of no figure at all."""
    return [BLANK[form] for form in forms]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pictures blank: to draw those of one report takes forty times as long as a small run."""
    monkeypatch.setattr(drawing, "rendered", blank)


@pytest.fixture
def drawn(undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  after it
    """Draw after all, in a file whose other tests leave pictures blank."""
    monkeypatch.setattr(drawing, "rendered", RENDERED)


@pytest.fixture(autouse=True, scope="session")
def _heard() -> None:
    """Let Ctrl-C be heard: what a shell starts in the background ignores it, and so does all that it starts itself."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
