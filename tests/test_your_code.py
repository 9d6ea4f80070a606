"""Every box of docs/your-code.md runs, passes, and has what the report says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.contract import Array

PAGE = (Path(__file__).parent.parent / "docs" / "your-code.md").read_text(encoding="utf-8")


class Scale:
    """A layer of the network that the page shows."""

    def __init__(self) -> None:
        self.gain = np.array([1.5, 0.5])

    def forward(self, x: Array) -> Array:
        self.x = x
        return x * self.gain

    def backward(self, dy: Array) -> Array:
        self.grad = (self.x * dy).sum(axis=0)
        return dy * self.gain


def boxes() -> list[Any]:
    """Return what each box types, with the code of all boxes up to it and what the report is said to say."""
    found, code = [], ""
    for title, box in re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE):
        definitions, call, says = re.fullmatch(r"(.*?)(check_[^\n]*\n)((?:# [^\n]*\n)*)", box, flags=re.DOTALL).groups()  # type: ignore[union-attr]  # a box of another form is an error here
        code += definitions
        found.append(pytest.param(code, call, [line[2:] for line in says.splitlines()], id=title))
    return found


@pytest.mark.short(11)
@pytest.mark.parametrize(("code", "call", "says"), boxes())
def test_a_style_is_checked_by_one_line(code: str, call: str, says: list[str]) -> None:
    rng = np.random.default_rng(1)
    checks = {name: getattr(gradcheck, name) for name in gradcheck.__all__ if name.startswith("check_")}
    given = {"np": np, "torch": torch, "Scale": Scale, "rng": rng, "randn": rng.standard_normal, **checks}
    given["x"] = rng.standard_normal((4, 3))
    exec(compile(f"{code}report = {call}", "docs", "exec"), given)  # noqa: S102  our own page
    report = given["report"]
    assert isinstance(report, gradcheck.Report)
    assert report.verdict == "pass"
    words = " ".join(str(report).split())
    for said in says:
        assert said in words
