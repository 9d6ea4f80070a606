"""A report as a browser shows it: headless Chromium, at the widths of a desk and of a phone, in light and in dark.

Screenshots are kept in the folder that ``MNISTCHECK_SCREENSHOTS`` names, to be looked at.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from cli.main import run
from cli.page.html import illustrated
from cli.runs.finished import read_run

# Their figures take as long to draw as ten tests of the command line.
pytestmark = pytest.mark.long

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}  # CSS pixels
SCHEMES = ("light", "dark")
SHOWN = [("desktop", "light"), ("phone", "dark")]
FIGURES = {"pass": 5, "fail": 5, "unfair": 4, "together": 14}

# Elements that reach beyond the window, and are in nothing that can be scrolled sideways.
OVERFLOWING = """
const wide = document.documentElement.clientWidth;
const scrolled = (element) => {
  for (let one = element; one; one = one.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(one).overflowX)) return true;
  return false;
};
return [...document.body.querySelectorAll("*")]
  .filter((one) => one.getBoundingClientRect().right > wide + 1 && !scrolled(one))
  .map((one) => one.tagName + ": " + one.textContent.slice(0, 60));
"""
# Figures whose smallest letters are too small to be read: what is 7 points in a file is less than 7 pixels.
TINY = """
return [...document.images].filter((one) => one.clientWidth < 0.75 * one.naturalWidth).map((one) => one.alt);
"""
MISSING = """
return [...document.images].filter((one) => !one.complete || one.naturalWidth === 0 || !one.alt).map((one) => one.alt);
"""
FETCHED = """
return performance.getEntriesByType("resource").map((one) => one.name).filter((name) => !name.startsWith("data:"));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Return a browser, or skip."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"for want of {' and '.join(missing)} (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(found["chromium"])
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(found["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return what makes a page, once: of a run that passes, that fails or that compares nothing, or of all three."""
    folder = tmp_path_factory.mktemp("pages")
    size = ("--dataset", "digits", "--train-size", "60", "--test-size", "200", "--epochs", "1")
    fair = ("--fair", *size, "--network", "Linear(784, 16), Sigmoid(), Linear(16, 10)")
    commands = {
        "pass": (*fair, "--steps", "10"),
        "fail": (*fair, "--inject", "grad-scale:2.bias:0.999@25"),
        "unfair": ("--preset", "mlp", *size, "--epochs", "4", "--batch-size", "10", "--validation-size", "100"),
    }

    @cache
    def made(name: str) -> Path:
        if name == "together":
            together = folder / "together.html"
            assert run(["report", *(str(made(one).parent) for one in commands), "--out", str(together)]) == 0
            return together
        with pytest.MonkeyPatch.context() as blind:
            blind.setattr("cli.figures.sketches.written", lambda *_: {})  # the page draws it again
            assert run(["train", *commands[name], "--out", str(folder / name)]) == (1 if name == "fail" else 0)
        assert run(["report", str(folder / name)]) == 0
        return folder / name / "report.html"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.figures.sketches._write", lambda *_: None)  # which no page shows
        patch.setattr("cli.page.html.illustrated", cache(illustrated))  # drawn once for both pages
        patch.setattr("cli.runs.finished.read_run", cache(read_run))
        yield made


def opened(browser: webdriver.Chrome, page: Path, width: str, scheme: str = "light") -> None:
    """Open a page at a width, in a colour scheme."""
    wide, high = WIDTHS[width]
    metrics = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": width == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    said(browser)  # what was said before
    browser.get(page.as_uri())


def said(browser: webdriver.Chrome) -> list[str]:
    """Return what the browser has said since it was last asked."""
    entries: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium's
    return [entry["message"] for entry in entries]


def complaints(browser: webdriver.Chrome) -> list[str]:
    """Return what is wrong with the page that is open, in the browser's words and in ours."""
    checks = {"is missing": MISSING, "overflows": OVERFLOWING, "is fetched": FETCHED, "is too small": TINY}
    seen = [f"{one} {what}" for what, script in checks.items() for one in browser.execute_script(script)]
    return said(browser) + seen


def photographed(browser: webdriver.Chrome, path: Path) -> bytes:
    """Return a picture of the whole page, and keep it."""
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    picture = base64.b64decode(taken["data"])
    path.write_bytes(picture)
    return picture


@pytest.mark.parametrize(("width", "scheme"), SHOWN)
@pytest.mark.parametrize("name", FIGURES)
def test_a_page_is_whole(
    browser: webdriver.Chrome, page: Callable[[str], Path], tmp_path: Path, name: str, width: str, scheme: str
) -> None:
    opened(browser, page(name), width, scheme)
    folder = Path(os.environ.get("MNISTCHECK_SCREENSHOTS", tmp_path))
    picture = photographed(browser, folder / f"{name}-{width}-{scheme}.png")
    assert complaints(browser) == []
    assert picture.startswith(b"\x89PNG")
    assert len(browser.find_elements("tag name", "img")) == FIGURES[name]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_verdict_is_what_is_seen_first(browser: webdriver.Chrome, page: Callable[[str], Path], width: str) -> None:
    opened(browser, page("fail"), width)
    (headline,) = browser.find_elements("tag name", "h1")
    assert headline.text == "FAIL: NumPy and PyTorch are not the same program."
    place = headline.rect
    assert place["y"] + place["height"] < WIDTHS[width][1] / 4


def test_light_and_dark_differ(browser: webdriver.Chrome, page: Callable[[str], Path]) -> None:
    colours = []
    for scheme in SCHEMES:
        opened(browser, page("fail"), "phone", scheme)
        colours.append(
            browser.execute_script(
                "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.images[0]).filter];"
            )
        )
    assert colours == [["rgb(255, 255, 255)", "none"], ["rgb(22, 22, 24)", "invert(1) hue-rotate(180deg)"]]


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "a figure that cannot be decoded": (
        lambda page: page.replace("data:image/svg+xml;base64,", "data:image/svg+xml;base64,AAAA"),
        "is missing",
    ),
    "a figure that is not made for a phone": (lambda page: page.replace("<source ", "<br "), "is too small"),
    "a table that is too wide": (
        lambda page: page.replace('<div class="wide"><table>', '<div><table style="width: 3000px">', 1),
        "overflows",
    ),
    "a script that is not allowed": (
        lambda page: page.replace("</main>", "<script>let verdict = 0;</script></main>"),
        "Content Security Policy",
    ),
    "a picture from elsewhere": (
        lambda page: page.replace("</main>", '<img src="https://127.0.0.1:9/x.png" alt="x"></main>'),
        "Content Security Policy",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_page_is_not_whole(
    browser: webdriver.Chrome, page: Callable[[str], Path], tmp_path: Path, fault: str
) -> None:
    plant, word = FAULTS[fault]
    source = page("fail").read_text()
    faulty = tmp_path / "faulty.html"
    faulty.write_text(plant(source))
    assert faulty.read_text() != source
    opened(browser, faulty, "phone")
    assert any(word in complaint for complaint in complaints(browser))
