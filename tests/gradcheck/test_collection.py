"""What of a module is checked: classes, cases, functions; and what is said of a module that leaves something out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradcheck import AdapterError
from gradcheck.collection import Collected, collect
from gradcheck.items import Effort
from gradcheck.numerics.agreement import Verdict

MODULE, PACKAGE = "module_to_collect", "package_to_collect"
HEAD = """
import numpy as np
from gradcheck.testing import Item
x = np.random.default_rng(0).standard_normal((4, 3))

class Scaled:
    factor = 1
    def __init__(self): self.gain = np.array([1.0, 2.0, 3.0])
    def fprop(self, x):
        self.x = x
        return x * self.gain
    def bprop(self, dy):
        self.dgain = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gain

"""
Made = Callable[..., list[Collected]]


@pytest.fixture
def collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Return a function that writes a module, alone and in a package, and collects what is in one of them."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def made(text: str, *names: str, package: str = "") -> list[Collected]:
        folder = tmp_path / PACKAGE
        folder.mkdir()
        (tmp_path / f"{MODULE}.py").write_text(HEAD + text, encoding="utf-8")
        (folder / "_inside.py").write_text(HEAD + text, encoding="utf-8")
        (folder / "__init__.py").write_text(package, encoding="utf-8")
        return collect(PACKAGE if package else MODULE, names)

    yield made
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in (MODULE, PACKAGE):
            del sys.modules[name]


def verdicts(found: list[Collected]) -> dict[str, Verdict]:
    """Return the verdict on the gradients of each."""
    return {each.name: each.check("gradients_agree_with_differences", Effort()).verdict for each in found}


@pytest.mark.long
def test_methods_may_have_any_name_and_functions_a_cache(collected: Made) -> None:
    found = collected(
        "class Wrong(Scaled): factor = 2\n"
        "def sine(x): return np.sin(x), x\n"
        "def cosine(dy, cache): return dy * np.cos(cache)\n"
        "def minus(dy, cache): return -dy * np.cos(cache)\n"
        "def squares(x, target): return np.sum((x - target) ** 2), x - target\n"
        "def wrong_squares(x, target): return np.sum((x - target) ** 2), x - target\n"
        "CASES = [(Scaled(), x), (Wrong(), x), ((sine, cosine), x), Item((sine, minus), x, name='minus'),\n"
        "    ((squares, lambda cache: 2 * cache), x, 3 * x), Item((wrong_squares, lambda cache: cache), x, 3 * x)]\n"
    )
    assert verdicts(found) == {
        "Scaled": Verdict.PASS,
        "Wrong": Verdict.FAIL,
        "sine": Verdict.PASS,
        "minus": Verdict.FAIL,
        "squares": Verdict.PASS,
        "wrong_squares": Verdict.FAIL,
    }


def test_what_a_network_hides_is_found(collected: Made) -> None:
    found = collected(
        "class Net:\n"
        "    def __init__(self): self.layers = [Scaled(), Scaled()]\n"
        "    def forward(self, x): return self.layers[1].fprop(np.tanh(self.layers[0].fprop(x)))\n"
        "    def backward(self, dy):\n"
        "        dy = self.layers[1].bprop(dy) * (1 - self.layers[1].x ** 2)\n"
        "        return self.layers[0].bprop(dy)\n"
        "class Wrong(Net):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layers[0].factor = 3\n"
        "CASES = [(Scaled(), x), (Net(), x), (Wrong(), x)]\n"
    )
    assert verdicts(found) == {"Scaled": Verdict.PASS, "Net": Verdict.PASS, "Wrong": Verdict.FAIL}
    (finding,) = found[2].check("gradients_agree_with_differences", Effort()).failures
    assert "layers.0.gain" in finding.diagnosis


def test_what_was_not_looked_at_is_said_with_the_pass(collected: Made) -> None:
    (found,) = collected(
        "class Forgetful(Scaled):\n    def bprop(self, dy): return dy * self.gain\nCASES = [Item(Forgetful(), x)]\n",
        "Forgetful",
    )
    report = found.check("", Effort())
    assert report.verdict is Verdict.PASS
    assert report.findings[0].remarks[0].startswith("NOT CHECKED: gain: the output depends on it")


def test_several_cases_of_a_class_are_numbered_wherever_they_are_named(collected: Made) -> None:
    (found,) = collected("Scaled.cases = staticmethod(lambda: [(Scaled(), x)])\nCASES = [(Scaled(), 2 * x)]\n")
    assert list(found.items) == ["Scaled.cases()[0]", "CASES[0]"]
    assert {finding.subject for finding in found.check("", Effort()).findings} == {"Scaled 1", "Scaled 2"}


def test_a_package_has_what_it_takes_from_its_modules_once() -> None:
    names = [each.name for each in collect("nets.initializers")]
    assert {"Constant", "KaimingUniform", "XavierNormal"} <= set(names)
    assert len(names) == len(set(names))
    with pytest.raises(AdapterError, match="nets has nothing to check"):
        collect("nets")


def test_a_package_of_ones_own_has_too_and_not_what_it_takes_from_others(collected: Made) -> None:
    found = collected(
        "Scaled.cases = staticmethod(lambda: [(Scaled(), x)])\n",
        package=f"from {PACKAGE}._inside import Scaled\nfrom {MODULE} import Scaled as Other\nAlias = Scaled\n",
    )
    assert verdicts(found) == {"Scaled": Verdict.PASS}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "module_to_collect does not say what to try Scaled on: give the class a static method cases()"),
        ("del Scaled", "module_to_collect has nothing to check: no subclass of Layer"),
        ("CASES = (Scaled(), x)", r"CASES\[0\]: .*; got an object of Scaled without an input: write \(scaled, x\)"),
        ("CASES = 3", r"CASES gives a int; a list of \(layer, x\) tuples is needed"),
        ("CASES = []", r"CASES gives 0 cases; a list of \(layer, x\) tuples is needed"),
        ("Scaled.cases = lambda self: []", r"Scaled\.cases\(\) raises TypeError: .*; it is called without an object"),
        ("Scaled.cases = staticmethod(lambda: [(Scaled(), x)])\nclass Wrong(Scaled): factor = 2",
         "does not say what to try Wrong on: .* cases\\(\\) of its own"),
    ],
)  # fmt: skip
def test_what_a_module_lacks_is_said(collected: Made, text: str, said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        collected(text)


@pytest.mark.parametrize(
    "base",
    [
        "class Base:\n    def forward(self, x): raise NotImplementedError\n    def backward(self, dy): return dy\n",
        "from typing import Protocol\nclass Base(Protocol):\n    def forward(self, x): ...\n"
        "    def backward(self, dy): ...\n",
        "from abc import ABC, abstractmethod\nclass Base(ABC):\n    @abstractmethod\n    def forward(self, x): ...\n"
        "    def backward(self, dy): ...\n",
        "class Base:\n    def __call__(self, x): return x\n",
    ],
    ids=["raises", "protocol", "abstract", "one way"],
)
def test_a_base_of_layers_needs_no_cases(collected: Made, base: str) -> None:
    assert verdicts(collected(f"{base}CASES = [(Scaled(), x)]\n")) == {"Scaled": Verdict.PASS}


def test_what_is_not_named_needs_no_cases(collected: Made) -> None:
    text = "class Other(Scaled): ...\nCASES = [(Scaled(), x)]\n"
    assert [each.name for each in collected(text, "Scaled")] == ["Scaled"]


def test_what_cannot_be_read_is_said_before_anything_is_checked_a_line_each(collected: Made) -> None:
    (found,) = collected(
        "class Half:\n"
        "    def forward(self, x): return x\n"
        "    def reverse(self, dy): return dy\n"
        "CASES = [(Half(), x), Item(Half(), x, backward='reverse'), Item(Half(), x, backward='revers')]\n",
        "Half",
    )
    with pytest.raises(AdapterError) as caught:
        found.read()
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        "CASES[0]: Half needs a method backward; it has forward, reverse: name its own with backward="
    )
    assert second.startswith("CASES[2]: Half has no method revers; did you mean reverse?")


def test_reading_checks_nothing_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("gradcheck.items.check_class", refuse)
    for each in collect("nets.initializers"):
        each.read()


def test_contract_classes_may_stand_in_a_list(collected: Made) -> None:
    (found,) = collected("from nets.layers import Tanh\nCASES = [Tanh]\n", "Tanh")
    assert found.drawn is not None
    assert "forward_agrees_with_twin" in found.claims()
