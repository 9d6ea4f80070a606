"""``mnistcheck verify --module``: what a module's author sees of right and wrong code, and of what cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from cli.exit_codes import ExitCode
from gradcheck.collection import Collected
from tests.cli.test_cli import PickledPool, mnistcheck, strict_json

HEAD = """
import numpy as np
from gradcheck.testing import Item
x = np.random.default_rng(0).standard_normal((4, 3))
def sine(k):
    def forward(x): return np.sin(x), x
    def backward(dy, cache): return k * dy * np.cos(cache)
    return forward, backward
class Scaled:
    def __init__(self): self.gain = np.array([1.0, 2.0, 3.0])
    def go(self, x): return x * self.gain
    def come(self, dy): return dy * self.gain
"""
Verified = Callable[..., CompletedProcess[str]]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Verified]:
    """Return a function that writes a module and verifies it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(text: str, *args: str) -> CompletedProcess[str]:
        (tmp_path / "module_to_verify.py").write_text(HEAD + text, encoding="utf-8")
        return mnistcheck("verify", "--module", "module_to_verify", *args)

    from cli.commands.verify import _collected

    yield run
    sys.modules.pop("module_to_verify", None)
    _collected.cache_clear()


def test_right_and_wrong_items_of_a_list_have_a_line_each(verify: Verified) -> None:
    done = verify(
        "ways = dict(forward='go', backward='come', constant='gain')\n"
        "CASES = [Item(Scaled(), x, **ways), Item(sine(1), x, name='ada-sine'), Item(sine(2), x, name='bob-sine')]\n"
    )
    assert done.returncode == ExitCode.FAIL, done.stderr
    verdicts = [line.split()[-1] for line in done.stdout.splitlines()[1:4]]
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["Scaled", "ada-sine", "bob-sine"]
    assert verdicts == ["pass", "pass", "fail"]
    assert "bob-sine: gradients agree with differences: FAIL" in done.stdout
    assert "x's gradient is exactly 2 times the numerical one" in done.stdout


@pytest.mark.parametrize("json", [False, True])
def test_what_was_not_looked_at_is_printed(verify: Verified, json: bool) -> None:
    text = "CASES = [Item(Scaled(), x, forward='go', backward='come')]\n"
    done = verify(text, *["--json"] * json)
    assert done.returncode == ExitCode.PASS
    said = strict_json(done.stdout)["results"][0]["remarks"] if json else done.stdout.splitlines()
    line = "NOT CHECKED: gain: the output depends on it, and no gradient was found"
    assert any(each.startswith(line if json else f"Scaled: {line}") for each in said)


def test_what_cannot_be_read_is_a_line_an_item_and_nothing_is_checked(verify: Verified) -> None:
    done = verify(
        "class Half:\n    def forward(self, x): return x\n    def reverse(self, dy): return dy\n"
        "CASES = [(sine(1), x), (Half(), x), Item(sine(1), x, x)]\n"
    )
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.partition("Error: ")[2].splitlines() == [
        "CASES[2]: forward takes x, got 2 inputs",
        "CASES[1]: Half needs a method backward; it has forward, reverse: name its own with backward= "
        "(options are written as gradcheck.testing.Item(layer, x, backward=...))",
    ]


def test_what_is_no_item_is_named_by_its_place(verify: Verified) -> None:
    done = verify("CASES = [(sine(1), x), (3, x)]\n")
    assert done.returncode == ExitCode.USAGE
    assert "Error: CASES[1]: an item is a tuple (layer, x)" in done.stderr
    assert "got 3" in done.stderr


def test_a_failing_case_that_cannot_be_sent_is_left_out_of_what_another_process_says(
    verify: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", PickledPool)
    done = verify("CASES = [(sine(2), x)]\n", "--jobs", "2")
    assert done.returncode == ExitCode.FAIL, done.stderr
    assert "x's gradient is exactly 2 times the numerical one" in done.stdout


def test_a_package_of_parts_is_verified_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def pretend(self: Collected, claim: str, _: object) -> object:
        checked.append(f"{self.name}-{claim}")
        raise KeyboardInterrupt

    monkeypatch.setattr("gradcheck.collection.Collected.check", pretend)
    done = mnistcheck("verify", "--module", "nets.initializers")
    assert (done.returncode, checked) == (ExitCode.INTERRUPTED, [checked[0]])
    assert checked[0].endswith("-draws_agree_with_twin")


UNDRAWABLE = """
from nets.layers import Flatten, ReLU
class Undrawable(Flatten):
    @classmethod
    def cases(cls): raise LookupError("no idea\\nwhatever")
class Right(ReLU): pass
class Wrong(ReLU):
    def forward(self, x, *context):
        y, back = super().forward(x, *context)
        return y, lambda dy: (2 * back(dy)[0], {})
"""
SAID = (
    "Undrawable.cases() raises LookupError: no idea; it returns a Hypothesis strategy of Case objects to try the "
    "class on"
)


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("others", "code"), [(("Right",), ExitCode.USAGE), (("Right", "Wrong"), ExitCode.FAIL)])
def test_a_class_whose_cases_raise_is_a_line_and_the_others_are_checked(
    verify: Verified, monkeypatch: pytest.MonkeyPatch, jobs: str, others: tuple[str, ...], code: ExitCode
) -> None:
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", PickledPool)
    done = verify(UNDRAWABLE, "Undrawable", *others, "--examples", "2", "--jobs", jobs, "--json")
    assert done.returncode == code
    assert done.stderr.splitlines() == [f"Error: not checked: {SAID}"]
    document = strict_json(done.stdout)
    assert document["not_checked"] == [SAID]
    assert {result["subject"] for result in document["results"]} == set(others)


def test_what_a_class_whose_cases_raise_draws_is_not_listed(verify: Verified) -> None:
    done = verify(UNDRAWABLE, "--list")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.splitlines()[-1] == f"Error: {SAID}"
