"""Learning rates that differ: the schedules of both loops are named where they give every rate, and else nothing is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import gradcheck
from gradcheck.numerics.agreement import Verdict

COUNT = 9


def trained_by(rates: Sequence[float]) -> Any:  # noqa: ANN401  a loop
    def loop(watch: Any) -> None:  # noqa: ANN401  what check_loops gives
        w = np.array([0.3, -0.7, 1.1])
        watch.start({"w": w})
        for step, rate in enumerate(rates):
            x = np.cos(np.arange(3) + step)
            grad = (w @ x - 1) * x
            w -= rate * grad
            watch.step(params={"w": w}, grads={"w": grad}, data=x, lr=rate)

    return loop


def warmed(steps: int, then: float = 1.0) -> list[float]:
    return [0.1 * min(1.0, (step + 1) / steps) * then ** max(0, step + 1 - steps) for step in range(COUNT)]


def cosine(steps: int, low: float = 0.0) -> list[float]:
    return [low + (0.1 - low) * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(COUNT)]


def every(steps: int, factor: float) -> list[float]:
    return [0.1 * factor ** (step // steps) for step in range(COUNT)]


CONSTANT = [0.1] * COUNT
NAMED = {
    "is 2 times that of theirs in every step": ([2 * rate for rate in cosine(9)], cosine(9)),
    "is that of theirs 1 step before: the schedule is late": ([0.1, *cosine(9)[:-1]], cosine(9)),
    "stays 0.1, that of theirs rises for 4 steps to 0.1 and then stays 0.1": (CONSTANT, warmed(4)),
    "rises for 5 steps to 0.1 and then is multiplied by 0.9 in each step, that of theirs rises for 3 steps": (
        warmed(5, 0.9), warmed(3, 0.9)),
    "falls from 0.1 to 0 as a cosine does, in 12 steps, that of theirs falls from 0.1 to 0.01 as a cosine does": (
        cosine(12), cosine(10, 0.01)),
    "is multiplied by 0.5 every 3 steps, that of theirs is multiplied by 0.5 every 4 steps": (
        every(3, 0.5), every(4, 0.5)),
    "is multiplied by 0.1 after 6 steps, that of theirs is multiplied by 0.5 after 5 steps": (
        every(6, 0.1), every(5, 0.5)),
    "is multiplied by 0.9 in each step, that of theirs falls by 0.01 in each step": (
        every(1, 0.9), [0.1 - 0.01 * step for step in range(COUNT)]),
}  # fmt: skip


@pytest.mark.parametrize("sentence", NAMED)
def test_the_schedules_are_named(sentence: str) -> None:
    ours, theirs = NAMED[sentence]
    report = gradcheck.check_loops(trained_by(ours), trained_by(theirs), steps=COUNT)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergence is not None
    assert (report.first_divergence.phase, report.first_divergence.tensor) == ("data", "lr")
    assert sentence in (report.first_divergence.diagnosis or "")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cosine(12), [*cosine(12)[:-1], 0.07]),
        ([*CONSTANT[:-2], 0.05, 0.02], CONSTANT),
        (warmed(3), [0.02, 0.05, 0.1, *CONSTANT[3:]]),
    ],
)
def test_a_schedule_of_no_known_form_has_no_name(ours: list[float], theirs: list[float]) -> None:
    report = gradcheck.check_loops(trained_by(ours), trained_by(theirs), steps=COUNT)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergence is not None
    assert report.first_divergence.diagnosis is None


def test_the_same_schedule_passes_and_one_rate_off_by_little_fails() -> None:
    same, off = cosine(12), cosine(12)
    off[5] *= 1 + 1e-12
    assert gradcheck.check_loops(trained_by(same), trained_by(same), steps=COUNT).verdict is Verdict.PASS
    assert gradcheck.check_loops(trained_by(off), trained_by(same), steps=COUNT).verdict is Verdict.FAIL
