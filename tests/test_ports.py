"""The ports of examples/ports: the first version of each fails where its README says, the right one passes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict

PORTS = Path(__file__).parent.parent / "examples" / "ports"


def port(name: str) -> dict[str, Any]:
    """Return the names of a port."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile((PORTS / f"{name}.py").read_text(encoding="utf-8"), name, "exec"), names)  # noqa: S102  our own
    return names


def test_a_character_rnn_in_torch() -> None:
    names = port("char_rnn")
    first = gradcheck.check_loops(names["in_numpy"], names["first_port"], steps=4, names=names["NAMES"])
    assert "part at step 0, update, param/cell.weight_ih_l0" in " ".join(str(first).split())
    right = gradcheck.check_loops(names["in_numpy"], names["right_port"], steps=4, names=names["NAMES"])
    assert right, str(right)


def test_an_mlp_in_jax() -> None:
    for library in ("jax", "optax"):
        pytest.importorskip(library, reason=f"needs {library}: pip install jax optax")
    names = port("jax_mlp")
    first = gradcheck.check_loops(names["first_port"], names["in_torch"], steps=4)
    assert "part at step 0, loss, loss.value" in " ".join(str(first).split())
    right = gradcheck.check_loops(names["right_port"], names["in_torch"], steps=4)
    assert right, str(right)
    assert "matched by slot: 0.mu = exp_avg; 0.nu = exp_avg_sq" in " ".join(str(right).split())


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_a_program_in_c(tmp_path: Path) -> None:
    program, trace = tmp_path / "trace_of_c", tmp_path / "theirs"
    subprocess.run(["cc", "-Wall", "-Werror", PORTS / "trace_of_c.c", "-o", program], check=True)
    subprocess.run([program, trace], check=True)
    names = port("loop_of_c")
    right = gradcheck.check_loops(names["train"], gradcheck.Trace(trace))
    assert right, str(right)
    assert right.steps == 12
    wrong = gradcheck.check_loops(names["forgets_the_half"], gradcheck.Trace(trace))
    assert wrong.verdict is Verdict.FAIL
    assert "part at step 0, loss, loss.value" in " ".join(str(wrong).split())
