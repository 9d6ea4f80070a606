"""The page on adding a layer is true: followed to the letter, it gives a layer with all its tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add-a-layer.md").read_text(encoding="utf-8")
FILE, LINE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
CONSOLES = re.findall(r"```console\n\$ mnistcheck (.*?)\n(.*?)```", PAGE, flags=re.DOTALL)


# Both commands of the page in one process: the second once the layer computes as the page's faulty file does.
BETWEEN = "--- and once it is wrong ---"
BOTH = f"""
import sys
from cli.main import run
from nets.layers import softsign

wrong, first, second = sys.argv[1:]
assert run(first.split()) == 0
print({BETWEEN!r})
right = softsign.Softsign
exec(compile(wrong, softsign.__file__, "exec"), vars(softsign))
right.forward = softsign.Softsign.forward
assert run(second.split()) == 1
"""


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with the page's file, and not yet its line."""
    root = tmp_path_factory.mktemp("house")
    for part in ("gradcheck", "nets", "cli", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, root / part)
    (root / "nets" / "layers" / "softsign.py").write_text(FILE, encoding="utf-8")
    return root


def run(house: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, *args]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=house, env=environment | {"PYTHONPATH": str(house)}, check=False
    )


def registered(house: Path) -> None:
    registry = house / "nets" / "layers" / "__init__.py"
    source = registry.read_text(encoding="utf-8")
    if LINE not in source:
        first = source.index("from nets.")
        registry.write_text(source[:first] + LINE + source[first:], encoding="utf-8")


def ratioless(line: str) -> list[str]:
    """Return the words of a line, but for a ratio, whose last digits are the machine's."""
    return [word for word in line.split() if not re.fullmatch(r"[\d.]+(e-?\d+)?", word) or word.isdigit()]


@pytest.mark.long
def test_a_file_without_its_line_is_seen(house: Path) -> None:
    done = run(
        house, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/nets/test_registries.py", "-k", "forgotten"
    )
    assert done.returncode == 1
    assert "Softsign is not registered" in PAGE
    assert "Softsign is not registered" in done.stdout


@pytest.mark.long
def test_with_its_line_the_layer_has_all_its_tests(house: Path) -> None:
    registered(house)
    tests = ["tests/nets/test_verification.py", "tests/nets/test_registries.py"]
    chosen = ("-m", "not long", "-k", "Softsign or forgotten", "-v")
    done = run(house, "-m", "pytest", "-p", "no:cacheprovider", *tests, *chosen)
    assert done.returncode == 0, done.stdout
    for claim in ("every_property_holds", "weights_survive_the_round_trip_bit_for_bit"):
        assert f"test_{claim}[few-Softsign] PASSED" in done.stdout


@pytest.mark.long
def test_the_command_prints_what_the_page_says(house: Path) -> None:
    registered(house)
    (command, shown), (again, failure) = CONSOLES
    wrong = FILE.replace("dy / (scale * scale)", "dy / scale")
    assert wrong != FILE
    done = run(house, "-c", BOTH, wrong, command, again)
    assert done.returncode == 0, done.stderr
    right, faulty = done.stdout.split(BETWEEN)
    printed = [ratioless(line) for line in right.splitlines()]
    assert printed[: len(shown.splitlines())] == [ratioless(line) for line in shown.splitlines()]
    headline, _ = failure.splitlines()
    assert headline.partition("FAIL")[0] + "FAIL in" in faulty
    assert "the backward pass is wrong" in faulty
