"""``mnistcheck compare-loops`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gradcheck
from cli.main import run

LOOP = """
import torch
from torch.nn import Linear

def train(watch):
    torch.manual_seed(1)
    model = Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with watch(model, optimizer):
        for step in range(30):
            x = torch.full((4, 3), step / 30.0)
            if ZERO:
                optimizer.zero_grad()
            torch.autograd.backward(torch.nn.functional.mse_loss(model(x), torch.ones(4, 2)))
            optimizer.step()

def nothing(watch):
    pass

not_a_function = 3
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Return two files of one name, one of them without zero_grad."""
    paths = {}
    for name, zero in (("right", True), ("wrong", False)):
        (tmp_path / name).mkdir()
        paths[name] = tmp_path / name / "loop.py"
        paths[name].write_text(LOOP.replace("ZERO", str(zero)))
    return {name: str(path) for name, path in paths.items()}


def test_two_files_are_compared(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare-loops", f"{files['right']}:train", f"{files['right']}:train", "--steps", "4"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "PASS: the loops are the same program: all of 4 steps agree within rounding noise."
    assert run(["compare-loops", f"{files['wrong']}:train", f"{files['right']}:train", "--steps", "4"]) == 1
    assert "FAIL: the loops are not the same program. They part at step 1, backward, " in capsys.readouterr().out


def test_the_result_is_a_document(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare-loops", f"{files['right']}:train", f"{files['right']}:train", "--steps", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["verdict"], document["steps"]) == ("compare-loops", "pass", 2)


def test_a_trace_stands_for_a_loop(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: dict[str, Any] = {}
    exec(Path(files["right"]).read_text(), made)  # noqa: S102  our own
    made["train"](lambda *both: gradcheck.watch(*both, out=tmp_path / "trace", limit=4))
    assert run(["compare-loops", f"{files['right']}:train", str(tmp_path / "trace")]) == 0
    assert run(["compare-loops", f"{files['wrong']}:train", str(tmp_path / "trace")]) == 1
    capsys.readouterr()
    assert run(["compare-loops", f"{files['right']}:train", str(tmp_path / "trace"), f"{files['right']}:train"]) == 2
    assert "THEIRS is one function, or folders with traces" in " ".join(capsys.readouterr().err.split())


def test_names_come_from_a_file(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, both = tmp_path / "names.toml", [f"{files['right']}:train"] * 2
    names.write_text('"weight" = "weight"\n')
    assert run(["compare-loops", *both, "--steps", "2", "--names", str(names)]) == 0
    for text, said in (
        ("weight = 3", 'needs lines such as "fc1.weight" = "W1", got another value of weight'),
        ("=", "is not TOML"),
    ):
        names.write_text(text)
        assert run(["compare-loops", *both, "--names", str(names)]) == 2
        assert said in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nowhere.py:train", "nowhere.py cannot be imported: FileNotFoundError: nowhere.py"),
        ("train", "needs FILE.py:FUNCTION or MODULE:FUNCTION, got train"),
        ("no_such_module_of_ours:train", "no_such_module_of_ours cannot be imported: ModuleNotFoundError"),
        ("right:trains", "has no function trains"),
        ("right:not_a_function", "has no function not_a_function"),
        ("right:nothing", "ours showed no step: train inside `with watch(model, optimizer):`"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    what: str, said: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare-loops", what.replace("right", files["right"]), f"{files['right']}:train"]) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())
    assert "Traceback" not in told
