"""How long it takes until a command shows something: whole processes, from their start."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.speed.timing import Pair

# A fair run that ends as its first step is shown.
FIRST_STEP = """
import os
from contextlib import contextmanager
from cli import console, main

@contextmanager
def bar(total):
    yield lambda *_: os._exit(0)

console.bar = bar
main.run(["train", "--fair"])
raise SystemExit("no step was shown")
"""
FIRST_CHECK = """
import numpy as np
import gradcheck

class Dense:
    def __init__(self):
        self.W, self.b = np.ones((20, 10)), np.ones(10)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0)
        return dy @ self.W.T

assert gradcheck.check_layer(Dense(), np.random.default_rng(0).standard_normal((5, 20)), mode="fast")
"""
HELP = "from cli.main import run; run(['--help'])"

AIM = 2.0  # times as long as to import torch alone


def pairs() -> Iterator[Pair]:
    """Yield the starts: of a fair run beside torch's import, of the help beside Python's own, of a check."""
    torch, python, numpy = (partial(process, code) for code in ("import torch", "pass", "import numpy"))
    yield Pair("train --fair until its first step, beside import torch", partial(process, FIRST_STEP), torch, aim=AIM)
    yield Pair("mnistcheck --help, beside python -c pass", partial(process, HELP), python)
    yield Pair("a first check_layer in fast mode, beside import numpy", partial(process, FIRST_CHECK), numpy)


def process(code: str) -> float:
    """Return the seconds of the processor that a process takes that runs some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
