"""Torch without its compiler: never loaded to train, there as soon as it is needed, and as before afterwards."""

import subprocess
import sys

import pytest

from nets.engines.eager import COMPILER, KEPT, NotLoaded, uncompiled

TRAINED = """
import sys
import torch
from nets.engines.eager import uncompiled

weight = torch.ones(2, requires_grad=True)
with uncompiled():
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    {needed}
print(weight.tolist(), sorted({{"sympy", "torch._dynamo"}} & set(sys.modules)))
"""
MOVED = "[0.9990000128746033, 0.9990000128746033]"  # by the learning rate, which is 0.001


def printed(needed: str) -> str:
    done = subprocess.run([sys.executable, "-c", TRAINED.format(needed=needed)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_training_does_not_load_the_compiler() -> None:
    assert printed("pass") == f"{MOVED} []"


@pytest.mark.long
def test_a_compiler_that_is_needed_is_loaded() -> None:
    assert printed("torch._dynamo.reset()") == f"{MOVED} ['sympy', 'torch._dynamo']"


def test_torch_asks_its_compiler_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    wrapped = torch.optim.Optimizer.add_param_group.__wrapped__  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, COMPILER, raising=False)
    monkeypatch.delitem(vars(torch), COMPILER.removeprefix("torch."), raising=False)
    monkeypatch.delattr(wrapped, KEPT, raising=False)
    with uncompiled():
        assert isinstance(sys.modules[COMPILER], NotLoaded)
        torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
        assert getattr(wrapped, KEPT) is wrapped
    assert COMPILER not in sys.modules
    assert not hasattr(wrapped, KEPT)


def test_a_compiler_that_is_loaded_is_left_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = NotLoaded(COMPILER)
    monkeypatch.setitem(sys.modules, COMPILER, loaded)
    with uncompiled():
        assert sys.modules[COMPILER] is loaded
    assert sys.modules[COMPILER] is loaded
